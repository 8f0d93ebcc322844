"""Scenes: a content in two colours and a style, as an image and as captions that name some of it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy
from PIL import Image

from zip_ray.protocol.arrays import Float64
from zip_ray.tasks.builtin import draw

Images = npt.NDArray[np.uint8]
Kind = Literal["digit", "letter", "shape", "count", "texture"]

IMAGE_SIZE = 32
"""Side of a rendered image, pixels."""
STYLES = ("plain", "sketch", "blurred", "noisy", "pixelated", "dark", "faded", "inverted", "handwritten")
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.1, 0.1),
    "green": (0.1, 0.6, 0.15),
    "blue": (0.15, 0.25, 0.85),
    "yellow": (0.95, 0.85, 0.1),
    "orange": (0.95, 0.5, 0.05),
    "purple": (0.5, 0.15, 0.65),
    "pink": (0.95, 0.55, 0.7),
    "brown": (0.45, 0.26, 0.12),
    "black": (0.03, 0.03, 0.03),
    "white": (0.97, 0.97, 0.97),
    "grey": (0.5, 0.5, 0.5),
    "cyan": (0.1, 0.75, 0.8),
}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Scene:
    """What an image shows."""

    kind: Kind
    content: str
    """The character, shape or texture; for a count, the number in digits."""
    style: str
    ink: str
    paper: str
    item: str = ""
    """For a count: the shape that is counted."""


def render(scene: Scene, rng: np.random.Generator) -> Images:
    """A picture of the scene, shape (IMAGE_SIZE, IMAGE_SIZE, 3)."""
    mask = _mask(scene, rng)
    if scene.style == "sketch" and scene.kind != "texture":
        mask = draw.outline(mask)
    if scene.style == "pixelated":
        mask = pixelate(mask, rng, scene.kind in ("digit", "letter"))
    return coloured(mask, scene.ink, scene.paper, scene.style, rng)


def coloured(mask: Float64, ink: str, paper: str, style: str, rng: np.random.Generator) -> Images:
    """A mask in two colours, with the style's effect on pixels."""
    front, ground = (shade(COLOURS[name], rng) for name in (ink, paper))
    return styled(ground + mask[..., None] * (front - ground), style, rng)


