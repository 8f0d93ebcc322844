"""Tuned prompts on their targets: new classes, other data, shifted test sets."""

import math
from collections.abc import Mapping, Sequence

from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE, TUNED
from zip_ray.comparison.plan import NEW_CLASSES, Planned
from zip_ray.comparison.report.document import Table
from zip_ray.comparison.report.scores import Score, at_shots, best_bold, mean, mean_score, over_tasks, seeds_score
from zip_ray.comparison.results import Finished, Results
from zip_ray.comparison.statistics import harmonic_mean

OWN = "own test set"
HALVES = ("base", "new", "H")
Tested = Sequence[tuple[Planned, Mapping[str, float]]]
"""Runs, each with the accuracy on its own test set and on those of its targets that could be tested."""


def harmonic_tables(results: Results, shots: int) -> tuple[Table, Table]:
    """Base classes, new classes, harmonic mean: over tasks, and by task; means over the seeds that have both."""

    def half(runs: Tested, task: str, part: str) -> Score:
        both = {run.seed: at[part] for run, at in runs if run.task == task and NEW_CLASSES in at}
        return seeds_score(results, list(both.values()))._replace(deviation=math.nan)

    def three(base: Score, new: Score) -> list[Score]:
        return [base, new, base._replace(mean=harmonic_mean(base.mean, new.mean))]

    over, by_task = {}, {}
    for name, runs in _by_row(results, shots).items():
        base, new = ({task: half(runs, task, part) for task in results.tasks} for part in (OWN, NEW_CLASSES))
        over[name] = three(mean_score(results, base), mean_score(results, new))
        by_task[name] = [one for task in results.tasks for one in three(base[task], new[task])]
    columns = [f"{task}, {part}" for task in results.tasks for part in HALVES]
    return (
        best_bold((at_shots(results, "mean over tasks", shots), *HALVES), over, results.white_box),
        best_bold((at_shots(results, "by task", shots), *columns), by_task, results.white_box),
    )


def applied_table(results: Results, shots: int) -> Table:
    """Accuracy on the run's own test set, on the targets, and their mean: of each seed the mean over tasks, then as
    elsewhere."""
    targets = list(results.suite.targets)
    columns = {OWN: [OWN], **{target: [target] for target in targets}, "mean of the targets": targets}

    def score(runs: Tested, parts: list[str]) -> Score:
        whole = [(run, mean([at[part] for part in parts])) for run, at in runs if at.keys() >= set(parts)]
        return seeds_score(results, over_tasks(results, whole))

    scores = {
        name: [score(runs, parts) for parts in columns.values()] for name, runs in _by_row(results, shots).items()
    }
    header = (at_shots(results, "method", shots), *columns)
    return best_bold(header, scores, results.white_box, mean_last=True)


def _by_row(results: Results, shots: int) -> dict[str, Tested]:
    """Results by row: zero-shot from all runs, then the methods."""
    at = [one for one in results.finished if one.run.shots == shots]
    plain = [_tested(one, PLAIN_TEMPLATE, one.zero_shot[PLAIN_TEMPLATE]) for one in at]
    tuned = [_tested(one, TUNED, one.accuracy) for one in at]
    by_method = {method: [one for one in tuned if one[0].method == method] for method in results.suite.methods}
    return {f"zero-shot, {PLAIN_TEMPLATE}": plain, **by_method}


def _tested(one: Finished, prompt: str, own: float) -> tuple[Planned, dict[str, float]]:
    return one.run, {OWN: own, **{label: accuracies[prompt] for label, accuracies in one.applied.items()}}
