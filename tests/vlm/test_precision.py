"""Weights in less than float32: the tree pass against the plain pass of the same model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from tests.support.tiny_vlms import save
from tests.support.vlm_scores import CANDIDATES, answering, by_plain_pass, painted, prompts, scored
from zip_ray.protocol.facts import TOKEN_TREE
from zip_ray.vlm.frozen_vlm import FrozenVlm, in_float32, load_vlm, sampled_digest

INT8 = json.dumps({"quant_method": "quanto", "weights": "int8"})


def scores_of(vlm: FrozenVlm) -> np.ndarray:
    return scored(answering(vlm), prompts(vlm), CANDIDATES, painted(2))


@pytest.mark.parametrize("family", ["llava", "qwen2.5-vl"])
def test_quantised_weights(family: str, tmp_path: Path) -> None:
    """As loaded by transformers from the config's JSON; scores differ from those of the whole weights."""
    name = save(family, tmp_path)
    vlm = load_vlm(name, "cpu", quantization=INT8)
    one, asked, images = answering(vlm), prompts(vlm), painted(2)
    found = scored(one, asked, CANDIDATES, images)
    expected = by_plain_pass(vlm, one, asked, CANDIDATES, images).sum(axis=3)
    np.testing.assert_allclose(found, expected, atol=1e-5 + 2e-7 * np.abs(expected).max())
    one.check(asked, "", CANDIDATES, 0, lambda: images[0])
    assert one.kind == TOKEN_TREE
    assert np.abs(found - scores_of(load_vlm(name, "cpu"))).max() > 1e-3


def test_half_precision_weights_are_read_as_float32(tmp_path: Path) -> None:
    """As on a GPU: the weights keep half the memory, and the scores are those of the model in float32."""
    name = save("llava", tmp_path)
    folder = name.removeprefix("transformers:")
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    expected = scores_of(load_vlm(name, "cpu"))
    vlm = replace(load_vlm(name, "cpu"), model=in_float32(model.eval().requires_grad_(False), "cuda"))
    assert vlm.model.lm_head.weight.dtype == torch.bfloat16
    np.testing.assert_allclose(scores_of(vlm), expected, atol=1e-6)


def test_bf16_throughout_is_held_to_its_own_rounding(tmp_path: Path) -> None:
    vlm = load_vlm(save("llava", tmp_path), "cpu", precision="bf16")
    one, asked, images = answering(vlm), prompts(vlm), painted(2)
    found = scored(one, asked, CANDIDATES, images)
    expected = by_plain_pass(vlm, one, asked, CANDIDATES, images).sum(axis=3)
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())
    assert np.abs(found - expected).max() > 1e-4, "otherwise it was not computed in bf16"
    one.check(asked, "", CANDIDATES, 0, lambda: images[0])
    assert one.kind == TOKEN_TREE


class Packed(torch.Tensor):
    """Quantised weights as some libraries have them: without a reshape."""

    @classmethod
    def __torch_function__(cls, function: object, types: object, args: tuple = (), kwargs: object = None) -> object:
        if function is torch.Tensor.reshape:
            raise NotImplementedError
        if function is torch.Tensor.dequantize:
            return args[0].as_subclass(torch.Tensor)
        return super().__torch_function__(function, types, args, kwargs or {})


def test_weights_that_cannot_be_reshaped_have_a_digest() -> None:
    """torchao's int8 weights, for example."""
    model = torch.nn.Linear(4, 3)
    expected = sampled_digest(model)
    model.state_dict = lambda: {"weight": model.weight.data.as_subclass(Packed), "bias": model.bias.data}
    assert sampled_digest(model) == expected
