"""The plain pass: the library's own forward pass over one sequence per image, prompt and candidate.

The soft prompt is put in at the embedding. It is what the tree pass is held against, and what models take whose tokens
see later ones, or whose keys and values cannot be kept.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from PIL import Image
from torch import Tensor

from zip_ray.vlm.answer_tree import Answers
from zip_ray.vlm.frozen_vlm import FrozenVlm
from zip_ray.vlm.tree_pass import Soft


@torch.inference_mode()
def plain_pass(vlm: FrozenVlm, before: str, image: Image.Image | None, prompt: Soft, answers: Answers) -> Tensor:
    """Log-probability of each token of each answer: shape (answers, longest), 0 behind the end of one.

    Args:
        vlm: the frozen model.
        before: what the sequence begins with.
        image: in it, or None.
        prompt: soft prompt and question.
        answers: the candidates.
    """
    inputs = vlm.inputs(before, image)
    prefix = inputs["input_ids"].shape[1]
    longest = max(map(len, answers))
    found = torch.zeros(len(answers), longest, device=vlm.device)
    with _soft_rows(vlm, prompt.context, prefix):
        for place, answer in enumerate(answers):
            whole = _continued(vlm, inputs, len(prompt.context), prompt.question, answer)
            tokens = torch.tensor(answer, device=vlm.device)
            found[place, : len(answer)] = _own_logits(vlm, whole, len(answer)).gather(1, tokens[:, None])[:, 0]
    return found


def _own_logits(vlm: FrozenVlm, inputs: dict[str, Tensor], last: int) -> Tensor:
    """Log-probabilities of all tokens at the last places of a sequence, each by what is before it."""
    kept = {"logits_to_keep": last + 1} if "logits_to_keep" in inspect.signature(vlm.model.forward).parameters else {}
    vlm.forget_positions()
    logits = vlm.model(**inputs, **kept, use_cache=False).logits
    found: Tensor = logits[0, -last - 1 : -1].float().log_softmax(dim=1)
    return found


def _continued(
    vlm: FrozenVlm, inputs: dict[str, Tensor], soft: int, question: tuple[int, ...], answer: tuple[int, ...]
) -> dict[str, Tensor]:
    """The inputs with everything behind the image: whatever else has a value per token goes on for each."""
    filler = question[0] if question else answer[0]
    more = torch.tensor([[*[filler] * soft, *question, *answer]], device=vlm.device)
    old = inputs["input_ids"]
    made = {"input_ids": torch.cat([old, more], dim=1)}
    for name, value in inputs.items():
        if name == "input_ids":
            continue
        going_on = value.shape == old.shape and name in ("attention_mask", "token_type_ids", "mm_token_type_ids")
        made[name] = torch.cat([value, _kinds(vlm, name, more, len(answer))], dim=1) if going_on else value
    return made


def _kinds(vlm: FrozenVlm, name: str, more: Tensor, answer: int) -> Tensor:
    """What a tensor with a value per token says of text: it is there, and is no image."""
    if name == "attention_mask":
        return torch.ones_like(more)
    kinds = torch.zeros_like(more)
    if vlm.model.config.model_type.startswith("paligemma"):  # 1 = generated: seen by what follows only
        kinds[:, -answer:] = 1
    return kinds


@contextmanager
def _soft_rows(vlm: FrozenVlm, context: Tensor, first: int) -> Iterator[None]:
    """Put the soft prompt in place of embeddings from `first` on."""

    def put_in(_module: object, _inputs: object, output: Tensor) -> Tensor:
        if output.ndim != 3 or output.shape[1] < first + len(context):
            return output
        made = output.clone()
        made[:, first : first + len(context)] = context.to(output)
        return made

    handle = vlm.model.get_input_embeddings().register_forward_hook(put_in)
    try:
        yield
    finally:
        handle.remove()
