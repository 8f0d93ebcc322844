"""The tables of a report. Accuracies are in per cent, differences in points."""

import math
from collections.abc import Callable, Mapping, Sequence

from zip_ray.compare.document import Table, row
from zip_ray.compare.results import Finished, Results
from zip_ray.compare.statistics import (
    harmonic_mean,
    mean_and_deviation,
    paired_tests,
    queries_to_target,
    smoothed,
)

ZERO_SHOT = ("plain template", "best template")
PLAIN = ZERO_SHOT[0]
WHITE_BOX = ("gradient",)
"""Methods of the optimiser that see more than losses."""
NONE = "n/a"
Grid = Mapping[str, Mapping[str, Sequence[float]]]
"""Values of the seeds, by row and column."""


def accuracies(results: Results, shots: int) -> Grid:
    """Test accuracies by row (zero-shot, then methods) and task."""
    tasks, methods = results.suite.tasks, results.suite.methods
    rows = {f"zero-shot, {name}": {task: zero_shot(results, name, task, shots) for task in tasks} for name in ZERO_SHOT}
    tuned = {
        method: {task: [one.accuracy for one in results.of(method, task, shots)] for task in tasks}
        for method in methods
    }
    return rows | tuned


def zero_shot(results: Results, template: str, task: str, shots: int) -> list[float]:
    """Of each seed, from whichever method's run has it."""
    by_seed = {
        one.run.seed: one.zero_shot[template]
        for one in results.finished
        if (one.run.task, one.run.shots) == (task, shots)
    }
    return [by_seed[seed] for seed in sorted(by_seed)]


def templates_table(results: Results) -> Table:
    """Texts of the hand-written templates; which one is the best depends on the images that a seed draws."""

    def texts(name: str, task: str) -> str:
        found = (one.templates[name] for one in results.finished if one.run.task == task)
        return " / ".join(dict.fromkeys(found))

    rows = tuple(row(task, [texts(name, task) for name in ZERO_SHOT]) for task in results.suite.tasks)
    return Table(("task", *ZERO_SHOT), rows)


def gains(results: Results, shots: int) -> Grid:
    """Accuracy less that of the plain template, by method and task."""
    return {
        method: {
            task: [one.accuracy - one.zero_shot[PLAIN] for one in results.of(method, task, shots)]
            for task in results.suite.tasks
        }
        for method in results.suite.methods
    }


def white_box(results: Results) -> set[str]:
    """Methods that see gradients: upper bounds, no competitors."""
    return {run.method for run in results.planned if run.config.optimizer.method in WHITE_BOX}


def grid_table(grid: Grid, corner: str, apart: set[str], sign: str = "", mean: str = "mean") -> Table:
    """Mean and deviation over seeds in each place, and the mean over the columns at the end; the best is bold.

    Args:
        grid: the values, shares.
        corner: head of the first column.
        apart: rows that do not compete.
        sign: `+` to have every number signed.
        mean: head of the last column; without it there is none.
    """
    columns = list(next(iter(grid.values())))
    means = {name: [mean_and_deviation(row[column])[0] for column in columns] for name, row in grid.items()}
    if mean:
        means = {name: [*found, _mean(found)] for name, found in means.items()}
    best = [
        max(
            (found[place] for name, found in means.items() if name not in apart and found[place] == found[place]),
            default=None,
        )
        for place in range(len(columns) + bool(mean))
    ]
    rows = []
    for name, row_ in grid.items():
        texts = [_cell(row_[column], sign) for column in columns] + [percent(means[name][-1], sign)] * bool(mean)
        bold = [
            name not in apart and top is not None and round(found, 6) == round(top, 6)
            for found, top in zip(means[name], best, strict=True)
        ]
        rows.append(row(f"{name} (white box)" if name in apart else name, texts, bold))
    return Table((corner, *columns, *[mean] * bool(mean)), tuple(rows))


def seeds_table(results: Results) -> Table:
    """Every run by itself."""
    header = ("run", "seed", "test accuracy", "plain template", "parameters", "queries", "wasted", "seconds")
    rows = [
        row(
            f"{one.run.task}, {one.run.shots} shots, {one.run.method}",
            [
                str(one.run.seed),
                percent(one.accuracy),
                percent(one.zero_shot[PLAIN]),
                f"{one.parameters:,}",
                f"{one.account['charged']:,}",
                f"{one.account['wasted']:,}",
                f"{one.seconds:.1f}",
            ],
        )
        for one in results.finished
    ]
    return Table(header, tuple(rows))


def target_table(results: Results) -> Table:
    """Queries to the target, means over seeds and shots; the fewest are bold."""
    found = targets(results)
    tasks = list(results.suite.tasks)
    apart = white_box(results)
    means = {
        method: [mean_and_deviation([n for t, n in found[method] if t == task])[0] for task in tasks]
        for method in results.suite.methods
    }
    means = {method: [*own, _mean(own)] for method, own in means.items()}
    competing = [own for method, own in means.items() if method not in apart]
    fewest = [
        min((own[place] for own in competing if own[place] == own[place]), default=None)
        for place in range(len(tasks) + 1)
    ]
    rows = [
        row(
            f"{method} (white box)" if method in apart else method,
            [NONE if math.isnan(n) else f"{n:,.0f}" for n in own],
            [method not in apart and n == least for n, least in zip(own, fewest, strict=True)],
        )
        for method, own in means.items()
    ]
    return Table(("queries to target", *tasks, "mean"), tuple(rows))


