"""Hand-written templates: their accuracy, and the message when a tuned prompt is worse."""

import io
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.support.events import end_event, step_event
from tests.support.fakes import FACTS, SHAPE, FakeScorer
from tests.support.small_runs import make_config
from zip_ray.artifact.tuned_prompt import TunedPrompt
from zip_ray.cli.printing import accuracy_table, show_run
from zip_ray.pool.in_process import InProcessPool
from zip_ray.prompts import make_space
from zip_ray.protocol.arrays import Float64
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Evaluation, EvaluationResult, Value, Work
from zip_ray.runs.event_log import FILE_NAME as RECORD
from zip_ray.runs.event_log import read_record
from zip_ray.runs.lifecycle import tune
from zip_ray.runs.progress import Summary
from zip_ray.runs.run_result import RunResult
from zip_ray.runs.zero_shot import at_chance, shortfall
from zip_ray.tuning.events import EndEvent


@dataclass(frozen=True)
class TemplateScorer(FakeScorer):
    """Classifies a given number of training, validation and test images correctly for each template."""

    right: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def facts(self) -> Facts:
        return replace(FACTS, template="the {}.", templates=("the {}.", "one {}."))

    def answer(self, work: Work) -> Value:
        body = work.body
        if isinstance(body, Evaluation) and isinstance(body.prompt, str):
            images = FACTS.images[body.split]
            right = self.right[body.prompt][("train", "val", "test").index(body.split)]
            return EvaluationResult(1.0, right / images, images)
        return super().answer(work)


@pytest.mark.parametrize(
    ("plain", "other", "generic", "best"),
    [
        ((3, 2, 6), (4, 2, 1), (4, 1, 6), "one {}."),  # not chosen by test images
        ((3, 2, 6), (3, 3, 1), (8, 0, 2), "a photo of a {}."),
        ((4, 2, 3), (5, 1, 6), (2, 4, 6), "the {}."),
    ],
)
def test_zero_shot_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain, other, generic, best) -> None:
    right = {"the {}.": plain, "one {}.": other, "a photo of a {}.": generic}
    drawn = []
    monkeypatch.setattr("matplotlib.axes.Axes.axhline", lambda _, level, **style: drawn.append((level, style["label"])))
    result = tune(
        make_config(tmp_path / "run"), lambda _: InProcessPool(lambda: TemplateScorer(right=right)), lambda: False
    )
    texts = {"generic template": "a photo of a {}.", "plain template": "the {}.", "best template": best}
    test = {name: right[text][2] / 6 for name, text in texts.items()}
    assert [*result.start.zero_shot.templates.items()] == [*texts.items()], "in this order"
    assert [*result.accuracies.items()][:-1] == [*test.items()]
    assert json.loads((tmp_path / "run" / RECORD).read_text().split("\n")[0])["zero_shot"] == {
        "templates": texts,
        "test": test,
    }
    card = TunedPrompt.load(tmp_path / "run").card.accuracies
    assert {name: card[f"test/{name}"] for name in test} == test
    assert [label.split(",")[1].split(":")[0].strip() for _, label in drawn] == [*result.accuracies]
    table = accuracy_table(result.accuracies, result.start.zero_shot.templates, 6, 2)
    assert [*table.columns[3].cells] == [*dict.fromkeys(texts.values()), ""]


@pytest.mark.parametrize(("right", "warns"), [((1, 3), True), ((3, 5), True), ((6, 3), False)])
def test_zero_shot_that_is_not_above_chance_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, right: tuple[int, int], warns: bool
) -> None:
    """Five of six images of two classes may be right by chance (95% interval from 43.6%), six are not."""
    plain, generic = right
    counts = {"the {}.": (0, 0, plain), "one {}.": (0, 0, 0), "a photo of a {}.": (0, 0, generic)}
    tune(make_config(tmp_path / "run"), lambda _: InProcessPool(lambda: TemplateScorer(right=counts)), lambda: False)
    assert ("zero-shot is not above chance" in caplog.text) == warns
    assert not warns or "chance 50.0%): if the model does not know these classes, choose a larger" in caplog.text


def test_a_few_points_above_chance_are_above_it_on_many_images() -> None:
    """On 1,000 images of ten classes, the interval of 11.9% begins at 10.04%, that of 11.8% at 9.94%."""
    assert at_chance([0.02, 0.119], 1000, 10) == ""
    assert at_chance([0.118, 0.02], 1000, 10).startswith("zero-shot is not above chance (11.8%, 95% interval 9.9% to")
    assert at_chance([0.0], 0, 10) == "", "no test set"


