"""A model whose layers are on several GPUs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from tests.support.paths import ROOT
from tests.support.tiny_vlms import EQUAL
from tests.support.two_gpus import START
from zip_ray.errors import InputError
from zip_ray.protocol.facts import TOKEN_TREE
from zip_ray.vlm import frozen_vlm, memory
from zip_ray.vlm.frozen_vlm import load_vlm
from zip_ray.vlm.memory import room_on_gpus
from zip_ray.vlm.prefix_store import PrefixStore
from zip_ray.vlm.prefixes import Prefix

FIRST, SECOND = torch.device("cpu"), torch.device("meta")
GPUS = torch.device("cuda", 0), torch.device("cuda", 1)


def test_a_model_over_two_gpus_scores_as_in_one_place() -> None:
    """All passes, stores and checks on tensors that refuse to meet one of another GPU."""
    families = [*EQUAL, "llava/half", "paligemma"]
    command = [sys.executable, "-c", START, *families]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = {found["family"]: found for found in map(json.loads, done.stdout.splitlines())}
    assert list(told) == families
    for family, found in told.items():
        assert found["layers"] == ["twin:0", "twin:1"]
        assert max(found["differences"]) < 2e-5, family
        assert (found["kind"] == TOKEN_TREE) == (family != "paligemma")


@pytest.mark.parametrize(("layer", "fault"), [(1, ""), ("cpu", "does not fit on 2 GPUs"), ("disk", "does not fit")])
def test_loading_divides_a_model_among_the_gpus(layer: object, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}
    load = AutoModelForImageTextToText.from_pretrained

    def from_pretrained(place: str, dtype: str, **more: object) -> object:
        asked.update(more)
        model = load(place, dtype=dtype)
        model.hf_device_map = {"model.vision_tower": 0, "model.language_model": layer}
        return model

    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", from_pretrained)
    monkeypatch.setattr(frozen_vlm, "free_memory", lambda gpu: 7 + gpu.index)
    if fault:
        with pytest.raises(InputError, match=f"^model.name: 'tiny-vlm' {fault}.*: raise cluster.gpus_per_actor"):
            load_vlm("tiny-vlm", "cuda", gpus=2)
    else:
        assert load_vlm("tiny-vlm", "cuda", gpus=2).device == torch.device("cpu"), "where its embeddings are"
    assert asked == {"device_map": "balanced", "max_memory": {0: 7, 1: 8}}


def test_keys_and_values_take_what_the_fullest_gpu_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda gpu: (1000, 300)[gpu.index])
    assert room_on_gpus([GPUS[0]]) == 500
    assert room_on_gpus([GPUS[0]] * 2 + [GPUS[1]] * 2) == 300
    assert room_on_gpus([GPUS[0]] * 3 + [GPUS[1]]) == 600, "a quarter of each image is on the second"
    assert room_on_gpus([torch.device("cpu")] * 2) == 0


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
