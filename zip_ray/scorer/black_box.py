"""A base for the user's own scorers, from two methods: token embeddings of words, class scores of prompts on images.

numpy only: the model may be anywhere, behind an HTTP service for instance.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from scipy.special import logsumexp

from zip_ray.config.model import ScorerOptions
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.prompts.initial_text import PUBLISHED_SUFFIX, around
from zip_ray.prompts.low_rank import random_context
from zip_ray.prompts.options import FROM_TEMPLATE, ContextOptions, is_place
from zip_ray.protocol.arrays import Float32, Float64, Int32, Int64
from zip_ray.protocol.facts import Facts, ModelShape, Prompt, Split
from zip_ray.protocol.losses import image_losses
from zip_ray.protocol.messages import (
    Ask,
    AskResult,
    Encoding,
    EncodingResult,
    Evaluation,
    EvaluationResult,
    FactsRequest,
    Gradient,
    Pass,
    Slice,
    Value,
    Work,
)
from zip_ray.protocol.mini_batches import asked_images
from zip_ray.protocol.readout import apply
from zip_ray.protocol.shards import ShardStatistics, SliceResult, shard_bounds
from zip_ray.scorer.starts import Starts
from zip_ray.tasks import ImageSet, Task


class BlackBoxScorer(ABC):
    """A frozen model that returns only class scores. A subclass has `Options`, `embed` and `scores`."""

    Options: ClassVar[type[ScorerOptions]]
    """Its section of the config, `model`."""
    device: str = "elsewhere"
    """Where the model runs, for the record."""
    identity: str = ""
    """Identity of the model, such as a version; a run can be resumed only with the same one."""

    def __init__(self, options: ScorerOptions, task: Task, config: Config) -> None:
        """Find the initial context.

        Args:
            options: the section `model`.
            task: images, labels, class names.
            config: of the run.

        Raises:
            InputError: the prompt or the task needs what this scorer does not offer.
        """
        if not isinstance(config.prompt, ContextOptions) or config.prompt.visual:
            raise InputError(f"prompt.space: '{config.prompt.space}' prompts images: choose a space of contexts")
        if config.task.views != 0:
            raise InputError(f"task.views: {config.task.views}: this scorer makes no crops: leave it out")
        self.options, self.task, self.config = options, task, config
        self.splits: dict[Split, ImageSet] = {"train": task.train, "val": task.val, "test": task.test}
        """The images by split."""
        shape, self.suffix = self.begin(config.prompt)
        self._starts = Starts(self, shape, config)

    def begin(self, prompt: ContextOptions) -> tuple[ModelShape, str]:
        """The model's shape with the configured initial context, and the text after the class name.

        Raises:
            InputError: the words cannot be used.
        """
        init = prompt.init
        if is_place(init):
            raise InputError(f"prompt.init: '{init}': this scorer starts from words or at random")
        words, after = around(self.task.template)
        known = self.embed(words if init in ("random", *FROM_TEMPLATE) else init)
        context = random_context(prompt.tokens, known.shape[1], self.config.seed) if init == "random" else known
        suffix = after if init in FROM_TEMPLATE else PUBLISHED_SUFFIX
        return ModelShape(context, token_std=float(known.std())), suffix

    @abstractmethod
    def embed(self, words: str) -> Float32:
        """Token embeddings of words, shape (tokens, width).

        Raises:
            InputError: the words cannot be used.
        """

    @abstractmethod
    def scores(self, prompts: Sequence[Prompt | str], split: Split, images: Int64) -> Float32 | Float64:
        """Class scores (logits), shape (prompts, images, classes).

        Args:
            prompts: each a context, shape (m, width), with a suffix (None: `self.suffix`), or a sentence with {} for
                the class name.
            split: of the images.
            images: their indices in it.

        Raises:
            InputError: a text or an image cannot be used.
        """

    def start(self, template: str) -> tuple[Float32, str]:
        """The context that a template's words make, and the text after the class name."""
        words, suffix = around(template)
        return self.embed(words), suffix

    def facts(self, start: str | None = None) -> Facts:
        """The facts for the driver; raises InputError if a start cannot be used."""
        task, (shape, suffix) = self.task, self._starts.shape(start)
        return Facts(
            shape=shape,
            classnames=task.classnames,
            template=task.template,
            templates=task.templates,
            suffix=suffix,
            images={split: len(images) for split, images in self.splits.items()},
            device=self.device,
            labels=task.train.labels,
            val_labels=task.val.labels,
            weights_digest=self.identity,
        )

    def answer(self, work: Work) -> Value:
        """Do a piece of work.

        Raises:
            InputError: it is of a kind that class scores do not suffice for.
        """
        match work.body:
            case Pass(asks) if not isinstance(asks[0], Gradient):
                return tuple(self._result(ask, *found) for ask, found in zip(asks, self._asked(asks), strict=True))
            case Slice() as part if part.over == "images":
                return SliceResult(tuple(self._shards(part)))
            case Evaluation() as evaluation:
                return self._evaluate(evaluation)
            case Encoding(w, start):
                no_features = np.empty((len(self.task.classnames), 0), np.float32)
                return EncodingResult(self._starts.prompt(w, start), no_features)
            case FactsRequest(start):
                return self.facts(start)
        raise InputError("model.scorer: it gives class scores only: no gradients, no shards of the classes, no crops")

    def _asked(self, asks: Sequence[Ask], part: Slice | None = None) -> list[tuple[Float64, Int64]]:
        """Of each ask: logits of its points (points, images, classes), and its images; those on the same images go
        through the model together.
        """
        images = [self._images(ask, part) for ask in asks]
        prompts = [self._starts.asked(ask, None if part is None else part.sides) for ask in asks]
        alike: dict[bytes, list[int]] = {}
        for place, chosen in enumerate(images):
            alike.setdefault(chosen.tobytes(), []).append(place)
        found: dict[int, Float64] = {}
        for places in alike.values():
            together = [prompt for place in places for prompt in prompts[place]]
            scores = np.asarray(self.scores(together, "train", images[places[0]]), dtype=np.float64)
            bounds = np.cumsum([len(prompts[place]) for place in places])
            found |= dict(zip(places, np.split(scores, bounds[:-1]), strict=True))
        return [(found[place], chosen) for place, chosen in enumerate(images)]

    def _images(self, ask: Ask, part: Slice | None) -> Int64:
        """The images of an ask, or a shard of them."""
        images = asked_images(ask, len(self.task.train.labels), self.config.task.batch_size, self.config.seed)
        return images if part is None else images[slice(*shard_bounds(len(images), part.shard, part.shards))]

    def _result(self, ask: Ask, found: Float64, images: Int64) -> AskResult:
        losses, accuracy = self._judge(found, self.task.train.labels[images])
        scores = self._wanted(ask, found)
        kept = None if scores is None else np.ascontiguousarray(scores, dtype=np.float32)
        return AskResult(tuple(losses), accuracy, scores=kept)

    def _wanted(self, ask: Ask, found: Float64, places: slice = slice(None)) -> Float64 | None:
        """The logits (points, images, classes) that an ask wants; `places` are these images' places in the ask."""
        if ask.scores is None or ask.scores.classes is None:
            return None if ask.scores is None else found
        return _pooled(found, ask.scores.classes[places])

    def _shards(self, part: Slice) -> Iterator[ShardStatistics]:
        """The answer of a shard of the images to each ask of a slice."""
        for ask, (found, images) in zip(part.asks, self._asked(part.asks, part), strict=True):
            labels, maxima = self.task.train.labels[images], found.max(axis=2)
            places = slice(*shard_bounds(len(self._images(ask, None)), part.shard, part.shards))
            scores: Float32 | Float64 | None = self._wanted(ask, found, places)
            if ask.scores is not None and ask.scores.classes is None:
                scores = found.astype(np.float32)
            yield ShardStatistics(
                maxima,
                np.exp(found - maxima[..., None]).sum(axis=2),
                found[:, np.arange(len(labels)), labels],
                found.argmax(axis=2) == labels,
                scores,
            )

    def _evaluate(self, evaluation: Evaluation) -> EvaluationResult:
        images = np.arange(*(evaluation.part or (0, len(self.splits[evaluation.split]))))
        given = evaluation.prompt
        prompt = self._starts.prompt(given, evaluation.start) if isinstance(given, np.ndarray) else given
        further = [] if evaluation.readout is None else evaluation.readout.prompts
        found = np.asarray(self.scores([prompt, *further], evaluation.split, images), dtype=np.float64)
        if evaluation.readout is not None:
            found = apply(evaluation.readout, list(found))[None]
        (loss,), accuracy = self._judge(found[:1], self.splits[evaluation.split].labels[images], plain=True)
        scores = found[0].astype(np.float32) if evaluation.scores else None
        return EvaluationResult(loss, accuracy, len(images), scores)

    def _judge(self, found: Float64, labels: Int64, plain: bool = False) -> tuple[list[float], float]:
        """Mean loss of each prompt, and the mean accuracy, from logits (prompts, images, classes)."""
        own = found[:, np.arange(len(labels)), labels]
        entropies = logsumexp(found, axis=2) - own
        loss = "cross-entropy" if plain else self.config.optimizer.loss
        losses = image_losses(entropies, loss).mean(axis=1)
        return losses.tolist(), float((found.argmax(axis=2) == labels).mean())


def _pooled(found: Float64, classes: Int32) -> Float64:
    """Logits of each image's chosen classes, and the logsumexp of its others: shape (prompts, images, k + 1)."""
    places = np.broadcast_to(classes, (len(found), *classes.shape))
    rest = found.copy()
    np.put_along_axis(rest, places, -np.inf, axis=2)
    return np.concatenate([np.take_along_axis(found, places, axis=2), logsumexp(rest, axis=2, keepdims=True)], axis=2)
