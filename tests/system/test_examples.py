"""The examples run: a sweep that loads its model once, a folder of images, new classes, and a notebook."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.support.painted import COLOURS, paint
from tests.support.paths import ROOT
from zip_ray.clip import loading

HERE: dict[str, Any] = {"cluster": {"pool": "in-process"}}


def example(name: str) -> ModuleType:
    """One of the scripts, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_they_are_all_here() -> None:
    assert {path.name for path in (ROOT / "examples").iterdir() if path.is_file()} == {
        "sweep.py",
        "own_images.py",
        "new_classes.py",
        "tour.ipynb",
    }


def test_a_sweep_prunes_and_loads_the_model_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loads = []
    plain = loading.load_clip
    monkeypatch.setattr("zip_ray.scorer.scorer.load_clip", lambda *args: loads.append(args) or plain(*args))
    found = example("sweep").sweep(tmp_path, trials=4, queries=40, **HERE)
    assert len(loads) == 1
    accuracies = [result.prompt.card.accuracies["validation"] for _, result in found]
    assert accuracies == sorted(accuracies, reverse=True)
    assert len(found) == capsys.readouterr().out.count("finished")


def test_a_folder_of_images_is_tuned_on_exported_and_classified(tmp_path: Path) -> None:
    for colour in COLOURS:
        for number in range(9):
            paint(tmp_path / "images" / colour / f"{number}.png", colour)
    lines = example("own_images").tune_and_classify(
        tmp_path / "images", tmp_path / "out", shots=2, method="zip", queries=20, tracking={"enabled": False}, **HERE
    )
    assert len(lines) == 9 * len(COLOURS)
    assert np.load(tmp_path / "out" / "classes.npz")["weights"].shape[0] == len(COLOURS)


def test_a_prompt_is_tested_on_new_classes(tmp_path: Path) -> None:
    found = example("new_classes").base_to_new(
        "digits", tmp_path / "run", method="zip", queries=20, tracking={"enabled": False}, **HERE
    )
    assert found.keys() == {"base", "new"}
    assert all(accuracies.keys() == {"tuned", "plain template"} for accuracies in found.values())
    assert found["base"] != found["new"]


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "examples/tour.ipynb").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "saved without outputs"
            exec("".join(cell["source"]), names)
    assert names["result"].finished
    assert len(names["found"]) == len(names["images"])
