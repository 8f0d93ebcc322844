"""What is left of a suite, before it is run: runs, queries, hours. Nothing is loaded or written."""

from collections.abc import Sequence
from pathlib import Path

from zip_ray.comparison.plan import Planned, Selection, plan
from zip_ray.comparison.results import Finished, read_run
from zip_ray.comparison.suite import Suite
from zip_ray.comparison.suite_folder import is_whole
from zip_ray.config.tree import Config


def forecast(suite: Suite, folder: Path, selection: Selection) -> list[str]:
    """Lines about the runs that are selected and not finished.

    Args:
        suite: what is compared.
        folder: of the suite; it may not be there.
        selection: which runs.

    Raises:
        InputError: the suite or the selection is not valid.
    """
    runs = plan(suite, folder)
    left = [run for run in selection.of(suite, runs) if not is_whole(run)]
    planned = [_queries(run.config) for run in left]
    lines = [
        f"{task}: {sum(run.task == task for run in left)} runs" for task in dict.fromkeys(run.task for run in left)
    ]
    unlimited = planned.count(None)
    more = f", and {unlimited} runs without a limit on queries" if unlimited else ""
    total = f"{len(left)} runs left, {sum(count or 0 for count in planned):,} queries{more}"
    done = [one for run in runs if (one := read_run(run)) is not None]
    return [*lines, total, _hours(left, done)]


def _queries(config: Config) -> int | None:
    """Queries that a run is planned to charge; None without a limit."""
    steps = config.planned_steps
    return None if steps is None else steps * config.optimizer.queries_per_step


def _hours(left: Sequence[Planned], done: Sequence[Finished]) -> str:
    """Run hours at the seconds per query of the finished runs: those of the same method where there are any."""
    if not left:
        return "nothing to do"
    if not done:
        return "time unknown: run one seed of one task first (--tasks, --seeds)"

    def pace(runs: Sequence[Finished]) -> float:
        return sum(one.seconds for one in runs) / max(sum(one.account.charged for one in runs), 1)

    of_method = {method: [one for one in done if one.run.method == method] for method in {run.method for run in left}}
    seconds = sum((_queries(run.config) or 0) * pace(of_method[run.method] or done) for run in left)
    return f"about {seconds / 3600:.2g} hours one after another, at the speed of the {len(done)} finished runs"
