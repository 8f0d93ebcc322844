"""What a query costs with a generative model: the token tree behind a kept image, against the plain pass.

`python benchmarks/vlm.py --help`
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import MEASUREMENTS, BenchmarkOptions, machine, table
from benchmarks.on_gpu.generative import (
    CANDIDATES,
    IMAGES,
    QUESTION,
    QUICK,
    SHAPES,
    SOFT,
    TOGETHER,
    decoder_of,
    difference,
    embeddings,
    make_prefix,
    plain,
    soft_prompts,
)
from benchmarks.on_gpu.running import Setting
from benchmarks.on_gpu.timing import seconds_of
from zip_ray.vlm.answer_tree import answer_tree
from zip_ray.vlm.tree_pass import tree_pass

MODEL = "LLaVA-1.5-7B"
LAYERS = 2
"""Of the decoder: what fits the memory of a laptop in float32. All layers cost the same."""
PLAIN = "plain pass"
WANTED_FLOPS, WANTED_SECONDS = 100.0, 30.0


@dataclass(frozen=True)
class Options(BenchmarkOptions):
    """FLOPs and seconds per query of a generative model by way of scoring; wanted with ten prompts per pass: 100 times
    fewer FLOPs and 30 times less time than the plain pass."""


@dataclass(frozen=True)
class Cost:
    """The cost of a query, scaled from the layers that ran to the whole model."""

    flops: float
    seconds: float


def measure(call: Callable[[], object], prompts: int, layers: int, of_layers: int) -> Cost:
    """The cost of a query, from a call that scores one image with some prompts."""
    with FlopCounterMode(display=False) as counter:
        call()
    scaled = IMAGES / prompts * of_layers / layers
    return Cost(scaled * counter.get_total_flops(), scaled * seconds_of(call, Setting("cpu", False)))


def main(options: Options) -> int:
    """Measure, and print the table; the exit code."""
    shape = (QUICK if options.quick else SHAPES)[MODEL]
    vlm = decoder_of(shape, LAYERS, torch.float32, "cpu")
    start, prompts, tree = embeddings(vlm, shape.image_tokens, 0), soft_prompts(vlm), answer_tree(CANDIDATES)
    prefix = make_prefix(vlm, start)
    ways: dict[str, tuple[Callable[[], object], int]] = {
        PLAIN: (lambda: plain(vlm, start, prompts[0], CANDIDATES), 1),
        "token tree": (lambda: tree_pass(vlm, [prefix], prompts[:1], tree), 1),
        f"token tree, {TOGETHER} prompts per pass": (lambda: tree_pass(vlm, [prefix], prompts, tree), TOGETHER),
    }
    found = {way: measure(call, count, LAYERS, shape.of_layers) for way, (call, count) in ways.items()}
    whole = found[PLAIN]
    rows = []
    for way, one in found.items():
        fewer, faster = whole.flops / one.flops, whole.seconds / one.seconds
        rows.append((way, f"{one.flops / 1e12:.2f}", f"{fewer:.0f}", f"{one.seconds:.1f}", f"{faster:.0f}"))
    text = table(("way", "TFLOP per query", "times fewer", "seconds per query", "times faster"), rows)
    apart = difference(vlm, start, prompts[0], tree)
    reached = fewer >= WANTED_FLOPS and faster >= WANTED_SECONDS  # in the last row
    print(f"{machine()}\n\n{text}\n\ntree - plain: {apart:.0e}")
    print(
        f"{fewer:.0f} times fewer FLOPs (wanted {WANTED_FLOPS:.0f}), "
        f"{faster:.0f} times less time (wanted {WANTED_SECONDS:.0f})"
    )
    if options.write:
        write(text, apart)
    return int(options.check and not reached)


def write(text: str, apart: float) -> None:
    """Write the page."""
    note = (
        f"Made by `python benchmarks/vlm.py --write`. The decoder of {MODEL} with random weights in float32: "
        f"{SHAPES[MODEL].image_tokens} image tokens, {SOFT} soft tokens, a question of {QUESTION}, {len(CANDIDATES)} "
        f"candidates of three tokens, {IMAGES} images per query. {LAYERS} layers ran; the figures are scaled to "
        f"{SHAPES[MODEL].of_layers}. The plain pass runs the decoder over image, prompt, question and candidate, once "
        "for each candidate; the image tower, which it would run too, is left out on both sides. The token tree reads "
        "the image's keys and values, which are computed once per run. The largest difference between log-likelihoods "
        f"is {apart:.0e}."
    )
    page = f"# What a query costs with a generative model\n\n{machine()}.\n\n{note}\n\n{text}\n"
    (MEASUREMENTS / "vlm.md").write_text(page)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
