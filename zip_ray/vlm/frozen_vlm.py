"""Loading a generative model, and what all its passes need: embeddings, decoder, head, processor."""

import hashlib
import inspect
import json
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from zip_ray.config.model import TINY_VLM, TRANSFORMERS
from zip_ray.errors import InputError, one_line
from zip_ray.files import packaged
from zip_ray.vlm.memory import free_memory

SAMPLED = 4096
"""Values of each weight that its digest reads: a model of 30 billion is told from another in a second."""


@dataclass(frozen=True)
class FrozenVlm:
    """A generative model in evaluation mode, with its processor."""

    name: str
    """As the config names it."""
    model: Any
    """Of `AutoModelForImageTextToText`."""
    processor: Any
    device: torch.device
    """Of its embeddings, and of all the rest unless its layers are on several GPUs."""
    weights_digest: str

    @property
    def tokenizer(self) -> Any:
        """Its text side."""
        return self.processor.tokenizer

    @property
    def decoder(self) -> Any:
        """What takes embeddings, positions, a mask and a cache.

        Raises:
            ValueError: it has none by the names that transformers gives it.
        """
        return _decoder(self.model)

    @property
    def layer_devices(self) -> tuple[torch.device, ...]:
        """Where each layer of the decoder is; of a model without one, where the model is."""
        try:
            return tuple(next(layer.parameters()).device for layer in self.decoder.layers)
        except ValueError:
            return (self.device,)

    @cached_property
    def _cap(self) -> float | None:
        """Soft cap of the logits, where the model's class applies it: some have it in the configuration alone."""
        applied = "final_logit_softcapping" in inspect.getsource(type(self.model))
        return getattr(self.text_config, "final_logit_softcapping", None) if applied else None

    @property
    def text_config(self) -> Any:
        """Configuration of the decoder."""
        return self.model.config.get_text_config()

    @property
    def activations(self) -> torch.dtype:
        """Type of the activations: that of the norms, whatever matrices are kept in."""
        found: torch.dtype = next(one.dtype for name, one in self.decoder.named_parameters() if "norm" in name)
        return found

    @property
    def image_token(self) -> str:
        """What stands for an image in a text, before the processor writes it out."""
        found = getattr(self.processor, "image_token", None)
        return str(found) if found is not None else "<image>"

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings of token ids as the decoder gets them, in float32: shape (*ids.shape, width)."""
        found: Tensor = self.model.get_input_embeddings()(ids.to(self.device))
        return found.float()

    def log_probabilities(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Of each token behind its hidden state: (n, width) and (n,) to (n,), float32."""
        logits = self.model.get_output_embeddings()(hidden).float()
        if self._cap is not None:
            logits = self._cap * torch.tanh(logits / self._cap)
        found: Tensor = logits.gather(1, tokens.to(logits.device).unsqueeze(1))[:, 0] - logits.logsumexp(dim=1)
        return found

    def forget_positions(self) -> None:
        """Drop what M-RoPE keeps of the last image in the module: a text without one would be placed by it."""
        if hasattr(self.model.model, "rope_deltas"):
            self.model.model.rope_deltas = None

    def token_ids(self, text: str) -> list[int]:
        """Token ids of a text in the middle of a sequence."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []

    def inputs(self, text: str, image: Image.Image | None) -> dict[str, Tensor]:
        """What the model takes of the text that a sequence begins with, and of its image; a batch of one.

        Raises:
            InputError: the processor cannot make it, or puts no image tokens into the text.
        """
        starts_itself = bool(self.tokenizer.bos_token) and text.startswith(self.tokenizer.bos_token)
        given: dict[str, Any] = {"text": [text], "return_tensors": "pt", "add_special_tokens": not starts_itself}
        try:
            if image is None:
                found = dict(self.tokenizer([text], return_tensors="pt", add_special_tokens=not starts_itself))
            else:
                found = dict(self.processor(images=[image], **given))
        except Exception as error:  # processors raise many kinds
            raise InputError(
                f"model.name: '{self.name}': its processor takes no such image ({one_line(error)}): choose other "
                "images, or correct its processor's files"
            ) from error
        ids = found["input_ids"]
        if self.tokenizer.eos_token_id is not None and ids[0, -1] == self.tokenizer.eos_token_id and ids.shape[1] > 1:
            found = {k: v[:, :-1] if v.shape == ids.shape else v for k, v in found.items()}
        if image is not None and not (found["input_ids"] == self.image_token_id).any():
            raise InputError(
                f"model.name: '{self.name}': its processor puts no image tokens into the text: choose a model that "
                "reads images as tokens"
            )
        found.pop("labels", None)  # of training
        return {name: value.to(self.device) for name, value in found.items() if isinstance(value, Tensor)}

    @property
    def image_token_id(self) -> int:
        """Number of the token that images take the place of; -1 where the model has none."""
        config = self.model.config
        found = getattr(config, "image_token_id", getattr(config, "image_token_index", None))
        return -1 if found is None else int(found)


def place_of(name: str) -> str:
    """The folder, or the repository of the hub, of a name."""
    return str(packaged("shipped/tiny_vlm")) if name == TINY_VLM else name.removeprefix(TRANSFORMERS)


def _decoder(model: Any) -> Any:
    for name in ("language_model", "text_model"):
        if hasattr(model.model, name):
            return getattr(model.model, name)
    raise ValueError("it has no decoder that takes embeddings")


def load_vlm(
    name: str,
    device: str,
    precision: str = "fp32",
    quantization: str | None = None,
    layers: bool = True,
    gpus: int = 1,
) -> FrozenVlm:
    """Load a model and its processor.

    Args:
        name: `transformers:FOLDER`, `transformers:ORG/REPO`, or `tiny-vlm`.
        device: `cpu` or `cuda`.
        precision: fp32 = activations in float32, whatever the weights are kept in; bf16 = all of it.
        quantization: of the weights, JSON that transformers' `quantization_config` takes.
        layers: False drops the decoder's layers and head once their digest is taken: what is left embeds sequences.
        gpus: on `cuda`, the first of so many GPUs divide the layers among themselves.

    Raises:
        InputError: transformers is missing, or has no such model, or the model reads no images, has no processor or
            does not fit on the GPUs.
    """
    try:
        from transformers import AutoModelForImageTextToText, AutoProcessor
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        raise InputError(f"model.name: '{name}' needs transformers: pip install 'zip-ray[vlm]'") from error
    disable_progress_bar()  # actors have no terminal
    place = place_of(name)
    spread = device == "cuda" and gpus > 1
    more: dict[str, Any] = {} if quantization is None else {"quantization_config": json.loads(quantization)}
    if spread:
        more |= {"device_map": "balanced", "max_memory": {k: free_memory(torch.device("cuda", k)) for k in range(gpus)}}
    elif more:
        more["device_map"] = device
    try:
        model = AutoModelForImageTextToText.from_pretrained(place, dtype="auto", **more)
    except Exception as error:  # transformers, safetensors and the hub client raise many kinds
        raise InputError(
            f"model.name: '{name}' cannot be loaded ({one_line(error)}): give transformers:FOLDER or "
            "transformers:ORG/REPO of a model that AutoModelForImageTextToText loads"
        ) from error
    if spread and {*model.hf_device_map.values()} & {"cpu", "disk"}:
        raise InputError(
            f"model.name: '{name}' does not fit on {gpus} GPUs: raise cluster.gpus_per_actor, or set model.quantization"
        )
    try:
        processor = AutoProcessor.from_pretrained(place)
        if not hasattr(processor, "tokenizer") or not hasattr(processor, "image_processor"):
            raise ValueError(f"{type(processor).__name__} reads no images")
    except Exception as error:
        raise InputError(
            f"model.name: '{name}' has no processor that can be loaded ({one_line(error)}): put its processor, image "
            "processor and tokenizer files beside the weights"
        ) from error
    digest = sampled_digest(model)
    if not layers:
        _drop_layers(name, model)
    if quantization is None:
        model = model.bfloat16() if precision == "bf16" else in_float32(model, device)
        model = model if spread else model.to(device)
    where = model.get_input_embeddings().weight.device if spread else torch.device(device)
    return FrozenVlm(name, model.eval().requires_grad_(False), processor, where, digest)


def _drop_layers(name: str, model: Any) -> None:
    try:
        _decoder(model).layers = nn.ModuleList()
    except ValueError as error:
        raise InputError(
            f"model.name: '{name}' cannot be served by embeddings ({error}): use model.scorer vlm"
        ) from error
    model.lm_head = nn.Identity()


def sampled_digest(model: nn.Module) -> str:
    """SHA-256 over names, shapes and up to 4,096 evenly spaced values of each weight."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach()
        if type(values) is not Tensor:  # quantised: some kinds cannot be reshaped
            values = values.dequantize()
        flat = values.reshape(-1)
        some = flat[:: max(1, flat.numel() // SAMPLED)]
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(some.float().cpu().numpy().tobytes())
    return digest.hexdigest()


def in_float32(model: Any, device: str) -> Any:
    """The model with activations in float32. On a GPU large weights stay as they are, and each is read as float32."""
    if device == "cpu":
        return model.float()
    kept = [one for one in model.modules() if isinstance(one, nn.Linear | nn.Embedding)]
    stored = {one: one.weight.data for one in kept if one.weight.dtype in (torch.bfloat16, torch.float16)}
    for one in stored:  # not converted with the rest: the whole model in float32 may not fit
        one.weight.data = one.weight.data.new_empty(0)
    model.float()
    for one, weight in stored.items():
        one.weight.data = weight
        if isinstance(one, nn.Linear):
            one.forward = partial(_in_float32_linear, one)  # type: ignore[method-assign]
        else:
            one.register_forward_hook(lambda _module, _inputs, output: output.float())
    return model


def _in_float32_linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """x W^T + b in float32 on W's device, with W kept in half the memory."""
    return functional.linear(x.to(layer.weight.device), layer.weight.float(), layer.bias)
