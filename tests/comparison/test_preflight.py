"""What a suite does before its first query, what stops it, and which of its runs are selected."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.fakes import FakeScorer
from tests.support.suite_files import BASE, suite_file
from zip_ray.cli.main import main
from zip_ray.comparison.execute import SuiteOutcome, run_suite
from zip_ray.comparison.plan import EVERYTHING, Selection
from zip_ray.comparison.results import read_results
from zip_ray.comparison.suite import load_suite
from zip_ray.comparison.suite_folder import read_facts
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.pool.contract import PoolError, ScorerLike
from zip_ray.pool.in_process import InProcessPool
from zip_ray.pool.multi_scorer import MultiScorer
from zip_ray.scorer.building import ScorerBuilder

SMALL = {**BASE, "prompt": {"intrinsic_dimension": 12}}
FIRST_FOUR = {f"{task}, 2 shots, {method}, seed 1" for task in ("digits", "count") for method in ("ZIP", "SPSA")}
THREE_TASKS = {"digits": {}, "count": {}, "shape": {}}


def carry_out(
    folder: Path,
    build: Callable[[Config], ScorerLike],
    selection: Selection = EVERYTHING,
    interrupted: Callable[[], bool] = lambda: False,
    **fields: object,
) -> SuiteOutcome:
    suite = load_suite(folder / suite_file(folder, **{"base": SMALL, "at_once": 1, **fields}))

    def of_key(key: str) -> ScorerLike:
        return build(Config.model_validate_json(key))

    return run_suite(
        suite,
        folder / "out",
        lambda _, keys: InProcessPool(partial(MultiScorer, of_key, keys)),
        interrupted,
        lambda _, view: view,
        selection,
    )


def test_a_model_that_is_missing_stops_a_suite_before_its_first_run(tmp_path: Path) -> None:
    """The model is looked up once per task, not once per run."""
    tried: list[str] = []

    def build(config: Config) -> FakeScorer:
        tried.append(config.task.name)
        raise InputError("model.name: 'ViT-B-16' has no weights here")

    with pytest.raises(InputError, match=r"^no run of the suite can begin: model\.name: 'ViT-B-16' has no weights"):
        carry_out(tmp_path, build, seeds=[1, 2, 3, 4], tasks=THREE_TASKS)
    assert tried == ["digits", "count", "shape"]
    assert not (tmp_path / "out/runs").exists()


def test_each_task_has_a_line_and_one_that_is_missing_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its runs fail for one reason, reported once; the tables have no column for the task."""

    def build(config: Config) -> FakeScorer:
        if config.task.name == "count":
            raise InputError("task.root: 'no' is not a folder")
        return FakeScorer()

    outcome = carry_out(tmp_path, build, tasks=THREE_TASKS)
    assert (outcome.finished, len(outcome.failures), outcome.left) == (8, 4, 0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == ["digits: found", "count: task.root: 'no' is not a folder", "shape: found"]
    text = (tmp_path / "out/report.md").read_text()
    assert text.count("is not a folder") == 1
    assert "Left out, without a finished run: count." in text
    assert "| test accuracy, % | digits | shape | mean |" in text


def test_a_method_that_cannot_be_built_is_left_out(tmp_path: Path) -> None:
    def build(config: Config) -> FakeScorer:
        if config.prompt.model_dump().get("intrinsic_dimension") == 13:
            raise InputError("prompt.encoder: not here")
        return FakeScorer()

    methods = {"ZIP": {}, "other": {"prompt": {"intrinsic_dimension": 13}}}
    outcome = carry_out(tmp_path, build, tasks=THREE_TASKS, methods=methods)
    assert outcome.finished == 6
    assert set(outcome.failures.values()) == {"prompt.encoder: not here"}
    assert all("other" in label for label in outcome.failures)


def test_a_fault_of_all_runs_stops_the_suite(tmp_path: Path) -> None:
    """The fault shows only at the first query, in each run of each task."""
    with pytest.raises(PoolError, match=r"^4 runs in a row failed for the same reason.*fault at"):
        carry_out(tmp_path, lambda _: FakeScorer(raise_at=(1,)), seeds=[1], tasks=THREE_TASKS)
    assert read_facts(tmp_path / "out").failures.keys() == FIRST_FOUR


@pytest.fixture
def endless_build() -> Iterator[tuple[threading.Event, Callable[[Config], FakeScorer]]]:
    """An event set once a scorer is being built, and the build function, which returns only when the test ends."""
    begun, ended = threading.Event(), threading.Event()

    def build(_: Config) -> FakeScorer:
        begun.set()
        ended.wait()
        return FakeScorer()

    yield begun, build
    ended.set()


@pytest.mark.timeout(60)
def test_a_suite_that_is_stopped_does_not_wait_for_a_scorer_that_is_being_built(
    tmp_path: Path, endless_build: tuple[threading.Event, Callable[[Config], FakeScorer]]
) -> None:
    begun, build = endless_build
    assert carry_out(tmp_path, build, interrupted=begun.is_set) == SuiteOutcome(0, {}, 4)


def test_some_runs_of_a_suite(tmp_path: Path) -> None:
    """The folder still describes the whole suite."""
    some = Selection(("digits",), ("SPSA",), (2,))
    assert carry_out(tmp_path, lambda _: FakeScorer(), some, tasks=THREE_TASKS) == SuiteOutcome(1, {}, 0)
    results = read_results(tmp_path / "out")
    assert [one.run.label for one in results.finished] == ["digits, 2 shots, SPSA, seed 2"]
    assert len(results.planned) == 12
    with pytest.raises(InputError, match=r"^--methods: 'BBT' is not in mini: choose ZIP, SPSA$"):
        carry_out(tmp_path, lambda _: FakeScorer(), Selection(methods=("BBT",)), tasks=THREE_TASKS)


def test_a_dry_run_says_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Needs neither a model nor a folder; after the first finished run, its speed gives the hours."""
    monkeypatch.setattr(ScorerBuilder, "of_key", lambda *_: pytest.fail("a scorer was built"))
    line = ["compare", str(tmp_path / "mini.yaml"), "--output", str(tmp_path / "out"), "--dry-run"]
    suite_file(tmp_path, base=SMALL, tasks=THREE_TASKS)
    assert main([*line, "--model.name=no-such-model"]) == 0
    out = capsys.readouterr().out
    assert "12 runs left, 240 queries" in out
    assert "time unknown" in out
    assert not (tmp_path / "out").exists()
    carry_out(tmp_path, lambda _: FakeScorer(), Selection(("digits",)), tasks=THREE_TASKS)
    assert main([*line, "--tasks=count", "--methods=ZIP", "--seeds=1"]) == 0
    out = capsys.readouterr().out
    assert "1 runs left, 20 queries" in out
    assert "at the speed of the 4 finished runs" in out
