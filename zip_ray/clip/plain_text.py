"""Soft prompts for any open_clip text tower: placeholder tokens whose embeddings are replaced by the context.

The replacement happens in a forward hook on the token embedding, so that masks, class tokens, pooling and the
end-of-text position stay the library's own (CLIP, CustomTextCLIP, CoCa, SigLIP, towers of transformers).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from open_clip.hf_model import HFTextEncoder
from torch import Tensor, nn
from torch.nn import functional

from zip_ray.clip.loading import Tokenizer
from zip_ray.errors import InputError

PLACEHOLDER = "X"
ROWS_PER_PASS = 256
"""Texts per pass of the tower; fixed, so that a pair's bits do not depend on the actor that computes it."""


def token_embedding(model: nn.Module) -> nn.Embedding:
    """The token embedding of a text tower.

    Raises:
        InputError: the text tower has none that a context could replace.
    """
    for owner in (model, getattr(model, "text", None)):
        embedding = getattr(owner, "token_embedding", None)
        if isinstance(embedding, nn.Embedding):
            return embedding
    tower = getattr(model, "text", model)
    if isinstance(tower, HFTextEncoder):
        return cast(nn.Embedding, tower.transformer.get_input_embeddings())
    raise InputError(
        f"model.name: the text tower {type(tower).__name__} has no token embedding that a prompt could replace: "
        "choose a model whose text tower is open_clip's own (CLIP, CustomTextCLIP, CoCa, SigLIP) or of transformers"
    )


