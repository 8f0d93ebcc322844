"""Passes recorded as CUDA graphs. What needs no GPU is tested on the CPU, with stand-ins for the graph or with fake
tensors that claim to be on a GPU (they have no values, so reading one fails)."""

import copy
import dataclasses
import logging
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.support.configs import zip_config
from tests.support.text_towers import CAUSAL, TOKENIZER, model_of
from zip_ray.clip.cuda_graph import Function, Graph, Memory, Recorded, to_device
from zip_ray.clip.plain_text import PromptEncoder
from zip_ray.clip.precision import products
from zip_ray.clip.shared_prefix import TOLERANCE, CausalEncoder, make_encoder
from zip_ray.clip.token_layout import TokenLayout
from zip_ray.prompts import make_space
from zip_ray.protocol.facts import SHARED_PREFIX
from zip_ray.protocol.messages import Pair, Pass, Perturbation, Priority, new_work
from zip_ray.scorer.scorer import build_scorer

NAMES = ["dog", "B-52", "old oak tree of the forest"]
CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


class PlayedGraph:
    """Stands in for a CUDA graph: applies the function to whatever the buffer holds."""

    def __init__(self, function: Function, source: Tensor, output: Tensor, memory: Memory | None) -> None:
        self.function, self.source, self.output, self.memory = function, source, output, memory

    def replay(self) -> None:
        self.output.copy_(self.function(self.source))

    def pool(self) -> Memory:
        return self.memory or (7, 0)


class Played:
    """A recorder that lists the graphs it has made."""

    def __init__(self) -> None:
        self.made: list[PlayedGraph] = []

    def __call__(self, function: Function, x: Tensor, memory: Memory | None) -> tuple[Tensor, Graph]:
        output = torch.full_like(function(x), torch.nan)  # recording computes nothing
        self.made.append(PlayedGraph(function, x, output, memory))
        return output, self.made[-1]


def contexts(prompts: int, seed: int = 1) -> Tensor:
    return 0.02 * torch.randn(prompts, 4, 32, generator=torch.Generator().manual_seed(seed))


def encoders(record: Callable[..., tuple[Tensor, Graph]], name: str = "CLIP") -> tuple[CausalEncoder, CausalEncoder]:
    """An encoder with recorded passes, as on a GPU, and one without."""
    plain = PromptEncoder(model_of(name), TOKENIZER, NAMES, 4)
    recorded = CausalEncoder(plain)
    recorded._recorded = Recorded(recorded._passes, TOLERANCE, record)
    return recorded, CausalEncoder(plain)


def test_recorded_once_a_shape_and_precision() -> None:
    record = Played()
    recorded, eager = encoders(record)
    for seed, prompts in enumerate((2, 2, 1, 2, 1)):
        assert torch.equal(recorded.encode(contexts(prompts, seed)), eager.encode(contexts(prompts, seed)))
    assert [graph.source.shape[0] for graph in record.made] == [2, 1]
    assert [graph.memory for graph in record.made] == [None, (7, 0)], "the graphs of an encoder share memory"
    with products("bf16", CPU):
        reduced = recorded.encode(contexts(2))
    assert len(record.made) == 3
    assert not torch.equal(reduced, recorded.encode(contexts(2)))
    assert len(record.made) == 3


def test_answers_do_not_share_a_buffer() -> None:
    recorded, eager = encoders(Played())
    first, second = (recorded.encode(contexts(2, seed)) for seed in (1, 2))
    third = recorded.encode(contexts(2, 3))
    for seed, found in enumerate((first, second, third), 1):
        assert torch.equal(found, eager.encode(contexts(2, seed)))


class Still(PlayedGraph):
    def replay(self) -> None:
        """Leave the output as it was."""


class Deaf(PlayedGraph):
    def replay(self) -> None:
        """Ignore the buffer."""
        self.output.copy_(self.function(torch.zeros_like(self.source)))


