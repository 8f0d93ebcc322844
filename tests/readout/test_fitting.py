"""The fit of a readout: never worse than no readout on held-out images, and independent of the classes' names."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zip_ray.config.threads import one_blas_thread
from zip_ray.protocol.readout import ReadoutKind, apply
from zip_ray.readout import effort, fitting
from zip_ray.readout.averaging import PLAIN
from zip_ray.readout.effort import EFFORTS, choose_effort
from zip_ray.readout.fitting import fit_readout, make_folds
from zip_ray.readout.regression import cross_entropies

KINDS: tuple[ReadoutKind, ...] = ("none", "bias", "linear", "auto")


def drawn(seed: int, shots: int, classes: int, prompts: int = 3) -> tuple[list[np.ndarray], np.ndarray]:
    """Scores whose rows are mixed and shifted, so that a readout can improve them; and labels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), shots)
    hidden = 2 * np.eye(classes)[labels] + rng.standard_normal((len(labels), classes))
    maps = [np.eye(classes) + 0.7 * rng.standard_normal((classes, classes)) for _ in range(prompts)]
    return [(hidden @ one + 3 * rng.standard_normal(classes)).astype(np.float32) for one in maps], labels


@pytest.mark.parametrize("kind", KINDS)
def test_it_mends_scores_and_says_by_what(kind: ReadoutKind) -> None:
    scores, labels = drawn(1, 16, 5)
    found = fit_readout(kind, scores, labels, 1, ["a {}.", "the {}."])
    assert sum(found.weights.values()) == pytest.approx(1)
    assert found.readout.prompts == (("a {}.", "the {}.") if kind == "auto" else ())
    assert found.held_out.shape == scores[0].shape
    used = 1 + len(found.readout.prompts)
    assert found.readout.weights.shape == (5 * used, 5)
    made = apply(found.readout, scores[:used])
    after, before = cross_entropies(made, labels).mean(), cross_entropies(scores[0], labels).mean()
    if kind == "none":
        assert found.weights == {PLAIN: 1.0}
        np.testing.assert_array_equal(made, scores[0])
    else:
        assert after < found.loss < found.plain_loss == pytest.approx(before)


def test_what_is_said_of_an_image_held_out_does_not_know_its_label() -> None:
    """On uninformative scores, a fit that had seen an image would favour that image's label."""
    rng = np.random.default_rng(8)
    labels = np.repeat(np.arange(4), 8)
    scores = [rng.standard_normal((32, 4)).astype(np.float32) for _ in range(3)]
    scores[0] *= 3  # overconfident, so that a readout can improve them
    found = fit_readout("auto", scores, labels, 1, ["a", "b"])
    assert found.weights[PLAIN] < 1
    assert cross_entropies(found.held_out, labels).mean() == pytest.approx(found.loss)
    assert found.loss > np.log(4) - 0.05
    assert cross_entropies(apply(found.readout, scores), labels).mean() < found.loss - 0.05


def test_more_is_learnt_from_more() -> None:
    scores, labels = drawn(2, 16, 5)
    losses = [fit_readout(kind, scores, labels, 1, ["a", "b"]).loss for kind in KINDS]
    assert losses[1] < losses[0]
    assert losses[2] < losses[1]
    assert losses[3] < losses[2] + 0.02


def test_the_same_bits_each_time() -> None:
    one_blas_thread()
    scores, labels = drawn(3, 8, 4)
    first, second = (fit_readout("auto", scores, labels, 7, ["a", "b"]).readout for _ in range(2))
    assert first.weights.tobytes() == second.weights.tobytes()
    assert first.bias.tobytes() == second.bias.tobytes()


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(4)), st.sampled_from(KINDS), st.integers(0, 100))
def test_permuting_the_classes_permutes_the_map(order: list[int], kind: ReadoutKind, seed: int) -> None:
    scores, labels = drawn(seed, 6, 4, prompts=2)
    found = fit_readout(kind, scores, labels, 1, ["a"])
    renamed = np.argsort(order)[labels]
    permuted = fit_readout(kind, [one[:, order] for one in scores], renamed, 1, ["a"])
    used = 1 + len(found.readout.prompts)
    expected = apply(found.readout, scores[:used])[:, order]
    np.testing.assert_allclose(apply(permuted.readout, [one[:, order] for one in scores[:used]]), expected, atol=0.02)
    assert permuted.loss == pytest.approx(found.loss, abs=1e-3)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(2, 4), st.sampled_from(KINDS))
