"""The tables of a report. Accuracies are in per cent, differences in points."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE, TUNED
from zip_ray.compare.plan import NEW_CLASSES, Planned
from zip_ray.compare.report.document import Table, row
from zip_ray.compare.results import Finished, Results
from zip_ray.compare.statistics import (
    harmonic_mean,
    mean_and_deviation,
    paired_tests,
    queries_to_target,
    smoothed,
)

OWN = "own test set"
NONE = "n/a"
Grid = Mapping[str, Mapping[str, Sequence[float]]]
"""Values of the seeds, by row and column."""
Elsewhere = Sequence[tuple[Planned, Mapping[str, float]]]
"""Runs, each with the accuracy on its own test set and on those of its targets that could be tested."""


class Score(NamedTuple):
    """A place in a table of accuracies."""

    mean: float
    """NaN where there is none."""
    deviation: float
    """NaN or 0 where there is none to tell of: what does not depend on the seed at all, such as a template."""
    runs: int
    wanted: int
    """Runs that it is the mean of when the suite is done."""

    @property
    def whole(self) -> bool:
        """Whether it may be compared: a mean over other seeds or tasks may not."""
        return self.runs == self.wanted

    def text(self, sign: str) -> str:
        """As a reader sees it."""
        if math.isnan(self.mean):
            return NONE
        deviation = f" ± {100 * self.deviation:.1f}" if self.deviation > 0 else ""
        return percent(self.mean, sign) + deviation + f" ({self.runs} of {self.wanted})" * (not self.whole)


def accuracies(results: Results, shots: int) -> Grid:
    """Test accuracies by row (zero-shot, then methods) and task."""
    tasks, methods = results.suite.tasks, results.suite.methods
    names = templates(results)
    rows = {f"zero-shot, {name}": {task: zero_shot(results, name, task, shots) for task in tasks} for name in names}
    tuned = {
        method: {task: [one.accuracy for one in results.of(method, task, shots)] for task in tasks}
        for method in methods
    }
    return rows | tuned


def templates(results: Results) -> list[str]:
    """Names of the hand-written templates that the runs have, in the order of the first run."""
    return list(dict.fromkeys(name for one in results.finished for name in one.zero_shot))


def zero_shot(results: Results, template: str, task: str, shots: int) -> list[float]:
    """Of each seed, from whichever method's run has it."""
    by_seed = {
        one.run.seed: one.zero_shot[template]
        for one in results.finished
        if (one.run.task, one.run.shots) == (task, shots) and template in one.zero_shot
    }
    return [by_seed[seed] for seed in sorted(by_seed)]


def templates_table(results: Results) -> Table:
    """Texts of the hand-written templates; which one is the best depends on the images that a seed draws."""

    def texts(name: str, task: str) -> str:
        runs = [one for one in results.finished if one.run.task == task]
        found = (one.templates[name] for one in runs if name in one.templates)
        return " / ".join(dict.fromkeys(found)) or NONE

    names = templates(results)
    rows = tuple(row(task, [texts(name, task) for name in names]) for task in results.suite.tasks)
    return Table(("task", *names), rows)


def gains(results: Results, shots: int) -> Grid:
    """Accuracy less that of the plain template, by method and task."""
    return {
        method: {
            task: [one.accuracy - one.zero_shot[PLAIN_TEMPLATE] for one in results.of(method, task, shots)]
            for task in results.suite.tasks
        }
        for method in results.suite.methods
    }


def grid_table(results: Results, grid: Grid, corner: str, sign: str = "") -> Table:
    """Mean and deviation over seeds in each place, and the mean over the tasks that all share at the end.

    Args:
        results: whose.
        grid: the values, shares.
        corner: head of the first column.
        sign: `+` to have every number signed.
    """
    lines = {name: {task: _score(results, values) for task, values in line.items()} for name, line in grid.items()}
    scores = {name: [*line.values(), _mean_score(results, line)] for name, line in lines.items()}
    return _best_bold((corner, *next(iter(grid.values())), "mean"), scores, results.white_box, sign)


def _score(results: Results, values: Sequence[float]) -> Score:
    return Score(*mean_and_deviation(values), len(values), len(results.suite.seeds))


