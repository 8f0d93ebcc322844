"""The method on synthetic objectives: effective dimension, clipping. `python benchmarks/experiments.py --help`.

The real optimisers and prompt spaces, over losses in closed form. The same questions on the small CLIP are suites:
configs/suites/effective-dimension.yaml and clipping.yaml, and query-efficiency.yaml for the third experiment.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import MEASUREMENTS, BenchmarkOptions, machine, parallel, table
from zip_ray.optimizers import METHODS, OptimizerState
from zip_ray.optimizers.base import Told
from zip_ray.optimizers.spsa import SpsaOptions, ZipOptions
from zip_ray.prompts import SPACES, TextSpace
from zip_ray.prompts.full import FullOptions
from zip_ray.prompts.low_rank import LowRankOptions
from zip_ray.prompts.per_token import PerTokenOptions
from zip_ray.protocol.arrays import Float64
from zip_ray.protocol.facts import ModelShape
from zip_ray.protocol.messages import AskResult
from zip_ray.protocol.perturbations import points
from zip_ray.runs.plotting import GREY, looks, new_figure, plain_numbers, png

TOKENS, WIDTH, TARGET_RANK = 8, 128, 2
WANTED_RATIO = 1.0
"""Queries with the low rank over those without, at the largest dimension, where the target has a low rank."""
REACHED = 0.5
"""Share of the first loss that is the target of (a)."""
STEP_SIZES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""(a): each cell is given the best of these."""
DIMENSIONS = (64, 256, 1000)
"""(a): intrinsic dimensions."""
SIZES = (10, 100, 1000, 10_000, 100_000)
"""(b): numbers of parameters, over four decades."""
FACTORS = (0.01, 0.1, 1.0, 10.0, 100.0)
"""(b): thresholds in units of the intrinsic one, sqrt(d)."""
Loss = Callable[[Float64], float]
Space = Literal["low-rank", "full"]
OPTIONS: dict[Space, type[PerTokenOptions]] = {"low-rank": LowRankOptions, "full": FullOptions}


@dataclass(frozen=True)
class Options(BenchmarkOptions):
    """Queries against dimension with and without the low rank; final loss against the clipping threshold."""

    queries: int = 5000
    """Budget of a run."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """One run each."""


def descend(config: ZipOptions | SpsaOptions, start: Float64, loss: Loss, seed: int, queries: int) -> Float64:
    """Losses at the iterates, after 0, 1, 2, ... steps."""
    optimizer, state, each = METHODS[config.method](config, seed), OptimizerState(start), config.asks_per_step
    losses = [loss(start)]
    for step in range(queries // config.queries_per_step):
        asks = [optimizer.ask(state, step * each + place) for place in range(each)]
        told = [Told(ask, AskResult(tuple(loss(w) for w in points(ask)), 0.0)) for ask in asks]
        state, _ = optimizer.tell(state, told)
        losses.append(loss(state.w))
    return np.array(losses)


def prompt_space(kind: Space, dimension: int, seed: int) -> TextSpace:
    """ZIP's space, or the same without the low rank, over a random context."""
    draw = np.random.default_rng(seed)
    context = (0.02 * draw.standard_normal((TOKENS, WIDTH))).astype(np.float32)
    shape = ModelShape(context, 0.02, (32, 32), None)
    space = SPACES[kind](OPTIONS[kind](intrinsic_dimension=dimension, tokens=TOKENS), shape, seed)
    assert isinstance(space, TextSpace)
    return space


def distance(space: TextSpace, target_rank: int, dimension: int, seed: int) -> Loss:
    """Squared distance of the context from one that W of that rank gives, in units of the first distance."""
    draw = np.random.default_rng([seed, 7])
    size = dimension // TOKENS
    rows = draw.standard_normal((TOKENS, target_rank)) @ draw.standard_normal((target_rank, size))
    reference = prompt_space("full", dimension, seed)
    start = space.context(space.initial()).astype(np.float64)
    target = reference.context(rows.ravel()).astype(np.float64)
    scale = float(((target - start) ** 2).sum())
    return lambda w: float(((space.context(w) - target) ** 2).sum()) / scale


def queries_needed(job: tuple[Space, int, int, int, float, int]) -> float:
    """(a): queries until the loss is `REACHED`; the budget where it never is."""
    kind, dimension, rank, seed, a, queries = job
    space = prompt_space(kind, dimension, seed)
    config = ZipOptions(pairs_per_step=1, step_size=a)
    losses = descend(config, space.initial(), distance(space, rank, dimension, seed), seed, queries)
    there = np.flatnonzero(losses <= REACHED)
    return float(there[0] * config.queries_per_step if there.size else queries)


def final_loss(job: tuple[int, float, int, int]) -> float:
    """(b): share of the first loss that is left of the quadratic |w - w*|^2 / 2 with w* ~ N(0, 1)."""
    size, factor, seed, queries = job
    target = np.random.default_rng([seed, 11]).standard_normal(size)
    clipped = ZipOptions(pairs_per_step=1, clip_norm=factor * np.sqrt(size)) if np.isfinite(factor) else None
    config = clipped or SpsaOptions(pairs_per_step=1)

    def loss(w: Float64) -> float:
        return float(((w - target) ** 2).sum()) / 2

    with np.errstate(over="ignore", invalid="ignore"):
        losses = descend(config, np.zeros(size), loss, seed, queries)
    return float(losses[-1] / losses[0])