def test_never_worse_than_the_prompt_alone_on_images_held_out(
    seed: int, shots: int, classes: int, kind: ReadoutKind
) -> None:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), shots)
    scores = [rng.standard_normal((len(labels), classes)).astype(np.float32) for _ in range(2)]  # nothing to learn
    found = fit_readout(kind, scores, labels, seed, ["a"])
    assert found.loss <= found.plain_loss
    assert np.isfinite(found.readout.weights).all()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_changes_where_nothing_can_be_held_out(kind: ReadoutKind) -> None:
    one_each, labels = drawn(4, 1, 5)
    alone = [np.ones((6, 1), np.float32)] * 3
    empty = [np.ones((0, 3), np.float32)] * 3
    for scores, of in ((one_each, labels), (alone, np.zeros(6, np.int64)), (empty, np.zeros(0, np.int64))):
        found = fit_readout(kind, scores, of, 1, ["a", "b"])
        assert (found.weights, found.loss) == ({PLAIN: 1.0}, found.plain_loss)
        np.testing.assert_allclose(apply(found.readout, scores[:1]), scores[0])


@pytest.mark.parametrize("kind", KINDS)
def test_constant_scores_have_a_bias_alone(kind: ReadoutKind) -> None:
    scores = [np.tile(np.float32([1.0, 0.0, 0.3]), (30, 1))] * 2
    labels = np.repeat([0, 1, 2], (4, 16, 10))
    found = fit_readout(kind, scores, labels, 1, ["a"])
    np.testing.assert_array_equal(found.readout.weights, 0)
    if kind != "none":
        assert apply(found.readout, scores[: 1 + len(found.readout.prompts)])[0].argmax() == 1


def test_a_class_of_one_image_is_never_held_out_and_folds_are_even() -> None:
    labels = np.repeat([0, 1, 2, 3], (1, 2, 7, 10))
    folds = make_folds(labels, 3)
    assert folds[0] == -1
    for label, most in ((1, 1), (2, 2), (3, 2)):
        assert np.unique(folds[labels == label], return_counts=True)[1].max() == most
    assert set(folds) == {-1, 0, 1, 2, 3, 4}
    assert set(make_folds(np.repeat([0, 1], 2), 3)) == {0, 1}
    scores, _ = drawn(5, 5, 4)
    assert fit_readout("auto", scores, labels, 3, ["a", "b"]).loss < np.inf


def test_what_cannot_be_fitted_is_refused() -> None:
    scores, labels = drawn(6, 4, 3, prompts=2)
    broken = [scores[0], scores[1].copy()]
    broken[1][2, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        fit_readout("linear", broken, labels, 1, ["a"])
    with pytest.raises(ValueError, match="got 2 for 1"):
        fit_readout("auto", scores, labels, 1)
    with pytest.raises(ValueError, match="do not fit 11 labels"):
        fit_readout("auto", scores, labels[:-1], 1, ["a"])
    with pytest.raises(ValueError, match="labels from 0 to 3"):
        fit_readout("auto", scores, np.append(labels[:-1], 3), 1, ["a"])


@pytest.mark.parametrize("which", range(len(EFFORTS)))
def test_every_effort_mends_scores(which: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels = drawn(7, 16, 5)
    monkeypatch.setattr(fitting, "choose_effort", lambda *_: EFFORTS[which])
    monkeypatch.setattr(fitting, "FEW", 0)
    found = fit_readout("auto", scores, labels, 1, ["a", "b"])
    assert found.loss < found.plain_loss - 0.2


def test_less_is_tried_where_there_is_more() -> None:
    sizes = [(160, 10), (1600, 100), (16_000, 1000)]
    tried = [choose_effort(n, 512, classes) for n, classes in sizes]
    works = [one.work(n, 512, classes) for one, (n, classes) in zip(tried, sizes, strict=True)]
    assert tried[0] == EFFORTS[0]
    assert tried[2] == EFFORTS[-1]
    assert max(works[:2]) <= effort.WORK


def test_of_many_prompts_with_many_classes_the_first_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels = drawn(8, 6, 4)
    monkeypatch.setattr(fitting, "MOST_COLUMNS", 9)
    found = fit_readout("auto", scores, labels, 1, ["a", "b"])
    assert found.readout.prompts == ("a",)
    assert found.readout.weights.shape == (8, 4)
