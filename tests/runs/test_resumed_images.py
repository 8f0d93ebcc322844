"""A resume on other images or classes is refused, as one with other weights is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes import FACTS, FakeScorer
from tests.support.small_runs import make_config
from zip_ray.errors import InputError
from zip_ray.pool.in_process import InProcessPool
from zip_ray.protocol.facts import Facts
from zip_ray.runs.event_log import read_start
from zip_ray.runs.lifecycle import resume, tune

TASK = replace(FACTS, images_digest="1" * 64)


class OnTask(FakeScorer):
    """A fake scorer that says what its task is."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        object.__setattr__(self, "_facts", facts)

    def facts(self) -> Facts:
        facts: Facts = self.__dict__["_facts"]
        return facts


def pool_of(facts: Facts) -> Any:
    return lambda _: InProcessPool(lambda: OnTask(facts))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": {"train": 8, "val": 4, "test": 7}}, r"other images \(8 train, .* 6 test then, .* 7 test now\)"),
        ({"classnames": ("left", "up", "right")}, r"other classes \('up' is new\)"),
        ({"classnames": ("left", "up")}, r"other classes \('right' is gone, 'up' is new\)"),
        ({"classnames": ("right", "left")}, r"other classes \(in another order\)"),
        ({"images_digest": "2" * 64}, r"other images \(.* now, some of them replaced\)"),
    ],
)
def test_other_images_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = tmp_path / "run"
    tune(make_config(folder), pool_of(TASK), lambda: False)
    assert (read_start(folder).classnames, read_start(folder).images_digest) == (TASK.classnames, "1" * 64)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match=rf"task: has {message} than when .* was started: restore them, or start"):
        resume(folder, make_config(folder, 24), pool_of(replace(TASK, **change)), lambda: False)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert resume(folder, make_config(folder, 24), pool_of(TASK), lambda: False).outcome.finished


def test_an_actor_with_other_images_answers_other_questions() -> None:
    assert TASK.difference(replace(TASK, images_digest="2" * 64)) == "other images"
    assert TASK.difference(TASK) == ""


def test_notes_of_the_task_are_warnings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tune(make_config(tmp_path / "run"), pool_of(replace(TASK, notes=("3 files are ignored",))), lambda: False)
    assert "task: 3 files are ignored" in caplog.text
