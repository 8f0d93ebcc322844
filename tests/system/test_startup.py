"""Each process's imports, which cost time at every start: help, driver and actor."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

SLOW = {
    *("torch", "open_clip", "ray", "mlflow", "matplotlib", "sklearn", "pandas", "PIL"),
    *("scipy.optimize", "scipy.ndimage", "zip_ray.comparison", "zip_ray.actors"),
}
"""Does not include transformers, which open_clip imports wherever it is installed."""
HELP = """
from zip_ray.cli.main import main
main(["tune", "--help"])
"""
DRIVER = """
from pathlib import Path
import mlflow.tracking
import zip_ray.actors.ray_pool
from tests.support.small_runs import make_config, open_pool
from zip_ray.api import tune
tune(make_config(Path("run")), open_pool)
"""
ACTOR = """
from zip_ray.api import build_scorer
from zip_ray.config.scorer_key import scorer_key
from zip_ray.config.task import TaskConfig
from zip_ray.config.tree import Config
build_scorer(scorer_key(Config(task=TaskConfig(shots=1)))).facts()
"""


@pytest.mark.parametrize(
    ("code", "needed"),
    [
        (HELP, set()),
        (DRIVER, {"ray", "zip_ray.actors", "mlflow", "pandas", "matplotlib", "PIL"}),
        (ACTOR, {"torch", "open_clip", "PIL"}),
    ],
    ids=["help", "driver", "actor"],
)
def test_a_process_imports_what_it_needs(tmp_path: Path, code: str, needed: set[str]) -> None:
    assert modules(code, tmp_path) & SLOW == needed


def modules(code: str, folder: Path) -> set[str]:
    """The modules that a separate process has imported after running this code."""
    report = f"{code}\nimport json, sys\nprint()\nprint(json.dumps(list(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", report]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))
