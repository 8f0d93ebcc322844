"""The one config tree: typed, frozen, read from YAML, every field an option of the command line."""

from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny, model_validator
from pydantic_core import PydanticCustomError

from zip_ray import registry
from zip_ray.config.budget import BudgetConfig
from zip_ray.config.execution import ExecutionConfig
from zip_ray.config.merging import Tree, merge
from zip_ray.config.model import ModelConfig, ScorerOptions, VlmConfig, scorer_of
from zip_ray.config.output import OutputConfig
from zip_ray.config.resources import ClusterConfig
from zip_ray.config.section import Section, Seed
from zip_ray.config.served import ServedConfig
from zip_ray.config.task import TaskConfig, is_known
from zip_ray.config.tracking import TrackingConfig
from zip_ray.config.validation import ValidationConfig
from zip_ray.errors import InputError
from zip_ray.optimizers import METHODS, MethodOptions
from zip_ray.optimizers.gauss_newton import GaussNewtonOptions
from zip_ray.prompts import SPACES
from zip_ray.prompts.context import WholeContextOptions
from zip_ray.prompts.options import SpaceOptions
from zip_ray.prompts.visual import DecoderOptions
from zip_ray.protocol.readout import ReadoutKind

UNKNOWN_CHOICE = "unknown_choice"
"""Type of the fault of a section whose class is not found; its message is the whole line."""
CHOOSERS = {"optimizer": ("method", "gauss-newton"), "prompt": ("space", "context"), "model": ("scorer", "clip")}
"""By section that has a class for each choice: the field that chooses, and the choice where neither a config nor its
method makes one."""
BUILT_IN: dict[str, dict[str, type[Section]]] = {
    "optimizer": {name: method.Options for name, method in METHODS.items()},
    "prompt": {name: space.Options for name, space in SPACES.items()},
    "model": {"clip": ModelConfig, "vlm": VlmConfig, "served": ServedConfig},
}
"""By such a section: the classes of the built-in choices."""


def options_class(section: str, choice: object) -> type[Section] | None:
    """The class of a section with a choice, built in or the user's own; for a task, by its name. None if unknown.

    Raises:
        InputError: the choice names a user's class that cannot be imported.
    """
    if is_own_choice(section, choice):
        own: type[Section] = registry.find(section, str(choice)).Options
        return own
    return TaskConfig if section == "task" else BUILT_IN[section].get(str(choice))


def is_own_choice(section: str, choice: object) -> bool:
    """Whether a choice names a user's class; a built-in name always means the built-in class."""
    known = is_known(str(choice)) if section == "task" else choice in BUILT_IN[section]
    return not known and registry.is_own(section, choice)


def _chosen(section: str, given: Any) -> Any:
    """The fields of a section, as its class reads them."""
    if not isinstance(given, dict):
        return given
    field = registry.FIELDS[section]
    choice = given.get(field)
    try:
        one = options_class(section, choice)
    except InputError as error:
        raise PydanticCustomError(UNKNOWN_CHOICE, "{line}", {"line": str(error)}) from error
    if one is None:
        line = f"{section}.{field}: '{choice}': choose {', '.join(choices(section))}, or package.module:Name"
        raise PydanticCustomError(UNKNOWN_CHOICE, "{line}", {"line": line})
    return one.model_validate(given)


def choices(section: str) -> list[str]:
    """The names that a section's chooser takes, beside paths: built in, and of entry points."""
    return [*BUILT_IN[section], *registry.known(section)]


def completed(tree: Tree) -> Tree:
    """A tree with the choices that it does not make, and with what its method brings to other sections.

    What a method brings for another prompt space than the one that the tree chooses is left out.
    """
    (_, method), (_, space) = CHOOSERS["optimizer"], CHOOSERS["prompt"]
    whole: Tree = merge({"optimizer": {"method": method}, "prompt": {}}, tree)
    chosen = whole["optimizer"].get("method") if isinstance(whole["optimizer"], dict) else None
    method_options = _known("optimizer", chosen)
    whole = merge(dict(getattr(method_options, "brings", {})), whole)
    if not isinstance(whole["prompt"], dict):
        return whole
    prompt = {"space": space, **whole["prompt"]}
    space_options = _known("prompt", prompt["space"])
    fields = prompt if space_options is None else space_options.model_fields
    own = tree.get("prompt", {})
    whole["prompt"] = {name: value for name, value in prompt.items() if name in fields or name in own}
    model = whole.get("model", {})
    if isinstance(model, dict):
        whole["model"] = {"scorer": scorer_of(model.get("name"), CHOOSERS["model"][1]), **model}
    return whole


def _known(section: str, choice: object) -> type[Section] | None:
    """The class of a choice; None if there is none, which the validation reports."""
    try:
        return options_class(section, choice)
    except InputError:
        return None


ModelSection = Annotated[SerializeAsAny[ScorerOptions], BeforeValidator(partial(_chosen, "model"))]
"""The section of the scorer that is chosen."""


