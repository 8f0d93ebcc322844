"""The scorer of generative models: what every scorer keeps, its starts, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from tests.support.scoring import answer_slices, evaluate, pair_at, query_at, score, wanting
from tests.support.tiny_vlms import TEXT, save
from zip_ray.config.merging import merge
from zip_ray.config.reading import validate
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.pool.contract import ScorerLike
from zip_ray.pool.split_planner import Partition
from zip_ray.pool.splitting import combine, slices
from zip_ray.prompts import make_space
from zip_ray.protocol.arrays import Float64
from zip_ray.protocol.facts import TOKEN_TREE
from zip_ray.protocol.messages import Pass
from zip_ray.scorer.generative import VlmScorers
from zip_ray.testing import ScorerContract

SCORERS = VlmScorers()


class TestGenerative(ScorerContract):
    @pytest.fixture(autouse=True)
    def _on_painted_images(self, painted_vlm_run: dict[str, Any]) -> None:
        self.tree = painted_vlm_run

    def make_scorer(self, config: Config) -> ScorerLike:
        return SCORERS(config)


def made(tree: dict[str, Any], **sections: Any) -> tuple[ScorerLike, Float64]:
    """A scorer, and its initial parameters."""
    config = validate(merge(tree, sections), "")
    scorer = SCORERS(config)
    return scorer, make_space(config.prompt, scorer.facts().shape, config.seed).initial()


def test_a_start_at_a_question_is_zero_shot_with_it(painted_vlm_run: dict[str, Any]) -> None:
    tree = {**painted_vlm_run, "prompt": {"space": "context", "init": "template"}}
    scorer, w = made(tree, task={"question": "Which colour?"})
    facts = scorer.facts()
    assert facts.template == "Which colour? {}"
    assert facts.vlm is not None
    assert facts.vlm.text_pass == TOKEN_TREE
    assert facts.shape.initial_context.shape == (13, 32)
    soft, words = evaluate(scorer, "test", w), evaluate(scorer, "test", facts.template)
    assert soft == words


def test_words_of_ones_own_stand_before_the_question(painted_vlm_run: dict[str, Any]) -> None:
    tree = {**painted_vlm_run, "prompt": {"space": "context", "init": "Look closely."}}
    scorer, w = made(tree, task={"question": "What is it?"})
    assert scorer.facts().suffix == "What is it?"
    assert evaluate(scorer, "val", w) == evaluate(scorer, "val", "Look closely.{}What is it?")
    assert evaluate(scorer, "val", w) != evaluate(scorer, "val", "Look closely.{}")


def test_slices_of_the_images_make_up_a_pass(painted_vlm_run: dict[str, Any]) -> None:
    scorer, w = made(painted_vlm_run)
    asks = tuple(wanting(pair_at(w, index, batch=1, scale=0.3)) for index in range(2))
    parts = slices(Pass(asks), Partition(2, 3, "images"))
    whole = score(scorer, *asks)
    for found, expected in zip(combine(parts, answer_slices(scorer, parts), "cross-entropy"), whole, strict=True):
        assert found.losses == pytest.approx(expected.losses, rel=1e-6)
        assert found.accuracy == expected.accuracy
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    assert whole[0].losses[0] != whole[1].losses[0]


def test_asks_that_share_a_pass_score_as_alone(painted_vlm_run: dict[str, Any]) -> None:
    scorer, w = made(painted_vlm_run)
    asks = [query_at(w + 0.1 * k, k, batch=1 + k % 2) for k in range(4)]
    for ask, found in zip(asks, score(scorer, *asks), strict=True):
        assert found.losses == pytest.approx(score(scorer, ask)[0].losses, rel=1e-6)


def refused(tree: dict[str, Any], said: str, **sections: Any) -> None:
    """Building the scorer fails with one line."""
    with pytest.raises(InputError, match=said) as error:
        made(tree, **sections)
    assert "\n" not in str(error.value)


def test_a_model_that_is_not_there_is_named(painted_vlm_run: dict[str, Any]) -> None:
    named = {"name": "transformers:/no/such"}
    refused(painted_vlm_run, r"^model.name: 'transformers:/no/such' cannot be loaded \(", model=named)
    no_name = r"^model.name: give tiny-vlm, transformers:FOLDER or transformers:ORG/REPO"
    refused(painted_vlm_run, no_name, model={"scorer": "vlm", "name": "llava"})


def test_a_text_only_model_is_named(painted_vlm_run: dict[str, Any], tmp_path: Path) -> None:
    LlamaForCausalLM(LlamaConfig(**TEXT)).save_pretrained(tmp_path)
    said = r"cannot be loaded \(ValueError: Unrecognized configuration class"
    refused(painted_vlm_run, said, model={"name": f"transformers:{tmp_path}"})


def test_a_missing_processor_is_named(painted_vlm_run: dict[str, Any], tmp_path: Path) -> None:
    name = save("llava", tmp_path)
    (tmp_path / "processor_config.json").unlink()
    refused(painted_vlm_run, r"^model.name: '.*' has no processor that can be loaded", model={"name": name})


def test_images_of_another_size_are_named(painted_vlm_run: dict[str, Any], tmp_path: Path) -> None:
    name = save("llava", tmp_path)
    place = tmp_path / "processor_config.json"
    card = json.loads(place.read_text())
    card["image_processor"] |= {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    place.write_text(json.dumps(card))
    refused(painted_vlm_run, "does not take images as its processor makes them", model={"name": name})


def test_a_question_with_a_place_for_the_answer_is_refused(painted_vlm_run: dict[str, Any]) -> None:
    refused(painted_vlm_run, r"^task: question is 'Is it \{\}\?': give", task={"question": "Is it {}?"})


def test_an_answer_longer_than_the_context_is_refused(painted_vlm_run: dict[str, Any]) -> None:
    said = r"^task.name: image, prompt and longest answer are \d+ tokens, and the model reads 2048: shorten"
    refused(painted_vlm_run, said, task={"question": "What is it? " * 200})


def test_pictures_are_not_prompted(painted_vlm_run: dict[str, Any]) -> None:
    tree = {**painted_vlm_run, "prompt": {"space": "frame"}, "optimizer": {"method": "spsa"}}
    refused(tree, "^prompt.space: 'frame' prompts images: choose a space of contexts")