def tuned_beside(folder: Path, plain: int, **sections: dict) -> RunResult:
    """A run at whose end the plain template classifies that many of six test images correctly."""
    right = {"the {}.": (0, 0, plain), "one {}.": (0, 0, 0), "a photo of a {}.": (0, 0, 6)}
    scorer = TemplateScorer(right=right)
    return tune(make_config(folder, **sections), lambda _: InProcessPool(lambda: scorer), lambda: False)


def test_a_tuned_prompt_below_the_plain_template_is_told(tmp_path: Path) -> None:
    config = make_config(tmp_path / "run")
    result = tuned_beside(tmp_path / "run", 6)
    end = read_record(tmp_path / "run" / RECORD)[-1]
    assert isinstance(end, EndEvent)
    assert (end.zero_shot_accuracy, end.below_zero_shot) == (1.0, True)
    console = Console(file=io.StringIO(), width=300)
    assert show_run(console, result, config) == 0
    shown = console.file.getvalue()
    tuned = f"{end.test_accuracy:.1%}"
    assert f"{tuned} (below plain)" in shown
    assert f"The tuned prompt is below the plain template ({tuned} < 100.0%): give more queries" in shown


def test_a_tuned_prompt_as_good_as_the_plain_template_is_not(tmp_path: Path) -> None:
    """The comparison is with the plain template, not with the generic one, which is better."""
    result = tuned_beside(tmp_path / "run", 0)
    end = read_record(tmp_path / "run" / RECORD)[-1]
    assert isinstance(end, EndEvent)
    assert (end.zero_shot_accuracy, end.below_zero_shot) == (0.0, False)
    console = Console(file=io.StringIO(), width=300)
    show_run(console, result, make_config(tmp_path / "run"))
    assert "below" not in console.file.getvalue()
    assert shortfall({"plain template": 0.5, "tuned": 0.5}, make_config(tmp_path)) == ""
    assert shortfall({}, make_config(tmp_path)) == "", "of a run that was cut off"


@pytest.mark.parametrize(
    ("sections", "ways"),
    [
        (
            {},
            "give more queries (--budget.queries), start from the template (--prompt.init template), or deploy the "
            "best iterate (--validation.deploy best)",
        ),
        (
            {"validation": {"deploy": "best"}, "budget": {"queries": None, "seconds": 9}},
            "give more seconds (--budget.seconds) or start from the template (--prompt.init template)",
        ),
        (
            {"prompt": {"init": "template", "intrinsic_dimension": 8, "rank": 1}, "validation": {"deploy": "best"}},
            "give more queries (--budget.queries)",
        ),
        (
            {"prompt": {"space": "frame"}},
            "give more queries (--budget.queries) or deploy the best iterate (--validation.deploy best)",
        ),
    ],
)
def test_the_remedies_are_those_that_the_run_has_not_taken(tmp_path: Path, sections: dict, ways: str) -> None:
    text = shortfall({"plain template": 0.654, "tuned": 0.488}, make_config(tmp_path, **sections))
    assert text == f"The tuned prompt is below the plain template (48.8% < 65.4%): {ways}"


@dataclass(frozen=True)
class Worsening(FakeScorer):
    """The farther from the start, the fewer validation images and the more test images are classified correctly."""

    start: Float64 = field(default_factory=lambda: np.zeros(8))

    def answer(self, work: Work) -> Value:
        body = work.body
        if isinstance(body, Evaluation) and isinstance(body.prompt, np.ndarray):
            far = float(np.tanh(np.linalg.norm(body.prompt - self.start)))
            return EvaluationResult(1.0, far if body.split == "test" else 1 - far, FACTS.images[body.split])
        return super().answer(work)


@pytest.mark.parametrize(("deploy", "step"), [("best", 0), ("last", 4)])
def test_the_start_is_a_candidate_and_test_images_have_no_say(tmp_path: Path, deploy: str, step: int) -> None:
    config = make_config(tmp_path / "run", 40, validation={"deploy": deploy, "every_queries": 10})
    start = make_space(config.prompt, SHAPE, config.seed).initial()
    result = tune(config, lambda _: InProcessPool(lambda: Worsening(start=start)), lambda: False)
    assert result.outcome.state.optimizer.steps == 4
    prompt = TunedPrompt.load(tmp_path / "run")
    assert prompt.card.step == step
    assert np.array_equal(prompt.parameters, start) == (step == 0)


def test_status_tells_of_it_too(tmp_path: Path) -> None:
    summary = Summary(make_config(tmp_path).budget)
    summary.event(step_event(1))
    summary.event(end_event(1, test_accuracy=0.488, zero_shot_accuracy=0.654, below_zero_shot=True))
    assert summary.lines()[-1] == "tuned prompt: test accuracy 48.8%, below the plain template (65.4%)"
    summary.event(end_event(1))
    assert summary.lines()[-1] == "tuned prompt: test accuracy 62.5%"
