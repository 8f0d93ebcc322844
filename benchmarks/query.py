"""Seconds per query, the ideas of the fast text pass added one at a time: `python benchmarks/query.py --help`.

Random weights: speed does not depend on them. The plain pass is what the released code does for each query: 128
images and all text positions of all classes. Images are the same work for any number of classes: measured once per
model.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import open_clip
import torch
import tyro
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import MEASUREMENTS, BenchmarkOptions, machine, table
from benchmarks.meter import KINDS, LONG, Row, counted, matmul_peak, row, shares
from benchmarks.text_ideas import TOKENS, classnames, ideas, tokenizer_of
from zip_ray.clip.loading import resolve_name
from zip_ray.clip.plain_text import PromptEncoder
from zip_ray.clip.shared_prefix import CausalEncoder, TextEncoder
from zip_ray.config.model import ModelConfig

WANTED_SPEEDUP = 90.0
"""Plain seconds per query over those of the fast one with ten prompts per pass: ViT-B-16, 47 classes, two cores."""
WANTED_PEAK = {47: 0.65, 1000: 0.75}
"""Share of the measured matrix-multiply peak, ViT-B-16, by classes."""
BATCH = 128
FULL_PASS = "plain pass"
TITLE = "# Seconds per query\n\nMade by `python benchmarks/query.py --write`; random weights."
LIMITS = """What limits each row: the plain pass, the image tower, and with many classes the 77 text positions of each;
cached features, these positions; the cropped pass, the prefix, which every class repeats. The rows below have little to
leave out: their limit is the machine's peak. A pass of one prompt with few classes does not reach it, as its matrices
have few rows and its calls cost more than its arithmetic; a pair and ten prompts go through together for that. What is
still missing is time for what is no matrix product (LayerNorm, GELU, softmax, gathering of rows), which no peak counts.
A tower that is not causal (SigLIP) keeps all its positions. RN50's plain pass may be above 100%: some algorithms for
convolutions take fewer operations than are counted. Where the time of the last row goes:"""


@dataclass(frozen=True)
class Options(BenchmarkOptions):
    """Plain pass and fast one; wanted on two cores, ViT-B-16: 90 times, 65% of peak (47 classes), 75% (1,000)."""

    models: tuple[str, ...] = ("ViT-B-16", "ViT-B-32", "ViT-L-14", "RN50", "ViT-B-16-SigLIP")
    """Models of open_clip, randomly initialised."""
    classes: tuple[int, ...] = (10, 47, 100, 1000)
    """Classes, with names of one to four words."""
    device: str = "cpu"
    """cpu or cuda."""
    threads: int = 2
    """CPU threads."""


@dataclass(frozen=True)
class Found:
    """The results for one model and number of classes."""

    rows: list[Row]
    shares: dict[str, float]
    """Share of the last row's time, by kind of operation."""


def measure(options: Options, name: str) -> dict[tuple[str, int], Found]:
    """All rows of a model."""
    torch.manual_seed(0)
    model = open_clip.create_model(resolve_name(name), device=torch.device(options.device)).eval().requires_grad_(False)
    size = model.visual.image_size
    pixels = torch.randn(BATCH, 3, *(size if isinstance(size, tuple) else (size, size)), device=options.device)

    def encode() -> Tensor:
        return functional.normalize(torch.cat([model.encode_image(part) for part in pixels.split(32)]), dim=-1).cpu()

    with torch.inference_mode():
        encoding, images = row("images", encode, 1, counted(encode))
        counts = options.classes[:1] if options.quick else options.classes
        return {(name, count): against(model, count, images.to(options.device), encoding) for count in counts}


def against(model: nn.Module, count: int, images: Tensor, encoding: Row) -> Found:
    """Results for a model with a number of classes; `encoding` is the cost of its images."""
    plain = PromptEncoder(model, tokenizer_of(model), classnames(count), TOKENS)
    contexts = 0.02 * torch.randn(10, TOKENS, plain.width, generator=torch.Generator().manual_seed(0)).to(images.device)
    rows: list[Row] = []
    expected = None
    for idea, encoder, prompts in ideas(plain):

        def query(encoder: TextEncoder = encoder, prompts: int = prompts) -> Tensor:
            text = encoder.encode(contexts[:prompts])
            (100 * images @ text.transpose(1, 2)).logsumexp(-1).mean(-1).cpu()
            return text[0]

        graph = type(encoder) is CausalEncoder  # kernels launched by a graph cannot be counted
        found, text = row(idea, query, prompts, rows[-1].flops if graph else counted(query) / prompts)
        expected = text if expected is None else expected
        if not rows:
            rows.append(found.after(encoding, FULL_PASS))
        rows.append(replace(found, difference=float((text - expected).abs().max())))
        if not graph:
            together = prompts if prompts * found.seconds < LONG else 1
            last = partial(encoder.encode, contexts[:together])
    return Found(rows, shares(last, images.is_cuda))


def main(options: Options) -> int:
    """Measure; exit code."""
    torch.set_num_threads(options.threads)
    peak = matmul_peak(options.device)
    models = (ModelConfig().name,) if options.quick else options.models
    found: dict[tuple[str, int], Found] = {}
    for model in track(models, "models", console=Console(stderr=True)):
        found |= measure(options, model)
    where = machine() if options.device == "cpu" else torch.cuda.get_device_name()
    head = f"Batch {BATCH}, {TOKENS} context tokens, float32, {options.threads} threads, {where}; "
    head += f"measured matrix-multiply peak {peak / 1e9:.0f} GFLOP/s. Each row adds to the one above."
    header = ["model", "classes", "", "s per query", "times faster", "GFLOP per query", "of peak", "MiB", "difference"]
    rows = table(header, [line for (m, c), f in found.items() for line in lines(m, c, f.rows, peak)])
    kinds = ["model", "classes", *KINDS, "rest"]
    parts = table(kinds, [[m, str(c), *(f"{x:.0%}" for x in f.shares.values())] for (m, c), f in found.items()])
    text = f"{head}\n\n{rows}\n\n{LIMITS}\n\n{parts}\n"
    print(text)
    if options.write:
        (MEASUREMENTS / "query.md").write_text(f"{TITLE}\n\n{text}")
    return judge(options, {job: f.rows for job, f in found.items()}, peak)


def lines(model: str, count: int, rows: list[Row], peak: float) -> Iterator[list[str]]:
    """Lines of the table."""
    for r in rows:
        yield [
            model,
            str(count),
            r.idea,
            f"{r.seconds:.4g}",
            f"{rows[0].seconds / r.seconds:.1f}",
            f"{r.flops / 1e9:.4g}",
            f"{r.flops / r.seconds / peak:.0%}",
            f"{r.memory:.0f}",
            f"{r.difference:.0e}",
        ]


def judge(options: Options, found: dict[tuple[str, int], list[Row]], peak: float) -> int:
    """Print the wanted figures beside the measured ones; returns the exit code."""
    reached, said = True, []
    for count, share in WANTED_PEAK.items():
        if ("ViT-B-16", count) in found:
            rows = found["ViT-B-16", count]
            got = rows[-1].flops / rows[-1].seconds / peak
            said.append(f"{count} classes: {got:.0%} of peak (wanted {share:.0%})")
            reached = reached and got >= share
            if count == 47:
                times = rows[0].seconds / rows[-1].seconds
                said.append(f"{times:.0f} times faster (wanted {WANTED_SPEEDUP:.0f})")
                reached = reached and times >= WANTED_SPEEDUP
    print("; ".join(said) or "the wanted figures are of ViT-B-16 with 47 or 1,000 classes: not measured")
    return int(options.check and not reached)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
