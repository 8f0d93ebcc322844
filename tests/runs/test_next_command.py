"""Suggested commands work in the user's shell: on PATH, in a clone without its environment, in a Ray job."""

import sys
from pathlib import Path

import pytest

from zip_ray.runs import next_command


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an environment that has `zip-ray`, `python` and `mlflow` but is not on PATH."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("zip-ray", "python", "mlflow"):
        (programs / name).touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setattr(sys, "argv", [".venv/bin/zip-ray", "tune", "quickstart"])
    return programs


def test_by_their_names_where_path_finds_them(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(here))
    assert next_command.resume("runs/first") == "zip-ray resume runs/first"
    assert next_command.beside_python("mlflow") == "mlflow"


def test_by_their_paths_where_path_finds_none_or_another(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert next_command.resume("runs/first") == ".venv/bin/zip-ray resume runs/first"
    other = here.parent / "other"
    other.mkdir()
    for name in ("zip-ray", "mlflow"):
        (other / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(other))
    assert next_command.zip_ray() == ".venv/bin/zip-ray"
    assert next_command.beside_python("mlflow") == ".venv/bin/mlflow"


def test_from_another_folder_the_path_is_whole(here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", [str(here / "zip-ray")])
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    assert next_command.zip_ray() == str(here / "zip-ray")


def test_where_the_project_is_not_installed_run_py_is_the_command(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "tune", "quickstart"])
    assert next_command.resume("s3://bucket/run 1") == ".venv/bin/python run.py resume 's3://bucket/run 1'"
    monkeypatch.setenv("PATH", str(here))
    assert next_command.resume("runs/first") == "python run.py resume runs/first"


def test_a_library_call_suggests_the_command(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/script.py"])
    assert next_command.zip_ray() == "zip-ray"
    (here / "mlflow").unlink()
    assert next_command.beside_python("mlflow") == "mlflow"
