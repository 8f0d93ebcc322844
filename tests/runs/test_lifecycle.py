"""Runs over a fake scorer: what a tuned prompt of each space carries, and what may change on resume."""

import errno
import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.support.events import step_event
from tests.support.fakes import SHAPE, FakeScorer
from tests.support.simulated import DriverKilled
from tests.support.small_runs import make_config, open_pool
from zip_ray.artifact.tuned_prompt import TunedPrompt
from zip_ray.cli.commands import console
from zip_ray.cli.printing import accuracy_table, show_run
from zip_ray.cli.status import status
from zip_ray.config.tree import Config
from zip_ray.errors import InputError, OutputError
from zip_ray.pool.contract import PoolError
from zip_ray.pool.in_process import InProcessPool
from zip_ray.prompts import make_space
from zip_ray.protocol.messages import Answer, Body, Evaluation, Pass, Work
from zip_ray.runs.accuracy_plot import draw_accuracy
from zip_ray.runs.checkpoint import FILE_NAME as CHECKPOINT
from zip_ray.runs.event_log import FILE_NAME as RECORD
from zip_ray.runs.event_log import read_record
from zip_ray.runs.folder import locked, run_config
from zip_ray.runs.lifecycle import resume, tune
from zip_ray.tuning.events import EndEvent, Event, PoolEvent, StepEvent


@pytest.mark.parametrize(
    "options",
    [{"space": "low-rank", "rank": 1}, {"space": "full"}, {"space": "context"}, {"space": "random-projection"}],
)
def test_a_tuned_prompt_carries_what_its_space_drew(tmp_path: Path, options: dict) -> None:
    dimension = {} if options["space"] == "context" else {"intrinsic_dimension": 8}
    config = make_config(tmp_path / "run", prompt=options | dimension, optimizer={"method": "random-search"})
    result = tune(config, open_pool, lambda: False)
    assert result.outcome.finished
    prompt, expected = TunedPrompt.load(tmp_path / "run"), make_space(config.prompt, SHAPE, config.seed).tensors()
    assert prompt.card.prompt["space"] == options["space"]
    assert prompt.frozen.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(prompt.frozen[name], tensor)
    np.testing.assert_array_equal(prompt.parameters, result.outcome.state.optimizer.w)


def test_a_falling_learning_rate_keeps_its_budget_on_resume(tmp_path: Path) -> None:
    scheduled = {"optimizer": {"method": "one-sided"}}
    tune(make_config(tmp_path / "run", **scheduled), open_pool, lambda: False)
    with pytest.raises(InputError, match=r"budget: allows 4 steps, .* was started with 2, .* keep the budget"):
        resume(tmp_path / "run", make_config(tmp_path / "run", 24, **scheduled), open_pool, lambda: False)
    again = resume(tmp_path / "run", make_config(tmp_path / "run", 13, **scheduled), open_pool, lambda: False)
    assert again.outcome.state.optimizer.steps == 2


def test_cma_es_goes_on_with_more_budget_as_if_it_had_had_it(tmp_path: Path) -> None:
    method = {"optimizer": {"method": "cma-es", "population": 6}}
    tune(make_config(tmp_path / "run", 18, **method), open_pool, lambda: False)
    more = resume(tmp_path / "run", make_config(tmp_path / "run", 42, **method), open_pool, lambda: False)
    whole = tune(make_config(tmp_path / "whole", 42, **method), open_pool, lambda: False)
    np.testing.assert_array_equal(more.outcome.state.optimizer.w, whole.outcome.state.optimizer.w)


def test_a_default_may_be_spelled_out_when_a_run_is_resumed(tmp_path: Path) -> None:
    tune(make_config(tmp_path / "run"), open_pool, lambda: False)
    said = make_config(tmp_path / "run", 24, execution={"pairs_per_pass": 1, "split": [1, 1]})
    assert resume(tmp_path / "run", said, open_pool, lambda: False).outcome.finished
    other = make_config(tmp_path / "run", 36, execution={"pairs_per_pass": 2})
    with pytest.raises(InputError, match=r"^execution.pairs_per_pass: .* only budget, cluster, tracking "):
        resume(tmp_path / "run", other, open_pool, lambda: False)


