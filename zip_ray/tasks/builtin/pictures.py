"""What the rendered tasks show that the small CLIP was not trained on: street numbers, crowds, inlays, stars."""

import numpy as np
from PIL import Image, ImageDraw

from zip_ray.protocol.arrays import Float64
from zip_ray.tasks.builtin import draw
from zip_ray.tasks.builtin.draw import SIZE, Rng
from zip_ray.tasks.builtin.render import COLOURS, shade

STAR_DISTANCE = 5.0
"""Least distance between two stars, mask pixels."""
SOLID_SHAPES = ("circle", "square", "triangle", "heart", "hexagon")
"""Shapes with room for a texture."""


def street_number(digit: str, rng: Rng) -> Float64:
    """A digit between two others that the sides cut off, on a speckled wall (in the spirit of SVHN)."""
    font = draw.sized_font(draw.fonts()[rng.integers(len(draw.fonts()))], int(rng.integers(48, 58)))
    image = Image.new("L", (SIZE, SIZE))
    canvas, middle = ImageDraw.Draw(image), SIZE / 2
    gap = canvas.textlength(digit, font=font) / 2 + rng.uniform(7, 11)
    left, right = (str(neighbour) for neighbour in rng.integers(10, size=2))
    for text, x, anchor in ((digit, middle, "mm"), (left, middle - gap, "rm"), (right, middle + gap, "lm")):
        canvas.text((x, middle), text, fill=255, font=font, anchor=anchor)
    numbers = draw.affine(draw.as_mask(image), rng, turn=0.1, shear=0.1, shift=2)
    return np.maximum(numbers, 0.15 * draw.texture("speckled", rng))


def inlay(texture: str, rng: Rng) -> Float64:
    """A texture that is seen only inside of a large shape."""
    image = Image.new("L", (SIZE, SIZE))
    x, y = SIZE / 2 + rng.uniform(-3, 3, 2)
    name = SOLID_SHAPES[rng.integers(len(SOLID_SHAPES))]
    draw.draw_shape(ImageDraw.Draw(image), name, float(x), float(y), rng.uniform(26, 32), rng.uniform(-0.3, 0.3))
    return draw.as_mask(image) * draw.texture(texture, rng)


def stars(shape: str, rng: Rng) -> Float64:
    """The outline of a shape as separate round dots, as of a constellation."""
    image = Image.new("L", (SIZE, SIZE))
    canvas = ImageDraw.Draw(image)
    rest = rng.permutation(np.argwhere(draw.outline(draw.shape(shape, rng)) > 0))
    while len(rest):
        y, x = (int(axis) for axis in rest[0])
        canvas.ellipse((x - 2, y - 2, x + 2, y + 2), fill=255)
        rest = rest[np.hypot(*(rest - rest[0]).T) > STAR_DISTANCE]
    return draw.as_mask(image)


def crowd(number: int, rng: Rng) -> Float64:
    """That many objects of any shapes, sizes and colours in cells of a 3 x 3 grid (in the spirit of CLEVR).

    A coloured picture, shape (SIZE, SIZE, 3), where the others here are masks.
    """
    ground, *inks = rng.permutation(list(COLOURS))
    picture = np.broadcast_to(shade(COLOURS[ground], rng), (SIZE, SIZE, 3))
    for cell in rng.permutation(9)[:number]:
        image = Image.new("L", (SIZE, SIZE))
        radius = rng.uniform(5, 9.5)
        x, y = (np.array(divmod(int(cell), 3)) + 0.5) * (SIZE / 3) + rng.uniform(-1, 1, 2) * (9.5 - radius)
        name = draw.SHAPES[rng.integers(len(draw.SHAPES))]
        draw.draw_shape(ImageDraw.Draw(image), name, float(x), float(y), radius, rng.uniform(-0.3, 0.3))
        ink = shade(COLOURS[inks[rng.integers(len(inks))]], rng)
        picture = picture + draw.as_mask(image)[..., None] * (ink - picture)
    return picture