def effective_dimension(
    options: Options, dimensions: tuple[int, ...]
) -> tuple[str, dict[tuple[str, int], list[float]]]:
    """(a) as a table, and the curves of the figure: queries by (line, target's rank)."""
    kinds: tuple[Space, ...] = ("low-rank", "full")
    ranks = (TARGET_RANK, TOKENS)
    cells = [(kind, dimension, rank) for rank in ranks for dimension in dimensions for kind in kinds]
    jobs = [(*cell, seed, a, options.queries) for cell in cells for a in STEP_SIZES for seed in options.seeds]
    found = np.array(list(parallel(queries_needed, jobs, options.processes))).reshape(len(cells), len(STEP_SIZES), -1)
    best = found.mean(axis=2).argmin(axis=1)
    rows, curves = [], dict[tuple[str, int], list[float]]()
    for cell, places, chosen in zip(cells, found, best, strict=True):
        kind, dimension, rank = cell
        mean = float(places[chosen].mean())
        curves.setdefault((kind, rank), []).append(mean)
        count = prompt_space(kind, dimension, 1).dimension
        a = f"{STEP_SIZES[chosen]:g}" if mean < options.queries else ""
        rows.append([str(rank), str(dimension), kind, f"{count:,}", a, f"{mean:,.0f}"])
    return table(["rank of the target", "intrinsic dimension", "space", "parameters", "a", "queries"], rows), curves


def clipping(options: Options, sizes: tuple[int, ...]) -> tuple[str, dict[int, list[float]]]:
    """(b) as a table, and the curves of the figure: what is left by threshold."""
    factors = (*FACTORS, float("inf"))
    jobs = [(size, factor, seed, options.queries) for size in sizes for factor in factors for seed in options.seeds]
    found = np.array(list(parallel(final_loss, jobs, options.processes))).reshape(len(sizes), len(factors), -1)
    left = found.mean(axis=2)
    header = ["parameters", *(f"{factor:g} sqrt(d)" for factor in FACTORS), "no clipping"]
    rows = [[f"{size:,}", *(share(value) for value in row)] for size, row in zip(sizes, left, strict=True)]
    return table(header, rows), {size: list(row[:-1]) for size, row in zip(sizes, left, strict=True)}


def share(value: float) -> str:
    """A share of the first loss, or that there is no end to it."""
    return f"{value:.3f}" if value < 1000 else "diverged"


def draw(path: Path, spaces: dict[tuple[str, int], list[float]], dimensions: tuple[int, ...], left: Any) -> None:
    """Both figures side by side."""
    figure = new_figure(11, 4.8)
    one, other = figure.subplots(1, 2)
    targets = looks(f"{kind}, target of rank {rank}" for kind, rank in spaces)
    for values, look in zip(spaces.values(), targets.values(), strict=True):
        one.plot(dimensions, values, **look)
    one.set(xscale="log", xlabel="intrinsic dimension", ylabel=f"queries until {REACHED:.0%} of the first loss")
    sizes = looks(f"{size:,} parameters" for size in left)
    for values, look in zip(left.values(), sizes.values(), strict=True):
        other.plot(FACTORS, values, **look)
    other.axvline(1.0, color=GREY, linewidth=1, label="intrinsic threshold")
    other.set(
        xscale="log", yscale="log", xlabel="threshold / sqrt(number of parameters)", ylabel="share of the first loss"
    )
    for axes in (one, other):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        plain_numbers(axes)
    path.write_bytes(png(figure, 130))


def main(options: Options) -> int:
    """Measure; exit code."""
    dimensions, sizes = DIMENSIONS, SIZES
    if options.quick:
        options = Options(queries=100, seeds=(1,), processes=options.processes)
        dimensions, sizes = DIMENSIONS[:2], SIZES[:2]
    first, curves = effective_dimension(options, dimensions)
    second, left = clipping(options, sizes)
    head = f"{options.queries} queries, seeds {', '.join(map(str, options.seeds))}, {machine()}"
    text = (
        f"## Effective dimension\n\nQueries until the squared distance of the context from a target is {REACHED:.0%} "
        f"of the first one, mean over seeds ({options.queries} where it never is). The target is one that a W of the "
        f"given rank gives; {TOKENS} is full rank. ZIP with one pair per step, each cell with the best of the step "
        f"sizes {', '.join(map(str, STEP_SIZES))}.\n\n{first}\n\n## Clipping\n\nShare of the first loss that is left "
        f"of the quadratic |w - w*|^2 / 2, w* ~ N(0, 1), mean over seeds, at the published gains with one pair per "
        f"step. 1 sqrt(d) is the intrinsic threshold.\n\n{second}\n"
    )
    print(f"{head}\n\n{text}")
    if options.write:
        note = "Made by `python benchmarks/experiments.py --write`."
        picture = "![Queries against dimension; loss against threshold](experiments.png)"
        (MEASUREMENTS / "experiments.md").write_text(
            f"# Synthetic experiments\n\n{note}\n\n{head}\n\n{text}\n{picture}\n"
        )
        draw(MEASUREMENTS / "experiments.png", curves, dimensions, left)
    ratio = curves["low-rank", TARGET_RANK][-1] / curves["full", TARGET_RANK][-1]
    print(f"queries with the low rank over those without {ratio:.2f} (wanted at most {WANTED_RATIO:.2f})")
    return int(options.check and ratio > WANTED_RATIO)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
