"""The part of a config that a scorer depends on."""

import json

from zip_ray.config.execution import ExecutionConfig
from zip_ray.config.model import ModelConfig
from zip_ray.config.reading import validate
from zip_ray.config.tree import Config, is_own_choice
from zip_ray.optimizers.spsa import ZipOptions
from zip_ray.prompts.options import ContextOptions
from zip_ray.registry import import_path


def scorer_key(config: Config) -> str:
    """The config as a scorer needs it, as JSON: runs with the same key share a scorer."""
    optimizer = config.optimizer
    own = ZipOptions(loss=optimizer.loss)
    model = config.model
    if isinstance(model, ModelConfig) and model.precision != "fp32":  # the precision is measured on the run's own pairs
        law, scale = optimizer.probe
        own = own.model_copy(update={"perturbation_scale": scale, "perturbation": law})
    rest = {name: Config.model_fields[name].default for name in ("budget", "validation", "output", "tracking")}
    prompt = config.prompt
    if isinstance(prompt, ContextOptions) and prompt.init == "auto":  # asks name the template that the survey found
        prompt = prompt.model_copy(update={"init": "template"})
    prompt = prompt.model_copy(update={"space": _anywhere("prompt", prompt.space)})
    task = config.task.model_copy(update={"name": _anywhere("task", config.task.name)})
    model = model.model_copy(update={"scorer": _anywhere("model", model.scorer)})
    scheduling = ("mode", "in_flight", "max_staleness", "round_share")
    execution = config.execution.model_copy(
        update={name: ExecutionConfig.model_fields[name].default for name in scheduling}
    )
    kept = {"task": task, "model": model, "prompt": prompt, "execution": execution}
    return config.model_copy(update={**kept, "optimizer": own, "readout": "none", **rest}).model_dump_json()


def config_of_key(key: str) -> Config:
    """The config that a scorer of this key needs.

    Raises:
        InputError: it names a user's class that cannot be imported in this process.
    """
    return validate(json.loads(key), "")


def own_classes(key: str) -> list[tuple[str, str]]:
    """The user's classes that a scorer of this key imports, as sections and names."""
    config = config_of_key(key)
    named = [("prompt", config.prompt.space), ("task", config.task.name), ("model", config.model.scorer)]
    return [(section, name) for section, name in named if is_own_choice(section, name)]


def _anywhere(section: str, name: str) -> str:
    """A choice in a form that any process can import: an entry point becomes the path of its class."""
    return import_path(section, name) if is_own_choice(section, name) else name
