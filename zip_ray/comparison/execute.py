"""Running a suite: its remaining runs, then its report.

A finished run is left alone, an interrupted one continues from its checkpoint, a failed one is tried again.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from zip_ray.comparison.plan import EVERYTHING, Planned, Selection, plan
from zip_ray.comparison.preflight import keys_of, preflight
from zip_ray.comparison.report.write import write_report
from zip_ray.comparison.runner import MakeListener, Runner, SuiteOutcome
from zip_ray.comparison.suite import Suite
from zip_ray.comparison.suite_folder import prepare
from zip_ray.comparison.suite_view import SuiteView
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.pool.contract import Pool
from zip_ray.pool.shared import PoolHub
from zip_ray.runs.event_log import read_end
from zip_ray.runs.folder import locked
from zip_ray.runs.mlflow_server import close_parent, open_parent

OpenSharedPool = Callable[[Config, list[str]], Pool]
"""Makes the one pool of a suite, given a config for the cluster and the keys of the runs to come."""


def run_suite(
    suite: Suite,
    folder: Path,
    open_pool: OpenSharedPool,
    interrupted: Callable[[], bool],
    make_listener: MakeListener,
    selection: Selection = EVERYTHING,
) -> SuiteOutcome:
    """Run what is left of a suite.

    Args:
        suite: what is compared.
        folder: of the suite.
        open_pool: called once, if anything is left to do.
        interrupted: whether the suite has been asked to stop.
        make_listener: called once for each run.
        selection: which of its runs.

    Raises:
        InputError: the suite, its folder or the cluster cannot be used; or no run can begin.
        PoolError: no scorer is left.
    """
    runs = plan(suite, folder)
    wanted = {run.label for run in selection.of(suite, runs)}
    tracking = runs[0].config.tracking
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output: '{folder}' cannot be made ({error.strerror}): choose another") from error
    with locked(folder):
        left = [run for run in prepare(folder, suite, runs) if run.label in wanted]
        parent = open_parent(folder, tracking) if left and tracking.enabled else None
        report: list[Path] = []
        stopped = True
        try:
            parts = [_as_part(run, parent) for run in left]
            outcome = _run_left(suite, folder, parts, open_pool, interrupted, make_listener)
            stopped = outcome.left > 0
            if not stopped and any(read_end(run.folder) for run in runs):
                report = [*write_report(folder), *sorted(folder.glob("*.png"))]
        except InputError:
            stopped = False
            raise
        finally:
            if parent is not None:
                close_parent(parent, tracking, report, stopped)
    return outcome


def _run_left(
    suite: Suite,
    folder: Path,
    left: Sequence[Planned],
    open_pool: OpenSharedPool,
    interrupted: Callable[[], bool],
    make_listener: MakeListener,
) -> SuiteOutcome:
    if not left:
        return SuiteOutcome(0, {}, 0)
    with (
        closing(open_pool(left[0].config, keys_of(left))) as pool,
        closing(PoolHub(pool)) as hub,
        SuiteView(len(left)) as view,
    ):
        refused = preflight(left, hub, interrupted, view.checked)
        return Runner(folder, suite, hub, interrupted, make_listener, view).go(left, refused)


def _as_part(run: Planned, parent: str | None) -> Planned:
    """The run as a part of the suite's own MLflow run, under its label there."""
    tracking = run.config.tracking.model_copy(update={"name": run.label, "parent": parent})
    return replace(run, config=run.config.model_copy(update={"tracking": tracking}))


__all__ = ["SuiteOutcome", "run_suite"]