def tokenize(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> Tensor:
    """Token ids, shape (texts, length), never cut.

    Raises:
        InputError: a text is longer than the model's context; the first such text is named.
    """
    pad = _padding(tokenizer)
    wide = tokenizer(list(texts), context_length=4 * length)
    # Real tokens of a text end before the first padding that reaches to the end of its row.
    used = ((wide != pad) * torch.arange(1, wide.shape[1] + 1)).amax(dim=1)
    for text, tokens in zip(texts, used.tolist(), strict=True):
        if tokens > length:
            shown = text.replace(f"{PLACEHOLDER} ", "")
            raise InputError(
                f"'{shown}': the prompt of this class has at least {tokens} tokens, the model takes {length}: "
                "shorten the class name or lower prompt.tokens"
            )
    return wide[:, :length]


@torch.inference_mode()
def encode_texts(model: nn.Module, tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Unit-length features of plain texts, shape (texts, embed): the library's own `encode_text`.

    Raises:
        InputError: a text is longer than the model's context.
    """
    ids = tokenize(tokenizer, texts, context_length(model, tokenizer)).to(next(model.parameters()).device)
    features = [model.encode_text(part, normalize=False) for part in ids.split(ROWS_PER_PASS)]  # type: ignore[operator]
    return functional.normalize(torch.cat(features), dim=-1)


def word_embeddings(model: nn.Module, tokenizer: Tokenizer, words: str) -> Tensor:
    """Embeddings of the words' tokens, without start and end of text: shape (tokens, width).

    Raises:
        InputError: the words hold no token, or too many.
    """
    if not words.strip():
        raise InputError(f"prompt.init: '{words}' holds no words: give some, or use template or random")
    embedding = token_embedding(model)
    ids = _own_tokens(tokenizer, words, context_length(model, tokenizer))
    return cast(
        Tensor, embedding(ids.to(embedding.weight.device)).detach()
    )  # not the weights: some modules scale their rows


class PromptEncoder:
    """Text features of "<context> <class name><suffix>" for all classes, for any number of contexts at once."""

    def __init__(
        self, model: nn.Module, tokenizer: Tokenizer, classnames: Sequence[str], tokens: int, suffix: str = "."
    ) -> None:
        """Tokenise the prompts once.

        Args:
            model: a model of open_clip.
            tokenizer: its tokenizer.
            classnames: one per class; "_" is read as a space.
            tokens: m, the number of context tokens.
            suffix: text after the class name.

        Raises:
            InputError: a prompt exceeds the context length (naming the class), or the tower cannot be prompted.
        """
        self.model = model
        self.embedding = token_embedding(model)
        holders = " ".join([PLACEHOLDER] * tokens)
        texts = [f"{holders} {name.replace('_', ' ')}{suffix}" for name in classnames]
        length = context_length(model, tokenizer)
        ids = tokenize(tokenizer, texts, length)
        self.start = _text_start(tokenizer, length)
        """Position of the first context token."""
        self.tokens = tokens
        alone = _own_tokens(tokenizer, holders, length)  # where a space is part of a token, the first is another one
        if len(alone) != tokens or not (ids[:, self.start : self.start + tokens] == alone).all():
            raise InputError(
                f"model.name: its tokenizer does not keep '{PLACEHOLDER}' as one token: choose another model"
            )
        self.ids = ids.to(self.embedding.weight.device)
        """Tokens with placeholders, shape (classes, context length)."""

    @property
    def width(self) -> int:
        """Length of a token embedding."""
        return self.embedding.embedding_dim

    def check(self, contexts: Tensor) -> None:
        """Refuse contexts that are not of shape (prompts, m, width).

        Raises:
            InputError: another number of tokens or another width.
        """
        if contexts.shape[1:] != (self.tokens, self.width):
            raise InputError(
                f"a context of shape {tuple(contexts.shape[1:])} does not fit a model that takes "
                f"({self.tokens}, {self.width}): use the model that the prompt was tuned on"
            )

    @torch.inference_mode()
    def encode(self, contexts: Tensor) -> Tensor:
        """Unit-length text features.

        Args:
            contexts: shape (prompts, m, width), float32.

        Returns:
            Shape (prompts, classes, embed).

        Raises:
            InputError: a context of another number of tokens or another width.
        """
        return self.differentiable(contexts)

    def differentiable(self, contexts: Tensor) -> Tensor:
        """As `encode`, with gradients that flow back to the contexts."""
        self.check(contexts)
        prompts, classes = contexts.shape[0], self.ids.shape[0]
        contexts = contexts.to(self.ids.device)
        rows = torch.arange(prompts * classes, device=self.ids.device)
        features = [
            self._encode_rows(self.ids[part % classes], contexts[part // classes]) for part in rows.split(ROWS_PER_PASS)
        ]
        return functional.normalize(torch.cat(features), dim=-1).reshape(prompts, classes, -1)

    def _encode_rows(self, ids: Tensor, contexts: Tensor) -> Tensor:
        with self._replaced(contexts):
            features: Tensor = self.model.encode_text(ids, normalize=False)  # type: ignore[operator]
        return features

    @contextmanager
    def _replaced(self, contexts: Tensor) -> Iterator[None]:
        def replace(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            output = output.clone()
            output[:, self.start : self.start + self.tokens] = contexts
            return output

        handle = self.embedding.register_forward_hook(replace)
        try:
            yield
        finally:
            handle.remove()


def context_length(model: nn.Module, tokenizer: Tokenizer) -> int:
    """Positions that the text tower reads, at most as many as its tokenizer gives: towers of transformers read more.

    Raises:
        InputError: neither has one.
    """
    said = [getattr(owner, "context_length", None) for owner in (model, getattr(model, "text", None), tokenizer)]
    lengths = [length for length in said if isinstance(length, int) and length > 0]
    if not lengths:
        raise InputError(f"model.name: {type(model).__name__} has no context length: choose another model")
    return min(lengths)


def _own_tokens(tokenizer: Tokenizer, text: str, length: int) -> Tensor:
    """Token ids of a text without those of its start and end, shape (tokens,)."""
    pad, start = _padding(tokenizer), _text_start(tokenizer, length)
    ids = tokenize(tokenizer, [text, ""], length)
    count = int((ids[0] != pad).sum() - (ids[1] != pad).sum())
    return ids[0, start : start + count]


def _text_start(tokenizer: Tokenizer, length: int) -> int:
    """Index of the first token of a text: 1 behind a start-of-text token, 0 where there is none."""
    empty, word = tokenize(tokenizer, ["", PLACEHOLDER], length)
    return int((empty != word).nonzero()[0])


def _padding(tokenizer: Tokenizer) -> int:
    inner = getattr(tokenizer, "tokenizer", None)  # a Hugging Face tokenizer inside open_clip's wrapper
    return int(getattr(inner, "pad_token_id", 0) or 0)
