"""Part a: the same losses and scores on the GPU as on the CPU, as a CUDA graph as kernel by kernel, in small passes."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.on_gpu.models import SMALL, configure, make_scorer, pairs_at, random_model
from benchmarks.on_gpu.running import Case, Row, Setting
from benchmarks.text_ideas import TOKENS, classnames, tokenizer_of
from zip_ray.clip.shared_prefix import CausalEncoder, make_encoder
from zip_ray.prompts import make_space
from zip_ray.protocol.messages import Pass, Priority, new_work
from zip_ray.scorer.logits import judge, logits
from zip_ray.scorer.scorer import Scorer

TOWERS = {
    "CLIP": "ViT-B-32",
    "CLIP with QuickGELU": "ViT-B-32-quickgelu",
    "CLIP with a ResNet": "RN50",
    "CustomTextCLIP": "EVA02-B-16",
    "CoCa": "coca_ViT-B-32",
    "SigLIP": "ViT-B-16-SigLIP",
}
"""A model of each kind of text tower."""
SCALE = 100.0
"""Factor of the cosine."""
STARVED_MIB = 256
"""Memory that a pass may take where it has to be halved."""


def cases(setting: Setting) -> Iterator[Case]:
    """The cases: real weights first, then each tower, then a pass with too little memory."""
    yield SMALL, partial(whole_scorer, setting)
    for kind, name in ({"CLIP": SMALL} if setting.quick else TOWERS).items():
        yield kind, partial(tower, setting, name)
    yield "little memory", partial(starved, setting)


def whole_scorer(setting: Setting) -> Iterator[Row]:
    """Compare the losses and scores of pairs, through the scorer's `answer`."""
    asked = [
        _answers(make_scorer(SMALL, one, configure(replace(setting, device=one), 100)))
        for one in ("cpu", setting.device)
    ]
    (losses, scores), (own_losses, own_scores) = asked
    slopes, own = losses[:, 0] - losses[:, 1], own_losses[:, 0] - own_losses[:, 1]
    yield {
        "losses differ": float(np.abs(losses - own_losses).max()),
        "scores differ": float(np.abs(scores - own_scores).max()),
        "loss differences keep their sign": float(np.mean(np.sign(slopes) == np.sign(own))),
    }


def _answers(scorer: Scorer) -> tuple[np.ndarray, np.ndarray]:
    """Losses (pairs, 2) and scores (pairs, 2, images, classes) of sixteen pairs at c = 0.01."""
    facts = scorer.facts()
    space = make_space(scorer._config.prompt, facts.shape, 1)
    asks = pairs_at(space.initial(), 16, "segmented-uniform", 0.01)
    value = scorer.answer(new_work(Pass(asks), Priority.QUERY))
    assert isinstance(value, tuple)
    return np.array([one.losses for one in value]), np.stack([one.scores for one in value])


def tower(setting: Setting, name: str) -> Iterator[Row]:
    """Compare a tower with random weights on the CPU, on the device, and there with and without a graph."""
    here = random_model(name, "cpu")
    there = copy.deepcopy(here).to(setting.device) if setting.on_gpu else here
    names = classnames(8 if setting.quick else 20)
    on_cpu, kind = make_encoder(here, tokenizer_of(here), names, TOKENS, ".")
    encoder, _ = make_encoder(there, tokenizer_of(there), names, TOKENS, ".")
    for prompts in (1, 2) if setting.quick else (1, 2, 16):
        contexts = _contexts(there, prompts)
        found = encoder.encode(contexts)
        row: Row = {"pass": kind, "prompts": prompts, **_differences(on_cpu.encode(contexts.cpu()), found.cpu())}
        again = encoder.encode(contexts)  # now recorded as a graph, if possible
        row["graph differs"] = float((again - found).abs().max())
        row["graph"] = _graph(encoder)
        yield row


def starved(setting: Setting) -> Iterator[Row]:
    """Check that features stay the same if memory is too small for a pass, which is then halved."""
    model = random_model(SMALL if setting.quick else "ViT-B-32", setting.device)
    names = classnames(10 if setting.quick else 200)
    encoder, _ = make_encoder(model, tokenizer_of(model), names, TOKENS, ".")
    assert isinstance(encoder, CausalEncoder)
    contexts = _contexts(model, 4 if setting.quick else 64)
    expected, before = encoder.encode(contexts), encoder._prompts
    if setting.on_gpu:
        if encoder._recorded:
            encoder._recorded.forget()
        torch.cuda.empty_cache()
        limit = torch.cuda.memory_reserved() + STARVED_MIB * 2**20
        torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(0).total_memory)
    else:
        _refuse_once(encoder)
    try:
        found = encoder.encode(contexts)
    finally:
        if setting.on_gpu:
            torch.cuda.set_per_process_memory_fraction(1.0)
    row = _differences(expected.cpu(), found.cpu())
    yield {"prompts per pass": f"{min(before, len(contexts))} -> {encoder._prompts}", **row, "graph": _graph(encoder)}


def _refuse_once(encoder: CausalEncoder) -> None:
    """Make the next pass run out of memory, as a GPU's allocator would."""
    passes = encoder._passes

    def refuse(_: Tensor) -> Tensor:
        encoder._passes = passes  # type: ignore[method-assign]
        raise torch.OutOfMemoryError("out of memory, on purpose")

    encoder._passes = refuse  # type: ignore[method-assign]


def _contexts(model: nn.Module, prompts: int) -> Tensor:
    width = getattr(model, "text", model).token_embedding.embedding_dim  # type: ignore[union-attr]
    drawn = 0.02 * torch.randn(prompts, TOKENS, width, generator=torch.Generator("cpu").manual_seed(1))  # type: ignore[call-overload]
    return drawn.to(next(model.parameters()).device)


def _differences(expected: Tensor, found: Tensor) -> Row:
    """Differences of text features, and of the scores and losses they give with random images."""
    draw = torch.Generator().manual_seed(2)
    images = functional.normalize(torch.randn(64, expected.shape[-1], generator=draw), dim=-1)
    labels = torch.randint(expected.shape[1], (64,), generator=draw)
    scores = [logits(SCALE, images, text) for text in (expected, found)]
    losses = [judge(one, labels, "cross-entropy")[0] for one in scores]
    return {
        "features differ": float((expected - found).abs().max()),
        "scores differ": float((scores[0] - scores[1]).abs().max()),
        "losses differ": float((losses[0] - losses[1]).abs().max()),
    }


def _graph(encoder: object) -> str:
    """Whether the passes are replayed."""
    recorded = getattr(encoder, "_recorded", None)
    if recorded is None:
        return "none"
    return recorded.fault or f"{len(recorded._recordings)} recorded"
