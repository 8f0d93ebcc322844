"""The shared-prefix pass: text features of causal towers, equal to the plain pass's, at a small fraction of its work.

Only what the pooled position can attend to is computed: later positions are left out, start token and context are
computed once per prompt with their keys and values shared by all classes, and the last layer computes only the pooled
position. Class names of different lengths are packed without padding except in attention, where rows mix.
"""

from collections.abc import Sequence
from typing import Any, Protocol, cast

import psutil  # type: ignore[import-untyped]
import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn import functional

from zip_ray.clip.cuda_graph import Recorded, out_of_memory
from zip_ray.clip.loading import Tokenizer
from zip_ray.clip.plain_text import PromptEncoder
from zip_ray.clip.token_layout import TokenLayout, Unsupported, lay_out
from zip_ray.protocol.facts import SHARED_PREFIX

TOLERANCE = 1e-5
"""Largest difference of a unit-length feature from the plain pass: float32 rounding, twelve layers deep."""
FLOATS_PER_NUMBER = 24
"""Floats in memory per element of a pass's rows: residual, projections, hidden layer, attention."""
CPU_HIDDEN_BYTES = 24 * 2**20
"""Largest hidden layer of a pass on a CPU: the C library maps blocks of 32 MiB and more anew at each allocation, and
the page faults cost a third of the time."""


class TextEncoder(Protocol):
    """Contexts of shape (prompts, m, width) to unit-length features of shape (prompts, classes, embed)."""

    def encode(self, contexts: Tensor) -> Tensor: ...