@pytest.mark.parametrize("kind", [Still, Deaf])
def test_a_recording_that_is_wrong_is_not_used(kind: type[PlayedGraph], caplog: pytest.LogCaptureFixture) -> None:
    def record(function: Function, x: Tensor, memory: Memory | None) -> tuple[Tensor, Graph]:
        output = function(x).clone()
        return output, kind(function, x, output, memory)

    check_falls_back(record, "its features differ by", caplog)


def test_what_cannot_be_recorded_runs_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    def record(*_: object) -> tuple[Tensor, Graph]:
        raise RuntimeError("operation not permitted when stream is capturing")

    check_falls_back(record, "operation not permitted", caplog)


def check_falls_back(record: Callable[..., tuple[Tensor, Graph]], said: str, caplog: pytest.LogCaptureFixture) -> None:
    recorded, eager = encoders(record)
    with caplog.at_level(logging.WARNING):
        for seed in (1, 2, 3):
            assert torch.equal(recorded.encode(contexts(2, seed)), eager.encode(contexts(2, seed)))
    (message,) = caplog.messages
    assert "kernel by kernel" in message
    assert said in message


def test_no_memory_to_record_means_smaller_passes(caplog: pytest.LogCaptureFixture) -> None:
    played = Played()

    def record(function: Function, x: Tensor, memory: Memory | None) -> tuple[Tensor, Graph]:
        if len(x) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return played(function, x, memory)

    recorded, eager = encoders(record)
    for seed in (1, 2):
        torch.testing.assert_close(
            recorded.encode(contexts(4, seed)), eager.encode(contexts(4, seed)), atol=1e-6, rtol=0
        )
    assert [len(graph.source) for graph in played.made] == [1]
    assert not caplog.messages


def test_smaller_parts_are_recorded_anew() -> None:
    record = Played()
    recorded, eager = encoders(record)
    recorded.encode(contexts(1))
    recorded._prompts = 1
    recorded._shrink(1)  # fewer classes: the layout that the graphs read no longer exists
    torch.testing.assert_close(recorded.encode(contexts(1, 2)), eager.encode(contexts(1, 2)), atol=1e-6, rtol=0)
    assert len(record.made) == 2


