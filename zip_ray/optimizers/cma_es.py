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
    batches: Literal["shared", "own"] = "shared"
    """Whose mini-batches. shared = those of a generation: its individuals are compared on the same images; own = each
    individual draws new ones, with new crops where `task.views` is fresh, as in BPT-VLM's release."""
    covariance: Literal["full", "diagonal"] = "full"
    """Form of the covariance. full holds d^2 numbers and takes about d^3 operations at intervals."""
    incumbent: Literal["mean", "best", "last"] = "mean"
    """Point that is validated and deployed. mean = the mean of the search distribution; best = the individual with the
    lowest running mean of its losses so far, on noisy losses partly by luck; last = the latest individual, which
    BPT-VLM's release stores. With best and last, queries too few for a whole generation are also spent."""

    @property
    def asks_per_step(self) -> int:
        """Queries of one generation."""
        return self.population * self.fitness_batches

    @property
    def batches_per_step(self) -> int:
        """Mini-batches of one generation."""
        return self.asks_per_step if self.batches == "own" else self.fitness_batches

    @property
    def cuts_last_step(self) -> bool:
        """Whether queries that are too few for a step are spent too: an individual may be deployed without the rest."""
        return self.incumbent != "mean"


class CmaEs(Optimizer):
    """A step is a generation: each of P individuals on `fitness_batches` mini-batches, all in flight at once.

    The fitness is the mean loss over them, or the generation's worst where one is not finite. The state remembers the
    start and the fitnesses of all generations: pycma's own state is a cache of what they come to, made again from them
    where it is missing (after a resume), with the same bits.
    """

    Options = CmaEsOptions
    remedy = "lower optimizer.initial_std"

    def __init__(self, options: CmaEsOptions, seed: int, schedule_steps: int | None = None) -> None:
        """As `Optimizer`."""
        super().__init__(options, seed, schedule_steps)
        self._options = options
        self._search: _Search | None = None
        self._told: Float64 | None = None
        """The fitnesses of the generations so far."""

    def ask(self, state: OptimizerState, index: int) -> Query:
        """An individual of the generation after those told, on one of its mini-batches."""
        individuals = self._after(state).individuals
        return Query(
            index=index,
            step=state.steps + 1,
            version=state.steps,
            w=individuals[self._place(index)[1]],
            batch=self.batch(index),
        )

    def _place(self, index: int) -> tuple[int, int]:
        """Which of its mini-batches, and which individual: batch by batch, or each with its own one after another."""
        within, o = index % self.asks_per_step, self._options
        if o.batches == "own":
            individual, batch = divmod(within, o.fitness_batches)
            return batch, individual
        return divmod(within, o.population)

    def _move(self, state: OptimizerState, told: Sequence[Told]) -> Move:
        losses = self._losses(told)
        fitness = losses.mean(axis=0)
        worst = max(result.loss for _, result in told)
        fitness = np.where(np.isnan(fitness), worst, fitness)
        search, chosen = self._after(state), self._individual(state, told)
        before = state.memory.get("fitness", np.empty((0, self._options.population)))
        search.tell(fitness)
        self._told = np.vstack([before, fitness])
        memory = {**chosen.memory, "start": search.start, "fitness": self._told}
        return Move(search.mean if self._options.incumbent == "mean" else chosen.w, memory)

    def _cut_short(self, state: OptimizerState, told: Sequence[Told]) -> Move:
        """A generation that the budget cuts short: its individuals may be deployed, but do not update the search."""
        return self._individual(state, told)

    def _individual(self, state: OptimizerState, told: Sequence[Told]) -> Move:
        """To the individual asked last, or to that of the lowest running mean so far, which the memory holds."""
        if self._options.incumbent != "best":
            return Move(told[-1].ask.w, state.memory)
        lowest = float(state.memory.get("lowest", np.array([np.inf]))[0])
        losses = self._losses(told)
        running = np.cumsum(losses, axis=0) / np.arange(1, len(losses) + 1)[:, None]
        found = np.where(np.isnan(running), np.inf, running).min(axis=0)
        if found.min() >= lowest:
            return Move(state.w, state.memory)
        best = self._after(state).individuals[found.argmin()]
        return Move(best, {**state.memory, "lowest": found.min(keepdims=True)})

    def _losses(self, told: Sequence[Told]) -> Float64:
        """By mini-batch and individual, shape (fitness_batches, population); NaN where there is none."""
        losses = np.full((self._options.fitness_batches, self._options.population), np.nan)
        for ask, result in told:
            losses[self._place(ask.index)] = result.loss
        return losses

    def _after(self, state: OptimizerState) -> "_Search":
        """The search after the generations in the state."""
        fitness, start = state.memory.get("fitness"), state.memory.get("start", state.w)
        if self._search is None or self._told is not fitness or self._search.start is not start:
            self._search, self._told = _Search(self._options, self._seed, start), fitness
            for generation in () if fitness is None else fitness:
                self._search.tell(generation)
        return self._search


class _Search:
    """pycma's search distribution."""

    def __init__(self, options: CmaEsOptions, seed: int, start: Float64) -> None:
        import cma  # imported here, so that actors that import this package do not need pycma

        self.start = start
        self._seed, self._generations = seed, 0
        self._random = generator(seed, Stream.DIRECTION, 0)
        """Source of pycma's random numbers: a generator for each generation."""
        self._strategy: Any = cma.CMAEvolutionStrategy(
            start,
            options.initial_std,
            {
                "popsize": options.population,
                "CMA_diagonal": options.covariance == "diagonal",
                "randn": lambda *shape: self._random.standard_normal(shape),
                "seed": np.nan,  # does not touch numpy's global generator
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
        """Mean of the search distribution."""
        return np.array(self._strategy.mean)

    def tell(self, fitness: Float64) -> None:
        """Fold in the fitnesses of the generation, shape (population,)."""
        self._strategy.tell(self.individuals, fitness.tolist())
        self._generations += 1
        self._asked = []
