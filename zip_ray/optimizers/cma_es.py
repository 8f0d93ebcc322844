"""CMA-ES (Hansen, Ostermeier, Evolutionary Computation 9, 2001) by pycma: the optimiser of BBT and BPT-VLM."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from zip_ray.config.execution import ExecutionConfig
from zip_ray.config.section import Count, Positive
from zip_ray.optimizers.base import MethodOptions, Move, Optimizer, OptimizerState, Told
from zip_ray.protocol.messages import Float64, Query
from zip_ray.protocol.random_keys import Stream, generator


class CmaEsOptions(MethodOptions):
    """CMA-ES by pycma."""

    compares: ClassVar[bool] = True
    method: Literal["cma-es"] = "cma-es"
    """CMA-ES by pycma."""
    population: Annotated[int, Field(ge=4)] = 15
    """Individuals of a generation, which is a step."""
    initial_std: Positive = 0.3
    """sigma: initial standard deviation, in units of the parameters."""
    fitness_batches: Count = 1
    """Mini-batches that each individual is queried on; their mean loss is its fitness."""
    covariance: Literal["full", "diagonal"] = "full"
    """What is learnt of the covariance; full holds d^2 numbers and takes some d^3 operations now and then."""
    incumbent: Literal["mean", "best"] = "mean"
    """What is validated and deployed: the mean of the search distribution, or the individual with the lowest fitness so
    far, which on noisy losses is a lucky one."""

    @property
    def asks_per_step(self) -> int:
        """Queries of one generation."""
        return self.population * self.fitness_batches

    @property
    def batches_per_step(self) -> int:
        """Mini-batches of one generation."""
        return self.fitness_batches


class CmaEs(Optimizer):
    """A step is a generation: each of P individuals on the same `fitness_batches` mini-batches, all in flight at once.

    The fitness is the mean loss over them, or the generation's worst where one is not finite. pycma's own state is
    never stored: the start and the fitnesses told so far are, and replaying them gives the same bits.
    """

    remedy = "lower optimizer.initial_std"
    _config: CmaEsOptions

    def __init__(
        self,
        config: CmaEsOptions,
        execution: ExecutionConfig,
        state: OptimizerState,
        seed: int,
        schedule_steps: int | None = None,
    ) -> None:
        """Replay the generations told so far; arguments as `Optimizer` takes them."""
        super().__init__(config, execution, state, seed, schedule_steps)
        self._start = state.memory.get("start", state.w)
        self._told_so_far = state.memory.get("fitness", np.empty((0, config.population)))
        self._generation = 0
        """Generations that the strategy has been asked for."""
        self._random = generator(seed, Stream.DIRECTION, 0)
        """What it draws from, a generator for each generation."""
        self._strategy = self._make_strategy()
        self._individuals: list[Float64] = []
        """Of the generation that is out."""
        self._best, self._best_fitness = self._start, np.inf
        for fitness in self._told_so_far:
            self._individuals = self._ask_generation()
            self._tell(fitness)

    def _make(self, number: int, index: int) -> Query:
        if index == 0 and self._generation == len(self._told_so_far):  # else the last one had no finite loss
            self._individuals = self._ask_generation()
        steps = self._state.steps
        return Query(number, steps + 1, steps, self._individuals[index % self._config.population], self.next_batch)

    def _move(self, told: Sequence[Told]) -> Move:
        losses = np.full(self._asks_per_step, np.nan)
        for ask, result in told:
            losses[ask.id % self._asks_per_step] = result.loss
        fitness = losses.reshape(self._config.fitness_batches, self._config.population).mean(axis=0)
        worst = max(result.loss for _, result in told)
        fitness = np.where(np.isnan(fitness), worst, fitness)
        self._tell(fitness)
        self._told_so_far = np.vstack([self._told_so_far, fitness])
        incumbent = self._best if self._config.incumbent == "best" else np.array(self._strategy.mean)
        return Move(incumbent, {"start": self._start, "fitness": self._told_so_far})

    def _tell(self, fitness: Float64) -> None:
        self._strategy.tell(self._individuals, fitness.tolist())
        if fitness.min() < self._best_fitness:
            self._best, self._best_fitness = self._individuals[fitness.argmin()], fitness.min()

    def _ask_generation(self) -> list[Float64]:
        self._generation += 1
        self._random = generator(self._seed, Stream.DIRECTION, self._generation)
        individuals: list[Float64] = self._strategy.ask()
        return individuals

    def _make_strategy(self) -> Any:
        import cma  # here, since actors import this package and do without

        options = {
            "popsize": self._config.population,
            "CMA_diagonal": self._config.covariance == "diagonal",
            "randn": lambda *shape: self._random.standard_normal(shape),
            "seed": np.nan,  # leaves numpy's global generator alone
            "verbose": -9,
            "verb_log": 0,
        }
        return cma.CMAEvolutionStrategy(self._start, self._config.initial_std, options)
