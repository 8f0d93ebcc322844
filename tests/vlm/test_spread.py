"""A model spread over several GPUs: fake tensors carry their device, and refuse to meet one of another."""

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import dispatch_model
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from zip_ray.vlm.answer_tree import answer_tree
from zip_ray.vlm.frozen_vlm import FrozenVlm, _in_float32_linear
from zip_ray.vlm.prefix_store import PrefixStore
from zip_ray.vlm.prefixes import Prefix
from zip_ray.vlm.tree_pass import Soft, tree_pass

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


def test_the_tree_pass_follows_a_model_over_two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def zeros(data: list, dtype: torch.dtype | None = None, device: object = "cpu") -> torch.Tensor:
        return torch.zeros(np.shape(data), dtype=dtype or (torch.float32 if not data else torch.long), device=device)

    monkeypatch.setattr(torch, "tensor", zeros)  # the real one asks for a driver; fakes have no values
    small = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**small, num_hidden_layers=1, image_size=8, patch_size=4)
    config = LlavaConfig(vision_config=vision, text_config=LlamaConfig(**small, num_hidden_layers=2, vocab_size=32))
    inner = "model.language_model"
    second = {f"{inner}.layers.1", f"{inner}.norm", f"{inner}.rotary_emb", "lm_head"}
    first = {"model.vision_tower", "model.multi_modal_projector", f"{inner}.embed_tokens", f"{inner}.layers.0"}
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        model = LlavaForConditionalGeneration(config)
        for name in first | second:
            for part in model.get_submodule(name).modules():
                for kept in (part._parameters, part._buffers):
                    for key, one in [(key, one) for key, one in kept.items() if one is not None]:
                        fresh = torch.empty(one.shape, dtype=one.dtype, device=f"cuda:{int(name in second)}")
                        kept[key] = nn.Parameter(fresh, False) if kept is part._parameters else fresh
        model = dispatch_model(model, {name: int(name in second) for name in first | second}, 0, force_hooks=True)
        layers = tuple((torch.zeros(1, 2, 5, 4, device=f"cuda:{k}"),) * 2 for k in range(2))
        prompts = [Soft(torch.zeros(3, 8), (1, 2)), Soft(torch.zeros(2, 8), (1,))]
        vlm = FrozenVlm("x", model, None, torch.device("cuda:0"), "")
        found = tree_pass(vlm, [Prefix(layers, 5)] * 2, prompts, answer_tree(((1, 2), (1, 3, 4))))
    assert found.shape == (2, 2, 4)
