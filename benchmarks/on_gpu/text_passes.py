"""Part b: seconds per query, idea by idea, by model, classes and prompts per pass; torch.compile beside CUDA graphs."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.meter import counted
from benchmarks.on_gpu.models import SMALL, random_model
from benchmarks.on_gpu.running import Case, Row, Setting
from benchmarks.on_gpu.timing import matmul_peak, mebibytes_of, seconds_of
from benchmarks.text_ideas import TOKENS, classnames, ideas, tokenizer_of
from zip_ray.clip.plain_text import PromptEncoder
from zip_ray.clip.precision import products
from zip_ray.clip.shared_prefix import CausalEncoder, TextEncoder

BATCH = 128
"""Images of a mini-batch."""
PLAIN, CARD, GRAPH = "plain pass", "the card's peak", "CUDA graph"
JOBS = (
    ("ViT-B-16", (47, 100, 1000, 10)),
    ("ViT-L-14", (100, 1000)),
    ("ViT-B-16-SigLIP", (100,)),
    ("ViT-bigG-14", (100, 1000)),
)
"""Models with their numbers of classes, the most important first, since the part may reach its time limit."""
QUICK = ((SMALL, (3,)),)
WIDE = (1, 4, 16, 64, 256)
"""Prompts per pass."""
LONGEST = 0.5
"""Longest pass in seconds, so that the part stays within its time limit."""


def cases(setting: Setting) -> Iterator[Case]:
    """The card itself first, then the jobs."""
    peaks: dict[str, float] = {}
    yield CARD, partial(peak, setting, peaks)
    for model, counts in QUICK if setting.quick else JOBS:
        for count in counts:
            yield f"{model}, {count} classes", partial(queries, setting, peaks, model, count)


def peak(setting: Setting, peaks: dict[str, float]) -> Iterator[Row]:
    """Speed of large matrix products."""
    for precision in ("fp32", "tf32", "bf16"):
        peaks[precision] = matmul_peak(setting, precision)  # type: ignore[arg-type]
        yield {"precision": precision, "TFLOP/s": peaks[precision] / 1e12}


def compiler_cases(setting: Setting) -> Iterator[Case]:
    """A separate part, since compiling takes long."""
    name, counts = (QUICK if setting.quick else JOBS)[0]
    yield f"{name}, {counts[0]} classes", partial(compiled, setting, name, counts[0])


@torch.inference_mode()
def queries(setting: Setting, peaks: dict[str, float], name: str, count: int) -> Iterator[Row]:
    """Measure each idea, then all of them with ever more prompts per pass."""
    model = random_model(name, setting.device)
    plain = PromptEncoder(model, tokenizer_of(model), classnames(count), TOKENS)
    size = model.visual.image_size  # type: ignore[union-attr]
    pixels = torch.randn(
        4 if setting.quick else BATCH, 3, *(size if isinstance(size, tuple) else (size, size)), device=setting.device
    )

    def encode() -> Tensor:
        parts = [model.encode_image(part) for part in pixels.split(32)]  # type: ignore[operator]
        return functional.normalize(torch.cat(parts), dim=-1)

    images = encode()

    def query(encoder: TextEncoder, prompts: int) -> Callable[[], Tensor]:
        contexts = 0.02 * torch.randn(prompts, TOKENS, plain.width, device=setting.device)
        return lambda: (100 * images @ encoder.encode(contexts).transpose(1, 2)).logsumexp(-1).mean(-1)

    def both() -> None:
        encode()
        query(plain, 1)()

    slowest = seconds_of(both, setting)

    def row(idea: str, call: Callable[[], object], prompts: int, flops: float, tf32: float) -> Row:
        seconds = seconds_of(call, setting) / prompts
        return {
            "": idea,
            "prompts per pass": prompts,
            "ms per query": 1000 * seconds,
            "times faster": slowest / seconds,
            "GFLOP per query": flops / 1e9,
            "of float32 peak": flops / seconds / peaks["fp32"],
            "tf32 ms per query": 1000 * tf32,
            "of tf32 peak": flops / tf32 / peaks["tf32"],
            "MiB": mebibytes_of(call, setting),
        }

    def in_tf32(call: Callable[[], object], prompts: int) -> float:
        with products("tf32", torch.device(setting.device)):
            return seconds_of(call, setting) / prompts

    yield row(PLAIN, both, 1, counted(both), in_tf32(both, 1))
    flops, fastest, seconds = 0.0, plain, 0.0
    for idea, encoder, prompts in ideas(plain):
        call = query(encoder, prompts)
        graph = type(encoder) is CausalEncoder
        flops = flops if graph else counted(call) / prompts  # kernels launched by a graph cannot be counted
        found = row(GRAPH if graph else idea, call, prompts, flops, in_tf32(call, prompts))
        yield found
        fastest, seconds = encoder, float(found["ms per query"]) / 1000  # type: ignore[assignment]
    for prompts in WIDE[:2] if setting.quick else WIDE:
        if prompts * seconds < LONGEST:
            call = query(fastest, prompts)
            yield row("all of it", call, prompts, flops, in_tf32(call, prompts))


@torch.inference_mode()
def compiled(setting: Setting, name: str, count: int) -> Iterator[Row]:
    """Measure ten prompts through a pass kernel by kernel, as a CUDA graph, and compiled."""
    model = random_model(name, setting.device)
    plain = PromptEncoder(model, tokenizer_of(model), classnames(count), TOKENS)
    contexts = 0.02 * torch.randn(10, TOKENS, plain.width, device=setting.device)
    encoder = CausalEncoder(plain)
    expected = encoder._passes(contexts)
    ways: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {"kernel by kernel": lambda: encoder._passes}
    if setting.on_gpu:
        ways[GRAPH] = lambda: encoder.encode
    for mode in ("default", "reduce-overhead") if setting.on_gpu else ():
        ways[f"torch.compile, {mode}"] = partial(torch.compile, encoder._passes, mode=mode)
    if not setting.on_gpu:
        ways["torch.compile, eager"] = partial(torch.compile, encoder._passes, backend="eager")  # no compiler needed
    for way, make in ways.items():
        call = make()
        began = seconds_of(lambda call=call: call(contexts), setting)  # type: ignore[misc]
        difference = float((call(contexts) - expected).abs().max())
        yield {"": way, "ms per query": 100 * began, "differs": difference}
