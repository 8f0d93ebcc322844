"""Masks: what an image shows, as ink between 0 and 1 on a square of SIZE pixels, before colour and style."""

from collections.abc import Callable
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy
from PIL import Image, ImageDraw, ImageFont

from zip_ray.protocol.arrays import Float64
from zip_ray.tasks.builtin.strokes import handwritten_digit

SIZE = 64
"""Side of a mask, pixels: twice the model's, so that edges are smooth."""
DIGITS = tuple("0123456789")
LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond", "ring", "heart", "hexagon", "crescent")
TEXTURES = ("striped", "checkered", "dotted", "grid", "zigzag", "wavy", "brick", "speckled", "woven", "spiral")
_NOT_TEXT = ("LastResort", "DejaVuSansDisplay", "DejaVuSerifDisplay", "STIXNonUni", "STIXSiz", "cmex", "cmsy", "cmmi")

Rng = np.random.Generator
Points = list[tuple[float, float]]


@cache
def fonts() -> tuple[str, ...]:
    """All text fonts that matplotlib ships, sorted by name; found without importing it, which would take long."""
    folder = Path(str(distribution("matplotlib").locate_file("matplotlib/mpl-data/fonts/ttf")))
    return tuple(str(path) for path in sorted(folder.glob("*.ttf")) if not path.name.startswith(_NOT_TEXT))


@cache
def sized_font(path: str, size: int) -> ImageFont.FreeTypeFont:
    """A font of `fonts()`, size in pixels."""
    return ImageFont.truetype(path, size)


def glyph(character: str, rng: Rng) -> Float64:
    """A printed character in a random font, turned and sheared a little."""
    font = sized_font(fonts()[rng.integers(len(fonts()))], int(rng.integers(34, 56)))
    image = Image.new("L", (SIZE, SIZE))
    ImageDraw.Draw(image).text((SIZE / 2, SIZE / 2), character, fill=255, font=font, anchor="mm")
    return affine(as_mask(image), rng, turn=0.15, shear=0.12, shift=4)


def handwriting(character: str, rng: Rng) -> Float64:
    """A character as if handwritten: digits mostly by strokes, others from a thinned or thickened font, all warped."""
    if character in DIGITS and rng.random() < 0.85:
        mask = _strokes(handwritten_digit(character, rng), rng)
    else:
        mask = glyph(character, rng)
    return affine(elastic(mask, rng), rng, turn=0.12, shear=0.3, shift=2)


def shape(name: str, rng: Rng) -> Float64:
    """A filled shape, turned a little, of random size and place."""
    image = Image.new("L", (SIZE, SIZE))
    radius = rng.uniform(15, 26)
    centre = SIZE / 2 + rng.uniform(-1, 1, 2) * (30 - radius)
    draw_shape(ImageDraw.Draw(image), name, float(centre[0]), float(centre[1]), radius, rng.uniform(-0.3, 0.3))
    return as_mask(image)


def count(number: int, name: str, rng: Rng) -> Float64:
    """That many separate shapes of one kind, in random cells of a 3 x 3 grid."""
    image = Image.new("L", (SIZE, SIZE))
    draw = ImageDraw.Draw(image)
    radius = rng.uniform(5.5, 8.5)
    for cell in rng.permutation(9)[:number]:
        x, y = (np.array(divmod(int(cell), 3)) + 0.5) * (SIZE / 3) + rng.uniform(-1, 1, 2) * max(9.5 - radius, 0)
        draw_shape(draw, name, float(x), float(y), radius, rng.uniform(-0.3, 0.3))
    return as_mask(image)


