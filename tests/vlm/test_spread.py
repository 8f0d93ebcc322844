"""A model spread over several GPUs: fake tensors carry their device, and refuse to meet one of another."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from zip_ray.vlm.frozen_vlm import _in_float32_linear
from zip_ray.vlm.prefix_store import PrefixStore
from zip_ray.vlm.prefixes import Prefix

FIRST, SECOND = torch.device("cpu"), torch.device("meta")


class Spread(Prefix):
    """Made by layers on two devices."""

    devices = (FIRST, SECOND)  # type: ignore[assignment]


@pytest.mark.parametrize("host", [0, 2**20])
def test_each_layer_comes_back_to_its_own_device(host: int, tmp_path: Path) -> None:
    layers = tuple((torch.ones(1, 2, 3, 4), torch.zeros(1, 2, 3, 4)) for _ in range(2))
    store = PrefixStore(FIRST, host, folder=tmp_path)
    store.get("image", lambda: Spread(layers, 3))
    assert store.places == {"memory": int(host > 0), "disk": int(host == 0)}
    back = store.get("image", lambda: pytest.fail("it was kept"))
    assert back.devices == (FIRST, SECOND)
    assert torch.equal(back.layers[0][0], layers[0][0])


def test_what_stays_on_the_gpus_is_not_moved_between_them() -> None:
    layers = tuple((torch.ones(1, 2, 3, 4, device=where),) * 2 for where in (FIRST, SECOND))
    store = PrefixStore(SECOND, 0, device_bytes=2**20)
    store.get("image", lambda: Prefix(layers, 3))
    assert store.get("image", lambda: pytest.fail("it was kept")).devices == (FIRST, SECOND)


def test_a_layer_kept_in_half_precision_computes_where_its_weight_is() -> None:
    with FakeTensorMode(), torch.inference_mode():
        layer = nn.Linear(4, 2, device="cuda:1", dtype=torch.bfloat16, bias=False)
        found = _in_float32_linear(layer, torch.ones(3, 4, device="cuda:0"))
        assert (found.device, found.dtype) == (torch.device("cuda:1"), torch.float32)
        with pytest.raises(RuntimeError, match=r"cuda:0.*cuda:1|cuda:1.*cuda:0"):
            torch.ones(3, device="cuda:0") + torch.ones(3, device="cuda:1")