class CausalEncoder:
    """A `PromptEncoder` for causal towers of open_clip's own blocks: the same features, to float32 rounding."""

    def __init__(self, plain: PromptEncoder) -> None:
        """Lay the tokens out.

        Raises:
            Unsupported: the tower is not causal, pools elsewhere, or has other blocks.
        """
        self._plain = plain
        self._tower: Any = getattr(plain.model, "text", plain.model)
        self._blocks = _blocks(self._tower)
        self._prefix = plain.start + plain.tokens
        self._context_shape = (plain.tokens, plain.width)
        positions = self._tower.positional_embedding[: self._prefix].detach().clone()
        positions[: plain.start] += plain.embedding(plain.ids[0, : plain.start])
        self._positions = positions
        """What is added to the prefix: position embeddings, and the start token."""
        self._causal = positions.new_full((self._prefix, self._prefix), -torch.inf).triu(1)
        self._classes = len(plain.ids)
        self._lay_out()
        fit = _rows_that_fit(positions.device, positions.shape[1])
        passes = -(-self._rows() // fit)
        if passes > 1:
            self._classes = -(-self._classes // passes)
            self._lay_out()
        self._prompts = max(1, fit // self._rows())
        """Prompts in one pass. Like the classes, fixed where memory is plenty: bits depend on it."""
        self._recorded = Recorded(self._passes, TOLERANCE) if positions.is_cuda else None

    @torch.inference_mode()
    def encode(self, contexts: Tensor) -> Tensor:
        """Unit-length text features, shape (prompts, classes, embed), of contexts of shape (prompts, m, width).

        When memory does not suffice, a pass takes fewer prompts, then fewer classes, from then on.

        Raises:
            InputError: a context of another number of tokens or another width.
        """
        if contexts.shape[1:] != self._context_shape:
            self._plain.check(contexts)
        while True:
            try:
                parts = contexts.to(self._positions.device).split(self._prompts)
                return torch.cat(list(map(self._recorded or self._passes, parts)))
            except RuntimeError as error:
                if not out_of_memory(error) or self._prompts == self._classes == 1:
                    raise
            self._shrink(len(contexts))

    def _shrink(self, prompts: int) -> None:
        """Halve the size of a pass."""
        if self._prompts > 1:
            self._prompts = (min(self._prompts, prompts) + 1) // 2
        else:
            self._classes = (self._classes + 1) // 2
            self._lay_out()
        if self._recorded:
            self._recorded.forget()
        if self._positions.is_cuda:
            torch.cuda.empty_cache()

    def _lay_out(self) -> None:
        self._layouts = [lay_out(self._tower, ids, self._prefix) for ids in self._plain.ids.split(self._classes)]

    def _rows(self) -> int:
        """Rows of the largest pass for one prompt, excluding the prefix."""
        return max(len(layout.rows) for layout in self._layouts)

    def _passes(self, contexts: Tensor) -> Tensor:
        """Features of some prompts and all classes."""
        return torch.cat([self._pass(contexts, layout) for layout in self._layouts], dim=1)

    def _pass(self, contexts: Tensor, layout: TokenLayout) -> Tensor:
        """Features of some prompts and some classes in one pass."""
        rows = layout.rows
        x = rows.new_empty(len(contexts), self._prefix + len(rows), rows.shape[1])
        x[:, : self._prefix] = self._positions
        x[:, self._plain.start : self._prefix] += contexts
        x[:, self._prefix :] = rows
        for block in self._blocks[:-1]:
            x = _feed_forward(block, x + self._attend(block, x, layout))
        return functional.normalize(self._project(self._last(self._blocks[-1], x, layout)), dim=-1)

    def _attend(self, block: ResidualAttentionBlock, x: Tensor, layout: TokenLayout) -> Tensor:
        """What attention adds to all rows (prompts, s + T, width)."""
        s = self._prefix
        q, k, v = _in_projection(block, block.ln_1(x), 0, 3)
        out = torch.empty_like(x)
        shared = functional.scaled_dot_product_attention(
            q[:, :s].transpose(1, 2), k[:, :s].transpose(1, 2), v[:, :s].transpose(1, 2), attn_mask=self._causal
        )
        out[:, :s] = shared.transpose(1, 2).flatten(2)
        own = self._attend_classes(q[:, s:][:, layout.slots], k, v, layout.slots, layout.mask)
        out[:, s:] = own.flatten(1, 2)[:, layout.places]
        return _out_projection(block, out)

    def _attend_classes(self, q: Tensor, k: Tensor, v: Tensor, slots: Tensor, mask: Tensor) -> Tensor:
        """Attention of grid places q (prompts, C, n, heads, head) to prefix and own class: (prompts, C, n, width)."""
        s, classes = self._prefix, len(slots)

        def keys(t: Tensor) -> Tensor:
            prefix = t[:, None, :s].expand(-1, classes, -1, -1, -1)
            return torch.cat([prefix, t[:, s:][:, slots]], dim=2).flatten(0, 1).transpose(1, 2)

        out = functional.scaled_dot_product_attention(
            q.flatten(0, 1).transpose(1, 2), keys(k), keys(v), attn_mask=mask.repeat(len(q), 1, 1, 1)
        )
        return cast(Tensor, out.transpose(1, 2).flatten(2).unflatten(0, (len(q), classes)))

    def _last(self, block: ResidualAttentionBlock, x: Tensor, layout: TokenLayout) -> Tensor:
        """The last block at the pooled position of each class: (prompts, C, width)."""
        normed = block.ln_1(x)
        pooled = self._prefix + layout.slots[:, -1]
        (q,) = _in_projection(block, normed[:, pooled], 0, 1)
        k, v = _in_projection(block, normed, 1, 3)
        out = self._attend_classes(q.unsqueeze(2), k, v, layout.slots, layout.mask[:, :, -1:])[:, :, 0]
        return _feed_forward(block, x[:, pooled] + _out_projection(block, out))

    def _project(self, x: Tensor) -> Tensor:
        x, projection = self._tower.ln_final(x), self._tower.text_projection
        if projection is None:
            return x
        return cast(Tensor, projection(x) if isinstance(projection, nn.Linear) else x @ projection)


def make_encoder(
    model: nn.Module, tokenizer: Tokenizer, classnames: Sequence[str], tokens: int, suffix: str
) -> tuple[TextEncoder, str]:
    """The fastest encoder whose features equal the plain pass's, and its name: `SHARED_PREFIX`, or why it is not that.

    The shared-prefix pass is compared with the plain pass once, on a few classes.

    Raises:
        InputError: a prompt exceeds the context length (naming the class), or the tower cannot be prompted.
    """
    plain = PromptEncoder(model, tokenizer, classnames, tokens, suffix)
    try:
        fast = CausalEncoder(plain)
    except Unsupported as error:
        return plain, f"plain pass: {error}"
    by_length = sorted(range(len(classnames)), key=lambda c: len(classnames[c]))
    chosen = sorted({by_length[0], by_length[len(by_length) // 2], by_length[-1]})
    few = PromptEncoder(model, tokenizer, [classnames[c] for c in chosen], tokens, suffix)
    spread = plain.embedding.weight.detach().std()
    context = spread * torch.randn(1, tokens, plain.width, generator=torch.Generator().manual_seed(0)).to(spread.device)
    difference = float((fast.encode(context)[:, chosen] - few.encode(context)).abs().max())
    if not difference <= TOLERANCE:  # NaN too
        return plain, f"plain pass: shared-prefix features differ by {difference:.1e}, more than {TOLERANCE:.0e}"
    return fast, SHARED_PREFIX


def _rows_that_fit(device: torch.device, width: int) -> int:
    """Rows in a pass: as many as half of the memory that is free holds, on a CPU at most what allocates cheaply."""
    if device.type == "cuda":
        return max(1, torch.cuda.mem_get_info(device)[0] // (8 * FLOATS_PER_NUMBER * width))
    free = psutil.virtual_memory().available // (8 * FLOATS_PER_NUMBER * width)
    return int(max(1, min(free, CPU_HIDDEN_BYTES // (16 * width))))


def _blocks(tower: nn.Module) -> list[ResidualAttentionBlock]:
    """The tower's blocks.

    Raises:
        Unsupported: they are not open_clip's standard ones.
    """
    blocks = list(getattr(getattr(tower, "transformer", None), "resblocks", []))
    if not blocks or any(type(block) is not ResidualAttentionBlock for block in blocks):
        raise Unsupported(f"{type(tower).__name__} has other blocks than open_clip's standard ones")
    return blocks


def _in_projection(block: ResidualAttentionBlock, x: Tensor, first: int, end: int) -> tuple[Tensor, ...]:
    """The thirds first .. end of query, key and value, each of shape (..., heads, head)."""
    width = x.shape[-1]
    weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
    part = slice(first * width, end * width)
    projected = functional.linear(x, weight[part], None if bias is None else bias[part])
    thirds = projected.unflatten(-1, (end - first, block.attn.num_heads, -1)).unbind(-3)
    return cast("tuple[Tensor, ...]", thirds)


def _out_projection(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """What attention adds to the residual, from its heads' outputs (..., width)."""
    return cast(Tensor, block.ls_1(functional.linear(x, block.attn.out_proj.weight, block.attn.out_proj.bias)))


def _feed_forward(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """The second half of a block."""
    return cast(Tensor, x + block.ls_2(block.mlp(block.ln_2(x))))
