"""The examples run: a sweep that loads its model once, and a folder of images."""

import importlib.util
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
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == {"sweep", "own_images"}


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
