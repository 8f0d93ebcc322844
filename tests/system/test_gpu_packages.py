"""benchmarks/gpu.py on a CPU, with only the packages it names; an error or hang in one part does not stop others."""

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from benchmarks import gpu
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

NAMED = (
    *("torch", "timm", "torchvision", "transformers", "accelerate", "numpy", "scipy", "safetensors", "pillow"),
    *("matplotlib", "open_clip_torch", "ftfy", "wcwidth", "threadpoolctl", "pydantic"),
)
"""Distributions named in the program's docstring."""
PARTS = ["a", "c", "e"]
"""The other parts need no further packages, and take longer."""
NEVER = {"ray", "mlflow", "tyro", "rich", "sklearn", "pandas"}
BLOCKED = """
import runpy, sys
from importlib.machinery import PathFinder
blocked, program = set(sys.argv[1].split(",")), sys.argv[2]
class Some:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.split(".")[0] in blocked else PathFinder.find_spec(name, path, target)
    find_distributions, invalidate_caches = PathFinder.find_distributions, PathFinder.invalidate_caches
sys.meta_path[sys.meta_path.index(PathFinder)] = Some
sys.argv = sys.argv[2:]
runpy.run_path(program, run_name="__main__")
"""
"""Runs a program as if some packages were not installed."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def brought_by(names: tuple[str, ...]) -> set[str]:
    """Distributions, and everything they require."""
    found: set[str] = set()
    waiting = [normal(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        try:
            needs = [Requirement(line) for line in metadata.requires(name) or ()]
        except metadata.PackageNotFoundError:  # for another platform
            continue
        waiting += [normal(need.name) for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


def test_runs_with_only_the_packages_that_it_names(tmp_path: Path) -> None:
    assert gpu.__doc__ is not None
    assert all(name in gpu.__doc__ for name in NAMED)
    allowed = brought_by(NAMED)
    modules = metadata.packages_distributions()
    blocked = {module for module, of in modules.items() if not allowed & {normal(name) for name in of}} | NEVER
    blocked -= {"zip_ray", "benchmarks", "tests"}
    program = [str(ROOT / "benchmarks" / "gpu.py"), "--device", "cpu", "--quick", "--out", str(tmp_path)]
    program += ["--parts", *PARTS]
    command = [sys.executable, "-c", BLOCKED, ",".join(sorted(blocked)), *program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert list(found) == PARTS
    assert all(part["rows"] and not part["errors"] for part in found.values())
    agreement = [row for row in found["a"]["rows"] if "losses differ" in row]
    assert all(row["losses differ"] < 1e-4 for row in agreement)
    assert "prompts per pass" in agreement[-1], "memory was short"
    written = (tmp_path / "gpu.md").read_text()
    assert all(f"## {name}: " in written for name in PARTS)
