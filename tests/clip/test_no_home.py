"""A user without a home folder, as in many containers."""

import os
from pathlib import Path

import pytest

from zip_ray.clip import feature_cache
from zip_ray.clip.feature_cache import default_folder
from zip_ray.clip.loading import resolve_name
from zip_ray.config.reading import validate
from zip_ray.errors import InputError
from zip_ray.runs.mlflow_server import resolve_uri


@pytest.fixture(autouse=True)
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: object) -> None:
        raise KeyError("no such user")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.setattr("pwd.getpwnam", unknown)
    feature_cache._home.cache_clear()


def test_nothing_is_kept_and_said_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    assert [default_folder(), default_folder()] == [None, None]
    (record,) = caplog.records
    assert "no home folder" in record.getMessage()
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert default_folder() == Path("/elsewhere/zip-ray")


def test_a_tilde_stays_as_it_is() -> None:
    with pytest.raises(InputError, match=r"no open_clip_config.json in ~/model"):
        resolve_name("local-dir:~/model")
    assert resolve_uri("sqlite:///~/m.db") == f"sqlite:///{os.getcwd()}/~/m.db"
    assert "~/prompt.safetensors" in validate({"prompt": {"init": "~/prompt.safetensors"}}, "").prompt.init
