"""Two fake GPUs: tensors with values that record where they are, and refuse to meet tensors from elsewhere.

`main` runs in a separate process, since PyTorch cannot unregister a backend: it scores images with a tiny model of each
family spread over both GPUs, and prints how far the scores are from those of the same model on one device.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from accelerate import dispatch_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from tests.support.tiny_vlms import save
from tests.support.vlm_scores import CANDIDATES, answering, painted, prompts, scored
from zip_ray.vlm.frozen_vlm import FrozenVlm, _in_float32_linear, in_float32, load_vlm

ops = torch.ops.aten
COPIES = (ops.copy_.default, ops._to_copy.default)
INDEXED = (ops.index.Tensor, ops.index_put.default, ops.index_put_.default)
"""Operations whose indices may be on the CPU."""
CPU = torch.device("cpu")


class Hooks(torch._C._acc.PrivateUse1Hooks):  # type: ignore[name-defined, misc]
    """What PyTorch asks of a backend."""

    def is_available(self) -> bool:
        return False

    def is_built(self) -> bool:
        return True

    def has_primary_context(self, _number: int) -> bool:
        return False


class Placed(Tensor):
    """A tensor on a fake GPU, whose value is held on the CPU."""

    value: Tensor

    @staticmethod
    def __new__(cls, value: Tensor, device: torch.device) -> "Placed":
        layout = {"strides": value.stride(), "storage_offset": value.storage_offset()}
        made = Tensor._make_wrapper_subclass(cls, value.shape, **layout, dtype=value.dtype, device=device)
        made.value = value
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return carry_out(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.value.tolist()

    def __repr__(self) -> str:
        return f"{self.value} on {self.device}"


class TwoGpus(TorchDispatchMode):
    """Creates tensors on the device they are requested for."""

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return carry_out(func, args, kwargs or {})


def put(value: Tensor, device: torch.device) -> Tensor:
    return value if device.type == "cpu" else Placed(value, device)


def carry_out(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation on the values, with a result on the operands' device.

    Raises:
        RuntimeError: the operands are on several devices.
    """
    operands = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    places = {one.device for one in operands if one.ndim or isinstance(one, Placed)}
    meeting = places - {CPU} if func in INDEXED else places
    if func not in COPIES and len(meeting) > 1:
        raise RuntimeError(f"{func}: operands on {' and '.join(sorted(map(str, places)))}")
    where = operands[0].device if func in (*COPIES, *INDEXED) else next(iter(places), CPU)
    if (asked := kwargs.get("device")) is not None:
        where, kwargs = asked, {**kwargs, "device": CPU}
    values = tree_map(lambda one: one.value if isinstance(one, Placed) else one, (args, kwargs))
    found = func(*values[0], **values[1])
    if func._schema.is_mutable:
        return args[0]
    return tree_map(lambda one: put(one, where) if isinstance(one, Tensor) else one, found)


def tensor_maker(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A replacement for `torch.tensor`, which would otherwise use the backend's own memory."""

    def tensor(data: Any, dtype: torch.dtype | None = None, device: Any = CPU) -> Tensor:
        plain = tree_map(lambda one: one.item() if isinstance(one, Placed) else one, data)
        return original(plain, dtype=dtype).to(device)

    return tensor


def spread(model: Any, devices: tuple[torch.device, torch.device]) -> Any:
    """Spread a model over two devices, switching after the decoder's first layer; accelerate's hooks move the data.

    Args:
        model: on the CPU.
        devices: first and second.
    """
    decoder = "model.language_model" if hasattr(model.model, "language_model") else "model.text_model"
    opened = {"", "model", decoder, f"{decoder}.layers"}
    parts = {
        f"{name}.{child}".lstrip(".")
        for name, module in model.named_modules()
        if name in opened
        for child, _ in (*module.named_children(), *module.named_parameters(recurse=False))
    } - opened
    behind = ("lm_head", f"{decoder}.norm", f"{decoder}.layers.")
    chosen = {part: devices[part.startswith(behind) and part != f"{decoder}.layers.0"] for part in parts}
    for part, device in chosen.items():
        above, _, own = part.rpartition(".")
        holder = model.get_submodule(above)
        if own in holder._parameters:
            holder._parameters[own] = nn.Parameter(put(holder._parameters[own].data, device), False)
            continue
        for module in holder.get_submodule(own).modules():
            module._parameters |= {
                name: nn.Parameter(put(one.data, device), False)
                for name, one in module._parameters.items()
                if one is not None
            }
            module._buffers |= {name: put(one, device) for name, one in module._buffers.items() if one is not None}
    return dispatch_model(model, chosen, devices[0], force_hooks=True)


def loaded(family: str, folder: Path) -> FrozenVlm:
    """A model; "FAMILY/half" keeps its large weights in bf16, and computes in float32."""
    name, _, half = family.partition("/")
    vlm = load_vlm(save(name, folder), "cpu")
    return replace(vlm, model=in_float32(vlm.model.bfloat16(), "cuda")) if half else vlm


START = """
import torch
torch.inference_mode = torch.no_grad  # whose tensors cannot be wrapped
from tests.support.two_gpus import main
main()
"""
"""Runs `main`, for `python -c`."""


def main() -> None:
    """Print per family, as JSON: the largest differences of scores, the start check's verdict, the layers' devices."""
    images, begun = painted(3), []
    with TemporaryDirectory() as place:
        for family in sys.argv[1:]:
            vlm = loaded(family, Path(place, family.replace("/", "-")))
            asked = prompts(vlm)
            begun.append((family, vlm, asked, scored(answering(vlm), asked, CANDIDATES, images)))
    _setup_privateuseone_for_python_backend("twin", hook=Hooks())
    torch.tensor = tensor_maker(torch.tensor)  # type: ignore[assignment]
    devices = torch.device("twin", 0), torch.device("twin", 1)
    for family, vlm, asked, expected in begun:
        with TwoGpus():
            model = spread(vlm.model, devices)
            for layer in model.modules():
                if isinstance(layer, nn.Linear) and layer.weight.dtype == torch.bfloat16:
                    layer.forward = partial(_in_float32_linear, layer)  # this replaces the hooks, as in `load_vlm`
            there = replace(vlm, model=model, device=devices[0])
            one = answering(there)
            found = [scored(one, asked, CANDIDATES, images) for _ in range(2)]  # computed, and from host memory
            one.check(asked, "", CANDIDATES, 0, lambda: images[0])
        told: dict[str, Any] = {"family": family, "kind": one.kind}
        told["layers"] = [str(device) for device in there.layer_devices]
        told["differences"] = [float(np.abs(each - expected).max()) for each in found]
        sys.stdout.write(json.dumps(told) + "\n")
