"""The survey that opens a run with `prompt.init: auto`: the scores of the training images with each template."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from zip_ray.errors import InputError
from zip_ray.files import write_whole
from zip_ray.pool.asking import Waiting, ask_each
from zip_ray.pool.contract import Pool
from zip_ray.protocol.arrays import Float32
from zip_ray.protocol.messages import Ask, ScoresWanted, TemplateQuery
from zip_ray.protocol.mini_batches import chunks

FILE_NAME = "survey.safetensors"


class Survey(NamedTuple):
    """Scores of the training images, charged."""

    templates: tuple[str, ...]
    losses: tuple[float, ...]
    """Mean cross-entropy of each template."""
    scores: Float32
    """Logits, shape (templates, images, classes)."""

    @property
    def ranking(self) -> list[str]:
        """The templates, from the lowest loss on."""
        return [self.templates[place] for place in np.argsort(self.losses, kind="stable")]

    def of(self, template: str) -> Float32:
        """Scores with a template, shape (images, classes)."""
        return np.asarray(self.scores[self.templates.index(template)])

    def save(self, folder: Path) -> None:
        """Keep the scores, which the readout needs, in the run folder."""
        names = {str(place): template for place, template in enumerate(self.templates)}
        tensors = {"scores": self.scores, "losses": np.array(self.losses)}
        write_whole(folder / FILE_NAME, save(tensors, metadata=names))


def survey(pool: Pool, templates: tuple[str, ...], images: int, batch_size: int, meanwhile: Waiting) -> Survey:
    """Ask for the scores of all training images with each template: ceil(images / batch_size) queries each.

    Args:
        pool: processes the queries.
        templates: sentences with {} for the class name.
        images: how many training images there are.
        batch_size: of the config.
        meanwhile: called at intervals during the wait.

    Raises:
        PoolError, InputError: as the pool does.
    """
    asks = [
        TemplateQuery(index=place, step=0, version=0, w=np.empty(0), batch=0, template=template)
        for place, template in enumerate(templates)
    ]
    scores, losses = training_scores(pool, asks, images, batch_size, meanwhile)
    return Survey(templates, losses, scores)


def training_scores(
    pool: Pool, asks: Sequence[Ask], images: int, batch_size: int, meanwhile: Waiting
) -> tuple[Float32, tuple[float, ...]]:
    """Scores of all training images, shape (asks, images, classes), and mean losses, at the points of some asks.

    Args:
        pool: answers; each ask is put for each chunk of the images.
        asks: of one point each.
        images: how many training images there are.
        batch_size: of the config.
        meanwhile: called at intervals during the wait.

    Raises:
        PoolError, InputError: as the pool does.
    """
    parts = chunks(images, batch_size)
    put = [replace(ask, chunk=part, scores=ScoresWanted()) for ask in asks for part in range(parts)]
    results = ask_each(pool, put, meanwhile)
    scores, losses = [], []
    for first in range(0, len(results), parts):
        own = [result.scores[0] for result in results[first : first + parts] if result.scores is not None]
        sizes = [len(one) for one in own]
        scores.append(np.concatenate(own))
        losses.append(float(np.average([result.loss for result in results[first : first + parts]], weights=sizes)))
    return np.stack(scores), tuple(losses)


def read_survey(folder: Path) -> Survey:
    """The survey of a run that is resumed.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = folder / FILE_NAME
    try:
        with safe_open(path, framework="numpy") as file:
            names: dict[str, str] = file.metadata()
            scores, losses = file.get_tensor("scores"), file.get_tensor("losses")
        return Survey(tuple(names[str(place)] for place in range(len(scores))), tuple(losses.tolist()), scores)
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged survey ({error}): restore the file, or start a new run") from error
