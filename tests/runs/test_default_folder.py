"""Two runs that begin in the same second get folders of their own."""

from datetime import datetime
from pathlib import Path

import pytest

from tests.support.small_runs import make_config, open_pool
from zip_ray.runs.lifecycle import tune


class Stopped(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls) -> "Stopped":
        return cls(2026, 1, 2, 3, 4, 5)


def test_runs_of_one_second_get_their_own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("zip_ray.runs.lifecycle.datetime", Stopped)
    config = make_config(tmp_path, output={"dir": None})
    results = [tune(config, open_pool, lambda: False) for _ in range(3)]
    assert all(result.outcome.finished for result in results)
    names = [f"digits-20260102-030405{number}" for number in ("", "-2", "-3")]
    assert [result.folder for result in results] == [Path("runs", name) for name in names]
