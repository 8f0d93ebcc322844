"""The image side of a scorer: features and labels of the images that an ask or an evaluation is about.

Features are encoded once per split, when they are first needed. Under a visual prompt they are encoded for each prompt.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from zip_ray.clip.cuda_graph import to_device
from zip_ray.clip.feature_cache import FeatureCache
from zip_ray.clip.image_features import split_features, train_features
from zip_ray.clip.loading import FrozenClip
from zip_ray.clip.prompted_images import PromptedBatches, prompted_features
from zip_ray.config.tree import Config
from zip_ray.prompts.visual import DecoderOptions
from zip_ray.protocol.arrays import Float32
from zip_ray.protocol.facts import Prompt, Split, VisualPrompt
from zip_ray.protocol.messages import Ask
from zip_ray.protocol.mini_batches import asked_images, chunk_bounds, mini_batch_views
from zip_ray.tasks import ImageSet, Task
from zip_ray.tasks.counted import counted
from zip_ray.tasks.images import each_image

Part = tuple[int, int]
"""First and end of some images."""


class ImageSide:
    """The images of a task as a frozen model encodes them."""

    def __init__(self, clip: FrozenClip, task: Task, config: Config, cache: FeatureCache) -> None:
        """Prepare the training images.

        Raises:
            InputError: an image cannot be read.
        """
        self._clip, self._cache, self._seed, self._config = clip, cache, config.seed, config.task
        self._splits: dict[Split, ImageSet] = {"train": task.train, "val": task.val, "test": task.test}
        self._labels = to_device(torch.from_numpy(task.train.labels), clip.device)
        """Labels of the training images, on the device."""
        self._tested: dict[tuple[Split, Part | None], Tensor] = {}
        """Features as at test time, of a split or a part of it."""
        self._batches: PromptedBatches | None = None
        self._keeps_statistics = isinstance(config.prompt, DecoderOptions) and config.prompt.statistics == "running"
        if config.prompt.visual:
            self._batches = PromptedBatches(clip, task.train, config.task, config.prompt, config.seed)
            return
        self._train = train_features(clip, task.train, config.task, config.seed, cache)
        # Without random crops the training views are the images as at test time.
        if config.task.views == 0:
            self._tested["train", None] = self._train[0]

    def asked(self, ask: Ask, prompts: Sequence[Prompt | str] = (), part: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Features and labels of the images of an ask, or of a part of them.

        Args:
            ask: on a mini-batch or a chunk.
            prompts: at its points.
            part: places of the images.

        Returns:
            Features, shape (images, embed), or (prompts, images, embed) where prompts may be visual; labels (images,).
        """
        chosen = asked_images(ask, len(self._labels), self._config.batch_size, self._seed)
        places = to_device(torch.from_numpy(chosen), self._clip.device)
        labels = self._labels[places][part]
        if self._batches is not None:
            return torch.stack([self._seen_by(one, ask, part) for one in prompts]), labels
        return self._features(ask, places)[part], labels

    def statistics(self, ask: Ask, prompts: Sequence[Prompt | str]) -> Float32 | None:
        """What the decoder's BatchNorm sees at each point, shape (points, numbers); None where none are kept."""
        if not self._keeps_statistics or self._batches is None or ask.chunk is not None:
            return None
        visuals = [one.visual for one in prompts if isinstance(one, Prompt) and one.visual is not None]
        return np.stack([self._batches.statistics(ask.batch, one).cpu().numpy() for one in visuals])

    def count(self, ask: Ask) -> int:
        """Images of an ask."""
        return len(asked_images(ask, len(self._labels), self._config.batch_size, self._seed))

    def tested(
        self, split: Split, part: Part | None = None, visual: VisualPrompt | None = None
    ) -> tuple[Tensor, Tensor]:
        """Images of a split as at test time: features (images, embed), and labels (images,).

        Args:
            split: which.
            part: of its images; None for all.
            visual: what is done to them; None where nothing is.
        """
        images = self._splits[split]
        if part is not None:
            images = images.subset(np.arange(*part))
        labels = to_device(torch.from_numpy(images.labels), self._clip.device)
        if visual is not None:
            shown = counted(each_image(images), len(images), "encoding")
            return prompted_features(self._clip, shown, visual), labels
        if (split, part) not in self._tested:
            self._tested[split, part] = split_features(self._clip, images, self._cache)
        return self._tested[split, part], labels

    def deployed(self, prompt: Prompt) -> Prompt:
        """The prompt as it is used on single images."""
        if self._batches is None or prompt.visual is None:
            return prompt
        return replace(prompt, visual=self._batches.fix_statistics(prompt.visual))

    def _features(self, ask: Ask, places: Tensor) -> Tensor:
        """Features of images that no prompt changes."""
        if ask.chunk is not None:
            return self.tested("train")[0][places]
        if ask.features is not None:
            return to_device(torch.from_numpy(ask.features), self._clip.device)
        if len(self._train) == 1:
            return self._train[0, places]
        views = mini_batch_views(len(places), len(self._train), self._seed, ask.batch)
        return self._train[to_device(torch.from_numpy(views), self._clip.device), places]

    def _seen_by(self, prompt: Prompt | str, ask: Ask, part: slice) -> Tensor:
        """The images under one prompt; those of a chunk under the prompt as deployed."""
        assert self._batches is not None
        visual = prompt.visual if isinstance(prompt, Prompt) else None
        if ask.chunk is None:
            return self._batches.features(ask.batch, visual, part)
        first, end = chunk_bounds(len(self._labels), self._config.batch_size, ask.chunk)
        if isinstance(prompt, str) or prompt.visual is None:
            return self.tested("train")[0][first:end][part]
        low, high, _ = part.indices(end - first)
        return self.tested("train", (first + low, first + high), self.deployed(prompt).visual)[0]
