"""A new user's start: a clone of the project, and an environment in which it is not installed."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from tests.support.paths import ROOT


def clone(folder: Path) -> Path:
    """A copy of the files that git tracks, or will: what it ignores is not there, and links are links."""
    listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and os.path.lexists(ROOT / name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name, follow_symlinks=False)
    return folder


def environment_without_zip_ray(folder: Path) -> Path:
    """The Python of a new virtual environment, which sees this one's packages except zip-ray.

    An editable zip-ray is a .pth file, and Python reads those of its own site-packages only.
    """
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    seen = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "dependencies.pth").write_text("\n".join(seen))
    return folder / "bin" / "python"


def installed_wheel(folder: Path) -> Path:
    """The Python of an environment with the wheel, and without a clone."""
    python = environment_without_zip_ray(folder / "environment")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    build = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    subprocess.run([*pip, *build, str(clone(folder / "clone"))], check=True)
    (wheel,) = folder.glob("zip_ray-*.whl")
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", str(wheel)], check=True)
    return python
