"""The rooms of the design: who may import whom, how long a file may be, what must not stand in the tree."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = sorted((ROOT / "zip_ray").rglob("*.py"))
DRIVER = [
    *(ROOT / "zip_ray" / "optimizers").glob("*.py"),
    *(ROOT / "zip_ray" / "prompts").glob("*.py"),
    *(ROOT / "zip_ray" / "compare").glob("*.py"),
    *(
        ROOT / "zip_ray" / f"{name}.py"
        for name in ("ledger", "tuning", "evaluation", "checkpoint", "record", "work", "pool", "runs", "opening")
    ),
]


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


def packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_library_knows_nothing_of_ray(path: Path) -> None:
    assert not packages(path) & {"ray", "actors", "run"}


@pytest.mark.parametrize("path", DRIVER, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_driver_side_is_numpy_only(path: Path) -> None:
    assert not packages(path) & {"torch", "torchvision", "open_clip"}
    assert not any(name.startswith(("zip_ray.clip", "zip_ray.data")) for name in imports(path))


def test_the_driver_does_not_load_torch() -> None:
    """Not even by way of something else: a driver on a head node must not touch CUDA."""
    code = "import sys, run, zip_ray.runs, actors.pool; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_actors_hold_no_algorithm() -> None:
    for path in (ROOT / "actors").glob("*.py"):
        assert not packages(path) & {"torch", "numpy", "open_clip"}
        allowed = {"zip_ray.config", "zip_ray.errors", "zip_ray.pool", "zip_ray.work", "zip_ray"}
        allowed |= {"zip_ray.dispatcher", "zip_ray.progress", "zip_ray.record"}
        assert {n for n in imports(path) if n.startswith("zip_ray")} <= allowed


def test_nothing_is_pickled_to_disk() -> None:
    for path in [*LIBRARY, *(ROOT / "actors").glob("*.py"), ROOT / "run.py"]:
        assert not packages(path) & {"pickle", "shelve", "dill", "joblib"}
        assert "torch.load" not in path.read_text(encoding="utf-8")
