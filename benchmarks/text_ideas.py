"""The ideas of the fast text pass, one added to the other, for benchmarks/query.py and benchmarks/gpu.py."""

import copy
from collections.abc import Callable, Iterator

import open_clip
import torch
from torch import Tensor, nn

from zip_ray.clip.plain_text import PromptEncoder, token_embedding
from zip_ray.clip.shared_prefix import CausalEncoder, TextEncoder, _feed_forward
from zip_ray.clip.token_layout import TokenLayout, Unsupported

TOKENS = 8
"""Tokens of a context."""
WORDS = [
    *("amber", "basil", "cedar", "delta", "ember", "fjord", "grove", "heron", "inlet"),
    *("jade", "kelp", "larch", "maple", "nectar", "onyx", "poppy", "quartz"),
]


class Partial(CausalEncoder):
    """The fast text pass without some of its ideas."""

    def __init__(self, plain: PromptEncoder, last: bool, pack: bool) -> None:
        super().__init__(plain)
        self._pooled_only, self._recorded = last, None
        if not pack:
            self._layouts = [padded(layout) for layout in self._layouts]

    def _last(self, block, x: Tensor, layout: TokenLayout) -> Tensor:
        if self._pooled_only:
            return super()._last(block, x, layout)
        return _feed_forward(block, x + self._attend(block, x, layout))[:, self._prefix + layout.slots[:, -1]]


def padded(layout: TokenLayout) -> TokenLayout:
    """A layout that pads every class to the length of the longest."""
    classes, longest = layout.slots.shape
    every = torch.arange(classes * longest, device=layout.slots.device)
    return TokenLayout(layout.rows[layout.slots.flatten()], every.view(classes, longest), every, layout.mask)


def cropped(plain: PromptEncoder) -> PromptEncoder:
    """The plain pass without the positions behind the longest prompt, if the pooled position is the end of text."""
    CausalEncoder(plain)  # fails if the tower is not causal
    length = int(plain.ids.argmax(dim=1).max()) + 1
    model = _copy(plain.model)
    tower = getattr(model, "text", model)
    if tower is not model:
        tower = _copy(tower)
        model._modules["text"] = tower
    tower._parameters["positional_embedding"] = nn.Parameter(tower.positional_embedding[:length], requires_grad=False)
    tower._buffers["attn_mask"] = tower.attn_mask[:length, :length]
    encoder = copy.copy(plain)
    encoder.model, encoder.ids = model, plain.ids[:, :length]
    return encoder


def _copy(module: nn.Module) -> nn.Module:
    clone = copy.copy(module)
    for part in ("_parameters", "_buffers", "_modules"):
        setattr(clone, part, dict(getattr(module, part)))
    return clone


def classnames(count: int) -> list[str]:
    """Class names of one to four words, in turn."""
    return [" ".join(WORDS[(i * 7 + j * (i // 17 + 1)) % len(WORDS)] for j in range(i % 4 + 1)) for i in range(count)]


def ideas(plain: PromptEncoder) -> Iterator[tuple[str, TextEncoder, int]]:
    """Each idea added to those before it: its name, the encoder, prompts per pass."""
    yield "cached image features", plain, 1
    try:
        yield "crop to the longest prompt", cropped(plain), 1
        yield "shared prefix", Partial(plain, last=False, pack=False), 1
        yield "pooled position only in the last layer", Partial(plain, last=True, pack=False), 1
        packed = Partial(plain, last=True, pack=True)
    except Unsupported:
        yield "two prompts per pass (a pair)", plain, 2
        return
    yield "packed classes", packed, 1
    yield "two prompts per pass (a pair)", packed, 2
    yield "ten prompts per pass", packed, 10
    if plain.ids.is_cuda:
        yield "a pass as one CUDA graph", CausalEncoder(plain), 10


def tokenizer_of(model: nn.Module) -> Callable[..., Tensor]:
    """CLIP's tokenizer for every model, its ids folded into the model's vocabulary: with random weights any id will do.
    SigLIP's own would have to be downloaded.

    SigLIP's own would have to be fetched.
    """
    tokenizer, vocabulary = open_clip.SimpleTokenizer(), token_embedding(model).num_embeddings

    def tokens(texts: list[str], context_length: int = 77) -> Tensor:
        return tokenizer(texts, context_length) % vocabulary

    return tokens
