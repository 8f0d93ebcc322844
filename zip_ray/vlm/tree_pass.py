"""The tree pass: all prompts of a pass and the whole tree of answers in one packed row behind an image's prefix."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zip_ray.vlm.answer_tree import AnswerTree
from zip_ray.vlm.frozen_vlm import FrozenVlm
from zip_ray.vlm.prefixes import Prefix, cache_argument, filled_cache

FULL, SLIDING = "full_attention", "sliding_attention"
HEAD_ROWS = 1024
"""Hidden states that go through the head at once: a large vocabulary makes them large."""


@dataclass(frozen=True)
class Soft:
    """A prompt as the pass takes it."""

    context: Tensor
    """Soft prompt, shape (m, width)."""
    question: tuple[int, ...]
    """Token ids from it to the answer."""


@torch.inference_mode()
def tree_pass(vlm: FrozenVlm, prefixes: Sequence[Prefix], prompts: Sequence[Soft], tree: AnswerTree) -> Tensor:
    """Log-probabilities of the edges of a tree, shape (prefixes, prompts, edges), float32.

    Args:
        vlm: the frozen model.
        prefixes: of one length.
        prompts: any number; each sees the prefix and itself only.
        tree: of the candidates.

    Raises:
        ValueError: the decoder attends in a way that no mask expresses.
    """
    packed = [_rows(vlm, prompt, tree) for prompt in prompts]
    embedded = torch.cat([rows for rows, _ in packed]).to(vlm.activations)
    offsets = torch.cat([depths for _, depths in packed])
    sees = torch.block_diag(*[_visible(len(prompt.context) + len(prompt.question), tree) for prompt in prompts])
    starts = torch.tensor([one.next_position for one in prefixes], device=vlm.device)
    positions = starts[:, None] + offsets.to(vlm.device)
    decoder, length, count = vlm.decoder, prefixes[0].length, len(prefixes)
    hidden = decoder(
        inputs_embeds=embedded.expand(count, -1, -1),
        position_ids=positions.expand(3, -1, -1) if _has_three_axes(vlm) else positions,
        attention_mask=_masks(vlm, sees.bool(), offsets, length),
        use_cache=True,
        **{cache_argument(decoder.forward): filled_cache(prefixes)},
    ).last_hidden_state
    places = _edge_places(prompts, tree).to(hidden.device)
    tokens = torch.from_numpy(tree.edge_tokens).repeat(count * len(prompts))
    return _scored(vlm, hidden[:, places].flatten(0, 1), tokens).view(count, len(prompts), -1)


def _rows(vlm: FrozenVlm, prompt: Soft, tree: AnswerTree) -> tuple[Tensor, Tensor]:
    """Embeddings of a prompt's rows (rows, width), and their distances from the end of the prefix (rows,)."""
    ids = torch.tensor([*prompt.question, *tree.fed.tolist()], dtype=torch.long)
    straight = len(prompt.context) + len(prompt.question)
    distances = torch.cat([torch.arange(straight), straight - 1 + torch.from_numpy(tree.depths)])
    return torch.cat([prompt.context.to(vlm.device), vlm.embed(ids)]), distances


def _visible(straight: int, tree: AnswerTree) -> Tensor:
    """Whether a row of a prompt sees another: boolean as float, shape (rows, rows)."""
    size = straight + len(tree.fed)
    sees = torch.zeros(size, size)
    sees[:straight, :straight] = torch.ones(straight, straight).tril()
    sees[straight:, :straight] = 1
    sees[straight:, straight:] = torch.from_numpy(tree.sees).float()
    return sees


def _masks(vlm: FrozenVlm, sees: Tensor, offsets: Tensor, prefix: int) -> Tensor | dict[str, Tensor]:
    """The mask of a packed row, (1, 1, rows, prefix + rows): one, or one for each kind of layer."""
    kinds = {*(getattr(vlm.text_config, "layer_types", None) or [FULL])}
    if not kinds <= {FULL, SLIDING}:
        raise ValueError(f"layers of kind {', '.join(sorted(kinds - {FULL, SLIDING}))} hold no tree")
    whole = torch.cat([torch.ones(len(sees), prefix, dtype=torch.bool), sees], dim=1)
    if kinds == {FULL}:
        return _as_taken(vlm, whole)
    places = torch.cat([torch.arange(prefix), prefix + offsets])
    near = (prefix + offsets)[:, None] - places[None] < (vlm.text_config.sliding_window or len(places))
    made = {FULL: whole, SLIDING: whole & near}
    return {kind: _as_taken(vlm, made[kind]) for kind in kinds}


def _as_taken(vlm: FrozenVlm, mask: Tensor) -> Tensor:
    """A mask in the form of the model's attention: boolean, or added to the scores."""
    mask = mask[None, None].to(vlm.device)
    if getattr(vlm.text_config, "_attn_implementation", "sdpa") == "sdpa":
        return mask
    added = torch.zeros(mask.shape, dtype=vlm.activations, device=vlm.device)
    return added.masked_fill(~mask, torch.finfo(added.dtype).min)


def _has_three_axes(vlm: FrozenVlm) -> bool:
    """Whether positions have an axis each for time, height and width (M-RoPE of Qwen-VL)."""
    return hasattr(vlm.model.model, "rope_deltas")


def _edge_places(prompts: Sequence[Soft], tree: AnswerTree) -> Tensor:
    """Rows that predict the edges, prompt by prompt: shape (prompts x edges,)."""
    found, start, rows = [], 0, torch.from_numpy(tree.edge_rows)
    for prompt in prompts:
        straight = len(prompt.context) + len(prompt.question)
        found.append(start + straight - 1 + rows)
        start += straight + len(tree.fed)
    return torch.cat(found)


def _scored(vlm: FrozenVlm, hidden: Tensor, tokens: Tensor) -> Tensor:
    parts: list[Any] = [
        vlm.log_probabilities(h, t) for h, t in zip(hidden.split(HEAD_ROWS), tokens.split(HEAD_ROWS), strict=True)
    ]
    return torch.cat(parts)