def _mean_score(results: Results, line: Mapping[str, Score]) -> Score:
    """The mean over the tasks that all share; of deviations there is none."""
    shared = [line[task] for task in results.shared]
    runs, wanted = sum(one.runs for one in shared), sum(one.wanted for one in shared)
    return Score(_mean([one.mean for one in shared]), math.nan, runs, wanted)


def _best_bold(header: Sequence[str], scores: Mapping[str, Sequence[Score]], apart: set[str], sign: str = "") -> Table:
    """The scores by row; of each column the best is bold, of the rows that are not apart and lack no run."""
    competing = [line for name, line in scores.items() if name not in apart]
    best = [
        max((line[place].mean for line in competing if line[place].whole), default=math.nan)
        for place in range(len(header) - 1)
    ]
    rows = [
        row(
            f"{name} (white box)" if name in apart else name,
            [one.text(sign) for one in line],
            [
                name not in apart and one.whole and round(one.mean, 6) == round(top, 6)
                for one, top in zip(line, best, strict=True)
            ],
        )
        for name, line in scores.items()
    ]
    return Table(tuple(header), tuple(rows))


def seeds_table(results: Results) -> Table:
    """Every run by itself."""
    header = ("run", "seed", "test accuracy", PLAIN_TEMPLATE, "parameters", "queries", "wasted", "seconds")
    rows = [
        row(
            f"{one.run.task}, {one.run.shots} shots, {one.run.method}",
            [
                str(one.run.seed),
                percent(one.accuracy) + " (below)" * one.below_zero_shot,
                percent(one.zero_shot[PLAIN_TEMPLATE]),
                f"{one.parameters:,}",
                f"{one.account.charged:,}",
                f"{one.account.wasted:,}",
                f"{one.seconds:.1f}",
            ],
        )
        for one in results.finished
    ]
    return Table(header, tuple(rows))


def target_table(results: Results, shots: int) -> Table:
    """Queries to the target, means over seeds, below the target itself; the fewest are bold."""
    levels, found = targets(results, shots)
    tasks = list(results.suite.tasks)
    apart = results.white_box

    def line(values: Sequence[tuple[str, float]]) -> list[float]:
        by_task = {task: mean_and_deviation([value for of, value in values if of == task])[0] for task in tasks}
        return [*by_task.values(), _mean([by_task[task] for task in results.shared])]

    means = {method: line(values) for method, values in found.items()}
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
    aim = row("the target, % on training mini-batches", [percent(level) for level in line(levels)])
    return Table((at_shots(results, "queries to target", shots), *tasks, "mean"), (aim, *rows))


def targets(results: Results, shots: int) -> tuple[list[tuple[str, float]], dict[str, list[tuple[str, float]]]]:
    """Task and target, and by method task and queries to it, one for each group of `complete`."""
    levels: list[tuple[str, float]] = []
    found: dict[str, list[tuple[str, float]]] = {method: [] for method in results.suite.methods}
    budget = results.budget
    for runs in complete(results, shots):
        curves = {one.run.method: smoothed(one.training, budget) for one in runs}
        level, needed = queries_to_target(curves, budget)
        levels.append((runs[0].run.task, level))
        for method, queries in needed.items():
            found[method].append((runs[0].run.task, queries))
    return levels, found


def complete(results: Results, shots: int) -> list[list[Finished]]:
    """The runs of each task and seed that all methods have finished, of those that have finished any."""
    groups: dict[tuple[str, int], list[Finished]] = {}
    at = [one for one in results.finished if one.run.shots == shots]
    for one in at:
        groups.setdefault((one.run.task, one.run.seed), []).append(one)
    methods = {one.run.method for one in at}
    return [runs for runs in groups.values() if len(runs) == len(methods)]


def tests_table(results: Results) -> Table:
    """Paired tests of the first method against each other one, and against zero-shot."""
    by_method: dict[str, dict[str, float]] = {method: {} for method in results.suite.methods}
    plain: dict[str, float] = {}
    for one in results.finished:
        key = f"{one.run.task} {one.run.shots} {one.run.seed}"
        by_method[one.run.method][key] = one.accuracy
        plain[key] = one.zero_shot[PLAIN_TEMPLATE]
    reference = next(iter(by_method))
    tests = paired_tests({**by_method, f"zero-shot, {PLAIN_TEMPLATE}": plain}, reference)
    rows = [
        row(test.method, [str(test.pairs), percent(test.difference, "+"), _p(test.p), _p(test.holm)]) for test in tests
    ]
    return Table((f"against {reference}", "pairs", "mean difference", "p", "p, Holm"), tuple(rows))


