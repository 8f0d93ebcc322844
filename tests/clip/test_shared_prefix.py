"""The shared-prefix pass against the plain pass, for every text-tower class of open_clip."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tests.support.text_towers import CAUSAL, PLAIN, TOKENIZER, TOWERS, model_of
from zip_ray.clip.plain_text import PromptEncoder
from zip_ray.clip.precision import Agreement, compare, products
from zip_ray.clip.shared_prefix import CausalEncoder, TextEncoder, make_encoder
from zip_ray.clip.token_layout import TokenLayout
from zip_ray.protocol.facts import SHARED_PREFIX

WORDS = ["a", "dog", "ultramarine", "3", "forget-me-not", "X", "of", "the", "photosynthesis", "B-52"]


def fitting(name: str, tokens: int) -> str:
    """As many words of the name as fit behind the context."""
    words = name.split()
    while len(TOKENIZER.encode(" ".join(words))) > 24 - 3 - tokens:  # start, stop and end of text
        words = words[:-1]
    return " ".join(words) or "X"


def losses(text: torch.Tensor, classes: int) -> np.ndarray:
    """Cross-entropies of 64 images at CLIP's own scale, as the scorer takes them: shape (prompts,)."""
    draws = torch.Generator().manual_seed(7)
    images = functional.normalize(torch.randn(64, 16, generator=draws), dim=-1)
    labels = torch.randint(classes, (64,), generator=draws).expand(len(text), -1)
    logits = (100 * images @ text.transpose(1, 2)).double().transpose(1, 2)
    return functional.cross_entropy(logits, labels, reduction="none").mean(dim=1).numpy()


def check(name: str, classnames: list[str], contexts: torch.Tensor) -> None:
    """Fast and plain pass agree: features to 1e-5, losses to 1e-6 relative or to what float32 leaves of the logits
    (features are rounded to about 1e-7, and the logit scale is 100)."""
    plain = PromptEncoder(model_of(name), TOKENIZER, classnames, contexts.shape[1])
    fast, expected = CausalEncoder(plain).encode(contexts), plain.encode(contexts)
    np.testing.assert_allclose(fast.numpy(), expected.numpy(), atol=1e-5, rtol=0)
    both = (losses(text, len(classnames)) for text in (fast, expected))
    np.testing.assert_allclose(*both, rtol=1e-6, atol=2e-5)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(CAUSAL),
    classnames=st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join), min_size=1, max_size=7),
    tokens=st.sampled_from([1, 4, 16]),
    prompts=st.integers(1, 3),
    scale=st.sampled_from([0.02, 0.5]),
    seed=st.integers(0, 10**6),
)
def test_features_are_those_of_the_plain_pass(
    name: str, classnames: list[str], tokens: int, prompts: int, scale: float, seed: int
) -> None:
    contexts = scale * torch.randn(prompts, tokens, 32, generator=torch.Generator().manual_seed(seed))
    check(name, [fitting(classname, tokens) for classname in classnames], contexts)


def make(name: str, classnames: list[str]) -> tuple[TextEncoder, str]:
    return make_encoder(model_of(name), TOKENIZER, classnames, 4, ".")


def test_each_tower_gets_the_encoder_that_fits_it() -> None:
    for name in TOWERS:
        encoder, what = make(name, ["dog", "old oak tree"])
        if name in CAUSAL:
            assert (type(encoder), what) == (CausalEncoder, SHARED_PREFIX)
        else:
            assert type(encoder) is PromptEncoder
            assert what == f"plain pass: {PLAIN[name]}"


def test_a_pass_that_is_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = CausalEncoder.encode
    for wrong in (lambda self, x: honest(self, x) + 2e-5, lambda self, x: honest(self, x) * torch.nan):
        monkeypatch.setattr(CausalEncoder, "encode", wrong)
        encoder, what = make("CLIP", ["dog", "cat", "old oak tree", "X"])
        assert type(encoder) is PromptEncoder
        assert "plain pass: shared-prefix features differ by" in what


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize(("classes", "tokens"), [(1000, 4), (1, 16), (1, 1)])
def test_one_class_and_a_thousand(name: str, classes: int, tokens: int) -> None:
    contexts = 0.02 * torch.randn(1, tokens, 32, generator=torch.Generator().manual_seed(2))
    check(name, [fitting(f"{WORDS[i % 10]} {i}", tokens) for i in range(classes)], contexts)


@pytest.mark.parametrize("room", [6, 4, 1])
def test_less_memory_means_more_passes_and_the_same_features(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    encoder, _ = make("CLIP", ["dog", "cat", "old oak tree"])
    assert isinstance(encoder, CausalEncoder)
    contexts = 0.02 * torch.randn(4, 4, 32, generator=torch.Generator().manual_seed(3))
    whole, honest, sizes = encoder.encode(contexts), CausalEncoder._pass, []

    def cramped(self: CausalEncoder, part: torch.Tensor, layout: TokenLayout) -> torch.Tensor:
        size = len(part) * len(layout.slots)
        if size > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(size)
        return honest(self, part, layout)

    monkeypatch.setattr(CausalEncoder, "_pass", cramped)
    for _ in range(2):
        np.testing.assert_allclose(encoder.encode(contexts), whole, atol=1e-6)
    assert max(sizes) <= room
    monkeypatch.setattr(CausalEncoder, "_pass", lambda *_: (_ for _ in ()).throw(RuntimeError("a fault")))
    with pytest.raises(RuntimeError, match="a fault"):
        encoder.encode(contexts)


def test_no_memory_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, _ = make("CLIP", ["dog", "cat", "old oak tree"])

    def full(*_: object) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(CausalEncoder, "_pass", full)
    with pytest.raises(RuntimeError, match="can't allocate"):
        encoder.encode(torch.zeros(2, 4, 32))


def test_agreement_of_loss_differences() -> None:
    found = compare([3.0, -4.0, 0.0, 0.0], [3.0, 1.0, 0.0, 0.0])
    assert found == Agreement(same_sign=0.75, noise=1.0)


def test_products_are_reduced_inside_the_block_only() -> None:
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    exact = x @ x
    with products("bf16", torch.device("cpu")):
        assert 1e-4 < float(((x @ x).float() - exact).abs().max()) < 1
    with products("tf32", torch.device("cpu")):
        assert torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.equal(x @ x, exact)
