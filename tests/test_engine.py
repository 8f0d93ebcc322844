"""The engine against the plain pass, for every text-tower class of open_clip."""

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.test_clip_text import TOWERS
from zip_ray.clip.engine import CausalEncoder, Unsupported
from zip_ray.clip.text import PromptEncoder

WORDS = ["a", "dog", "ultramarine", "3", "forget-me-not", "X", "of", "the", "photosynthesis", "B-52"]
TOKENIZER = open_clip.SimpleTokenizer(context_length=24)
CAUSAL = [name for name in TOWERS if name != "SigLIP"]
MODELS: dict[str, nn.Module] = {}


def model_of(name: str) -> nn.Module:
    """Built once; its weights are spread, so that attention has something to choose between."""
    if name not in MODELS:
        torch.manual_seed(0)
        model = TOWERS[name]().float().eval().requires_grad_(False)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
        MODELS[name] = model
    return MODELS[name]


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(CAUSAL),
    classnames=st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=2).map(" ".join), min_size=1, max_size=7),
    tokens=st.sampled_from([1, 4, 8]),
    prompts=st.integers(1, 3),
    scale=st.sampled_from([0.02, 0.5]),
    seed=st.integers(0, 10**6),
)
def test_engine_is_the_plain_pass(
    name: str, classnames: list[str], tokens: int, prompts: int, scale: float, seed: int
) -> None:
    plain = PromptEncoder(model_of(name), TOKENIZER, classnames, tokens)
    contexts = scale * torch.randn(prompts, tokens, 32, generator=torch.Generator().manual_seed(seed))
    fast = CausalEncoder(plain).encode(contexts)
    np.testing.assert_allclose(fast.numpy(), plain.encode(contexts).numpy(), atol=1e-5)


def test_no_shared_prefix_no_engine() -> None:
    with pytest.raises(Unsupported, match="not causal"):
        CausalEncoder(PromptEncoder(model_of("SigLIP"), TOKENIZER, ["cat"], 4))
