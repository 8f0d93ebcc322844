"""The text side of a scorer: text features of prompts over a task's classes."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from zip_ray.clip.cuda_graph import to_device
from zip_ray.clip.loading import FrozenClip
from zip_ray.clip.plain_text import PromptEncoder, encode_texts, token_embedding, word_embeddings
from zip_ray.clip.precision import Precision, products
from zip_ray.clip.shared_prefix import TextEncoder, make_encoder
from zip_ray.config.tree import Config
from zip_ray.prompts.initial_text import PUBLISHED_SUFFIX, around, read_tuned_start
from zip_ray.prompts.low_rank import random_context
from zip_ray.prompts.options import FROM_TEMPLATE, ContextOptions, is_place
from zip_ray.protocol.arrays import Float32
from zip_ray.protocol.facts import Prompt
from zip_ray.protocol.shards import shard_bounds
from zip_ray.tasks import Task

SENTENCES_KEPT = 64
"""Number of sentences whose features are kept: a hand-written template is scored on many mini-batches."""
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
        self._clip, self._task, self._precision = clip, task, config.clip.precision
        soft = config.prompt if isinstance(config.prompt, ContextOptions) else ContextOptions()
        words, after = around(task.template)
        self.suffix = after if soft.init in FROM_TEMPLATE else PUBLISHED_SUFFIX
        """Text after the class name."""
        if is_place(soft.init):
            self.initial_context, self.suffix = read_tuned_start(soft.init, clip.weights_digest)
        else:
            self.initial_context = self._initial_context(soft, words, config.seed)
        """c0, shape (m, width)."""
        self.sentences = lru_cache(SENTENCES_KEPT)(self._sentences)
        """Features of a sentence with {} for the class name, over a shard: shape (classes of the shard, embed)."""
        self._encoders: dict[tuple[Shard, int, str], tuple[TextEncoder, str]] = {}
        self._plain: dict[tuple[int, str], PromptEncoder] = {}

    @property
    def kind(self) -> str:
        """How texts are encoded: `SHARED_PREFIX`, or the plain pass and the reason."""
        return self._encoder(WHOLE, len(self.initial_context), self.suffix)[1]

    def start(self, template: str) -> tuple[Float32, str]:
        """The context that a template's words make, shape (m, width), and the suffix behind the class name.

        Raises:
            InputError: the words cannot be used.
        """
        words, suffix = around(template)
        return self._words(words), suffix

    def encode(
        self, prompts: Sequence[Prompt | str], shard: Shard = WHOLE, precision: Precision | None = None
    ) -> Tensor:
        """Unit-length features, shape (prompts, classes of the shard, embed).

        Args:
            prompts: or sentences with {} for the class name; those that are alike go through the tower together.
            shard: which classes.
            precision: of the text tower; the configured one if None.

        Raises:
            InputError: a text is too long, or the contexts do not fit the model.
        """
        alike: dict[object, list[int]] = {}
        for place, prompt in enumerate(prompts):
            alike.setdefault(_kind(prompt), []).append(place)
        found = [
            self._encode_alike([prompts[place] for place in places], shard, precision) for places in alike.values()
        ]
        if len(found) == 1:
            return found[0]
        back = np.argsort(np.concatenate(list(alike.values())))
        return torch.cat(found)[to_device(torch.from_numpy(back), self._clip.device)]

    def _encode_alike(self, prompts: Sequence[Prompt | str], shard: Shard, precision: Precision | None) -> Tensor:
        """The same for prompts with equal context length and suffix, or for copies of one sentence."""
        first = prompts[0]
        contexts = [one.context for one in prompts if isinstance(one, Prompt) and one.context is not None]
        if isinstance(first, str) or not contexts:
            sentence = first if isinstance(first, str) else self._task.template
            return self.sentences(sentence, shard).expand(len(prompts), -1, -1)
        encoder, _ = self._encoder(shard, len(contexts[0]), first.suffix)
        device, precision = self._clip.device, precision or self._precision
        exact = precision == "fp32" and device.type == "cpu"
        with nullcontext() if exact else products(precision, device):
            return encoder.encode(to_device(torch.from_numpy(np.stack(contexts)), device)).float()

    def _sentences(self, template: str, shard: Shard = WHOLE) -> Tensor:
        first, end = self._bounds(shard)
        texts = [template.replace("{}", name) for name in self._task.classnames[first:end]]
        return encode_texts(self._clip.model, self._clip.tokenizer, texts)

    def plain(self, tokens: int, suffix: str | None) -> PromptEncoder:
        """The plain pass over all classes, through which gradients flow.

        Args:
            tokens: m, of the contexts.
            suffix: text after the class name; None for the run's own.
        """
        key = tokens, self.suffix if suffix is None else suffix
        if key not in self._plain:
            self._plain[key] = PromptEncoder(self._clip.model, self._clip.tokenizer, self._task.classnames, *key)
        return self._plain[key]

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
        if soft.init == "random":
            return random_context(soft.tokens, token_embedding(self._clip.model).embedding_dim, seed)
        return self._words(words if soft.init in FROM_TEMPLATE else soft.init)

    def _words(self, words: str) -> Float32:
        embeddings = word_embeddings(self._clip.model, self._clip.tokenizer, words)
        return np.asarray(embeddings.cpu().numpy(), dtype=np.float32)


def _kind(prompt: Prompt | str) -> object:
    """A key that is equal for prompts whose texts can go through the tower together."""
    if isinstance(prompt, str):
        return prompt
    return None if prompt.context is None else (len(prompt.context), prompt.suffix)
