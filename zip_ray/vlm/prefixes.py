"""Keys and values of what stands before a prompt: computed once per image, since no query changes them."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import DynamicCache

from zip_ray.vlm.frozen_vlm import FrozenVlm


@dataclass(frozen=True)
class Prefix:
    """System text and image, as the decoder has read them."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    """Keys and values of each layer, each of shape (1, heads, length, size of a head)."""
    next_position: int
    """Of the first token behind it; not its length where positions of images have three axes."""

    @property
    def length(self) -> int:
        """Tokens."""
        return self.layers[0][0].shape[2]

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """Of each layer."""
        return tuple(keys.device for keys, _ in self.layers)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(one.nbytes for layer in self.layers for one in layer)


def cache_argument(forward: Callable[..., Any]) -> str:
    """What a forward pass calls its cache: `cache`, or `past_key_values` before transformers 5.24."""
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"


@torch.inference_mode()
def compute_prefix(vlm: FrozenVlm, before: str, image: Image.Image | None) -> Prefix:
    """Run the model over the beginning of a sequence.

    Raises:
        InputError: the processor or the model does not take the image.
        RuntimeError: the model does not keep keys and values of each token in each layer.
    """
    inputs = vlm.inputs(before, image)
    cache = DynamicCache()  # without a config: with one, layers with a sliding window drop what they pass
    inner = vlm.model.model
    vlm.forget_positions()
    inner(**inputs, **{cache_argument(inner.forward): cache}, use_cache=True)
    length = inputs["input_ids"].shape[1]
    deltas = getattr(inner, "rope_deltas", None)
    offset = 0 if deltas is None else int(deltas.reshape(-1)[0])
    layers = tuple((layer.keys, layer.values) for layer in cache.layers)
    if not layers or any(keys.shape[2] != length for keys, _ in layers):
        raise RuntimeError("a layer does not keep the keys and values of all tokens")
    return Prefix(layers, length + offset)


def filled_cache(prefixes: Sequence[Prefix]) -> DynamicCache:
    """A cache that holds prefixes of one length, as a batch."""
    cache = DynamicCache()
    for place, layers in enumerate(zip(*[one.layers for one in prefixes], strict=True)):
        keys, values = (torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*layers, strict=True))
        cache.update(keys, values, place)
    return cache
