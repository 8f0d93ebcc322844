"""The tree of all sections, and what must hold between them."""

from typing import Literal

from pydantic import model_validator

from zip_ray.config.model import ModelConfig, PromptConfig
from zip_ray.config.optimizer import SCHEDULED, OptimizerConfig
from zip_ray.config.run import BudgetConfig, ClusterConfig, OutputConfig, TrackingConfig, ValidationConfig
from zip_ray.config.section import Section, Seed
from zip_ray.config.task import TaskConfig


class Config(Section):
    """A run of zip-ray."""

    seed: Seed = 1
    """Keys every draw: the few-shot images, the random projection and context, perturbations, mini-batches."""
    task: TaskConfig = TaskConfig()
    model: ModelConfig = ModelConfig()
    prompt: PromptConfig = PromptConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    budget: BudgetConfig = BudgetConfig()
    validation: ValidationConfig = ValidationConfig()
    cluster: ClusterConfig = ClusterConfig()
    output: OutputConfig = OutputConfig()
    tracking: TrackingConfig = TrackingConfig()

    @property
    def parallel(self) -> tuple[int, int] | Literal["auto"]:
        """`model.parallel`, or what it is where it is absent."""
        default: tuple[int, int] | Literal["auto"] = "auto" if self.optimizer.mode == "async" else (1, 1)
        return self.model.parallel or default

    @property
    def pairs_per_pass(self) -> int | Literal["auto"]:
        """`model.pairs_per_pass`, or what it is where it is absent."""
        return self.model.pairs_per_pass or ("auto" if self.optimizer.mode == "async" else 1)

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

    @property
    def schedule_steps(self) -> int | None:
        """Steps over which a learning rate falls."""
        return self.optimizer.schedule_steps or self.planned_steps

    @model_validator(mode="after")
    def _gradient_is_of_texts(self) -> "Config":
        if self.optimizer.method == "gradient" and self.prompt.visual:
            raise ValueError(
                f"optimizer.method gradient differentiates texts, and prompt.space {self.prompt.space} prompts images: "
                "choose another method, or a space of contexts"
            )
        return self

    @model_validator(mode="after")
    def _schedule_has_an_end(self) -> "Config":
        if self.optimizer.method in SCHEDULED and self.schedule_steps is None:
            raise ValueError(
                f"optimizer.method {self.optimizer.method} lowers its learning rate over the whole run: "
                "give budget.queries, budget.steps or optimizer.schedule_steps"
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
