"""The code's revision comes from the checkout that tracks the package, and from no other."""

import subprocess
from pathlib import Path

import pytest

from zip_ray import __version__
from zip_ray.comparison.revision import revision


def test_the_commit_is_that_of_the_checkout_which_tracks_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=A", "-c", "user.email=a@example.com", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    monkeypatch.setattr("zip_ray.comparison.revision.packaged", lambda name: tmp_path / "package" / name)
    code = tmp_path / "package" / "__init__.py"
    code.parent.mkdir()
    code.touch()
    assert revision() == __version__
    git("init")
    git("commit", "--allow-empty", "-m", "another project, with an environment in it")
    assert revision() == __version__
    git("add", ".")
    git("commit", "-m", "the package")
    assert revision() == f"{__version__}, commit {git('rev-parse', 'HEAD')}"
    code.write_text("changed = True\n")
    assert revision().endswith(" with local changes")
