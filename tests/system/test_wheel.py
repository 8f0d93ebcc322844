"""The wheel, installed into an environment without a clone, works from any folder."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from zip_ray import __version__

SETTINGS = ("--budget.queries=20", "--validation.every-queries=20", "--tracking.no-enabled")
Run = Callable[..., str]


@pytest.fixture
def run(installed: Path, tmp_path: Path) -> Run:
    """Runs a program of that environment in an empty folder; what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(program: str, *arguments: str) -> str:
        command = [str(installed.with_name(program)), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_nothing_else_is_installed(installed: Path) -> None:
    """In particular no top-level package `actors` or `tests`, and no program that trains the shipped model."""
    (site,) = installed.parent.parent.glob("lib/python*/site-packages")
    assert {path.name for path in site.iterdir()} == {
        "dependencies.pth",
        "zip_ray",
        f"zip_ray-{__version__}.dist-info",
    }
    assert not (site / "zip_ray" / "actors").is_symlink()
    assert not [path for path in site.rglob("*") if path.stem in ("train", "card")]


def test_the_command_shows_its_help(run: Run) -> None:
    said = run("zip-ray", "--help")
    assert "tune" in said
    assert said == run("python", "-m", "zip_ray", "--help")


def test_a_prompt_is_tuned_from_an_empty_folder(run: Run, tmp_path: Path) -> None:
    """On Ray: its actors must find the package."""
    run("zip-ray", "tune", "quickstart", *SETTINGS, "--cluster.actors=1", "--output.dir=out")
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    assert (tmp_path / "out" / "tuned_prompt.safetensors").is_file()


def test_a_suite_names_shipped_methods(run: Run, tmp_path: Path) -> None:
    base = {"budget": {"queries": 20}, "cluster": {"pool": "in-process"}, "tracking": {"enabled": False}}
    methods = ["configs/methods/zip.yaml"]
    suite = {"name": "one", "shots": [1], "seeds": [1], "tasks": ["digits"], "methods": methods, "base": base}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    run("zip-ray", "compare", "suite.yaml", "--output=out")
    assert (tmp_path / "out" / "report.html").is_file()


CLASSIFY = """
import os, sys
import zip_ray

options = {"cluster": {"pool": "in-process"}, "validation": {"every_queries": 20}, "progress": False}
result = zip_ray.tune("quickstart", method="zip", queries=20, output="out", **options)
os.makedirs("elsewhere")
from PIL import Image
Image.new("RGB", (32, 32)).save("elsewhere/black.png")
place = os.path.abspath("mlflow.db")
# What MLflow lacks where the machine was too busy to send it all when the run ended.
from zip_ray.api import replay
from zip_ray.config.tracking import TrackingConfig
run_id = replay(result.folder, TrackingConfig()).run_id
os.chdir("elsewhere")

import contextlib, io
import mlflow
from mlflow.tracking import MlflowClient
import pandas

mlflow.set_tracking_uri(f"sqlite:///{place}")
with contextlib.redirect_stderr(io.StringIO()) as said:
    model = mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
assert "type hints" not in said.getvalue(), "MLflow warns of a model without them, in every run too"
assert model.metadata.signature.inputs.input_names() == ["image"]
assert model.input_example is not None
(row,) = model.predict(pandas.DataFrame({"image": ["black.png"]})).to_dict("records")
(found,) = zip_ray.TunedPrompt.load("../out").classifier()("black.png")
assert row["class"] == found.classname
assert abs(row["probability"] - found.probability) < 1e-6
(again,) = zip_ray.classify("../out", "black.png")
assert again.classname == found.classname
print("classified")
"""


A_NEW_USER = """
from pathlib import Path

import numpy as np
from PIL import Image
import zip_ray

for green, part in enumerate(("train", "test")):
    for label, name in enumerate(("red_square", "blue_square")):
        Path("images", part, name).mkdir(parents=True)
        for i in range(9):
            colour = (200 - i, green, 0) if label == 0 else (0, green, 200 - i)
            Image.new("RGB", (40, 40), colour).save(Path("images", part, name, f"{i}.png"))

common = {"task": {"root": "images", "shots": 4}, "tracking": {"enabled": False}, "progress": False}
with zip_ray.open_pool("folder", task=common["task"], cluster={"pool": "in-process"}) as pool:
    runs = [
        zip_ray.tune("folder", optimizer={"perturbation_scale": c}, queries=60, output=f"runs/{c}", pool=pool, **common)
        for c in (0.1, 0.5)
    ]
    best = max(runs, key=lambda run: run.accuracy)
    further = zip_ray.tune("folder", prompt={"init": str(best.folder)}, queries=60, pool=pool, **common)
prompt = zip_ray.TunedPrompt.load(best.folder)
found = prompt.classifier()("images/test")
assert np.mean([one.classname.replace(" ", "_") == one.path.parent.name for one in found]) == best.accuracy
assert Path(further.prompt.card.prompt["init"]).samefile(best.folder)
prompt.export("weights.npz")
assert [*np.load("weights.npz")["classnames"]] == ["blue square", "red square"]
assert zip_ray.evaluate(best) == {name: best.accuracies[name] for name in zip_ray.evaluate(best)}
assert zip_ray.resume(best.folder, queries=120, cluster={"pool": "in-process"}, progress=False).queries > best.queries
print("done")
"""


def test_a_folder_of_images_from_a_sweep_to_a_classifier(run: Run) -> None:
    """As a new user would, from Python and in an empty folder: sweep on a kept pool, load, classify, start again from
    the tuned prompt, export, evaluate, resume."""
    assert run("python", "-c", A_NEW_USER).endswith("done\n")


def test_the_mlflow_model_and_the_prompt_classify_files_from_elsewhere(run: Run) -> None:
    """The MLflow model is logged as code, and must work without a clone."""
    assert run("python", "-c", CLASSIFY).endswith("classified\n")