def targets(results: Results) -> dict[str, list[tuple[str, float]]]:
    """Task and queries to the target by method, one for each task, shots and seed that all methods have finished."""
    found: dict[str, list[tuple[str, float]]] = {method: [] for method in results.suite.methods}
    for runs in complete(results):
        curves = {one.run.method: smoothed(one.training, results.budget) for one in runs}
        _, needed = queries_to_target(curves, results.budget)
        for method, queries in needed.items():
            found[method].append((runs[0].run.task, queries))
    return found


def complete(results: Results) -> list[list[Finished]]:
    """The runs of each task, shots and seed that all methods have finished."""
    groups: dict[tuple[str, int, int], list[Finished]] = {}
    for one in results.finished:
        groups.setdefault((one.run.task, one.run.shots, one.run.seed), []).append(one)
    return [runs for runs in groups.values() if len(runs) == len(results.suite.methods)]


def tests_table(results: Results) -> Table:
    """Paired tests of the first method against each other one, and against zero-shot."""
    by_method: dict[str, dict[str, float]] = {method: {} for method in results.suite.methods}
    plain: dict[str, float] = {}
    for one in results.finished:
        key = f"{one.run.task} {one.run.shots} {one.run.seed}"
        by_method[one.run.method][key] = one.accuracy
        plain[key] = one.zero_shot[PLAIN]
    reference = next(iter(by_method))
    tests = paired_tests({**by_method, f"zero-shot, {PLAIN}": plain}, reference)
    rows = [
        row(test.method, [str(test.pairs), percent(test.difference, "+"), _p(test.p), _p(test.holm)]) for test in tests
    ]
    return Table((f"against {reference}", "pairs", "mean difference", "p", "p, Holm"), tuple(rows))


def harmonic_table(results: Results, shots: int) -> Table:
    """Base classes, new classes, harmonic mean: means over tasks of the means over seeds."""

    def both(method: str, task: str) -> tuple[float, float]:
        runs = results.of(method, task, shots)
        new = [next(iter(one.applied.values()))["tuned"] for one in runs]
        return mean_and_deviation([one.accuracy for one in runs])[0], mean_and_deviation(new)[0]

    def plain(task: str) -> tuple[float, float]:
        runs = [one for one in results.finished if (one.run.task, one.run.shots) == (task, shots)]
        new = [next(iter(one.applied.values()))[PLAIN] for one in runs]
        return mean_and_deviation([one.zero_shot[PLAIN] for one in runs])[0], mean_and_deviation(new)[0]

    tasks = list(results.suite.tasks)
    lines = {f"zero-shot, {PLAIN}": [plain(task) for task in tasks]}
    lines |= {method: [both(method, task) for task in tasks] for method in results.suite.methods}
    figures = {name: [(base, new, harmonic_mean(base, new)) for base, new in line] for name, line in lines.items()}
    columns = [f"{task}, {part}" for task in ("mean", *tasks) for part in ("base", "new", "H")]
    grid: dict[str, dict[str, list[float]]] = {}
    for name, line in figures.items():
        base, new = _mean([one[0] for one in line]), _mean([one[1] for one in line])
        values = [value for one in ((base, new, harmonic_mean(base, new)), *line) for value in one]
        grid[name] = {column: [value] for column, value in zip(columns, values, strict=True)}
    return grid_table(grid, "method", white_box(results), mean="")


def applied_table(results: Results, shots: int) -> Table:
    """Accuracy on the run's own test set and on the targets: of each seed the mean over tasks, then as elsewhere."""
    at = [one for one in results.finished if one.run.shots == shots]

    def line(runs: Sequence[Finished], own: Callable[[Finished], float], kind: str) -> dict[str, list[float]]:
        seeds = [[one for one in runs if one.run.seed == seed] for seed in results.suite.seeds]
        columns = {"own test set": own} | {
            label: (lambda one, label=label: one.applied[label][kind]) for label in results.suite.targets
        }
        return {name: [_mean([get(one) for one in seed]) for seed in seeds if seed] for name, get in columns.items()}

    grid = {f"zero-shot, {PLAIN}": line(at, lambda one: one.zero_shot[PLAIN], PLAIN)}
    for method in results.suite.methods:
        grid[method] = line([one for one in at if one.run.method == method], lambda one: one.accuracy, "tuned")
    return grid_table(grid, "method", white_box(results), mean="")


def percent(share: float, sign: str = "") -> str:
    """A share in per cent, one decimal."""
    return NONE if math.isnan(share) else f"{100 * share:{sign}.1f}"


def _cell(values: Sequence[float], sign: str) -> str:
    mean, deviation = mean_and_deviation(values)
    # What does not depend on the seed at all, such as a template, has no deviation to tell of.
    return percent(mean, sign) + (f" ± {100 * deviation:.1f}" if deviation > 0 else "")


def _mean(values: Sequence[float]) -> float:
    """NaN as soon as one is missing: means over different tasks must not stand below each other."""
    return mean_and_deviation(values)[0]


def _p(p: float) -> str:
    return NONE if math.isnan(p) else f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"
