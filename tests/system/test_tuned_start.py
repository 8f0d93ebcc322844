"""`prompt.init: PATH`: a run that starts from an earlier prompt, tuned on other classes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, safe_open, save_file

import zip_ray
from zip_ray.config.reading import validate
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.prompts import make_space
from zip_ray.protocol.messages import Evaluation, EvaluationResult, Priority, new_work
from zip_ray.runs.event_log import read_record
from zip_ray.scorer.scorer import build_scorer
from zip_ray.tuning.events import EndEvent

QUIET: dict[str, Any] = {
    "progress": False,
    "cluster": {"pool": "in-process"},
    "tracking": {"enabled": False},
    "readout": "none",
}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on digits whose context has moved."""
    folder = tmp_path_factory.mktemp("first") / "run"
    spsa = {"optimizer": {"step_size": 0.05}, "validation": {"deploy": "last"}}
    zip_ray.tune("digits", method="spsa", queries=40, prompt={"init": "template"}, output=str(folder), **spsa, **QUIET)
    return folder


def config_from(init: Path) -> Config:
    return validate({"optimizer": {"method": "spsa"}, "prompt": {"space": "context", "init": str(init)}}, "test")


def test_it_starts_where_the_first_run_ended(first: Path) -> None:
    tuned = load_file(first / "tuned_prompt.safetensors")["context"]
    config = config_from(first)
    scorer = build_scorer(config)
    facts = scorer.facts()
    np.testing.assert_allclose(facts.shape.initial_context, tuned, atol=1e-6)
    w = make_space(config.prompt, facts.shape, config.seed).initial()
    start = scorer.answer(new_work(Evaluation("test", w), Priority.EVALUATION))
    assert isinstance(start, EvaluationResult)
    (end,) = [event for event in read_record(first / "metrics.jsonl") if isinstance(event, EndEvent)]
    assert start.accuracy == pytest.approx(end.test_accuracy, abs=1e-9)


def test_it_goes_on_with_other_classes_and_the_default_method(first: Path, tmp_path: Path) -> None:
    """Give the file or its folder, from any working directory."""
    found = zip_ray.tune(
        "shape",
        queries=60,
        prompt={"init": str(first / "tuned_prompt.safetensors")},
        output=str(tmp_path / "second"),
        **QUIET,
    )
    assert len(found.prompt.card.classnames) == 10
    assert found.prompt.prompt.context is not None
    assert found.prompt.prompt.context.shape == load_file(first / "tuned_prompt.safetensors")["context"].shape


@pytest.mark.parametrize("fault", ["nothing there", "another model", "a prompt of images"])
def test_what_cannot_be_a_start_is_refused_by_name(first: Path, tmp_path: Path, fault: str) -> None:
    place = tmp_path / "tuned_prompt.safetensors"
    if fault != "nothing there":
        with safe_open(first / "tuned_prompt.safetensors", "numpy") as file:
            card = file.metadata()["zip_ray"]
        tensors = load_file(first / "tuned_prompt.safetensors")
        if fault == "another model":
            digest = zip_ray.TunedPrompt.load(first).card.weights_digest
            card = card.replace(digest, "0" * len(digest))
        else:
            tensors = {"frame": tensors["context"]}
        save_file(tensors, place, {"zip_ray": card})
    said = {"nothing there": "holds no tuned prompt", "another model": "other weights"}.get(fault, "a prompt of images")
    with pytest.raises(InputError, match=f"prompt.init: '.*' .*{said}"):
        build_scorer(config_from(place))