def harmonic_table(results: Results, shots: int) -> Table:
    """Base classes, new classes, harmonic mean: means over tasks of the means over the seeds that have both."""

    def half(runs: Elsewhere, task: str, part: str) -> Score:
        both = {run.seed: at[part] for run, at in runs if run.task == task and NEW_CLASSES in at}
        return _score(results, list(both.values()))._replace(deviation=math.nan)

    def three(base: Score, new: Score) -> list[Score]:
        return [base, new, base._replace(mean=harmonic_mean(base.mean, new.mean))]

    scores = {}
    for name, runs in _elsewhere(results, shots).items():
        base, new = ({task: half(runs, task, part) for task in results.suite.tasks} for part in (OWN, NEW_CLASSES))
        each = [(_mean_score(results, base), _mean_score(results, new)), *zip(base.values(), new.values(), strict=True)]
        scores[name] = [score for pair in each for score in three(*pair)]
    columns = [f"{task}, {part}" for task in ("mean", *results.suite.tasks) for part in ("base", "new", "H")]
    return _best_bold((at_shots(results, "method", shots), *columns), scores, results.white_box)


def applied_table(results: Results, shots: int) -> Table:
    """Accuracy on the run's own test set, on the targets, and their mean: of each seed the mean over tasks, then as
    elsewhere."""
    targets = list(results.suite.targets)
    columns = {OWN: [OWN], **{target: [target] for target in targets}, "mean of the targets": targets}

    def score(runs: Elsewhere, parts: list[str]) -> Score:
        whole = [(run, _mean([at[part] for part in parts])) for run, at in runs if at.keys() >= set(parts)]
        return _score(results, over_tasks(results, whole))

    scores = {
        name: [score(runs, parts) for parts in columns.values()] for name, runs in _elsewhere(results, shots).items()
    }
    return _best_bold((at_shots(results, "method", shots), *columns), scores, results.white_box)


def _elsewhere(results: Results, shots: int) -> dict[str, Elsewhere]:
    """By row: zero-shot, of all runs, then the methods."""
    at = [one for one in results.finished if one.run.shots == shots]
    plain = [(one.run, {OWN: one.zero_shot[PLAIN_TEMPLATE], **_figures(one, PLAIN_TEMPLATE)}) for one in at]
    tuned = [(one.run, {OWN: one.accuracy, **_figures(one, TUNED)}) for one in at]
    by_method = {method: [one for one in tuned if one[0].method == method] for method in results.suite.methods}
    return {f"zero-shot, {PLAIN_TEMPLATE}": plain, **by_method}


def _figures(one: Finished, kind: str) -> dict[str, float]:
    return {label: figures[kind] for label, figures in one.applied.items()}


def over_tasks(results: Results, values: Iterable[tuple[Planned, float]]) -> list[float]:
    """Of each seed the mean over the tasks that all share, one value a task; a seed that lacks one is left out."""
    shared = results.shared
    by_seed: dict[int, dict[str, float]] = {}
    for run, value in values:
        if run.task in shared:
            by_seed.setdefault(run.seed, {})[run.task] = value
    return [_mean(list(by_task.values())) for by_task in by_seed.values() if len(by_task) == len(shared)]


def at_shots(results: Results, what: str, shots: int) -> str:
    """A heading, with the number of shots where there are several."""
    return f"{what}, {shots} shots" if len(results.suite.shots) > 1 else what


def percent(share: float, sign: str = "") -> str:
    """A share in per cent, one decimal."""
    return NONE if math.isnan(share) else f"{100 * share:{sign}.1f}"


def _mean(values: Sequence[float]) -> float:
    """NaN as soon as one is missing: means over different tasks must not stand below each other."""
    return mean_and_deviation(values)[0]


def _p(p: float) -> str:
    return NONE if math.isnan(p) else f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"
