"""Section `optimizer`: the methods and their settings."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from zip_ray.config.section import Count, Positive, Section

Method = Literal["zip", "spsa", "spsa-gc", "one-sided", "cma-es", "random-search", "gradient"]
SYNCHRONOUS: tuple[Method, ...] = ("one-sided", "cma-es", "random-search")
"""Methods whose step compares its queries with one another: they belong to one point and one mini-batch."""
SCHEDULED: tuple[Method, ...] = ("one-sided", "gradient")
"""Methods whose learning rate falls over the whole run."""
Loss = Literal["cross-entropy", "focal"]


class OptimizerConfig(Section):
    """How the parameters move."""

    method: Method = "zip"
    """zip = SPSA with clipping; spsa = no clipping; spsa-gc = no clipping, with momentum; one-sided = BAR's estimator;
    cma-es = by pycma; random-search = the best of some normal steps; gradient = backpropagation, which needs the white
    box: an upper bound."""
    mode: Literal["sync", "async"] = "sync"
    """sync = a step waits for all its pairs: the same bits on any number of actors. async = an update is made of the
    first K answers, while other pairs are out: no actor ever waits, and answers are a little stale. Not for methods
    that compare the queries of a step: one-sided, cma-es and random-search."""
    loss: Loss = "cross-entropy"
    """What a query answers, a mean over the mini-batch: cross-entropy, or focal loss with gamma 2. Validation and test
    losses are cross-entropies."""
    pairs_per_step: Count = 5
    """zip, spsa, spsa-gc: K, perturbation pairs averaged in one step (update of the parameters); a step costs 2 K
    queries."""
    in_flight: Count = 8
    """async: pairs out at once, on all actors together. Up to 8 cost no queries, 32 cost half as many again
    (docs/staleness.md); with more actors than that, split passes first (`model.parallel`)."""
    max_staleness: Annotated[int, Field(ge=0)] = 256
    """async: an answer whose pair was asked more steps ago than this is charged, counted and not used."""
    perturbation: Literal["segmented-uniform", "random-sign"] = "segmented-uniform"
    """Law of the entries of a perturbation: random sign times U[0.5, 1], or random signs."""
    a: Positive = 0.01
    """Step size gain: a_k = a / (k + offset)^alpha, k = 1, 2, ..."""
    c: Positive = 0.01
    """Perturbation gain: c_k = c / k^gamma."""
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Decay of the step size."""
    gamma: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Decay of the perturbation."""
    offset: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Offset o of the step size's counter."""
    clip: Literal["intrinsic"] | Positive = "intrinsic"
    """zip: largest norm of the estimate; intrinsic = sqrt(number of parameters)."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.8
    """b of spsa-gc: m <- b m + g, the update is g + b m. Other methods do not use it."""
    points: Count = 5
    """one-sided, random-search: points around the current one, which is queried too: a step costs points + 1."""
    beta: Positive = 0.01
    """one-sided: distance of the points."""
    population: Annotated[int, Field(ge=4)] = 15
    """cma-es: individuals of a generation, which is a step."""
    fitness_batches: Count = 1
    """cma-es: mini-batches that each individual is queried on; their mean loss is its fitness."""
    covariance: Literal["full", "diagonal"] = "full"
    """cma-es: what is learnt of the covariance; full takes d^2 numbers, and now and then d^3 operations."""
    incumbent: Literal["mean", "best"] = "mean"
    """cma-es: what is validated and deployed: the mean of the search distribution, or the individual that has had the
    lowest fitness, which on noisy losses is a lucky one."""
    sigma: Positive = 0.3
    """cma-es: initial standard deviation; random-search: that of the steps. In units of the parameters."""
    learning_rate: Positive = 0.002
    """one-sided: the initial one, which falls to a hundredth by a polynomial of power 0.9; gradient: Adam's, which
    falls to 0 by a cosine."""
    schedule_steps: Count | None = None
    """one-sided, gradient: steps over which the learning rate falls; absent = those of the budget."""

    @property
    def asks_per_step(self) -> int:
        """Asks (pairs, queries or gradients) of one step."""
        match self.method:
            case "one-sided" | "random-search":
                return self.points + 1
            case "cma-es":
                return self.population * self.fitness_batches
            case "gradient":
                return 1
        return self.pairs_per_step

    @property
    def asks_out(self) -> int:
        """Asks that may be out at once: those of a step, or asynchronously `in_flight`."""
        return self.asks_per_step if self.mode == "sync" else self.in_flight

    @property
    def batches_per_step(self) -> int:
        """Mini-batches that they go through, one after another."""
        return self.fitness_batches if self.method == "cma-es" else 1

    @property
    def queries_per_step(self) -> int:
        """What a step costs."""
        return self.asks_per_step * (2 if self.method in ("zip", "spsa", "spsa-gc") else 1)

    @model_validator(mode="after")
    def _mode_is_known(self) -> "OptimizerConfig":
        if self.mode == "async" and self.method in SYNCHRONOUS:
            raise ValueError(
                f"mode is async, but method {self.method} compares the queries of a step: set mode to sync "
                "(all of a step's queries are in flight at once)"
            )
        return self
