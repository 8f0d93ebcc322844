"""Rendered tasks over the small CLIP: each shows its classes in a style that its plain template does not name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from zip_ray.keys import Stream, generator
from zip_ray.tiny_clip import draw
from zip_ray.tiny_clip.render import COLOURS, Images, Scene, render
from zip_ray.work import Int64

TASK_SEED = 20261123
"""Keys the images of all rendered tasks; training of the small CLIP has other keys."""
TEST_IMAGES = 50
"""Test images a class."""


@dataclass(frozen=True)
class RenderedTask:
    """A task whose images are rendered on demand."""

    number: int
    """Key of the task's images: append tasks, never renumber them."""
    classnames: tuple[str, ...]
    templates: tuple[str, ...]
    """Hand-written templates, the plain one first."""
    scene: Callable[[str, np.random.Generator], Scene]
    """A scene of a class."""


def render_split(task: RenderedTask, split: Literal["pool", "test"], per_class: int) -> tuple[Images, Int64]:
    """Images (n, side, side, 3) and labels (n,), sorted by class.

    Image i of a class depends on task, split, class and i alone: a larger `per_class` only appends.
    """
    images = []
    for label, name in enumerate(task.classnames):
        for i in range(per_class):
            rng = generator(TASK_SEED, Stream.RENDER, 2 * task.number + (split == "test"), label, i)
            images.append(render(task.scene(name, rng), rng))
    return np.stack(images), np.repeat(np.arange(len(task.classnames), dtype=np.int64), per_class)


def _two_colours(rng: np.random.Generator) -> tuple[str, str]:
    names = list(COLOURS)
    ink, paper = rng.choice(len(names), size=2, replace=False)
    return names[int(ink)], names[int(paper)]


def _count(name: str, rng: np.random.Generator) -> Scene:
    return Scene("count", name, "faded", *_two_colours(rng), item=draw.SHAPES[rng.integers(len(draw.SHAPES))])


def _texture(name: str, rng: np.random.Generator) -> Scene:
    return Scene("texture", name, "noisy", *_two_colours(rng))


def _shape(name: str, rng: np.random.Generator) -> Scene:
    return Scene("shape", name, "pixelated", *_two_colours(rng))


def _letter(name: str, rng: np.random.Generator) -> Scene:
    return Scene("letter", name, "pixelated", "white", "black")


def _colour(name: str, rng: np.random.Generator) -> Scene:
    paper = [other for other in COLOURS if other != name]
    return Scene("shape", draw.SHAPES[rng.integers(len(draw.SHAPES))], "dark", name, paper[rng.integers(len(paper))])


TASKS: dict[str, RenderedTask] = {
    "count": RenderedTask(
        0,
        tuple("12345678"),
        ("a photo of {} objects.", "a faded photo of {} objects.", "{} objects.", "a faded image of {} objects."),
        _count,
    ),
    "texture": RenderedTask(
        1,
        draw.TEXTURES,
        ("a photo of a {} texture.", "a noisy photo of a {} texture.", "a {} texture.", "noisy a {} texture."),
        _texture,
    ),
    "shape": RenderedTask(
        2,
        draw.SHAPES,
        ("a photo of a {}.", "a pixelated photo of a {}.", "a pixelated image of a {}.", "a {}."),
        _shape,
    ),
    "letter": RenderedTask(
        3,
        draw.LETTERS,
        (
            "a photo of the letter {}.",
            "a pixelated photo of the letter {}.",
            "a pixelated photo of the letter {} in white on a black background.",
            "the letter {}.",
        ),
        _letter,
    ),
    "colour": RenderedTask(
        4,
        tuple(COLOURS),
        ("a photo of a {} object.", "a dark photo of a {} object.", "a dark image of a {} object.", "a {} object."),
        _colour,
    ),
}
