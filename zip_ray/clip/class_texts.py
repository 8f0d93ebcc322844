"""The text side of a scorer: text features of prompts over a task's classes."""

from contextlib import nullcontext
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from zip_ray.clip.cuda_graph import to_device
from zip_ray.clip.loading import FrozenClip
from zip_ray.clip.plain_text import PromptEncoder, encode_texts, token_embedding, word_embeddings
from zip_ray.clip.precision import Precision, products
from zip_ray.clip.shared_prefix import TextEncoder, make_encoder
from zip_ray.config.tree import Config
from zip_ray.prompts.low_rank import random_context
from zip_ray.prompts.options import ContextOptions
from zip_ray.protocol.arrays import Float32
from zip_ray.protocol.facts import PHOTO, Prompt
from zip_ray.protocol.shards import shard_bounds
from zip_ray.tasks import Task

PUBLISHED_SUFFIX = "."
Shard = tuple[int, int]
"""Which of how many nearly equal runs of classes."""
WHOLE: Shard = (0, 1)


class Texts:
    """Encoders of a task's class names behind contexts; each is made when it is first needed."""

    def __init__(self, clip: FrozenClip, task: Task, config: Config) -> None:
        """Find the initial context.

        Raises:
            InputError: the words of `prompt.init` cannot be used, or the tower cannot be prompted.
        """
        self._clip, self._task, self._precision = clip, task, config.model.precision
        before, after = task.template.split("{}")
        if not before.strip():  # DTD: "{} texture."
            before, _ = PHOTO.split("{}")
        soft = config.prompt if isinstance(config.prompt, ContextOptions) else ContextOptions()
        self.suffix = after if soft.init == "template" else PUBLISHED_SUFFIX
        """Text after the class name."""
        words = before if soft.init == "template" else soft.init
        self.initial_context = self._initial_context(soft, words, config.seed)
        """c0, shape (m, width)."""
        self._encoders: dict[tuple[Shard, int, str], tuple[TextEncoder, str]] = {}

    @property
    def kind(self) -> str:
        """How texts are encoded: `SHARED_PREFIX`, or the plain pass and the reason."""
        return self._encoder(WHOLE, len(self.initial_context), self.suffix)[1]

    def encode(self, prompts: list[Prompt], shard: Shard = WHOLE, precision: Precision | None = None) -> Tensor:
        """Unit-length features, shape (prompts, classes of the shard, embed).

        Args:
            prompts: all with contexts of one shape and one suffix, or all without.
            shard: which classes.
            precision: of the text tower; the configured one if None.

        Raises:
            InputError: a text is too long, or the contexts do not fit the model.
        """
        contexts = [prompt.context for prompt in prompts if prompt.context is not None]
        if not contexts:
            first, end = self._bounds(shard)
            return self.template[first:end].expand(len(prompts), -1, -1)
        encoder, _ = self._encoder(shard, len(contexts[0]), prompts[0].suffix)
        device, precision = self._clip.device, precision or self._precision
        exact = precision == "fp32" and device.type == "cpu"
        with nullcontext() if exact else products(precision, device):
            return encoder.encode(to_device(torch.from_numpy(np.stack(contexts)), device)).float()

    def sentences(self, template: str) -> Tensor:
        """Features of a sentence with {} for the class name, shape (classes, embed)."""
        texts = [template.replace("{}", name) for name in self._task.classnames]
        return encode_texts(self._clip.model, self._clip.tokenizer, texts)

    @cached_property
    def template(self) -> Tensor:
        """Features of the task's plain template, shape (classes, embed)."""
        return self.sentences(self._task.template)

    @cached_property
    def plain(self) -> PromptEncoder:
        """The plain pass over all classes, through which gradients flow."""
        tokens = len(self.initial_context)
        return PromptEncoder(self._clip.model, self._clip.tokenizer, self._task.classnames, tokens, self.suffix)

    def _encoder(self, shard: Shard, tokens: int, suffix: str | None) -> tuple[TextEncoder, str]:
        key = shard, tokens, self.suffix if suffix is None else suffix
        if key not in self._encoders:
            first, end = self._bounds(shard)
            names = self._task.classnames[first:end]
            self._encoders[key] = make_encoder(self._clip.model, self._clip.tokenizer, names, *key[1:])
        return self._encoders[key]

    def _bounds(self, shard: Shard) -> tuple[int, int]:
        return shard_bounds(len(self._task.classnames), *shard)

    def _initial_context(self, soft: ContextOptions, words: str, seed: int) -> Float32:
        model = self._clip.model
        if soft.init == "random":
            return random_context(soft.tokens, token_embedding(model).embedding_dim, seed)
        embeddings = word_embeddings(model, self._clip.tokenizer, words)
        return np.asarray(embeddings.cpu().numpy(), dtype=np.float32)
