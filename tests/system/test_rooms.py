"""The rooms of the design: which rooms may import which, and which files must not exist."""

import ast
import re
import subprocess
import sys
from pathlib import Path

from tests.support.faults import check_each
from tests.support.paths import ROOT

LIBRARY = sorted([*(ROOT / "zip_ray").rglob("*.py"), *(ROOT / "actors").glob("*.py")])
ANYWHERE = {"", "config", "registry", "errors", "files"}
"""What every room may use; the empty name is the package itself."""
DRIVER = {"protocol", "pool", "optimizers", "prompts", "readout", "tuning"}
MAY_IMPORT = {
    "": {"library", "artifact", "runs", "tuning"},
    "library": DRIVER | {"artifact", "runs", "comparison", "api", "cli"},
    "errors": set(),
    "registry": set(),
    "files": set(),
    "config": {"protocol", "optimizers", "prompts"},
    "protocol": set(),
    "pool": {"protocol"},
    "optimizers": {"protocol"},
    "prompts": {"protocol"},
    "readout": {"protocol"},
    "tuning": DRIVER,
    "runs": DRIVER | {"artifact"},
    "comparison": DRIVER | {"artifact", "runs"},
    "actors": DRIVER | {"runs"},
    "tasks": {"protocol", "shipped"},
    "clip": {"protocol", "prompts", "tasks", "shipped"},
    "vlm": {"protocol", "tasks"},
    "scorer": {"protocol", "prompts", "tasks", "clip", "vlm"},
    "artifact": {"protocol", "prompts", "clip", "vlm", "tasks"},
    "testing": DRIVER | {"runs"},
    "api": DRIVER | {"artifact", "runs", "comparison", "actors", "scorer", "tasks"},
    "cli": DRIVER | {"artifact", "runs", "comparison", "api"},
    "__main__": {"cli"},
    "shipped": set(),
}
"""By room, the other rooms of the package that its files may import: imports point one way."""
NUMPY_ONLY = DRIVER | {"runs", "comparison"}


def room(path: Path) -> str:
    """The folder below the package, or the stem of a file in it; the empty name for `zip_ray/__init__.py`."""
    parts = path.relative_to(ROOT).parts
    if parts[0] == "actors":
        return "actors"
    return parts[1].removesuffix(".py").removesuffix("__init__")


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    """Names of the modules that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


def packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def imports_one_way(path: Path) -> None:
    own = room(path)
    for name in imports(path):
        package, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        assert package != "zip_ray" or other in ANYWHERE | {own} | MAY_IMPORT[own], f"imports {name}"


def test_rooms_import_one_way() -> None:
    check_each(LIBRARY, imports_one_way)


def knows_only_what_its_room_may(path: Path) -> None:
    foreign = {"torch", "numpy", "open_clip"} if room(path) == "actors" else {"ray", "actors", "run"}
    if room(path) in NUMPY_ONLY:
        foreign |= {"torch", "torchvision", "open_clip"}
    assert not packages(path) & foreign


def test_only_actors_know_ray_and_only_scorers_know_torch() -> None:
    check_each(LIBRARY, knows_only_what_its_room_may)


def test_the_rules_of_the_fleet_know_no_ray() -> None:
    assert not packages(ROOT / "actors" / "fleet.py") & {"ray", "grpc", "time"}
    assert not any(name.startswith("zip_ray.actors") for name in imports(ROOT / "actors" / "fleet.py"))


def test_the_driver_does_not_load_torch() -> None:
    """Not even indirectly: a driver on a head node must not touch CUDA."""
    code = "import sys, run, zip_ray.runs.lifecycle, zip_ray.actors.ray_pool; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def pickles_nothing(path: Path) -> None:
    assert not packages(path) & {"pickle", "shelve", "dill", "joblib"}
    loads = re.findall(r"torch\.load\((.*)\)", path.read_text(encoding="utf-8"))
    assert all("weights_only=True" in arguments for arguments in loads), "it would run what the file says"


def test_nothing_is_pickled_and_files_of_weights_are_tensors_alone() -> None:
    check_each([*LIBRARY, ROOT / "run.py"], pickles_nothing)


def test_no_two_modules_share_a_name() -> None:
    """Each module name is used once in the project."""
    stems = [path.stem for path in LIBRARY if path.stem not in ("__init__", "__main__", "base", "load")]
    assert sorted(set(stems)) == sorted(stems)
