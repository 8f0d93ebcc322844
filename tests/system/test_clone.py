"""A clone with only its dependencies installed: its links turn its folders into one package."""

import subprocess
from pathlib import Path

import pytest

from tests.support.clone import clone, environment_without_zip_ray
from tests.support.paths import ROOT


@pytest.mark.parametrize("name", ["actors", "configs"])
def test_a_link_in_the_package_leads_to_the_folder(name: str) -> None:
    assert (ROOT / "zip_ray" / name).readlink() == Path("..", name)
    assert (ROOT / "zip_ray" / name).samefile(ROOT / name)


def test_the_package_is_found_in_a_clone_and_nowhere_else(tmp_path: Path) -> None:
    """So a job or an actor can find the package only if it was sent there."""
    python = environment_without_zip_ray(tmp_path / "environment")
    project = clone(tmp_path / "clone")

    def found(folder: Path) -> str:
        code = "import zip_ray.actors.ray_pool as module; print(module.__file__)"
        done = subprocess.run([str(python), "-c", code], cwd=folder, capture_output=True, text=True, check=False)
        return (done.stdout or done.stderr).splitlines()[-1]

    assert found(tmp_path) == "ModuleNotFoundError: No module named 'zip_ray'"
    assert found(project) == str(project / "zip_ray" / "actors" / "ray_pool.py")
