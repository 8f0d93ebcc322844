"""Tuned prompts of a suite, tested on other images and classes."""

from pathlib import Path

import pytest
from PIL import Image

from tests.support.command_line import run
from tests.support.fakes import FakeScorer
from tests.support.suite_files import BASE, suite_file
from tests.support.suites import carry_out
from zip_ray.artifact.evaluation import score_test
from zip_ray.artifact.tuned_prompt import TunedPrompt
from zip_ray.comparison.execute import SuiteOutcome
from zip_ray.comparison.results import read_results
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.scorer.scorer import ClipScorers
from zip_ray.tasks.builtin.rendered import TASKS, render_split


def test_a_tuned_prompt_is_tested_elsewhere(tmp_path: Path) -> None:
    """If the target is the task itself, the figure is the run's own; with other classes it is that of `evaluate`."""
    targets = {"itself": {}, "counts": {"name": "count", "shots": 1}}
    suite_file(tmp_path, protocol="transfer", targets=targets, seeds=[1], methods={"ZIP": {}})
    run(tmp_path, "compare", "mini.yaml", "--output=out")
    (one,) = read_results(tmp_path / "out").finished
    assert one.applied["itself"] == {"tuned": one.accuracy, "plain template": one.zero_shot["plain template"]}
    out = run(tmp_path, "evaluate", str(one.run.folder), "--task.name=count", "--task.shots=1").stdout
    for figure in one.applied["counts"].values():
        assert f"{figure:.1%}" in out


def test_a_suite_out_of_distribution(tmp_path: Path) -> None:
    """Tested on a shifted test set and on a folder of test images alone; the figures are those of `evaluate`."""
    for picture, label in zip(*render_split(TASKS["count"], "dark", 1), strict=True):
        (tmp_path / f"images/test/{label + 1}").mkdir(parents=True)
        Image.fromarray(picture).save(tmp_path / f"images/test/{label + 1}/one.png")
    targets = {"noisy": {"test_set": "noisy"}, "mine": {"name": "folder", "root": str(tmp_path / "images")}}
    fields = {"protocol": "out-of-distribution", "seeds": [1], "methods": {"ZIP": {}}, "targets": targets}
    fields |= {"tasks": {"count": {"classes": "base"}}}
    assert carry_out(tmp_path, ClipScorers(), base=BASE, **fields) == SuiteOutcome(1, {}, 0)
    (one,) = read_results(tmp_path / "out").finished
    prompt = TunedPrompt.load(one.run.folder)
    for label, target in one.run.targets.items():
        assert one.applied[label] == pytest.approx(score_test(prompt, target.task, 1).accuracies)
    shown = [f"{100 * share:.1f}" for share in (one.accuracy, *(one.applied[label]["tuned"] for label in targets))]
    elsewhere = (tmp_path / "out/report.md").read_text().partition("## Elsewhere")[2]
    assert f"| ZIP | {' | '.join(shown)} |" in elsewhere.partition("## ")[0].replace("**", "")


def test_a_readout_serves_on_shifted_images_and_not_for_other_classes(tmp_path: Path) -> None:
    """The figures are those of `evaluate`: with the readout for the run's own classes, else of the prompt alone."""
    targets = {"dark": {"test_set": "dark"}, "shapes": {"name": "shape", "shots": 1}}
    fields = {"protocol": "out-of-distribution", "seeds": [1], "targets": targets, "tasks": {"background": {}}}
    fields |= {"methods": {"read out": {"optimizer": {"method": "gauss-newton"}, "readout": "linear"}}}
    base = {name: BASE[name] for name in ("cluster", "tracking")} | {"budget": {"queries": 40}}
    assert carry_out(tmp_path, ClipScorers(), base=base, **fields) == SuiteOutcome(1, {}, 0)
    (one,) = read_results(tmp_path / "out").finished
    prompt = TunedPrompt.load(one.run.folder)
    assert prompt.readout is not None
    found = {label: score_test(prompt, target.task, 1).accuracies for label, target in one.run.targets.items()}
    assert one.applied["dark"]["tuned"] == pytest.approx(found["dark"]["tuned + readout"])
    assert found["dark"]["tuned + readout"] != found["dark"]["tuned"]
    assert one.applied["shapes"]["tuned"] == pytest.approx(found["shapes"]["tuned"])


def test_a_target_that_has_changed_is_tested_again(tmp_path: Path) -> None:
    """First a label whose target has changed, then fewer targets."""
    fields = {"protocol": "transfer", "seeds": [1], "methods": {"ZIP": {}}}
    asked: list[str] = []

    def build(config: Config) -> FakeScorer:
        asked.append(config.task.name)
        return FakeScorer()

    for targets in ({"one": {"name": "count"}, "two": {"name": "shape"}}, {"one": {"name": "letter"}}):
        assert carry_out(tmp_path, build, targets=targets, **fields).finished == 1
        (one,) = read_results(tmp_path / "out").finished
        assert set(one.applied) == set(targets)
    assert asked == ["digits", "count", "shape", "letter"]
    assert carry_out(tmp_path, build, targets=targets, **fields).finished == 0


def test_a_target_that_cannot_be_read_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    """The failure is recorded, the report has the rest, and a later call tests only that target, without tuning."""
    targets = {"gone": {"name": "count"}, "broken": {"name": "letter"}, "there": {"name": "shape"}}
    fields = {"protocol": "transfer", "seeds": [1], "methods": {"ZIP": {}}, "targets": targets}
    asked: list[str] = []

    def build(config: Config) -> FakeScorer:
        asked.append(config.task.name)
        return FakeScorer()

    def build_some(config: Config) -> FakeScorer:
        if config.task.name == "count":
            raise InputError("task.root: 'no' is not a folder")
        return FakeScorer(raise_at=(-1,) if config.task.name == "letter" else ())

    outcome = carry_out(tmp_path, build_some, **fields)
    fault = "tuned, but not tested on gone: task.root: 'no' is not a folder; broken: RuntimeError: fault at -1"
    assert outcome == SuiteOutcome(0, {"digits, 2 shots, ZIP, seed 1": fault}, 0)
    (one,) = read_results(tmp_path / "out").finished
    assert one.applied.keys() == {"there"}
    text = (tmp_path / "out/report.md").read_text()
    assert "1 of 1 runs finished, 1 of them not tested on every target. A query" in text
    assert fault in text
    assert carry_out(tmp_path, build, **fields) == SuiteOutcome(1, {}, 0)
    assert asked == ["count", "letter"]
    (one,) = read_results(tmp_path / "out").finished
    assert one.whole