def test_a_run_from_before_a_field_existed_can_go_on(tmp_path: Path) -> None:
    tune(make_config(tmp_path / "run"), open_pool, lambda: False)
    record = tmp_path / "run" / RECORD
    start, rest = record.read_text().split("\n", 1)
    event = json.loads(start)
    del event["config"]["output"]["remote"], event["config"]["prompt"]["diagonal"]
    record.write_text(f"{json.dumps(event)}\n{rest}")
    assert resume(tmp_path / "run", make_config(tmp_path / "run", 24), open_pool, lambda: False).outcome.finished
    other = make_config(tmp_path / "run", 24, prompt={"intrinsic_dimension": 8, "rank": 1, "diagonal": False})
    with pytest.raises(InputError, match=r"prompt.diagonal: differs from what"):
        resume(tmp_path / "run", other, open_pool, lambda: False)


def test_a_run_keeps_the_budget_that_it_went_on_with(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    tune(make_config(folder), open_pool, lambda: False)
    resume(folder, make_config(folder, 24), open_pool, lambda: True)
    assert status(folder)[1].startswith("10/24 queries")
    assert resume(folder, run_config(folder), open_pool, lambda: False).outcome.state.account.charged == 20


def test_a_refused_resume_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    tune(make_config(folder), open_pool, lambda: False)
    with pytest.raises(InputError, match=r"seed: differs from what"):
        resume(folder, make_config(folder, 24, seed=2), open_pool, lambda: False)
    assert run_config(folder) == make_config(folder)


def test_a_disk_that_is_full_at_the_end_loses_nothing(tmp_path: Path) -> None:
    config = make_config(tmp_path / "run")

    def refuse(_: TunedPrompt, folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "tuned_prompt.safetensors"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TunedPrompt, "save", refuse)
        with pytest.raises(OutputError, match=r"tuned_prompt.safetensors: No space left .* zip-ray resume .*run$"):
            tune(config, open_pool, lambda: False)
    end = resume(tmp_path / "run", config, open_pool, lambda: False)
    assert end.outcome.state.account.issued == end.outcome.state.account.charged == 10, "nothing is asked again"
    assert TunedPrompt.load(tmp_path / "run").card.accuracies["test/tuned"] == end.accuracies["tuned"]


def test_a_last_test_that_is_cut_off_is_made_up_for(tmp_path: Path) -> None:
    config = make_config(tmp_path / "run")

    def is_last_test(body: Body) -> bool:
        return isinstance(body, Evaluation) and body.split == "test" and not isinstance(body.prompt, str)

    class Cut(InProcessPool):
        """Fails, or is asked to stop, at the test of the tuned prompt."""

        def submit(self, works: Sequence[Work]) -> None:
            if any(is_last_test(work.body) for work in works):
                if how == "pool":
                    raise PoolError("no actor is left")
                asked.append(True)
            super().submit(works)

    asked: list[bool] = []
    for how in ("pool", "interrupted"):
        go = tune if how == "pool" else partial(resume, tmp_path / "run")
        end = go(config, lambda _: Cut(FakeScorer), lambda: bool(asked))
        assert list(end.outcome.reasons) == [how]
        assert end.accuracies == {}
        assert show_run(Console(file=io.StringIO()), end, config) != 0
    end = resume(tmp_path / "run", config, open_pool, lambda: False)
    assert end.outcome.state.account.issued == end.outcome.state.account.charged == 10, "nothing is asked again"
    assert end.accuracies["tuned"] == TunedPrompt.load(tmp_path / "run").card.accuracies["test/tuned"]


def test_an_asynchronous_run_may_go_on_with_more_in_flight(tmp_path: Path) -> None:
    folder, single, mode = tmp_path / "run", {"pairs_per_step": 1}, {"mode": "async", "in_flight": 2}
    tune(make_config(folder, 20, optimizer=single, execution=mode), open_pool, lambda: False)
    more = {"mode": "async", "in_flight": 6, "max_staleness": 99, "split": (1, 1), "pairs_per_pass": 2}
    again = make_config(folder, 40, optimizer=single, execution=more)
    assert resume(folder, again, open_pool, lambda: False).outcome.state.account.charged == 40
    other = make_config(folder, 40, optimizer={**single, "step_size": 0.5}, execution=mode)
    with pytest.raises(InputError, match=r"^optimizer.step_size: differs"):
        resume(folder, other, open_pool, lambda: False)
    tune(make_config(tmp_path / "sync", 20), open_pool, lambda: False)
    other = make_config(tmp_path / "sync", 40, execution={"in_flight": 9})
    with pytest.raises(InputError, match=r"^execution.in_flight: differs"):
        resume(tmp_path / "sync", other, open_pool, lambda: False)


def full_disk(path: Path, _: bytes) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_a_disk_that_is_full_at_the_start_leaves_no_folder(tmp_path: Path) -> None:
    config = make_config(tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zip_ray.runs.folder.write_whole", full_disk)
        with pytest.raises(OutputError, match=r"run: No space left .*; nothing was started: free space"):
            tune(config, open_pool, lambda: False)
    assert tune(config, open_pool, lambda: False).outcome.finished


class SlowPool(InProcessPool):
    """Calls `pause` whenever hand-written templates are being tested."""

    def __init__(self, pause: Callable[[], None]) -> None:
        super().__init__(FakeScorer)
        self._pause = pause

    def collect(self, timeout: float) -> list[Answer]:
        bodies = [work.body for _, _, work in self._waiting]
        if any(isinstance(body, Evaluation) and isinstance(body.prompt, str) for body in bodies):
            self._pause()
        return super().collect(timeout)


def test_a_run_is_seen_before_it_begins(tmp_path: Path) -> None:
    folder, heard, said = tmp_path / "run", list[Event](), list[str]()
    config = make_config(folder)
    tune(config, lambda _: SlowPool(lambda: said.extend(status(folder))), lambda: False, heard.append)
    assert set(said) == {f"{folder}: starting: hand-written prompts are tested before the first step"}
    assert isinstance(heard[0], PoolEvent), "while the facts are waited for"
    assert heard[0].ready == 1


def test_a_run_that_fails_before_it_begins_leaves_no_folder(tmp_path: Path) -> None:
    def fail() -> None:
        raise PoolError("no actor is left")

    with pytest.raises(PoolError):
        tune(make_config(tmp_path / "run"), lambda _: SlowPool(fail), lambda: False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("module", ["event_log", "checkpoint", "folder"])
def test_a_disk_that_is_full_at_a_resume_is_told_in_one_line(tmp_path: Path, module: str) -> None:
    config = make_config(tmp_path / "run")
    tune(config, open_pool, lambda: True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"zip_ray.runs.{module}.write_whole", full_disk)
        with pytest.raises(OutputError, match=r"No space left .* zip-ray resume .*run$"):
            resume(tmp_path / "run", config, open_pool, lambda: False)
    assert resume(tmp_path / "run", config, open_pool, lambda: False).outcome.finished


def test_a_folder_that_takes_no_lock_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"lock: No such file or directory"), locked(tmp_path / "none"):
        pass


def test_a_resume_reads_the_run_only_when_it_holds_it(tmp_path: Path) -> None:
    config = make_config(tmp_path / "run")
    tune(config, open_pool, lambda: True)
    (tmp_path / "run" / CHECKPOINT).write_bytes(b"half")
    with locked(tmp_path / "run"), pytest.raises(InputError, match="in use by another process"):
        resume(tmp_path / "run", config, open_pool, lambda: False)


class CountedPool(InProcessPool):
    """Counts the queries sent to it, in pairs."""

    queries = 0

    def submit(self, works: Sequence[Work]) -> None:
        self.queries += sum(2 * len(work.body.asks) for work in works if isinstance(work.body, Pass))
        super().submit(works)


def test_what_several_killed_drivers_wasted_stays_in_the_account(tmp_path: Path) -> None:
    config = make_config(tmp_path / "run", 120)
    config = config.model_copy(update={"output": config.output.model_copy(update={"checkpoint_every_steps": 5})})
    pools: list[CountedPool] = []

    def open_counted(_: Config) -> CountedPool:
        pools.append(CountedPool(FakeScorer))
        return pools[-1]

    def killed_at(step: int) -> Callable[[Event], None]:
        def listen(event: Event) -> None:
            if isinstance(event, StepEvent) and event.step == step:
                raise DriverKilled

        return listen

    with pytest.raises(DriverKilled):
        tune(config, open_counted, lambda: False, killed_at(8))
    for step in (7, 7):
        with pytest.raises(DriverKilled):
            resume(tmp_path / "run", config, open_counted, lambda: False, killed_at(step))
    account = resume(tmp_path / "run", config, open_counted, lambda: False).outcome.state.account
    assert account.issued == sum(pool.queries for pool in pools) == 190
    assert (account.charged, account.wasted) == (120, 70)


def test_the_end_accounts_for_every_answer(tmp_path: Path) -> None:
    """Asynchronously, with three pairs per step and eight in flight, none more than a step old."""
    execution = {"mode": "async", "max_staleness": 1}
    config = make_config(tmp_path / "run", 200, optimizer={"pairs_per_step": 3}, execution=execution)
    result = tune(config, open_pool, lambda: False)
    end = read_record(tmp_path / "run" / RECORD)[-1]
    assert isinstance(end, EndEvent)
    assert end.dropped > 0
    assert 0 <= end.left_over < 3
    steps = result.outcome.state.optimizer.steps
    assert 3 * steps + end.dropped + end.left_over == result.outcome.state.account.charged // 2


@pytest.mark.parametrize("steps", [10, 100_000])
def test_a_picture_of_a_long_run_has_some_thousands_of_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    drawn = []
    monkeypatch.setattr("matplotlib.axes.Axes.plot", lambda _, *points, **style: drawn.append((style["label"], points)))
    accuracies = (float("nan") if k % 10 == 9 else 0.5 + 0.5 * k / steps for k in range(steps))
    events = (step_event(k + 1, queries=k, accuracy=accuracy) for k, accuracy in enumerate(accuracies))
    draw_accuracy(tmp_path / "x.png", events, "run", {})
    ((label, (x, y)),) = drawn
    assert label == "train mini-batch"
    assert min(0.9 * steps, 2000) <= len(x) <= 4000
    np.testing.assert_allclose(y, 50 + 50 * np.array(x) / steps)
    assert x[-1] >= 0.99 * steps or steps == 10


def test_what_mlflow_lacks_is_said_to_be_sent_on(tmp_path: Path) -> None:
    result = tune(make_config(tmp_path / "run"), open_pool, lambda: False)
    console = Console(file=io.StringIO(), width=200)
    show_run(console, replace(result, tracked=False), Config())
    assert f"zip-ray replay {tmp_path / 'run'}" in console.file.getvalue().partition("incomplete\nsend the rest ")[2]


def test_brackets_in_paths_and_templates_are_shown_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "[/run]"
    show_run(console, tune(make_config(folder), open_pool, lambda: True), Config())
    show_run(console, resume(folder, make_config(folder), open_pool, lambda: False), Config())
    console.print(accuracy_table({"a": 0.5}, {"a": "[/b] {}"}, 6, 2))
    assert capsys.readouterr().out.count("[/") == 5, "stopped, prompt, picture, MLflow, text"


def test_a_stopped_run_names_its_copy_where_it_has_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = tune(make_config(tmp_path / "run"), open_pool, lambda: True)
    show_run(console, result, make_config(tmp_path / "run", output={"remote": "s3://bucket/run"}))
    assert f"zip-ray resume {tmp_path / 'run'}, or s3://bucket/run if that is gone" in capsys.readouterr().out


def test_a_table_has_texts_where_there_are_templates() -> None:
    table = accuracy_table({"tuned": 0.5}, {}, 6, 2)
    assert [column.header for column in table.columns] == ["prompt", "test accuracy", "95% interval"]
    assert [*accuracy_table({"a": 0.5}, {"a": "a {}"}, 6, 2).columns[3].cells] == ["a {}"]


def test_a_table_says_what_chance_is_and_how_sure_it_is() -> None:
    """The interval is Wilson's: here (41 of 82), 39.4% to 60.6%."""
    table = accuracy_table({"tuned": 0.5}, {}, 82, 4)
    assert table.title == "82 test images, 4 classes: chance 25.0%"
    assert [*table.columns[2].cells] == ["39.4% to 60.6%"]
    assert accuracy_table({"tuned": 0.5}, {}, 1000, 0).title == "1,000 test images", "of an early record"


def test_rows_of_one_template_are_one() -> None:
    accuracies = {"generic template": 0.5, "plain template": 0.5, "best template": 0.7, "probe": 0.5, "tuned": 0.5}
    texts = {"generic template": "a {}", "plain template": "a {}", "best template": "the {}"}
    table = accuracy_table(accuracies, texts, 6, 2)
    names = ["zero-shot, generic and plain template", "zero-shot, best template", "zero-shot, probe", "tuned"]
    assert [*table.columns[0].cells] == names
    alike = accuracy_table(accuracies, dict.fromkeys(texts, "a {}"), 6, 2)
    assert next(iter(alike.columns[0].cells)) == "zero-shot, generic, plain and best template"
