"""The artifact: self-contained, exact, and refused with a reason where it does not fit."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIP
from torch import nn

from zip_ray.artifact.kept_readout import ReadoutCard
from zip_ray.artifact.tuned_prompt import PromptCard, TunedPrompt
from zip_ray.clip.loading import weights_digest
from zip_ray.clip.plain_text import encode_texts, word_embeddings
from zip_ray.errors import InputError
from zip_ray.protocol.facts import Prompt, VisualPrompt
from zip_ray.protocol.readout import Readout

VISION = {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16}


def make_model(width: int = 32) -> nn.Module:
    torch.manual_seed(0)
    text = {"context_length": 24, "vocab_size": 49408, "width": width, "heads": 2, "layers": 1}
    return CLIP(16, VISION, text).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return make_model()


@pytest.fixture(scope="module")
def tokenizer() -> open_clip.SimpleTokenizer:
    return open_clip.SimpleTokenizer(context_length=24)


@pytest.fixture
def prompt(model: nn.Module, tokenizer) -> TunedPrompt:
    """A prompt whose context is the embeddings of words, so that encode_text is its oracle."""
    context = word_embeddings(model, tokenizer, "a drawing of a").numpy()
    card = PromptCard(
        task="folder",
        classnames=("cat", "sea lion"),
        template="a drawing of a {}!",
        suffix="!",
        model="local-dir:somewhere",
        pretrained=None,
        weights_digest=weights_digest(model.state_dict()),
        preprocess={"size": 16, "mean": [0.5, 0.5, 0.5]},
        logit_scale=10.0,
        method="zip",
        seed=1,
        prompt={"space": "low-rank", "rank": 5},
        deployed="last",
        step=7,
        queries=70,
        seconds=1.5,
        accuracies={"test/tuned": 0.75},
    )
    features = encode_texts(model, tokenizer, ["a drawing of a cat!", "a drawing of a sea lion!"]).numpy()
    rng = np.random.default_rng(0)
    frozen = {"projection": rng.standard_normal((4, 32, 3))}
    return TunedPrompt(card, Prompt(context, suffix="!"), features, rng.standard_normal(9), frozen)


def test_comes_back_exactly(prompt: TunedPrompt, tmp_path: Path) -> None:
    path = prompt.save(tmp_path)
    for loaded in (TunedPrompt.load(path), TunedPrompt.load(str(tmp_path))):
        assert loaded.card == prompt.card
        np.testing.assert_array_equal(loaded.prompt.context, prompt.prompt.context)
        assert (loaded.prompt.visual, loaded.prompt.suffix) == (None, "!")
        for name in ("features", "parameters"):
            np.testing.assert_array_equal(getattr(loaded, name), getattr(prompt, name))
        np.testing.assert_array_equal(loaded.frozen["projection"], prompt.frozen["projection"])
    assert json.loads((tmp_path / "tuned_prompt.json").read_text())["classnames"] == ["cat", "sea lion"]


def test_a_visual_prompt_comes_back_whole(prompt: TunedPrompt, model: nn.Module, tokenizer, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    tensors = {"trigger": rng.random(5, np.float32), "0.norm.mean": rng.random(7, np.float32)}
    card = prompt.card.model_copy(update={"visual": "decoder", "encoder": "clip"})
    visual = Prompt(None, VisualPrompt("decoder", tensors, "clip"), "!")
    path = replace(prompt, card=card, prompt=visual).save(tmp_path)
    loaded = TunedPrompt.load(path)
    assert loaded.prompt.context is None
    assert loaded.prompt.visual is not None
    assert (loaded.prompt.visual.kind, loaded.prompt.visual.encoder) == ("decoder", "clip")
    assert loaded.prompt.visual.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(loaded.prompt.visual.tensors[name], tensor)
    assert loaded.frozen.keys() == prompt.frozen.keys()
    # A purely visual prompt uses the template's texts.
    np.testing.assert_allclose(loaded.text_features(model, tokenizer).numpy(), prompt.features, atol=1e-6)


def test_text_features_are_those_of_the_words(prompt: TunedPrompt, model: nn.Module, tokenizer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own = prompt.text_features(model, tokenizer)
        others = prompt.text_features(model, tokenizer, ["old oak tree"])
    np.testing.assert_allclose(own.numpy(), prompt.features, atol=1e-6)
    expected = encode_texts(model, tokenizer, ["a drawing of a old oak tree!"])
    np.testing.assert_allclose(others.numpy(), expected.numpy(), atol=1e-6)


def test_other_weights_are_warned_of(prompt: TunedPrompt, tokenizer) -> None:
    other = make_model()
    other.ln_final.bias += 0.1
    with pytest.warns(UserWarning, match="prompt was tuned on other weights"):
        prompt.text_features(other, tokenizer)


def test_another_width_is_refused(prompt: TunedPrompt, tokenizer) -> None:
    with (
        pytest.warns(UserWarning, match="weights"),
        pytest.raises(InputError, match=r"\(4, 32\) does not fit a model that takes \(4, 64\): use the model"),
    ):
        prompt.text_features(make_model(width=64), tokenizer)


def with_readout(prompt: TunedPrompt) -> TunedPrompt:
    """The prompt with a readout of its own scores, a sentence's scores and a context's."""
    rng = np.random.default_rng(2)
    context = rng.random((3, 32), np.float32)
    weights, bias = rng.random((6, 2), np.float32), np.float32([0.5, -0.25])
    readout = Readout(("the {}.", Prompt(context, suffix="?")), weights, bias, 1.7)
    card = prompt.card.model_copy(update={"readout": ReadoutCard.of(readout, "auto", 32, 3)})
    return replace(prompt, card=card, readout=readout, head=rng.random((2, 8), np.float32))


def test_it_is_shown_without_its_tensors(prompt: TunedPrompt) -> None:
    card = prompt.card
    plain = f"TunedPrompt({card.task!r}, 2 classes, {card.model!r}, {card.method!r}, {card.queries} queries)"
    assert repr(prompt) == plain
    assert repr(with_readout(prompt)) == plain.replace(" queries)", " queries, readout)")


def test_a_readout_comes_back_exactly(prompt: TunedPrompt, tmp_path: Path) -> None:
    given = with_readout(prompt)
    loaded = TunedPrompt.load(given.save(tmp_path))
    assert loaded.card == given.card
    assert loaded.readout is not None
    assert given.readout is not None
    sentence, context = loaded.readout.prompts
    assert (sentence, loaded.readout.scale) == ("the {}.", 1.7)
    assert isinstance(context, Prompt)
    assert context.suffix == "?"
    for name in ("weights", "bias"):
        np.testing.assert_array_equal(getattr(loaded.readout, name), getattr(given.readout, name))
    np.testing.assert_array_equal(context.context, given.readout.prompts[1].context)
    np.testing.assert_array_equal(loaded.head, given.head)
    card = json.loads((tmp_path / "tuned_prompt.json").read_text())["readout"]
    assert (card["kind"], card["images"], card["queries"]) == ("auto", 32, 3)
    assert card["prompts"][0]["sentence"] == "the {}."


def test_a_readout_serves_the_classes_that_it_was_fitted_to(prompt: TunedPrompt) -> None:
    given = with_readout(prompt)
    assert given.readout is not None
    assert given.head is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert prompt.read_out() is None
        for names, order in ((None, [0, 1]), (["cat", "sea lion"], [0, 1]), (["sea lion", "cat"], [1, 0])):
            head, bias = given.read_out(names) or (None, None)
            np.testing.assert_array_equal(head, given.head[order])
            np.testing.assert_array_equal(bias, given.readout.bias[order])
    for others in (["cat"], ["cat", "dog"], ["cat", "sea lion", "dog"]):
        with pytest.warns(UserWarning, match="only the prompt is used"):
            assert given.read_out(others) is None


def test_a_readout_of_a_visual_prompt_is_refused() -> None:
    visual = Prompt(None, VisualPrompt("frame", {}))
    with pytest.raises(ValueError, match="a sentence or a context"):
        ReadoutCard.of(Readout((visual,), np.zeros((4, 2)), np.zeros(2), 1.0), "auto", 1, 1)


def test_a_readout_with_a_tensor_missing_is_refused(prompt: TunedPrompt, tmp_path: Path) -> None:
    path = replace(with_readout(prompt), readout=None).save(tmp_path)
    with pytest.raises(InputError, match="not a tuned prompt that this version reads"):
        TunedPrompt.load(path)


@pytest.mark.parametrize("length", [0, 9, 300, -1])
def test_damage_is_named(prompt: TunedPrompt, tmp_path: Path, length: int) -> None:
    path = prompt.save(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match=r"not a tuned prompt that this version reads .*tune it again"):
        TunedPrompt.load(path)


def test_newer_schema_is_named(prompt: TunedPrompt, tmp_path: Path) -> None:
    path = prompt.save(tmp_path)
    path.write_bytes(path.read_bytes().replace(rb"schema_version\": 2", rb"schema_version\": 7"))
    with pytest.raises(InputError, match="schema_version"):
        TunedPrompt.load(path)


def test_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tuned prompt: give a"):
        TunedPrompt.load(tmp_path)