def pixelate(mask: Float64, rng: np.random.Generator, fill: bool) -> Float64:
    """Coarse pixels: means over an 8 x 8 raster, enlarged smoothly to the mask's size again.

    Characters fill the raster, as scanned and cut-out characters do.
    """
    if fill:
        mask = _cut_out(mask, rng)
    cells = mask.reshape(8, draw.SIZE // 8, 8, draw.SIZE // 8).mean(axis=(1, 3))
    coarse = Image.fromarray((255 * cells).astype(np.uint8))
    return np.asarray(coarse.resize((draw.SIZE, draw.SIZE), Image.Resampling.BICUBIC), dtype=np.float64) / 255


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """A sentence about the scene. It names the style in about half of the cases and the colours in a quarter."""
    noun = _noun(scene, rng)
    named = rng.random() < 0.5 and not (scene.style == "plain" and rng.random() < 0.5)
    style = f"{scene.style} " if named else ""
    colours = f" in {scene.ink} on a {scene.paper} background" if rng.random() < 0.25 else ""
    medium = ("photo", "photo", "image", "")[rng.integers(4)]
    if not medium:
        return f"{style}{noun}{colours}."
    article = "an" if (style or medium).startswith("i") else "a"
    return f"{article} {style}{medium} of {noun}{colours}."


def _mask(scene: Scene, rng: np.random.Generator) -> Float64:
    if scene.kind in ("digit", "letter"):
        # A scan at 8 x 8 is of handwriting mostly; print is the exception.
        by_hand = scene.style == "handwritten" or rng.random() < (0.8 if scene.style == "pixelated" else 0.25)
        return draw.handwriting(scene.content, rng) if by_hand else draw.glyph(scene.content, rng)
    if scene.kind == "texture":
        mask = draw.texture(scene.content, rng)
    elif scene.kind == "count":
        mask = draw.count(int(scene.content), scene.item, rng)
    else:
        mask = draw.shape(scene.content, rng)
    return draw.elastic(mask, rng) if scene.style == "handwritten" else mask


def _noun(scene: Scene, rng: np.random.Generator) -> str:
    coloured = f"{scene.ink} " if rng.random() < (0.7 if scene.kind == "shape" else 0.15) else ""
    if scene.kind == "digit":
        name = NUMBERS[int(scene.content)] if rng.random() < 0.3 else scene.content
        called = ("the digit", "the digit", "the number", "digit")[rng.integers(4)]
        return f"{called} {name}" if not coloured else f"the {coloured}digit {name}"
    if scene.kind == "letter":
        return f"the {coloured}letter {scene.content}"
    if scene.kind == "texture":
        return f"a {coloured}{scene.content} texture"
    if scene.kind == "count":
        name = NUMBERS[int(scene.content)] if rng.random() < 0.3 else scene.content
        item = "object" if rng.random() < 0.4 else scene.item
        plural = "" if scene.content == "1" else "es" if item.endswith("s") else "s"
        return f"{name} {coloured}{item}{plural}"
    words = "object" if coloured and rng.random() < 0.25 else scene.content
    return f"{'an' if words == 'object' and not coloured else 'a'} {coloured}{words}"


def _cut_out(mask: Float64, rng: np.random.Generator) -> Float64:
    """The mask's bounding box, enlarged to fill the square in its longer side, at a random place in the shorter."""
    rows, columns = (np.flatnonzero(mask.max(axis=axis) > 0.4) for axis in (1, 0))
    if not rows.size or not columns.size:
        return mask
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height = draw.SIZE
    wide = np.clip(height * box.shape[1] / box.shape[0] * rng.uniform(0.8, 1.15), 8, draw.SIZE)
    size = (int(wide), height)
    image = Image.fromarray((255 * box).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    filled = np.zeros_like(mask)
    left = int(np.clip((draw.SIZE - size[0]) / 2 + rng.normal(0, 3), 0, draw.SIZE - size[0]))
    filled[:, left : left + size[0]] = np.asarray(image) > 100
    return filled


def shade(colour: tuple[float, float, float], rng: np.random.Generator) -> Float64:
    """A colour a little off its name's, shape (3,)."""
    return np.clip(np.array(colour) + rng.uniform(-0.06, 0.06, 3), 0, 1)


def styled(picture: Float64, style: str, rng: np.random.Generator) -> Images:
    """The picture halved to IMAGE_SIZE, with the style's effect on pixels."""
    side = draw.SIZE // IMAGE_SIZE
    small = picture.reshape(IMAGE_SIZE, side, IMAGE_SIZE, side, 3).mean(axis=(1, 3))
    if style == "blurred":
        small = scipy.ndimage.gaussian_filter(small, (s := rng.uniform(1.2, 2.2), s, 0))
    elif style == "noisy":
        small = small + rng.normal(0, rng.uniform(0.12, 0.3), small.shape)
    elif style == "dark":
        small = small * rng.uniform(0.2, 0.4)
    elif style == "faded":
        small = 0.75 + (small - 0.75) * rng.uniform(0.2, 0.4)
    elif style == "inverted":
        small = 1 - small
    small = small + rng.normal(0, 0.015, small.shape)
    return np.asarray(np.round(255 * np.clip(small, 0, 1)), dtype=np.uint8)


SHARES: dict[Kind, float] = {"digit": 0.25, "letter": 0.24, "shape": 0.17, "count": 0.17, "texture": 0.17}
"""How often training shows each kind."""


def random_scene(rng: np.random.Generator) -> Scene:
    """A scene of the training set."""
    kinds = list(SHARES)
    kind = kinds[int(rng.choice(len(kinds), p=list(SHARES.values())))]
    style = STYLES[rng.integers(len(STYLES))]
    if kind == "digit" and rng.random() < 0.4:
        style = "pixelated"
    ink, paper = _colours(style, kind, rng)
    contents = {"digit": draw.DIGITS, "letter": draw.LETTERS, "shape": draw.SHAPES, "texture": draw.TEXTURES}
    if kind == "count":
        return Scene(kind, str(rng.integers(1, 9)), style, ink, paper, draw.SHAPES[rng.integers(len(draw.SHAPES))])
    options = contents[kind]
    return Scene(kind, options[rng.integers(len(options))], style, ink, paper)


def _colours(style: str, kind: Kind, rng: np.random.Generator) -> tuple[str, str]:
    """Two different colours; scans are mostly white on black, ink on paper mostly black on white."""
    if kind in ("digit", "letter"):
        if style == "pixelated" and rng.random() < 0.75:
            return "white", "black"
        if rng.random() < 0.4:
            return ("black", "white") if rng.random() < 0.7 else ("white", "black")
    names = list(COLOURS)
    ink, paper = rng.choice(len(names), size=2, replace=False)
    return names[int(ink)], names[int(paper)]
