"""The scorer of generative models: a mini-batch's candidate answers at prompts, behind the images' kept prefixes."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import ClassVar

import numpy as np
import torch

from zip_ray.clip.device import choose_device, describe
from zip_ray.clip.feature_cache import default_folder
from zip_ray.config.model import GenerativeOptions, VlmConfig
from zip_ray.config.threads import threads
from zip_ray.config.tree import Config
from zip_ray.prompts.initial_text import read_tuned_start
from zip_ray.prompts.low_rank import random_context
from zip_ray.prompts.options import FROM_TEMPLATE, ContextOptions, is_place
from zip_ray.protocol.arrays import Float32, Float64, Int64
from zip_ray.protocol.facts import Facts, ModelShape, Prompt, Split, VlmFacts
from zip_ray.scorer.black_box import BlackBoxScorer
from zip_ray.tasks import Task, load_task
from zip_ray.tasks.asked_images import asked_of
from zip_ray.tasks.identity import identity, shared_images
from zip_ray.vlm.answering import Answering, question_of, scores_on
from zip_ray.vlm.frozen_vlm import FrozenVlm, load_vlm
from zip_ray.vlm.memory import GIB, SHARE, free_memory, room_on_gpus
from zip_ray.vlm.prefix_store import PrefixStore
from zip_ray.vlm.questions import GENERIC, templates_of


class VlmScorers:
    """Builds scorers one after another; while they ask for the same frozen model, it is loaded once."""

    def __init__(self) -> None:
        self._loaded: tuple[object, FrozenVlm] | None = None

    def __call__(self, config: Config) -> "VlmScorer":
        """The scorer of a run.

        Raises:
            InputError: the model, the task or their combination cannot be used as configured.
        """
        torch.set_num_threads(threads(config))
        task = load_task(config.task, config.seed)
        vlm = self._vlm(config)
        return VlmScorer(vlm, Answering(vlm, config.vlm.scoring, _store(vlm, config)), config.vlm, task, config)

    def _vlm(self, config: Config) -> FrozenVlm:
        model, device, gpus = config.vlm, choose_device(config), max(1, int(config.cluster.gpus))
        wanted = model.name, model.precision, model.quantization, device, gpus
        if self._loaded is None or self._loaded[0] != wanted:
            self._loaded = None  # two large models may not fit
            self._loaded = wanted, load_vlm(model.name, device, model.precision, model.quantization, gpus=gpus)
        return self._loaded[1]


class VlmScorer(BlackBoxScorer):
    """Scores of candidate answers, as those of classes: shape (prompts, images, candidates)."""

    Options: ClassVar[type[GenerativeOptions]] = VlmConfig
    options: GenerativeOptions

    def __init__(
        self, vlm: FrozenVlm, answering: Answering, options: GenerativeOptions, task: Task, config: Config
    ) -> None:
        """Find the initial context, and hold the fast pass against the plain one.

        Raises:
            InputError: the model does not take the images, or prompt, question or answers cannot be used.
        """
        templates = templates_of(task, config.task.question)
        task = replace(task, template=templates[0], templates=templates)
        self._vlm, self._answering = vlm, answering
        self.identity, self.device = vlm.weights_digest, describe(vlm.device)
        super().__init__(options, task, config)
        self._check()

    def begin(self, prompt: ContextOptions) -> tuple[ModelShape, str]:
        """The configured context, and the question behind it: none where the context is the question's own words."""
        init, (question, _) = prompt.init, question_of(self.task.template)
        known = self.embed(question if init in ("random", *FROM_TEMPLATE) or is_place(init) else init)
        suffix = "" if init in FROM_TEMPLATE else question
        if is_place(init):
            known, suffix = read_tuned_start(init, self.identity)
        context = random_context(prompt.tokens, known.shape[1], self.config.seed) if init == "random" else known
        return ModelShape(context, token_std=self._answering.token_std), suffix

    def embed(self, words: str) -> Float32:
        return self._answering.embed(words)

    def start(self, template: str) -> tuple[Float32, str]:
        """The question's words, with what stands behind {}, which is nothing in a question."""
        words, behind = question_of(template)
        return self.embed(words), behind

    def scores(self, prompts: Sequence[Prompt | str], split: Split, images: Int64) -> Float64:
        """Scores of candidates; an image with fewer candidates is padded with scores that carry no weight."""
        whole = [self._whole(prompt) for prompt in prompts]
        return scores_on(self._answering, whole, self.splits[split], self.task.classnames, images.tolist(), split)

    def facts(self, start: str | None = None) -> Facts:
        """The facts of any scorer, and those of the generative model."""
        answering, options, facts = self._answering, self.options, super().facts(start)
        return replace(
            facts,
            vlm=VlmFacts(
                model=options.name,
                scoring=options.scoring,
                text_pass=answering.kind,
                memory=self._memory,
                before=answering.chat.before,
                question=answering.question_ids(facts.suffix),
                answers=answering.answer_ids(self.task.classnames),
            ),
            generic=GENERIC,
            images_digest=self._images_digest,
            notes=self._notes,
        )

    def _whole(self, prompt: Prompt | str) -> Prompt | str:
        """A prompt with the question behind it; without a context it is the plain question."""
        if isinstance(prompt, str):
            return prompt
        if prompt.context is None:
            return self.task.template
        return prompt if prompt.suffix is not None else replace(prompt, suffix=self.suffix)

    def _check(self) -> None:
        """Hold the fast pass against the plain one on the first image, at the start and near it."""
        split: Split = "train" if len(self.splits["train"]) else "test"
        data, space = self.splits[split], self._starts.space()
        question, candidates = asked_of(data, 0, self.task.classnames)
        near = space.initial() + self._answering.token_std * np.ones(space.dimension)
        prompts = [self._whole(self._starts.prompt(w)) for w in (space.initial(), near)]
        self._answering.check(prompts, question, candidates, (split, 0), partial(data.image, 0))

    @cached_property
    def _images_digest(self) -> str:
        return identity(self.task)

    @cached_property
    def _notes(self) -> tuple[str, ...]:
        return (*self.task.notes, *shared_images(self.task))

    @cached_property
    def _memory(self) -> str:
        size = self._answering.prefix_size
        if size == 0:
            return "keys and values are not kept"
        count = len(self.splits["train"]) + len(self.splits["val"])
        fits = min(count, self._answering.room // size)
        where = "all fit in memory" if fits == count else f"{fits} fit in memory, the others go to files"
        sizes = f"{size / 2**20:.3g} MiB per image, {size * count / GIB:.3g} GiB for {count} images"
        return f"keys and values: {sizes}; {where}"


def _store(vlm: FrozenVlm, config: Config) -> PrefixStore:
    """The memory that an actor has for prefixes."""
    asked, cluster = config.vlm.prefix_memory, config.cluster
    sharing = 1 if cluster.pool == "in-process" else cluster.most or 1
    host = SHARE * free_memory(torch.device("cpu")) / sharing if asked == "auto" else asked * GIB
    cache = default_folder()
    return PrefixStore(
        vlm.device, int(host), room_on_gpus(vlm.layer_devices), None if cache is None else cache / "prefixes"
    )
