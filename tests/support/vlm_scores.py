"""Scores of tiny generative models by the tree pass, and by the library's own forward pass."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from zip_ray.protocol.facts import Prompt
from zip_ray.vlm.answering import Answering
from zip_ray.vlm.frozen_vlm import FrozenVlm
from zip_ray.vlm.plain_pass import plain_pass
from zip_ray.vlm.prefix_store import PrefixStore
from zip_ray.vlm.tree_pass import Soft

CANDIDATES = ("cat", "cat fish", "dog", "a", "horse", "carp")
QUESTIONS = ("What is it?", "")


def answering(vlm: FrozenVlm, scoring: str = "sum", memory: int = 2**30, folder: Path | None = None) -> Answering:
    return Answering(vlm, scoring, PrefixStore(vlm.device, memory, folder=folder))


def painted(count: int) -> list[Image.Image]:
    """Images of several sizes: some families cut them into more tiles or patches."""
    rng = np.random.default_rng(0)
    sizes = [(20, 20), (20, 20), (16, 40), (40, 24)]
    return [Image.fromarray(rng.integers(0, 255, (*sizes[k % 4], 3), dtype=np.uint8)) for k in range(count)]


def prompts(vlm: FrozenVlm, count: int = 2) -> list[Prompt]:
    """Soft prompts of several lengths, with and without a question after them."""
    width = vlm.embed(torch.tensor([3])).shape[1]
    rng = np.random.default_rng(1)
    drawn = [0.3 * rng.standard_normal((3 + k, width)).astype(np.float32) for k in range(count)]
    return [Prompt(context, suffix=QUESTIONS[k % 2]) for k, context in enumerate(drawn)]


def scored(one: Answering, asked: list[Prompt], candidates: tuple[str, ...], images: list[Image.Image]) -> np.ndarray:
    keys = list(range(len(images)))
    return one.scores(asked, "", candidates, keys, [lambda image=image: image for image in images])


def by_plain_pass(
    vlm: FrozenVlm, one: Answering, asked: list[Prompt], candidates: tuple[str, ...], images: list[Image.Image]
) -> np.ndarray:
    """Log-probabilities of the tokens, shape (prompts, images, candidates, longest)."""
    answers = tuple(tuple(one.chat.answer_ids(vlm, candidate)) for candidate in candidates)
    soft = [
        Soft(torch.from_numpy(p.context), tuple(one.chat.question_ids(vlm, p.suffix or "")))
        for p in asked
        if p.context is not None
    ]
    found = [[plain_pass(vlm, one.chat.before, image, s, answers).numpy() for image in images] for s in soft]
    return np.array(found, dtype=np.float64)
