"""The classifier that a run ends with, on the small CLIP."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from tests.support.command_line import run
from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE, READ_OUT, TUNED, TunedPrompt
from zip_ray.config.tree import Config
from zip_ray.protocol.arrays import Float32
from zip_ray.protocol.readout import apply
from zip_ray.readout.fitting import fit_readout
from zip_ray.runs import choosing
from zip_ray.runs.event_log import read_end, read_start
from zip_ray.runs.survey import training_scores
from zip_ray.runs.zero_shot import FEATURE_BASELINES, LINEAR_PROBE

QUIET = ("--cluster.pool=in-process", "--tracking.no-enabled", "--task.shots=4")


def tune(folder: Path, *arguments: str) -> Path:
    run(folder, "tune", "quickstart", *QUIET, "--output.dir=run", *arguments)
    return folder / "run"


def test_the_default_has_a_readout_and_says_what_speaks_for_it(tmp_path: Path) -> None:
    """A budget that leaves no room for a round: the start is deployed, with a readout of the templates' scores."""
    folder = tune(tmp_path, "--budget.queries=12")
    start, end, prompt = read_start(folder), read_end(folder), TunedPrompt.load(folder)
    assert end is not None
    assert end.evidence is not None
    assert end.account.charged <= 12
    assert start.template is not None
    assert end.evidence.loss <= end.evidence.start_loss
    assert prompt.readout is not None
    assert prompt.head is not None
    assert set(prompt.card.accuracies) >= {f"test/{name}" for name in (PLAIN_TEMPLATE, TUNED, READ_OUT)}
    assert end.test_accuracy == prompt.card.accuracies[f"test/{READ_OUT}"]
    assert end.prompt_alone_accuracy == prompt.card.accuracies[f"test/{TUNED}"]


@pytest.mark.parametrize("kind", ["bias", "linear"])
def test_a_readout_for_another_method_and_a_given_start(kind: str, tmp_path: Path) -> None:
    words = ("--method=cma-es", "--prompt.space=context", "--prompt.init=a photo of the number")
    folder = tune(tmp_path, "--budget.queries=40", *words, f"--readout={kind}")
    end = read_end(folder)
    assert end is not None
    assert end.readout == kind
    assert end.account.charged == 30 + 2  # two generations of fifteen; the iterate and the start on 40 images


@pytest.mark.parametrize("deploy", ["lowest-loss", "last"])
def test_a_gain_that_may_be_chance_leaves_the_start(
    deploy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "CAUTION", 1000.0)
    folder = tune(tmp_path, "--budget.queries=100", f"--validation.deploy={deploy}")
    end, prompt = read_end(folder), TunedPrompt.load(folder)
    assert end is not None
    assert end.evidence is not None
    assert (prompt.readout is None) == (end.deployed_step == 0) == (deploy == "lowest-loss")
    if deploy == "lowest-loss":
        assert (end.evidence.gain, end.evidence.loss) == (0, end.evidence.start_loss)
        assert end.prompt_alone_accuracy is None


def test_a_prompt_that_has_moved_is_averaged_with_the_start() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(3), 8)
    scores = [(2 * np.eye(3)[labels] @ rng.standard_normal((3, 3))).astype(np.float32) for _ in range(3)]
    scored = choosing._Scored([np.zeros(2), "a {}.", "the {}."], scores, scores)
    (still,) = choosing._maps(Config(), scored, labels, moved=False)
    (mean,) = choosing._maps(Config(), scored, labels, moved=True)
    of_iterate = fit_readout("auto", scores, labels, 1, scored.prompts[1:]).readout
    of_start = fit_readout("auto", scores[1:], labels, 1, scored.prompts[2:]).readout
    np.testing.assert_allclose(softmax(still.of(scores), axis=1), softmax(apply(of_start, scores[1:]), axis=1))
    half = (apply(of_iterate, scores) + apply(of_start, scores[1:])) / 2
    np.testing.assert_allclose(softmax(mean.of(scores), axis=1), softmax(half, axis=1), atol=1e-6)


def test_scores_that_are_not_finite_leave_the_prompt_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(*arguments: Any) -> tuple[Float32, tuple[float, ...]]:
        scores, losses = training_scores(*arguments)
        return scores * np.float32("nan"), losses

    monkeypatch.setattr(choosing, "training_scores", spoilt)
    folder = tune(tmp_path, "--budget.queries=12")
    end = read_end(folder)
    assert end is not None
    assert end.account.charged > read_start(folder).surveyed
    assert TunedPrompt.load(folder).readout is None


def test_baselines_on_image_features_are_tested_where_they_are_asked_for(tmp_path: Path) -> None:
    folder = tune(tmp_path, "--budget.queries=12", "--validation.feature-baselines")
    tested = read_start(folder).zero_shot.test
    assert set(FEATURE_BASELINES) < set(tested)
    for name in FEATURE_BASELINES:  # four images per digit say more than its name
        assert tested[PLAIN_TEMPLATE] < tested[name] < 1
    assert TunedPrompt.load(folder).card.accuracies[f"test/{LINEAR_PROBE}"] == tested[LINEAR_PROBE]


def test_too_few_queries_for_a_readout(tmp_path: Path) -> None:
    """There is room for one chunk of forty images, which the survey takes."""
    folder = tune(tmp_path, "--budget.queries=12", "--task.batch-size=4", "--readout=linear")
    end = read_end(folder)
    assert end is not None
    assert end.account.charged <= 12
    assert TunedPrompt.load(folder).readout is None