class Watch(TorchDispatchMode):
    """Fails if an operation moves data between devices synchronously."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        devices = {t.device.type for t in tree_leaves((args, kwargs, result)) if isinstance(t, Tensor) and t.ndim}
        waited = not (kwargs or {}).get("non_blocking")
        assert len(devices) <= 1 or not waited, f"{function} moves between {devices}"
        return result


def imagined(tensor: Tensor) -> Tensor:
    """A tensor of the same shape on a GPU; for use inside a FakeTensorMode."""
    return torch.empty_like(tensor, device="cuda")


def imagine(encoder: CausalEncoder) -> None:
    """Move an encoder to a fake GPU; for use inside a FakeTensorMode."""
    for part in encoder._plain.model.modules():
        for name, tensor in part.named_parameters(recurse=False):
            setattr(part, name, nn.Parameter(imagined(tensor), requires_grad=False))
        for name, tensor in part.named_buffers(recurse=False):
            setattr(part, name, imagined(tensor))
    encoder._positions, encoder._causal = imagined(encoder._positions), imagined(encoder._causal)
    encoder._layouts = [TokenLayout(*map(imagined, layout)) for layout in encoder._layouts]


@pytest.mark.parametrize("name", CAUSAL)
def test_a_pass_waits_for_nothing(name: str) -> None:
    """Control flow depends on shapes only and no value leaves the GPU, so the pass can be recorded as a graph."""
    encoder = CausalEncoder(PromptEncoder(copy.deepcopy(model_of(name)), TOKENIZER, NAMES, 4))
    with torch.inference_mode(), FakeTensorMode(allow_non_fake_inputs=True):
        imagine(encoder)
        with Watch():
            features = encoder._passes(torch.empty(2, 4, 32, device="cuda"))
    assert (features.device.type, features.shape) == ("cuda", (2, 3, 16))


def test_a_step_waits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """From pairs to losses, only the losses are synchronised."""
    config = zip_config(
        {"cluster": {"pool": "in-process"}, "execution": {"cache": False}, "task": {"shots": 1}}, "test"
    )
    scorer = build_scorer(config)
    space = make_space(config.prompt, scorer.facts().shape, config.seed)
    keys = [Perturbation("random-sign", 1, 1, k) for k in range(2)]
    w = space.initial()
    pairs = [Pair(index=k, step=1, version=0, w=w, batch=1, scale=0.01, perturbation=key) for k, key in enumerate(keys)]
    work = new_work(Pass(tuple(pairs)), Priority.QUERY)
    fetched = []

    def fetch(found: Tensor) -> list[object]:
        fetched.append((found.device.type, found.shape))
        return np.zeros(found.shape).tolist()

    monkeypatch.setattr(FakeTensor, "tolist", fetch)
    monkeypatch.setattr(Tensor, "pin_memory", lambda x: x)
    clip = dataclasses.replace(scorer._clip, device=torch.device("cuda"))
    assert clip.logit_scale == scorer._clip.logit_scale  # queried once, when a run starts
    with torch.inference_mode(), FakeTensorMode(allow_non_fake_inputs=True):
        ((encoder, _),) = scorer._texts._encoders.values()
        imagine(encoder)
        images = scorer._images
        images._clip = scorer._texts._clip = clip
        images._train, images._labels = imagined(images._train), imagined(images._labels)
        with Watch():
            result = scorer.answer(work)
    assert fetched == [("cuda", (2, 2, 2))]
    assert len(result) == 2


def test_a_pass_is_one_graph_to_the_compiler_too() -> None:
    encoder = CausalEncoder(PromptEncoder(model_of("CLIP"), TOKENIZER, NAMES, 4))
    compiled = torch.compile(encoder._passes, fullgraph=True, dynamic=False, backend="eager")
    with torch.inference_mode():
        assert torch.equal(compiled(contexts(2)), encoder._passes(contexts(2)))


def test_on_a_cpu_nothing_moves() -> None:
    x = contexts(1)
    assert to_device(x, CPU) is x
    assert CausalEncoder(PromptEncoder(model_of("CLIP"), TOKENIZER, NAMES, 4))._recorded is None


@needs_gpu
@pytest.mark.parametrize("name", CAUSAL)
def test_graphs_give_the_numbers_of_the_pass(name: str) -> None:
    model = copy.deepcopy(model_of(name)).cuda()
    encoder, what = make_encoder(model, TOKENIZER, NAMES, 4, ".")
    assert what == SHARED_PREFIX
    assert isinstance(encoder, CausalEncoder)
    plain = PromptEncoder(model, TOKENIZER, NAMES, 4)
    for seed, prompts in enumerate((1, 2, 10, 2, 1)):
        found, passes = encoder.encode(contexts(prompts, seed)), encoder._passes(contexts(prompts, seed).cuda())
        torch.testing.assert_close(found, passes, atol=1e-6, rtol=0)
        torch.testing.assert_close(found, plain.encode(contexts(prompts, seed)), atol=1e-5, rtol=0)
    assert encoder._recorded
    assert not encoder._recorded.fault
    assert len(encoder._recorded._recordings) == 3


@needs_gpu
def test_nobody_waits_for_the_gpu() -> None:
    encoder, _ = make_encoder(copy.deepcopy(model_of("CLIP")).cuda(), TOKENIZER, NAMES, 4, ".")
    encoder.encode(contexts(2))
    torch.cuda.set_sync_debug_mode("error")
    try:
        features = encoder.encode(to_device(contexts(2), torch.device("cuda")))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert features.is_cuda
