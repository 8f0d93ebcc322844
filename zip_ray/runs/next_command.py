"""Commands that a message suggests, in a form that works in the user's shell and directory."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from zip_ray.config.secrets import without_secrets


def zip_ray() -> str:
    """The command of this program: `zip-ray` if it is on PATH, else as it was called."""
    called = Path(sys.argv[0])
    if called.name == "zip-ray":
        return _callable(called)
    if called.name == "run.py":
        return f"{_callable(Path(sys.executable))} {shlex.quote(str(called))}"
    return "zip-ray"


def beside_python(name: str) -> str:
    """The same for another program of this environment, such as `mlflow`."""
    return _callable(Path(sys.executable).with_name(name))


def resume(place: str | Path) -> str:
    """The command that continues a run, given its folder or the URI of its copy."""
    return f"{zip_ray()} resume {shlex.quote(str(without_secrets(str(place))))}"


def _callable(path: Path) -> str:
    """A program by its name if PATH leads to it, or if it does not exist; else by its path."""
    found = shutil.which(path.name)
    if not path.is_file() or (found is not None and Path(found).samefile(path)):
        return path.name
    return shlex.quote(os.path.relpath(path) if path.absolute().is_relative_to(Path.cwd()) else str(path))
