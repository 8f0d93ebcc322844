"""Rendered tasks for the small CLIP: each shows its classes in a domain that its plain template does not name."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from zip_ray.protocol.arrays import Float64, Int64
from zip_ray.protocol.random_keys import Stream, generator
from zip_ray.tasks.builtin import draw, pictures
from zip_ray.tasks.builtin.draw import Rng
from zip_ray.tasks.builtin.render import COLOURS, STYLES, Images, Kind, Scene, coloured, render, styled

TASK_SEED = 20261123
"""Keys the images of all rendered tasks; training of the small CLIP has other keys."""
TEST_IMAGES = 50
"""Test images per class."""


@dataclass(frozen=True)
class RenderedTask:
    """A task whose images are rendered on demand."""

    number: int
    """Key of the task's images: append tasks, never renumber them."""
    classnames: tuple[str, ...]
    templates: tuple[str, ...]
    """Hand-written templates, the plain one first."""
    picture: Callable[[str, str, Rng], Images]
    """A picture of a class in a domain."""
    domain: str
    """What the images are like: a style, or the kind of content where the classes are styles."""


def render_split(task: RenderedTask, split: str, per_class: int) -> tuple[Images, Int64]:
    """Images (n, side, side, 3) and labels (n,), sorted by class, of `pool`, `test` or a shifted test set.

    Image i of a class depends on task, split, class and i alone: a larger `per_class` only appends. A shifted test set
    has the keys of `test`, so that it shows the same things in another domain, its name.
    """
    domain = task.domain if split in ("pool", "test") else split
    images = []
    for label, name in enumerate(task.classnames):
        for i in range(per_class):
            rng = generator(TASK_SEED, Stream.RENDER, 2 * task.number + (split != "pool"), label, i)
            images.append(task.picture(name, domain, rng))
    return np.stack(images), np.repeat(np.arange(len(task.classnames), dtype=np.int64), per_class)


def _any(options: tuple[str, ...], rng: Rng) -> str:
    return options[rng.integers(len(options))]


def _two_colours(rng: Rng) -> tuple[str, str]:
    names = list(COLOURS)
    ink, paper = rng.choice(len(names), size=2, replace=False)
    return names[int(ink)], names[int(paper)]


def _other_colour(name: str, rng: Rng) -> str:
    return _any(tuple(other for other in COLOURS if other != name), rng)


def _count(name: str, style: str, rng: Rng) -> Images:
    return render(Scene("count", name, style, *_two_colours(rng), item=_any(draw.SHAPES, rng)), rng)


def _letter(name: str, style: str, rng: Rng) -> Images:
    return render(Scene("letter", name, style, "white", "black"), rng)


def _colour(name: str, style: str, rng: Rng) -> Images:
    return render(Scene("shape", _any(draw.SHAPES, rng), style, name, _other_colour(name, rng)), rng)


def _background(name: str, style: str, rng: Rng) -> Images:
    return render(Scene("shape", _any(draw.SHAPES, rng), style, _other_colour(name, rng), name), rng)


def _style(name: str, kind: str, rng: Rng) -> Images:
    known, options = _CONTENTS[kind]
    return render(Scene(known, _any(options, rng), name, *_two_colours(rng)), rng)


def _crowd(name: str, style: str, rng: Rng) -> Images:
    return styled(pictures.crowd(int(name), rng), style, rng)


def _scene(kind: Kind) -> Callable[[str, str, Rng], Images]:
    return lambda name, style, rng: render(Scene(kind, name, style, *_two_colours(rng)), rng)


def _mask(mask: Callable[[str, Rng], Float64]) -> Callable[[str, str, Rng], Images]:
    return lambda name, style, rng: coloured(mask(name, rng), *_two_colours(rng), style, rng)


_CONTENTS: dict[str, tuple[Kind, tuple[str, ...]]] = {
    "textures": ("texture", draw.TEXTURES),
    "shapes": ("shape", draw.SHAPES),
    "letters": ("letter", draw.LETTERS),
    "digits": ("digit", draw.DIGITS),
}

TASKS: dict[str, RenderedTask] = {
    "count": RenderedTask(
        0,
        tuple("12345678"),
        ("a photo of {} objects.", "a faded photo of {} objects.", "{} objects.", "a faded image of {} objects."),
        _count,
        domain="faded",
    ),
    "texture": RenderedTask(
        1,
        draw.TEXTURES,
        ("a photo of a {} texture.", "a noisy photo of a {} texture.", "a {} texture.", "noisy a {} texture."),
        _scene("texture"),
        domain="noisy",
    ),
    "shape": RenderedTask(
        2,
        draw.SHAPES,
        ("a photo of a {}.", "a pixelated photo of a {}.", "a pixelated image of a {}.", "a {}."),
        _scene("shape"),
        domain="pixelated",
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
        domain="pixelated",
    ),
    "colour": RenderedTask(
        4,
        tuple(COLOURS),
        ("a photo of a {} object.", "a dark photo of a {} object.", "a dark image of a {} object.", "a {} object."),
        _colour,
        domain="dark",
    ),
    "street": RenderedTask(
        5,
        draw.DIGITS,
        (
            'a photo of the number: "{}".',
            "a photo of the digit {}.",
            "a photo of the street number {}.",
            "a blurred photo of the digit {}.",
            "the number {}.",
        ),
        _mask(pictures.street_number),
        domain="plain",
    ),
    "style": RenderedTask(
        6,
        STYLES,
        ("a {} photo of a texture.", "a {} image of a texture.", "a {} photo of a pattern.", "a {} photo."),
        _style,
        domain="textures",
    ),
    "crowd": RenderedTask(
        7,
        tuple("12345678"),
        ("a photo of {} objects.", "an image of {} objects.", "{} objects.", "a photo of {} different objects."),
        _crowd,
        domain="plain",
    ),
    "inlay": RenderedTask(
        8,
        draw.TEXTURES,
        ("a photo of a {} texture.", "a photo of a {} object.", "an image of a {} texture.", "a {} texture."),
        _mask(pictures.inlay),
        domain="plain",
    ),
    "background": RenderedTask(
        9,
        tuple(COLOURS),
        (
            "a photo of a shape in white on a {} background.",
            "a photo of a shape in grey on a {} background.",
            "a photo of a shape in black on a {} background.",
            "in white on a {} background.",
        ),
        _background,
        domain="plain",
    ),
    "stars": RenderedTask(
        10,
        draw.SHAPES,
        ("a photo of a {}.", "a sketch photo of a {}.", "a sketch image of a {}.", "a {}."),
        _mask(pictures.stars),
        domain="plain",
    ),
}
