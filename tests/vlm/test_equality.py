"""The tree pass against the library's own forward pass over one sequence per image, prompt and candidate."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.tiny_vlms import EQUAL, save
from tests.support.vlm_scores import CANDIDATES, answering, by_plain_pass, painted, prompts, scored
from zip_ray.protocol.facts import TOKEN_TREE
from zip_ray.vlm.answer_tree import answer_tree
from zip_ray.vlm.frozen_vlm import FrozenVlm, load_vlm
from zip_ray.vlm.plain_pass import plain_pass
from zip_ray.vlm.tree_pass import Soft


def loaded(family: str, folder: Path) -> FrozenVlm:
    return load_vlm(save(family, folder), "cpu")


@pytest.mark.parametrize("family", EQUAL)
def test_a_tree_scores_as_plain_sequences_do(family: str, tmp_path: Path) -> None:
    vlm = loaded(family, tmp_path)
    one, asked, images = answering(vlm), prompts(vlm), painted(3)
    found = scored(one, asked, CANDIDATES, images)
    expected = by_plain_pass(vlm, one, asked, CANDIDATES, images).sum(axis=3)
    np.testing.assert_allclose(found, expected, atol=1e-5 + 2e-7 * np.abs(expected).max())
    assert np.ptp(found, axis=0).max() > 0.1, "prompts are told apart"
    assert np.ptp(found, axis=1).max() > 0.1, "images are told apart"
    one.check(asked, "", CANDIDATES, 0, lambda: images[0])
    assert one.kind == TOKEN_TREE


@pytest.mark.parametrize("count", [1, 200])
def test_any_number_of_candidates(count: int, tmp_path: Path) -> None:
    vlm = loaded("llava", tmp_path)
    one, asked, images = answering(vlm), prompts(vlm, 1), painted(1)
    names = tuple(f"{'thing' if k % 2 else 'a'} {k}" for k in range(count))
    expected = by_plain_pass(vlm, one, asked, names, images).sum(axis=3)
    np.testing.assert_allclose(scored(one, asked, names, images), expected, atol=2e-5)


def test_prompts_and_images_that_share_a_pass_score_as_alone(tmp_path: Path) -> None:
    vlm = loaded("gemma3", tmp_path)
    asked, images = prompts(vlm, 4), painted(4)
    together = scored(answering(vlm), asked, CANDIDATES, images)
    for k, prompt in enumerate(asked):
        for place, image in enumerate(images):
            alone = scored(answering(vlm), [prompt], CANDIDATES, [image])[0, 0]
            np.testing.assert_allclose(together[k, place], alone, atol=2e-5)


def test_a_family_whose_prompt_and_image_see_each_other_takes_the_plain_pass(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vlm = loaded("paligemma", tmp_path)
    one, asked, images = answering(vlm), prompts(vlm), painted(2)
    one.check(asked, "", CANDIDATES, 0, lambda: images[0])
    assert one.kind.startswith("plain pass: the tree pass differs by ")
    assert "takes one pass per image, prompt and candidate" in caplog.text
    expected = by_plain_pass(vlm, one, asked, CANDIDATES, images).sum(axis=3)
    np.testing.assert_array_equal(scored(one, asked, CANDIDATES, images), expected)


def test_a_decoder_that_holds_no_tree_takes_the_plain_pass(tmp_path: Path) -> None:
    vlm = loaded("llava", tmp_path)
    vlm.text_config.layer_types = ["full_attention", "linear_attention"]
    one, images = answering(vlm), painted(1)
    one.check(prompts(vlm), "", CANDIDATES, 0, lambda: images[0])
    assert one.kind == "plain pass: ValueError: layers of kind linear_attention hold no tree"


def test_scores_per_token_and_less_the_text_only_prior(tmp_path: Path) -> None:
    vlm = loaded("qwen2.5-vl", tmp_path)
    asked, images = prompts(vlm), painted(2)
    sums = scored(answering(vlm), asked, CANDIDATES, images)
    one = answering(vlm, "mean")
    lengths = [len(one.chat.answer_ids(vlm, name)) for name in CANDIDATES]
    np.testing.assert_allclose(scored(one, asked, CANDIDATES, images), sums / lengths)
    answers = tuple(tuple(one.chat.answer_ids(vlm, name)) for name in CANDIDATES)
    soft = [Soft(torch.from_numpy(p.context), tuple(one.chat.question_ids(vlm, p.suffix or ""))) for p in asked]
    prior = np.array([plain_pass(vlm, one.chat.blind, None, s, answers).double().sum(1).numpy() for s in soft])
    calibrated = scored(answering(vlm, "calibrated"), asked, CANDIDATES, images)
    np.testing.assert_allclose(calibrated, sums - prior[:, None], atol=2e-5)


def test_prefixes_in_files_have_the_same_bits(tmp_path: Path) -> None:
    vlm = loaded("llava-next", tmp_path / "model")
    asked, images = prompts(vlm), painted(4)
    expected = scored(answering(vlm), asked, CANDIDATES, images)
    one = answering(vlm, memory=30_000, folder=tmp_path / "files")
    for _ in range(2):  # made, then read
        np.testing.assert_array_equal(scored(one, asked, CANDIDATES, images), expected)
    assert one.stored == {"memory": 1, "disk": 3}


def test_a_tree_feeds_beginnings_once_and_no_leaf() -> None:
    tree = answer_tree(((5, 6, 2), (5, 7, 2), (5, 2)))
    assert tree.fed.tolist() == [5, 6, 7]
    assert tree.depths.tolist() == [1, 2, 2]
    assert tree.paths.shape == (3, 6)
    assert tree.paths.sum(axis=1).tolist() == [3, 3, 2]
    np.testing.assert_array_equal(tree.sees, [[1, 0, 0], [1, 1, 0], [1, 0, 1]])