class Config(Section):
    """A run of zip-ray."""

    seed: Seed = 1
    """Key of every random draw: the few-shot images, the random projection and context, perturbations, mini-batches."""
    task: Annotated[SerializeAsAny[TaskConfig], BeforeValidator(partial(_chosen, "task"))] = TaskConfig()
    model: ModelSection = ModelConfig()
    prompt: Annotated[SerializeAsAny[SpaceOptions], BeforeValidator(partial(_chosen, "prompt"))] = WholeContextOptions(
        init="auto"
    )
    optimizer: Annotated[SerializeAsAny[MethodOptions], BeforeValidator(partial(_chosen, "optimizer"))] = (
        GaussNewtonOptions()
    )
    readout: ReadoutKind = "none"
    """Map of the class scores that is fitted beside the prompt, on the training images' scores; its queries are
    charged. bias = a number per class; linear = of the prompt's own scores; auto = of those of several prompts, the
    hand-written templates among them. It is for the classes that it was fitted to: other classes get the prompt alone.
    none = the prompt alone, as in ZIP; auto with method gauss-newton."""
    execution: ExecutionConfig = ExecutionConfig()
    budget: BudgetConfig = BudgetConfig()
    validation: ValidationConfig = ValidationConfig()
    cluster: ClusterConfig = ClusterConfig()
    output: OutputConfig = OutputConfig()
    tracking: TrackingConfig = TrackingConfig()

    @property
    def clip(self) -> ModelConfig:
        """The section `model`, for the code of open_clip's models."""
        assert isinstance(self.model, ModelConfig)
        return self.model

    @property
    def vlm(self) -> VlmConfig:
        """The section `model`, for the code of generative models."""
        assert isinstance(self.model, VlmConfig)
        return self.model

    @property
    def works_on_images(self) -> bool:
        """Whether the images are the work of a query, and shards are of them; else texts, and shards of the classes."""
        return self.prompt.visual or not isinstance(self.model, ModelConfig)

    @property
    def asks_in_flight(self) -> int:
        """Asks that may be in flight at once: those of a round, or `execution.in_flight`."""
        return self.optimizer.asks_per_step if self.in_rounds else self.execution.in_flight

    @property
    def in_rounds(self) -> bool:
        """Whether the asks of a step go out together, and none of the next before it is made."""
        return self.execution.mode == "sync" or self.optimizer.rounds

    @property
    def encodes_crops(self) -> bool:
        """Whether fresh crops are encoded ahead of the loop; under a visual prompt each query encodes them itself."""
        return self.task.views == "fresh" and not self.prompt.visual

    @property
    def planned_steps(self) -> int | None:
        """Steps that the budget of queries and steps allows; None where it has neither."""
        queries, steps = self.budget.queries, self.budget.steps
        limits = [] if queries is None else [queries // self.optimizer.queries_per_step]
        return min([*limits, *([] if steps is None else [steps])], default=None)

    def schedule_steps(self, training_images: int) -> int | None:
        """Steps over which a learning rate falls; None for a method without a schedule."""
        steps_per_epoch = max(training_images // self.task.batch_size, 1)
        return self.optimizer.schedule_steps(self.planned_steps, steps_per_epoch)

    @model_validator(mode="before")
    @classmethod
    def _choose(cls, tree: Any) -> Any:
        """A section that does not choose has the default choice, or what the method brings."""
        return completed(tree) if isinstance(tree, dict) else tree

    @model_validator(mode="after")
    def _mode_is_possible(self) -> "Config":
        if self.optimizer.compares and not self.optimizer.rounds and self.execution.mode == "async":
            raise ValueError(
                f"execution.mode is async, but optimizer.method {self.optimizer.method} compares the queries of a "
                "step: set execution.mode to sync (all queries of a step are in flight at once)"
            )
        return self

    @model_validator(mode="after")
    def _statistics_are_of_whole_passes(self) -> "Config":
        running = isinstance(self.prompt, DecoderOptions) and self.prompt.statistics == "running"
        if running and self.execution.split != (1, 1):
            raise ValueError(
                "execution.split: parts of a pass give no running statistics: leave it out, or set "
                "prompt.statistics to batch"
            )
        return self

    @model_validator(mode="after")
    def _gradient_is_of_texts(self) -> "Config":
        if self.optimizer.method == "gradient" and self.prompt.visual:
            raise ValueError(
                f"optimizer.method gradient differentiates texts, and prompt.space {self.prompt.space} prompts images: "
                "choose another method, or a space of contexts"
            )
        return self

    @model_validator(mode="after")
    def _model_takes_its_gpus(self) -> "Config":
        if self.model.scorer in ("clip", "served") and self.cluster.gpus > 1:
            raise ValueError(
                f"cluster.gpus_per_actor is {self.cluster.gpus:g}, but model.scorer {self.model.scorer} computes on "
                "one GPU: set it to 1 or 1/k, so that more actors share the GPUs"
            )
        return self

    @model_validator(mode="after")
    def _schedule_has_an_end(self) -> "Config":
        unlimited = self.optimizer.schedule_steps(None, 1) is None
        if unlimited and self.optimizer.schedule_steps(1, 1) is not None and self.planned_steps is None:
            raise ValueError(
                f"optimizer.method {self.optimizer.method} lowers its learning rate over the whole run: "
                "give budget.queries or budget.steps"
            )
        return self

    @model_validator(mode="after")
    def _one_step_fits(self) -> "Config":
        step = self.optimizer.queries_per_step
        if self.budget.queries is not None and self.budget.queries < step:
            raise ValueError(
                f"budget.queries is {self.budget.queries}, less than one step: give at least {step} "
                f"(a step of optimizer.method {self.optimizer.method})"
            )
        return self
