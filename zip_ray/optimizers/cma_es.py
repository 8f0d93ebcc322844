"""CMA-ES (Hansen, Ostermeier, Evolutionary Computation 9, 2001) by pycma: the optimiser of BBT and BPT-VLM."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from zip_ray.config.section import Count, Positive
from zip_ray.optimizers.base import MethodOptions, Move, Optimizer, OptimizerState, Told
from zip_ray.protocol.arrays import Float64
from zip_ray.protocol.messages import Query
from zip_ray.protocol.random_keys import Stream, generator


class CmaEsOptions(MethodOptions):
    """CMA-ES by pycma."""

    compares: ClassVar[bool] = True
    method: Literal["cma-es"] = "cma-es"
    """CMA-ES by pycma."""
    population: Annotated[int, Field(ge=4)] = 15
    """Individuals per generation, which is a step."""
    initial_std: Positive = 0.3
    """sigma: initial standard deviation of the parameters."""
    fitness_batches: Count = 1
    """Mini-batches per individual; its fitness is the mean loss."""
    covariance: Literal["full", "diagonal"] = "full"
    """What is learnt of the covariance. full holds d^2 numbers and takes some d^3 operations now and then."""
    incumbent: Literal["mean", "best"] = "mean"
    """What is validated and deployed. mean = that of the search distribution; best = the individual with the lowest
    fitness so far, which on noisy losses is a lucky one."""

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

    The fitness is the mean loss over them, or the generation's worst where one is not finite. The state remembers the
    start and the fitnesses of all generations: pycma's own state is a cache of what they come to, made again from them
    where it is missing (after a resume), with the same bits.
    """

    remedy = "lower optimizer.initial_std"

    def __init__(self, options: CmaEsOptions, seed: int, schedule_steps: int | None = None) -> None:
        """As `Optimizer`."""
        super().__init__(options, seed, schedule_steps)
        self._options = options
        self._search: _Search | None = None
        self._told: Float64 | None = None
        """The fitnesses that the search has been told."""

    def ask(self, state: OptimizerState, index: int) -> Query:
        """An individual of the generation after those told, on one of its mini-batches."""
        individuals = self._after(state).individuals
        return Query(
            index=index,
            step=state.steps + 1,
            version=state.steps,
            w=individuals[index % self._options.population],
            batch=self.batch(index),
        )

    def _move(self, state: OptimizerState, told: Sequence[Told]) -> Move:
        losses = np.full(self.asks_per_step, np.nan)
        for ask, result in told:
            losses[ask.index % self.asks_per_step] = result.loss
        fitness = losses.reshape(self._options.fitness_batches, self._options.population).mean(axis=0)
        worst = max(result.loss for _, result in told)
        fitness = np.where(np.isnan(fitness), worst, fitness)
        search = self._after(state)
        before = state.memory.get("fitness", np.empty((0, self._options.population)))
        search.tell(fitness)
        self._told = np.vstack([before, fitness])
        memory = {"start": search.start, "fitness": self._told}
        return Move(search.best if self._options.incumbent == "best" else search.mean, memory)

    def _after(self, state: OptimizerState) -> "_Search":
        """The search after the generations that the state has been told of."""
        fitness, start = state.memory.get("fitness"), state.memory.get("start", state.w)
        if self._search is None or self._told is not fitness or self._search.start is not start:
            self._search, self._told = _Search(self._options, self._seed, start), fitness
            for generation in () if fitness is None else fitness:
                self._search.tell(generation)
        return self._search


class _Search:
    """pycma's search distribution, and the best individual so far."""

    def __init__(self, options: CmaEsOptions, seed: int, start: Float64) -> None:
        import cma  # here, since actors import this package and do without

        self.start, self.best, self._best_fitness = start, start, np.inf
        self._seed, self._generations = seed, 0
        self._random = generator(seed, Stream.DIRECTION, 0)
        """What pycma draws from: a generator for each generation."""
        self._strategy: Any = cma.CMAEvolutionStrategy(
            start,
            options.initial_std,
            {
                "popsize": options.population,
                "CMA_diagonal": options.covariance == "diagonal",
                "randn": lambda *shape: self._random.standard_normal(shape),
                "seed": np.nan,  # leaves numpy's global generator alone
                "verbose": -9,
                "verb_log": 0,
            },
        )
        self._asked: list[Float64] = []

    @property
    def individuals(self) -> list[Float64]:
        """The generation after those told."""
        if not self._asked:
            self._random = generator(self._seed, Stream.DIRECTION, self._generations + 1)
            self._asked = self._strategy.ask()
        return self._asked

    @property
    def mean(self) -> Float64:
        """Of the search distribution."""
        return np.array(self._strategy.mean)

    def tell(self, fitness: Float64) -> None:
        """Fold in the fitnesses of the generation, shape (population,)."""
        individuals = self.individuals
        self._strategy.tell(individuals, fitness.tolist())
        if fitness.min() < self._best_fitness:
            self.best, self._best_fitness = individuals[fitness.argmin()], fitness.min()
        self._generations += 1
        self._asked = []
