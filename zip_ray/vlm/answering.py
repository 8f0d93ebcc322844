"""A frozen generative model with its chat template: scores of answers in words to questions in words."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property, lru_cache, partial

import numpy as np
import torch
from PIL import Image

from zip_ray.errors import InputError
from zip_ray.protocol.arrays import Float32, Float64
from zip_ray.protocol.facts import Prompt, Scoring
from zip_ray.tasks import ImageSet
from zip_ray.tasks.asked_images import asked_of
from zip_ray.vlm.answer_tree import Answers, answer_tree
from zip_ray.vlm.chat import Chat, read_chat
from zip_ray.vlm.frozen_vlm import FrozenVlm
from zip_ray.vlm.likelihoods import Likelihoods, Picture
from zip_ray.vlm.prefix_store import PrefixStore
from zip_ray.vlm.tree_pass import Soft

NO_WEIGHT = 50.0
"""Below the logsumexp of an image's scores: that of a candidate which the image does not have."""


class Answering:
    """Words in, scores out."""

    def __init__(
        self,
        vlm: FrozenVlm,
        scoring: Scoring,
        store: PrefixStore,
        likelihoods: Callable[[FrozenVlm, Chat, PrefixStore, Scoring], Likelihoods] = Likelihoods,
    ) -> None:
        """Read the chat template.

        Args:
            vlm: the frozen model.
            scoring: of an answer.
            store: of prefixes.
            likelihoods: makes what scores tokens, here or on a server.

        Raises:
            InputError: it cannot be used.
        """
        self._vlm, self._store, self.chat = vlm, store, read_chat(vlm)
        self._likelihoods = likelihoods(vlm, self.chat, store, scoring)
        self.answer_ids = lru_cache(maxsize=4096)(self._answer_ids)
        """Token ids of candidates, their end tokens among them."""
        self.room = store.room
        """Bytes of memory for keys and values."""
        self.prefix_size = 0
        """Bytes of an image's keys and values, known after `check`."""

    @property
    def kind(self) -> str:
        """How answers are scored (see `VlmFacts.text_pass`)."""
        return self._likelihoods.kind

    @property
    def stored(self) -> dict[str, int]:
        """How many prefixes are kept in memory, and how many in files."""
        return self._store.places

    @cached_property
    def token_std(self) -> float:
        """Standard deviation of the numbers in the token embeddings."""
        tokens = self._vlm.model.get_input_embeddings().weight.shape[0]
        some = torch.arange(0, tokens, max(1, tokens // 4096))
        return float(self._vlm.embed(some).double().std())

    def embed(self, words: str) -> Float32:
        """Token embeddings of words, shape (tokens, width).

        Raises:
            InputError: there are none.
        """
        ids = self._vlm.token_ids(words.strip())
        if not ids:
            raise InputError(f"prompt.init: '{words}' has no words: give some, or a question")
        found: Float32 = self._vlm.embed(torch.tensor(ids)).cpu().numpy()
        return found

    def scores(
        self,
        prompts: Sequence[Prompt | str],
        question: str,
        candidates: tuple[str, ...],
        keys: Sequence[Hashable],
        images: Sequence[Callable[[], Image.Image]],
        lasting: bool = True,
        columns: int | None = None,
    ) -> Float64:
        """Scores of candidates, shape (prompts, images, columns).

        Args:
            prompts: contexts, each with the question behind it; or sentences with {} for the answer.
            question: of these images, behind that of the prompt; empty for none.
            candidates: the answers.
            keys: of the images, by which their prefixes are kept.
            images: what opens them.
            lasting: whether their prefixes are worth a file.
            columns: at least as many as there are candidates; those behind them have no weight. None for as many.

        Raises:
            InputError: an image, a question or an answer cannot be used.
        """
        pictures = [Picture(key, opened, lasting) for key, opened in zip(keys, images, strict=True)]
        soft = [self._soft(prompt, question) for prompt in prompts]
        found: Float64 = self._likelihoods.scores(soft, pictures, self.answer_ids(candidates)).numpy()
        missing = (columns or len(candidates)) - len(candidates)
        if not missing:
            return found
        floor = np.logaddexp.reduce(found, axis=2, keepdims=True) - NO_WEIGHT
        return np.concatenate([found, np.repeat(floor, missing, axis=2)], axis=2)

    def check(
        self,
        prompts: Sequence[Prompt | str],
        question: str,
        candidates: tuple[str, ...],
        key: Hashable,
        opened: Callable[[], Image.Image],
    ) -> None:
        """Hold the tree pass against the plain pass on one image; arguments as `scores` takes them.

        Raises:
            InputError: the image, the question or an answer cannot be used.
        """
        picture = Picture(key, opened)
        answers = self.answer_ids(candidates)
        answer_tree(answers)
        self._likelihoods.check(picture, [self._soft(prompt, question) for prompt in prompts], answers)
        self.prefix_size = self._likelihoods.prefix_size(picture)

    def _soft(self, prompt: Prompt | str, question: str) -> Soft:
        if isinstance(prompt, str):
            words, behind = question_of(prompt)
            prompt = Prompt(self.embed(words), suffix=behind)
        assert prompt.context is not None
        words = " ".join(part for part in (prompt.suffix, question) if part)
        return Soft(torch.from_numpy(prompt.context), self.question_ids(words))

    def question_ids(self, question: str) -> tuple[int, ...]:
        """Token ids between a context and the answer."""
        return tuple(self.chat.question_ids(self._vlm, question))

    def _answer_ids(self, candidates: tuple[str, ...]) -> Answers:
        return tuple(tuple(self.chat.answer_ids(self._vlm, one)) for one in candidates)


def scores_on(
    answering: Answering,
    prompts: Sequence[Prompt | str],
    data: ImageSet,
    classnames: tuple[str, ...],
    places: Sequence[int] | None = None,
    split: str | None = None,
) -> Float64:
    """Scores of a task's candidates on images, each with its own question where it has one.

    Args:
        answering: the model.
        prompts: as `Answering.scores` takes them.
        data: the images.
        classnames: of the task.
        places: of the images that are asked about; None for all.
        split: by which their prefixes are kept; those of `test` are not worth a file.

    Returns:
        Shape (prompts, images, classes). A candidate that an image does not have has no weight.

    Raises:
        InputError: as `Answering.scores`.
    """
    chosen = range(len(data)) if places is None else places
    of_kind: dict[tuple[str, tuple[str, ...]], list[int]] = defaultdict(list)
    for place, image in enumerate(chosen):
        of_kind[asked_of(data, image, classnames)].append(place)
    found = np.empty((len(prompts), len(chosen), len(classnames)))
    for (question, candidates), alike in of_kind.items():
        keys = [(split, chosen[place]) for place in alike]
        opened = [partial(data.image, chosen[place]) for place in alike]
        lasting = split in ("train", "val")
        scores = answering.scores(prompts, question, candidates, keys, opened, lasting, len(classnames))
        found[:, alike] = scores
    return found


def question_of(template: str) -> tuple[str, str]:
    """The question of a template, which stands before {}, and what is behind {}: it is read before the answer too."""
    before, _, behind = template.partition("{}")
    return before.strip(), behind
