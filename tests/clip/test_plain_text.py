"""Soft prompts against the library's own `encode_text`, for every text-tower class of open_clip."""

import numpy as np
import open_clip
import pytest
import torch
from torch import nn

from tests.support.text_towers import TOWERS
from zip_ray.clip.loading import weights_digest
from zip_ray.clip.plain_text import PLACEHOLDER, PromptEncoder, encode_texts, token_embedding, tokenize, word_embeddings
from zip_ray.errors import InputError


@pytest.fixture(scope="module", params=TOWERS)
def model(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return TOWERS[request.param]().float().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tokenizer() -> open_clip.SimpleTokenizer:
    return open_clip.SimpleTokenizer(context_length=24)


@pytest.mark.parametrize(
    ("words", "classnames"),
    [
        ("a photo of the digit", ["3", "seven", "x ray fish", "great white shark of the deep sea"]),
        ("picture", ["cat"]),
        ("a grainy black and white photo showing the", ["X", "a b c d"]),
    ],
)
def test_soft_prompt_of_words_is_the_words(model: nn.Module, tokenizer, words: str, classnames: list[str]) -> None:
    context = word_embeddings(model, tokenizer, words).unsqueeze(0)
    soft = PromptEncoder(model, tokenizer, classnames, context.shape[1], ".").encode(context)[0]
    plain = encode_texts(model, tokenizer, [f"{words} {name}." for name in classnames])
    np.testing.assert_allclose(soft.numpy(), plain.numpy(), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(soft.numpy(), axis=1), 1, atol=1e-6)


def test_encode_texts_is_the_library(model: nn.Module, tokenizer) -> None:
    ids = tokenizer(["a cat.", "two dogs on the beach."])
    with torch.no_grad():
        expected = nn.functional.normalize(model.encode_text(ids), dim=-1)
    np.testing.assert_allclose(
        encode_texts(model, tokenizer, ["a cat.", "two dogs on the beach."]).numpy(), expected.numpy(), atol=1e-6
    )


def test_contexts_are_independent_and_leave_no_hook(model: nn.Module, tokenizer) -> None:
    encoder = PromptEncoder(model, tokenizer, ["cat", "dog", "old oak tree"], 4)
    contexts = 0.02 * torch.randn(3, 4, 32, generator=torch.Generator().manual_seed(1))
    together = encoder.encode(contexts)
    assert together.shape == (3, 3, 16)
    for i in range(3):
        np.testing.assert_allclose(together[i].numpy(), encoder.encode(contexts[i : i + 1])[0].numpy(), atol=1e-5)
    assert not token_embedding(model)._forward_hooks
    assert (together[0] - together[1]).abs().max() > 1e-4, "the context must matter"


def test_many_rows_in_parts_equal_each_alone(tokenizer) -> None:
    torch.manual_seed(0)
    model = TOWERS["CLIP"]().eval()
    names = [f"thing number {i}" for i in range(300)]
    contexts = 0.02 * torch.randn(2, 2, 32)
    whole = PromptEncoder(model, tokenizer, names, 2).encode(contexts)
    alone = PromptEncoder(model, tokenizer, names[250:], 2).encode(contexts)
    np.testing.assert_allclose(whole[:, 250:].numpy(), alone.numpy(), atol=1e-6)


def test_underscore_is_a_space(tokenizer) -> None:
    torch.manual_seed(0)
    model = TOWERS["CLIP"]().eval()
    context = torch.zeros(1, 2, 32)
    one, other = (PromptEncoder(model, tokenizer, [n], 2).encode(context) for n in ("sea_lion", "sea lion"))
    assert torch.equal(one, other)


def test_too_long_a_prompt_names_its_class(tokenizer) -> None:
    model = TOWERS["CLIP"]()
    long = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    with pytest.raises(InputError, match=r"'one two .* sixteen\.': .* has at least 27 tokens, the model takes 24"):
        PromptEncoder(model, tokenizer, ["cat", long], 8)
    # at the limit: start, 8 placeholders, 13 words, the stop and the end of text
    fits = " ".join(long.split()[:13])
    PromptEncoder(model, tokenizer, [fits], 8)
    assert tokenize(tokenizer, [f"{' '.join([PLACEHOLDER] * 8)} {fits}."], 24).argmax(dim=1).item() == 23


def test_another_width_or_length_is_named(tokenizer) -> None:
    encoder = PromptEncoder(TOWERS["CLIP"](), tokenizer, ["cat"], 4)
    with pytest.raises(InputError, match=r"shape \(4, 64\) does not fit a model that takes \(4, 32\)"):
        encoder.encode(torch.zeros(1, 4, 64))


def test_words_that_are_none_are_named(tokenizer) -> None:
    with pytest.raises(InputError, match=r"prompt.init: ' ' holds no words: give some"):
        word_embeddings(TOWERS["CLIP"](), tokenizer, " ")


def test_a_tower_without_token_table_is_named() -> None:
    class Foreign(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.text = nn.Linear(2, 2)

    with pytest.raises(InputError, match=r"model.name: the text tower Linear has no token embedding"):
        token_embedding(Foreign())


def test_digest_sees_every_weight() -> None:
    torch.manual_seed(0)
    state = TOWERS["CLIP"]().state_dict()
    before = weights_digest(state)
    assert weights_digest(dict(reversed(state.items()))) == before
    state["ln_final.weight"] = state["ln_final.weight"] + 1e-7
    assert weights_digest(state) != before
