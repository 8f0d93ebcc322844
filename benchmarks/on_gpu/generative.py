"""Part e: decoders of large vision-language models, random weights: token tree against plain pass, prefixes kept or
rebuilt.

Only the decoder has the model's shape: images are random prefixes of as many tokens, as the image tower runs once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache

from benchmarks.on_gpu.running import Case, Row, Setting
from benchmarks.on_gpu.timing import matmul_peak, seconds_of
from zip_ray.vlm.answer_tree import AnswerTree, answer_tree
from zip_ray.vlm.frozen_vlm import FrozenVlm
from zip_ray.vlm.prefixes import Prefix, cache_argument
from zip_ray.vlm.tree_pass import Soft, tree_pass

IMAGES = 128
"""Images per query."""
SOFT, QUESTION, TOGETHER = 8, 25, 10
"""Soft tokens, tokens of the question, and prompts per pass."""
AT_ONCE = 4
"""Images per pass."""
CANDIDATES = tuple((1000 + first, 2000 + second, 3000) for first in range(5) for second in range(2))
"""Ten candidates of three tokens, in pairs that share the first token."""


@dataclass(frozen=True)
class Shape:
    """The shape of a decoder."""

    family: str
    """`llava` or `qwen2_5_vl`."""
    image_tokens: int
    layers: int
    of_layers: int
    """Layers of the whole model; times are scaled up to them."""
    text: dict[str, Any]


SHAPES = {
    "LLaVA-1.5-7B": Shape(
        "llava",
        576,
        32,
        32,
        {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32, "num_key_value_heads": 32},
    ),
    "Qwen2.5-VL-7B": Shape(
        "qwen2_5_vl",
        256,
        28,
        28,
        {"hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "num_key_value_heads": 4},
    ),
    "LLaVA-1.6-34B": Shape(
        "llava",
        2880,
        4,
        60,
        {"hidden_size": 7168, "intermediate_size": 20480, "num_attention_heads": 56, "num_key_value_heads": 8},
    ),
}
TINY: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
QUICK = {name: Shape(shape.family, 24, 2, 2, TINY) for name, shape in SHAPES.items()}


def cases(setting: Setting) -> Iterator[Case]:
    """One case per decoder."""
    bf16 = matmul_peak(setting, "bf16")
    for name, shape in (QUICK if setting.quick else SHAPES).items():
        yield name, partial(compare, setting, shape, bf16)


def compare(setting: Setting, shape: Shape, bf16: float) -> Iterator[Row]:
    """Seconds per query of tree and plain pass, and what it takes to make or to fetch a prefix; scaled from the layers
    that run to those that the model has."""
    vlm = decoder_of(shape, shape.layers, torch.bfloat16, setting.device)
    start = embeddings(vlm, shape.image_tokens, 0)
    prefix = make_prefix(vlm, start)
    prompts, tree = soft_prompts(vlm), answer_tree(CANDIDATES)
    scaled = shape.of_layers / shape.layers

    def by_tree() -> Tensor:
        return tree_pass(vlm, [prefix] * AT_ONCE, prompts, tree)

    with FlopCounterMode(display=False) as counter:
        by_tree()
    took = seconds_of(by_tree, setting)
    seconds = scaled * took * IMAGES / AT_ONCE / TOGETHER
    whole = scaled * IMAGES * seconds_of(lambda: plain(vlm, start, prompts[0], CANDIDATES), setting)
    yield {
        "layers": f"{shape.layers} of {shape.of_layers}",
        "plain pass, s per query": whole,
        "token tree, s per query": seconds,
        "times faster": whole / seconds,
        "of bf16 peak": counter.get_total_flops() / took / bf16,
        "tree - plain": difference(vlm, start, prompts[0], tree),
        "in float32, two layers": exactness(shape, setting.device),
    }
    host = [tuple(one.cpu() for one in layer) for layer in prefix.layers]
    if setting.on_gpu:
        host = [tuple(one.pin_memory() for one in layer) for layer in host]
    yield {
        "prefix, MiB": scaled * prefix.size / 2**20,
        "made, ms": 1000 * scaled * seconds_of(lambda: make_prefix(vlm, start), setting),
        "copied from host memory, ms": 1000 * scaled * seconds_of(partial(_copied, host, setting.device), setting),
    }


def _copied(host: list[tuple[Tensor, ...]], device: str) -> list[Tensor]:
    return [one.to(device, non_blocking=True, copy=True) for layer in host for one in layer]


def decoder_of(shape: Shape, layers: int, dtype: torch.dtype, device: str) -> FrozenVlm:
    """A model whose decoder has that shape, and an image tower of almost nothing."""
    import transformers as tf

    text = {**shape.text, "num_hidden_layers": layers, "vocab_size": 32064, "max_position_embeddings": 4096}
    if shape.family == "llava":
        eye = tf.CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=1,
            image_size=16,
            patch_size=8,
        )
        config = tf.LlavaConfig(vision_config=eye, text_config=tf.LlamaConfig(**text), image_token_index=3)
        made = tf.LlavaForConditionalGeneration
    else:
        head = text["hidden_size"] // text["num_attention_heads"]
        rope = {"rope_type": "default", "mrope_section": [head // 2 - 2 * (head // 6), head // 6, head // 6]}
        eye = {
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 1,
            "out_hidden_size": text["hidden_size"],
        }
        config = tf.Qwen2_5_VLConfig(text_config={**text, "rope_scaling": rope}, vision_config=eye)
        made = tf.Qwen2_5_VLForConditionalGeneration
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = made(config)
    finally:
        torch.set_default_dtype(default)
    return FrozenVlm(shape.family, model.to(dtype).eval().requires_grad_(False), None, torch.device(device), "")


def embeddings(vlm: FrozenVlm, tokens: int, seed: int) -> Tensor:
    """Random embeddings, shape (tokens, width), as large as those of words."""
    weight = vlm.model.get_input_embeddings().weight
    drawn = torch.randn(tokens, weight.shape[1], generator=torch.Generator().manual_seed(seed))
    return (drawn * float(weight.float().std())).to(vlm.device)


def soft_prompts(vlm: FrozenVlm) -> list[Soft]:
    """Several different prompts."""
    question = tuple(range(100, 100 + QUESTION))
    return [Soft(embeddings(vlm, SOFT, 1 + number), question) for number in range(TOGETHER)]


@torch.inference_mode()
def make_prefix(vlm: FrozenVlm, start: Tensor) -> Prefix:
    """Keys and values of the tokens that a sequence begins with."""
    cache = DynamicCache()
    _decode(vlm, start[None], cache)
    return Prefix(tuple((layer.keys, layer.values) for layer in cache.layers), len(start))


@torch.inference_mode()
def plain(vlm: FrozenVlm, start: Tensor, prompt: Soft, answers: tuple[tuple[int, ...], ...]) -> Tensor:
    """Log-likelihoods of the answers, each answer in its own sequence: shape (answers,)."""
    asked = torch.cat([start, prompt.context, vlm.embed(torch.tensor(prompt.question))])
    sequences = torch.stack([torch.cat([asked, vlm.embed(torch.tensor(answer[:-1]))]) for answer in answers])
    hidden = _decode(vlm, sequences, None)[:, len(asked) - 1 :]
    tokens = torch.tensor(answers, device=vlm.device)
    found = vlm.log_probabilities(hidden.flatten(0, 1), tokens.flatten())
    return found.view(tokens.shape).sum(1)


def _decode(vlm: FrozenVlm, embedded: Tensor, cache: DynamicCache | None) -> Tensor:
    """Hidden states of whole sequences (n, length, width)."""
    decoder, positions = vlm.decoder, torch.arange(embedded.shape[1], device=vlm.device).expand(len(embedded), -1)
    kept = {} if cache is None else {cache_argument(decoder.forward): cache}
    hidden: Tensor = decoder(
        inputs_embeds=embedded.to(vlm.activations),
        position_ids=positions.expand(3, -1, -1) if vlm.name == "qwen2_5_vl" else positions,
        use_cache=cache is not None,
        **kept,
    ).last_hidden_state
    return hidden


def difference(vlm: FrozenVlm, start: Tensor, prompt: Soft, tree: AnswerTree) -> float:
    """The largest difference in log-likelihoods between the tree pass and the plain pass."""
    edges = tree_pass(vlm, [make_prefix(vlm, start)], [prompt], tree)[0, 0].cpu().double().numpy()
    return float(np.abs(tree.paths.astype(float) @ edges - plain(vlm, start, prompt, CANDIDATES).cpu().numpy()).max())


def exactness(shape: Shape, device: str) -> float:
    """The largest difference with two layers in float32."""
    vlm = decoder_of(shape, 2, torch.float32, device)
    return difference(vlm, embeddings(vlm, shape.image_tokens, 0), soft_prompts(vlm)[0], answer_tree(CANDIDATES))
