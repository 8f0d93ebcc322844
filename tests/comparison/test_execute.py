"""Whole suites, run from the command line and under faults."""

import math
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from unittest.mock import ANY, MagicMock

import pytest

from tests.support.command_line import assert_same_run, command, run, wait_for_step
from tests.support.fakes import FakeScorer
from tests.support.suite_files import suite_file
from tests.support.suites import SMALLER, build_fake, carry_out
from zip_ray.comparison.execute import SuiteOutcome, run_suite
from zip_ray.comparison.plan import Planned, plan
from zip_ray.comparison.report.write import write_report
from zip_ray.comparison.results import read_results
from zip_ray.comparison.runner import Runner
from zip_ray.comparison.statistics import mean_and_deviation
from zip_ray.comparison.suite import load_suite
from zip_ray.comparison.suite_folder import prepare, read_facts
from zip_ray.comparison.suite_view import SuiteView
from zip_ray.config.scorer_key import scorer_key
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.pool.in_process import InProcessPool
from zip_ray.pool.multi_scorer import MultiScorer
from zip_ray.pool.shared import PoolHub
from zip_ray.runs.event_log import read_record
from zip_ray.runs.folder import locked
from zip_ray.tuning.events import EndEvent


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite run from the command line: two methods, two seeds, shots 1 and 2, in process."""
    folder = tmp_path_factory.mktemp("suite")
    done = run(folder, "compare", suite_file(folder, shots=[1, 2]), "--output=out")
    assert "8 runs done" in done.stdout
    return folder / "out"


def test_a_suite_leaves_its_report(finished: Path) -> None:
    page, text = (finished / "report.html").read_text(), (finished / "report.md").read_text()
    results = read_results(finished)
    assert len(results.finished) == 8
    for one in results.finished:
        end = read_record(one.run.folder / "metrics.jsonl")[-1]
        assert isinstance(end, EndEvent)
        row = f"{one.run.task}, {one.run.shots} shots, {one.run.method}"
        cells = (row, str(one.run.seed), f"{100 * end.test_accuracy:.1f}")
        assert f'<tr><th scope="row">{row}</th>' + "".join(f"<td>{cell}</td>" for cell in cells[1:]) in page
        assert "| " + " | ".join(cells) in text
    for shots in (1, 2):
        for method in ("ZIP", "SPSA"):
            mean, deviation = mean_and_deviation([one.accuracy for one in results.of(method, "digits", shots)])
            assert f"{100 * mean:.1f} ± {100 * deviation:.1f}" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page), "nothing is fetched from elsewhere"
    assert "http://" not in page
    assert "https://" not in page
    for name in re.findall(r"\]\(([^)]+\.png)\)", text):
        assert (finished / name).read_bytes().startswith(b"\x89PNG")
    assert "pairs_per_step: 1" in page


def test_a_finished_suite_is_only_reported_again(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / "runs").rglob("*")}
    (finished / "report.html").unlink()
    again = run(finished.parent, "compare", "mini.yaml", "--output=out")
    assert "all runs were finished before" in again.stdout
    assert (finished / "report.html").is_file()
    (finished / "report.html").unlink()
    write_report(finished)
    assert (finished / "report.html").is_file()
    assert {path: path.stat().st_mtime_ns for path in (finished / "runs").rglob("*")} == before


def test_a_changed_suite_needs_another_folder(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "out")
    suite_file(tmp_path, shots=[1, 2], methods={"ZIP": {"optimizer": {"step_size": 0.5}}})
    done = run(tmp_path, "compare", "mini.yaml", "--output=out", code=2)
    assert "optimizer.step_size: differs from what" in done.stderr


def test_a_suite_does_not_go_into_the_folder_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/config.yaml").touch()
    with pytest.raises(InputError, match=r"^output: .* is the folder of a run: choose another$"):
        carry_out(tmp_path, build_fake)


def test_runs_of_another_budget_are_not_taken_for_this_suites(tmp_path: Path) -> None:
    carry_out(tmp_path, build_fake)
    with pytest.raises(InputError, match=r"budget\.queries: is 40, .*seed-1 was started with 20"):
        carry_out(tmp_path, build_fake, base={**SMALLER, "budget": {"queries": 40}})
    assert len(read_results(tmp_path / "out").finished) == 4


def test_a_suite_whose_threads_are_auto_goes_on(tmp_path: Path) -> None:
    """A run keeps the number that it was started with."""
    base = {**SMALLER, "execution": {"threads": "auto"}}
    assert carry_out(tmp_path, build_fake, stop_after=13, at_once=1, base=base).left == 3
    assert carry_out(tmp_path, build_fake, at_once=1, base=base).finished == 3
    assert carry_out(tmp_path, build_fake, base=base).finished == 0


def test_a_suite_that_is_running_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out"), pytest.raises(InputError, match="in use by another process"):
        carry_out(tmp_path, build_fake)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["lock"]


def test_runs_that_are_cut_off_go_on_and_the_finished_stay(finished: Path, tmp_path: Path) -> None:
    """Killed midway, the suite ends with the same runs as one that was not disturbed."""
    suite_file(tmp_path, shots=[1, 2])
    process = subprocess.Popen(command("compare", "mini.yaml", "--output=out"), cwd=tmp_path, stderr=subprocess.PIPE)
    some = tmp_path / "out/runs/digits/1-shot/spsa/seed-1"
    wait_for_step(some, 2, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(read_results(tmp_path / "out").finished) < 8
    run(tmp_path, "compare", "mini.yaml", "--output=out")
    for path in (finished / "runs").rglob("checkpoint.safetensors"):
        assert_same_run(tmp_path / "out" / path.parent.relative_to(finished), path.parent)


def build_with_faults(config: Config) -> FakeScorer:
    if config.task.root:
        raise InputError("task.root: 'no' is not a folder")
    return FakeScorer(raise_at=(3,) if config.optimizer.loss == "focal" else ())


def test_a_stopped_suite_goes_on(tmp_path: Path) -> None:
    outcome = carry_out(tmp_path, build_fake, stop_after=13, at_once=1)
    assert (outcome.finished, outcome.left, outcome.failures) == (1, 3, {})
    assert not (tmp_path / "out/report.html").exists()
    assert read_facts(tmp_path / "out").failures == {}
    outcome = carry_out(tmp_path, build_fake, at_once=1)
    assert (outcome.finished, outcome.left) == (3, 0)
    assert (tmp_path / "out/report.html").exists()
    (tmp_path / "alone").mkdir()
    carry_out(tmp_path / "alone", build_fake)
    for path in (tmp_path / "alone/out/runs").rglob("checkpoint.safetensors"):
        assert_same_run(tmp_path / path.parent.relative_to(tmp_path / "alone"), path.parent)


def test_a_run_that_fails_does_not_end_the_suite_and_is_tried_again(tmp_path: Path) -> None:
    fields = {
        "seeds": [1],
        "tasks": {"digits": {"name": "digits"}, "mine": {"name": "folder", "root": "no"}},
        "methods": {"ZIP": {}, "broken": {"optimizer": {"loss": "focal"}}},
    }
    outcome = carry_out(tmp_path, build_with_faults, **fields)
    assert (outcome.finished, outcome.left) == (1, 0)
    assert outcome.failures == {
        "digits, 2 shots, broken, seed 1": "RuntimeError: fault at 3",
        "mine, 2 shots, ZIP, seed 1": "task.root: 'no' is not a folder",
        "mine, 2 shots, broken, seed 1": "task.root: 'no' is not a folder",
    }
    page = (tmp_path / "out/report.html").read_text()
    assert "1 of 4 runs finished, 3 failed" in page
    assert "is not a folder" in page
    outcome = carry_out(tmp_path, build_fake, **fields)
    assert (outcome.finished, outcome.failures) == (3, {})


@pytest.mark.parametrize(("pairs", "most"), [(1, 2), (5, 1)])
def test_as_many_runs_at_a_time_as_the_actors_can_use(tmp_path: Path, pairs: int, most: int) -> None:
    """One actor holds two passes: two runs of one pair per step, or one run of five."""
    going: set[str] = set()
    seen: list[int] = []

    class Watched(SuiteView):
        def started(self, run: Planned) -> None:
            super().started(run)
            going.add(run.label)
            seen.append(len(going))

        def ended(self, run: Planned, how: str) -> None:
            going.discard(run.label)
            super().ended(run, how)

    base = {**SMALLER, "optimizer": {"pairs_per_step": pairs}, "budget": {"queries": 200}}
    suite = load_suite(tmp_path / suite_file(tmp_path, base=base))
    (tmp_path / "out").mkdir()
    runs = prepare(tmp_path / "out", suite, plan(suite, tmp_path / "out"))
    keys = [scorer_key(run.config) for run in runs]
    with (
        closing(InProcessPool(partial(MultiScorer, lambda _: FakeScorer(delay=0.005), keys))) as pool,
        closing(PoolHub(pool)) as hub,
        Watched(len(runs)) as view,
    ):
        outcome = Runner(tmp_path / "out", suite, hub, lambda: False, lambda _, view: view, view).go(runs)
    assert outcome.finished == 4
    assert max(seen) == most


def test_runs_that_wait_for_their_start_are_stopped_at_once(tmp_path: Path) -> None:
    """Their pool returns nothing, and they leave no trace."""

    asked = threading.Event()

    class Silent(InProcessPool):
        def collect(self, timeout: float) -> list:
            asked.set()
            time.sleep(timeout)
            return []

    suite = load_suite(tmp_path / suite_file(tmp_path, base=SMALLER))
    outcome = run_suite(suite, tmp_path / "out", lambda *_: Silent(FakeScorer), asked.is_set, lambda _, view: view)
    assert (outcome.finished, outcome.failures, outcome.left) == (0, {}, 4)
    assert not (tmp_path / "out/runs").exists()


@pytest.mark.parametrize("stop_after", [-1, math.inf])
def test_a_suite_that_comes_to_no_report_is_closed_in_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: float
) -> None:
    """A suite stopped before its first run, or one in which no run can begin."""
    client = MagicMock()
    monkeypatch.setattr("zip_ray.runs.mlflow_server.make_client", lambda _: client)
    base = {**SMALLER, "tracking": {"enabled": True}}
    tasks = {"mine": {"name": "folder", "root": "no"}}
    if stop_after < 0:
        assert carry_out(tmp_path, build_with_faults, stop_after, base=base, tasks=tasks) == SuiteOutcome(0, {}, 4)
    else:
        with pytest.raises(InputError, match="no run of the suite can begin"):
            carry_out(tmp_path, build_with_faults, stop_after, base=base, tasks=tasks)
    client.set_terminated.assert_called_once_with(ANY, "KILLED" if stop_after < 0 else "FAILED")
    client.log_artifact.assert_not_called()


def test_a_suite_with_ray_gives_the_same_bits(finished: Path, tmp_path: Path, ray_cluster: str) -> None:
    suite_file(tmp_path, shots=[1])
    run(
        tmp_path,
        *("compare", "mini.yaml", "--output=out", "--cluster.pool=ray", f"--cluster.address={ray_cluster}"),
        *("--tracking.enabled", "--tracking.uri=sqlite:///m.db"),
    )
    for path in (finished / "runs/digits/1-shot").rglob("checkpoint.safetensors"):
        assert_same_run(tmp_path / "out" / path.parent.relative_to(finished), path.parent)
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'm.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "zip-ray"]
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [one for one in runs if "mlflow.parentRunId" not in one.data.tags]
    assert len(runs) == 5
    assert {one.data.tags.get("mlflow.parentRunId") for one in runs if one is not parent} == {parent.info.run_id}
    labels = {run.label for run in read_results(tmp_path / "out").planned}
    assert {one.info.run_name for one in runs} == {"out", *labels}
    report = {path.name for path in (tmp_path / "out").glob("*.png")} | {"report.html", "report.md"}
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} == report
    assert {one.info.status for one in runs} == {"FINISHED"}


def test_a_folder_without_a_suite_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no suite\.yaml"):
        write_report(tmp_path)
