"""The cells of accuracy tables: means over seeds and tasks, with the best of each column marked."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from zip_ray.comparison.plan import Planned
from zip_ray.comparison.report.document import Table, row
from zip_ray.comparison.results import Results
from zip_ray.comparison.statistics import mean_and_deviation

NONE = "n/a"
"""Text of a place that has no value."""


class Score(NamedTuple):
    """A place in a table of accuracies."""

    mean: float
    """NaN where there is none."""
    deviation: float
    """NaN or 0 if there is none, as for a template, which does not depend on the seed."""
    runs: int
    wanted: int
    """Runs of which it is the mean when the suite is finished."""

    @property
    def whole(self) -> bool:
        """Whether no run is missing; only then may it be compared."""
        return self.runs == self.wanted

    def text(self, sign: str) -> str:
        """As shown in a table."""
        if math.isnan(self.mean):
            return NONE
        deviation = f" ± {100 * self.deviation:.1f}" if self.deviation > 0 else ""
        return percent(self.mean, sign) + deviation + f" ({self.runs} of {self.wanted})" * (not self.whole)


def seeds_score(results: Results, values: Sequence[float]) -> Score:
    """The score of a place, given the values of those seeds that have one."""
    return Score(*mean_and_deviation(values), len(values), len(results.suite.seeds))


def mean_score(results: Results, line: Mapping[str, Score]) -> Score:
    """The mean over the tasks that all methods share, without a deviation."""
    shared = [line[task] for task in results.shared]
    runs, wanted = sum(one.runs for one in shared), sum(one.wanted for one in shared)
    return Score(mean([one.mean for one in shared]), math.nan, runs, wanted)


def best_bold(
    header: Sequence[str],
    scores: Mapping[str, Sequence[Score]],
    apart: set[str],
    sign: str = "",
    mean_last: bool = False,
) -> Table:
    """A table of scores, the best of each column in bold, unless several rows share it.

    Args:
        header: of the columns, that of the row names first.
        scores: by row.
        apart: white-box rows, which do not compete; nor does a score that lacks a run.
        sign: `+` to have every number signed.
        mean_last: as of Table.
    """
    shown = {
        name: [round(100 * one.mean, 1) if one.whole and name not in apart else math.nan for one in line]
        for name, line in scores.items()
    }
    marks = sole_best(shown, max)
    rows = [
        row(f"{name} (white box)" if name in apart else name, [one.text(sign) for one in line], marks[name])
        for name, line in scores.items()
    ]
    return Table(tuple(header), tuple(rows), mean_last=mean_last)


def sole_best(values: Mapping[str, Sequence[float]], best: Callable[[list[float]], float]) -> dict[str, list[bool]]:
    """By row, which places hold the best of their column. Where several rows share it, none does.

    Args:
        values: by row and column, as rounded for display; NaN for what does not compete.
        best: `max` or `min`.
    """

    def of_column(column: tuple[float, ...]) -> list[bool]:
        competing = [value for value in column if not math.isnan(value)]
        marks = [bool(competing) and value == best(competing) for value in column]
        return marks if sum(marks) == 1 else [False] * len(column)

    columns = [of_column(column) for column in zip(*values.values(), strict=True)]
    return {name: [column[place] for column in columns] for place, name in enumerate(values)}


def over_tasks(results: Results, values: Iterable[tuple[Planned, float]]) -> list[float]:
    """Per seed, the mean over the shared tasks (one value per task); a seed that lacks one is left out."""
    shared = results.shared
    by_seed: dict[int, dict[str, float]] = {}
    for run, value in values:
        if run.task in shared:
            by_seed.setdefault(run.seed, {})[run.task] = value
    return [mean(list(by_task.values())) for by_task in by_seed.values() if len(by_task) == len(shared)]


def at_shots(results: Results, what: str, shots: int) -> str:
    """A heading, with the number of shots if the suite has several."""
    return f"{what}, {shots} shots" if len(results.suite.shots) > 1 else what


def percent(share: float, sign: str = "") -> str:
    """A share in per cent, one decimal; zero has no sign."""
    if math.isnan(share):
        return NONE
    shown = round(100 * share, 1)
    return f"{shown:{sign}.1f}" if shown else "0.0"


def mean(values: Sequence[float]) -> float:
    """The mean; NaN if one is missing, since means over different tasks must not be compared."""
    return mean_and_deviation(values)[0]