def texture(name: str, rng: Rng) -> Float64:
    """A pattern over the whole square, of random pitch, phase and (where it has one) direction."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    turn = rng.uniform(-0.5, 0.5) + (np.pi / 2) * rng.integers(2)
    pitch, phase = rng.uniform(9, 16), rng.uniform(0, 16, 2)
    u = (np.cos(turn) * x + np.sin(turn) * y + phase[0]) / pitch
    v = (-np.sin(turn) * x + np.cos(turn) * y + phase[1]) / pitch
    return np.asarray(_PATTERNS[name](u, v, rng), dtype=np.float64)


def affine(mask: Float64, rng: Rng, turn: float, shear: float, shift: float) -> Float64:
    """Turned by up to `turn` radians, sheared, stretched by up to a tenth, shifted by up to `shift` pixels."""
    angle, lean = rng.uniform(-turn, turn), rng.uniform(-shear, shear)
    stretch = np.diag(rng.uniform(0.9, 1.1, 2))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = rotation @ np.array([[1, 0], [lean, 1]]) @ stretch
    middle = np.full(2, (SIZE - 1) / 2)
    offset = middle - matrix @ (middle + rng.uniform(-shift, shift, 2))
    return np.asarray(scipy.ndimage.affine_transform(mask, matrix, offset, order=1), dtype=np.float64)


def elastic(mask: Float64, rng: Rng) -> Float64:
    """Warped by a smooth random displacement (Simard, Steinkraus, Platt, ICDAR 2003): 5 x 5 nodes, up to 4 pixels."""
    coarse = rng.standard_normal((2, 5, 5)) * rng.uniform(0.5, 2.5)
    field = np.stack([scipy.ndimage.zoom(axis, SIZE / 5, order=1) for axis in coarse])
    grid = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    return np.asarray(scipy.ndimage.map_coordinates(mask, grid + field, order=1), dtype=np.float64)


def outline(mask: Float64) -> Float64:
    """The edge of a mask, about three pixels wide."""
    inside = mask > 0.5
    edge = scipy.ndimage.binary_dilation(inside, iterations=1) & ~scipy.ndimage.binary_erosion(inside, iterations=2)
    return np.asarray(edge, dtype=np.float64)


def _strokes(curves: list[Float64], rng: Rng) -> Float64:
    image = Image.new("L", (SIZE, SIZE))
    draw = ImageDraw.Draw(image)
    width = int(rng.integers(3, 10))
    size = np.array([rng.uniform(24, 42), rng.uniform(40, 50)])
    for curve in curves:
        points = [(float(px), float(py)) for px, py in (curve - 0.5) * size + SIZE / 2]
        draw.line(points, fill=255, width=width, joint="curve")
        for px, py in (points[0], points[-1]):  # round ends, like a pen's
            draw.ellipse((px - width / 2, py - width / 2, px + width / 2, py + width / 2), fill=255)
    return as_mask(image)


def draw_shape(draw: ImageDraw.ImageDraw, name: str, x: float, y: float, r: float, turn: float) -> None:
    """A filled shape of radius r about (x, y), pixels, turned by `turn` radians."""
    box = (x - r, y - r, x + r, y + r)
    if name == "circle":
        draw.ellipse(box, fill=255)
    elif name == "ring":
        draw.ellipse(box, outline=255, width=max(2, round(r * 0.35)))
    elif name == "crescent":
        draw.ellipse(box, fill=255)
        draw.ellipse((x - 0.4 * r, y - 0.9 * r, x + 1.4 * r, y + 0.9 * r), fill=0)
    elif name == "cross":
        draw.polygon(_turned([(-0.3, -1), (0.3, -1), (0.3, 1), (-0.3, 1)], x, y, r, turn), fill=255)
        draw.polygon(_turned([(-1, -0.3), (1, -0.3), (1, 0.3), (-1, 0.3)], x, y, r, turn), fill=255)
    else:
        draw.polygon(_turned(_OUTLINES[name], x, y, r, turn), fill=255)


def _regular(corners: int, start: float) -> Points:
    angles = start + 2 * np.pi * np.arange(corners) / corners
    return [(float(np.cos(a)), float(np.sin(a))) for a in angles]


def _star() -> Points:
    outer, inner = _regular(5, -np.pi / 2), _regular(5, -np.pi / 2 + np.pi / 5)
    return [p for far, (ix, iy) in zip(outer, inner, strict=True) for p in (far, (0.42 * ix, 0.42 * iy))]


def _heart() -> Points:
    t = np.linspace(0, 2 * np.pi, 40)
    x = np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16
    return [(float(a), float(b)) for a, b in zip(x, y, strict=True)]


_OUTLINES: dict[str, Points] = {
    "square": [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    "triangle": _regular(3, -np.pi / 2),
    "star": _star(),
    "diamond": [(0, -1), (0.65, 0), (0, 1), (-0.65, 0)],
    "heart": _heart(),
    "hexagon": _regular(6, 0.0),
}


def _turned(points: Points, x: float, y: float, r: float, turn: float) -> Points:
    c, s = float(np.cos(turn)), float(np.sin(turn))
    return [(x + r * (c * px - s * py), y + r * (s * px + c * py)) for px, py in points]


def _speckled(u: Float64, v: Float64, rng: Rng) -> Float64:
    grain = scipy.ndimage.gaussian_filter(rng.standard_normal(u.shape), rng.uniform(1.2, 2.0))
    return np.asarray(grain > 0.6 * grain.std(), dtype=np.float64)


def _spiral(u: Float64, v: Float64, rng: Rng) -> Float64:
    x, y = u - u.mean() + rng.uniform(-0.6, 0.6), v - v.mean() + rng.uniform(-0.6, 0.6)
    return np.asarray((np.hypot(x, y) * 1.2 + np.arctan2(y, x) / (2 * np.pi)) % 1 < 0.45, dtype=np.float64)


_PATTERNS: dict[str, Callable[[Float64, Float64, Rng], npt.NDArray[Any]]] = {
    "striped": lambda u, v, rng: u % 1 < rng.uniform(0.35, 0.6),
    "checkered": lambda u, v, rng: (np.floor(u) + np.floor(v)) % 2,
    "dotted": lambda u, v, rng: np.hypot(u % 1 - 0.5, v % 1 - 0.5) < rng.uniform(0.24, 0.36),
    "grid": lambda u, v, rng: np.minimum(u % 1, v % 1) < rng.uniform(0.16, 0.26),
    "zigzag": lambda u, v, rng: (u + np.abs(v % 1.6 - 0.8)) % 1 < 0.45,
    "wavy": lambda u, v, rng: (u + 0.35 * np.sin(3 * v)) % 1 < 0.45,
    "brick": lambda u, v, rng: np.minimum(v % 1, (u / 2 + 0.5 * (np.floor(v) % 2)) % 1 * 2) > 0.18,
    "speckled": _speckled,
    "woven": lambda u, v, rng: np.where((np.floor(u) + np.floor(v)) % 2 == 0, u * 3 % 1 < 0.5, v * 3 % 1 < 0.5),
    "spiral": _spiral,
}


def as_mask(image: Image.Image) -> Float64:
    """A grey picture as ink between 0 and 1."""
    return np.asarray(image, dtype=np.float64) / 255
