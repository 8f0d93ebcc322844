"""What of a config a scorer depends on."""

from zip_ray.config.execution import ExecutionConfig
from zip_ray.config.model import ModelConfig
from zip_ray.config.tree import Config
from zip_ray.optimizers.spsa import ZipOptions
from zip_ray.prompts.options import ContextOptions


def scorer_key(config: Config) -> str:
    """The config as a scorer needs it, as JSON: runs with the same key share a scorer."""
    optimizer = config.optimizer
    own = ZipOptions(loss=optimizer.loss)
    model = config.model
    if isinstance(model, ModelConfig) and model.precision != "fp32":  # it is judged by the run's own pairs
        law, scale = optimizer.probe
        own = own.model_copy(update={"perturbation_scale": scale, "perturbation": law})
    rest = {name: Config.model_fields[name].default for name in ("budget", "validation", "output", "tracking")}
    prompt = config.prompt
    if isinstance(prompt, ContextOptions) and prompt.init == "auto":  # asks name the template that was found
        prompt = prompt.model_copy(update={"init": "template"})
    scheduling = ("mode", "in_flight", "max_staleness", "round_share")
    execution = config.execution.model_copy(
        update={name: ExecutionConfig.model_fields[name].default for name in scheduling}
    )
    changes = {"optimizer": own, "prompt": prompt, "readout": "none", "execution": execution, **rest}
    return config.model_copy(update=changes).model_dump_json()
