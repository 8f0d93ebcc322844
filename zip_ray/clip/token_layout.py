"""Which tokens of class names a causal tower must compute, and how they are packed for the shared-prefix pass."""

from typing import Any, NamedTuple

import torch
from open_clip.transformer import text_global_pool
from torch import Tensor
from torch.nn import functional

from zip_ray.clip.plain_text import ROWS_PER_PASS


class Unsupported(Exception):
    """Raised if the tower needs the plain pass; the message says why."""


class TokenLayout(NamedTuple):
    """Where the tokens of all classes lie, T in all, at most N in a class of C; the prefix has s positions."""

    rows: Tensor
    """Embeddings with positions of the class tokens, packed: shape (T, width)."""
    slots: Tensor
    """Index into the packed rows of each place of the padded grid, right-aligned, pads 0: shape (C, N)."""
    places: Tensor
    """Index into the flattened grid of each packed row: shape (T,)."""
    mask: Tensor
    """What each place of the grid sees of prefix and grid, 0 or -inf: shape (C, 1, N, s + N)."""


def lay_out(tower: Any, ids: Tensor, prefix: int) -> TokenLayout:
    """Lay out what the pooled positions can see.

    Args:
        tower: a text tower of open_clip.
        ids: token ids of the classes' prompts, shape (C, context length).
        prefix: s, positions that all classes share.

    Raises:
        Unsupported: the prefix sees a class token, or the pooled position is not the last that is needed.
    """
    rows, sees, lengths = [], [], []
    for part in ids.split(ROWS_PER_PASS):  # masks are large: one per class
        embedded, visible, pooled = _sequence(tower, part)
        if visible[:, :prefix, prefix:].any():
            raise Unsupported("the context sees the class name: the tower is not causal")
        needed = _closure(visible, pooled)
        needed[:, :prefix] = False
        for x, seen, need, last in zip(embedded, visible, needed, pooled.tolist(), strict=True):
            kept = need.nonzero()[:, 0]
            if last != int(kept[-1]):
                raise Unsupported("the pooled position is not the last: the tower pools elsewhere")
            rows.append(x[kept])
            sees.append(torch.cat([seen[kept, :prefix], seen[kept][:, kept]], dim=1))
            lengths.append(len(kept))
    longest, device = max(lengths), ids.device
    slots = torch.zeros(len(ids), longest, dtype=torch.long, device=device)
    mask = torch.full((len(ids), longest, prefix + longest), -torch.inf, device=device)
    mask[:, :, :prefix] = 0.0  # a pad must see something: its softmax would be NaN
    places, start = [], 0
    for c, (seen, n) in enumerate(zip(sees, lengths, strict=True)):
        slots[c, longest - n :] = torch.arange(start, start + n, device=device)
        block = torch.zeros(seen.shape, device=device).masked_fill(~seen, -torch.inf)
        mask[c, longest - n :, :prefix] = block[:, :prefix]
        mask[c, longest - n :, prefix + longest - n :] = block[:, prefix:]
        places.append(torch.arange((c + 1) * longest - n, (c + 1) * longest, device=device))
        start += n
    return TokenLayout(torch.cat(rows), slots, torch.cat(places), mask.unsqueeze(1))


def _sequence(tower: Any, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the tower makes of token ids (n, length): embeddings (n, L, width), visibility (n, L, L), pooled (n,)."""
    if hasattr(tower, "_embeds"):
        embedded, mask = tower._embeds(ids)
        pool = "last" if tower.cls_emb is not None else tower.pool_type
        eos = tower.eos_id
    else:
        embedded = tower.token_embedding(ids) + tower.positional_embedding
        mask, pool, eos = tower.attn_mask, tower.text_pool_type, getattr(tower, "text_eos_id", None)
    n, length = embedded.shape[:2]
    if mask is None:
        raise Unsupported("the tower is not causal")
    if mask.ndim == 3 and len(mask) > n:  # one per head, all the same
        mask = mask.unflatten(0, (n, -1))[:, 0]
    positions = torch.arange(length, device=ids.device).expand(n, -1)
    pooled = text_global_pool(positions.unsqueeze(-1), ids, pool, eos)
    if pooled.ndim != 2:
        raise Unsupported(f"the tower pools by '{pool}'")
    return embedded, (mask > -torch.inf).expand(n, length, length), pooled[:, 0]


def _closure(visible: Tensor, pooled: Tensor) -> Tensor:
    """Positions that `pooled` sees, directly or through others: boolean, shape (n, L)."""
    reached = functional.one_hot(pooled, visible.shape[-1]).bool()
    while True:
        wider = reached | (reached.unsqueeze(1).float() @ visible.float()).squeeze(1).bool()
        if torch.equal(wider, reached):
            return reached
        reached = wider
