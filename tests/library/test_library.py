"""`zip_ray` as a library: light to import, configs in many forms, results, callbacks, Ctrl-C, a kept pool."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas
import pytest
import yaml

import zip_ray
from tests.support.fakes import FakeScorer
from tests.support.small_runs import make_config
from zip_ray.config.tree import Config
from zip_ray.config.writing import effective
from zip_ray.pool.in_process import InProcessPool
from zip_ray.tuning.events import EndEvent, Event, StartEvent, StepEvent, ValidationEvent

QUIET: dict[str, Any] = {"progress": False}


@pytest.fixture(autouse=True)
def fake_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this module use a scorer without a model."""
    monkeypatch.setattr("zip_ray.api.open_pool", lambda _: InProcessPool(FakeScorer))


def small(folder: Path, queries: int = 30) -> dict[str, Any]:
    """A run of three steps, as plain values."""
    return effective(make_config(folder, queries))


def test_importing_it_loads_neither_torch_nor_ray() -> None:
    code = "import sys, zip_ray; print(*sorted({'torch', 'ray', 'mlflow', 'numpy', 'pydantic'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_its_public_names_are_there_and_no_others() -> None:
    assert {*zip_ray.__all__} <= {*dir(zip_ray)}
    for name in zip_ray.__all__:
        assert getattr(zip_ray, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'tuen'"):
        _ = zip_ray.tuen


def test_a_config_comes_in_any_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Config] = []
    monkeypatch.setattr("zip_ray.api.tune", lambda config, *_: seen.append(config))
    monkeypatch.setattr("zip_ray.library._ended", lambda result, _: result)
    tree = small(tmp_path / "out")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    for form in (tree, Config.model_validate(tree), tmp_path / "c.yaml", str(tmp_path / "c.yaml")):
        zip_ray.tune(form, **QUIET, method="spsa", queries=40, shots=4, optimizer={"step_size": 0.5})
    assert all(one == seen[0] for one in seen)
    chosen = seen[0]
    assert (chosen.optimizer.method, chosen.budget.queries, chosen.task.shots) == ("spsa", 40, 4)
    assert chosen.optimizer.step_size == 0.5
    zip_ray.tune("texture", **QUIET, output=tmp_path / "there")
    zip_ray.tune("quickstart", **QUIET, seed=3)
    assert (seen[-2].task.name, seen[-2].output.dir) == ("texture", tmp_path / "there")
    assert (seen[-1].task.name, seen[-1].seed) == ("digits", 3)


@pytest.mark.parametrize(
    ("config", "options", "said"),
    [
        ("quikstart", {}, "quikstart: No such file or directory; did you mean quickstart?"),
        (None, {"quieries": 10}, "quieries: unknown option: known are seed, task, "),
        (None, {"queries": 0}, "budget.queries: 0: Input should be greater than or equal to 1"),
        (None, {"optimizer": {"step_siez": 1}}, "optimizer.step_siez: unknown key; known with optimizer.method gauss-"),
        (None, {"method": "zip", "optimizer": {"round_queries": 14}}, "optimizer.round_queries: has no effect with"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(config: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(zip_ray.InputError) as raised:
        zip_ray.tune(config, **options)
    assert str(raised.value).startswith(said)
    assert "\n" not in str(raised.value)


def test_a_run_returns_its_prompt_accuracies_and_history(tmp_path: Path) -> None:
    result = zip_ray.tune(small(tmp_path / "out"), **QUIET)
    assert result.finished
    assert (result.queries, result.folder) == (30, tmp_path / "out")
    assert result.accuracy == result.accuracies["tuned"]
    assert result.prompt.card.queries == 30
    assert isinstance(result.history, pandas.DataFrame)
    steps = result.history[result.history.event == "step"]
    assert list(steps.queries) == [10, 20, 30]
    assert (result.history.event == "validation").sum() >= 2
    assert repr(result).startswith("RunResult(folder=")
    assert len(repr(result)) < 300


def test_a_run_within_an_event_loop_is_like_any_other(tmp_path: Path) -> None:
    """As in a notebook."""

    async def cell() -> zip_ray.RunResult:
        return zip_ray.tune(small(tmp_path / "out"), **QUIET)

    assert asyncio.run(cell()).finished


def test_callbacks_hear_every_event_and_may_stop_the_run(tmp_path: Path) -> None:
    heard: list[Event] = []

    def stop_after_two(event: Event) -> None:
        if isinstance(event, StepEvent) and event.step == 2:
            raise zip_ray.Interrupted

    result = zip_ray.tune(small(tmp_path / "out"), **QUIET, callbacks=[heard.append, stop_after_two])
    assert not result.finished
    assert result.queries == 20
    assert not any(isinstance(event, EndEvent | StartEvent) for event in heard)
    assert [event.step for event in heard if isinstance(event, StepEvent)] == [1, 2]
    assert any(isinstance(event, ValidationEvent) for event in heard)
    again = zip_ray.resume(result.folder, **QUIET)
    assert again.finished
    whole = zip_ray.tune(small(tmp_path / "whole"), **QUIET)
    assert (again.prompt.parameters == whole.prompt.parameters).all()


def test_ctrl_c_saves_the_state_and_says_how_to_go_on(tmp_path: Path) -> None:
    def press(event: Event) -> None:
        if isinstance(event, StepEvent) and event.step == 1:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=r"stopped after 10 queries: continue with zip_ray.resume\('.*out'\)"):
        zip_ray.tune(small(tmp_path / "out"), **QUIET, callbacks=[press])
    assert signal.getsignal(signal.SIGINT) is before
    assert zip_ray.resume(tmp_path / "out", **QUIET, queries=40).queries == 40


def test_progress_is_shown_unless_it_is_not_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zip_ray.tune(small(tmp_path / "quiet"), progress=False)
    assert capsys.readouterr().err == ""
    zip_ray.tune(small(tmp_path / "shown"))
    assert "encoding images and testing templates" in capsys.readouterr().err
