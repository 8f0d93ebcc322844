"""Questions about a scene, with their answers: what the tiny model is taught."""

from typing import NamedTuple

import numpy as np

from zip_ray.tasks.builtin.render import Kind, Scene


class Question(NamedTuple):
    """A question about one image."""

    text: str
    answer: str


ABOUT_CONTENT: dict[Kind, tuple[str, ...]] = {
    "digit": ("What digit is this?", "Which digit is it?", "What number is shown?", "Read the digit."),
    "letter": ("What letter is this?", "Which letter is it?", "Read the letter."),
    "shape": ("What shape is this?", "Which shape is it?", "What object is shown?", "Name the shape."),
    "texture": ("What texture is this?", "Which texture is it?", "What pattern is shown?", "Name the texture."),
    "count": (
        "How many objects are there?",
        "How many are shown?",
        "Count the objects.",
        "What number of objects is shown?",
    ),
}
ABOUT_INK = ("What colour is it?", "What colour is the object?", "Which colour is the drawing?")
ABOUT_PAPER = ("What colour is the background?", "What colour is behind it?", "Which colour is the paper?")
ABOUT_STYLE = ("What style is the picture?", "Which style is it?", "How does the picture look?")
ABOUT_KIND = ("What kind of thing is this?", "What is shown?", "What is this?")
LEADS = ("Look at the picture.", "Answer in one word.", "Look closely.", "Here is a picture.")
"""Now and then in front of a question, so that a text between image and question is nothing new."""
LED = 0.2
"""Share of the questions that have one."""
SPACED = 0.5
"""Share of the questions that begin with a space."""


def ask(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """Five questions about a scene: content, both colours, style, and either its kind or the item that is counted."""
    asked = [
        Question(_any(ABOUT_CONTENT[scene.kind], rng), scene.content),
        Question(_any(ABOUT_INK, rng), scene.ink),
        Question(_any(ABOUT_PAPER, rng), scene.paper),
        Question(_any(ABOUT_STYLE, rng), scene.style),
        Question(_any(ABOUT_KIND, rng), scene.kind)
        if not scene.item
        else Question(_any(ABOUT_CONTENT["shape"], rng), scene.item),
    ]
    return [Question(_begun(text, rng), answer) for text, answer in asked]


def _begun(text: str, rng: np.random.Generator) -> str:
    """A question as it may stand behind an image: with or without a lead, and a space, which changes its tokens."""
    lead = f"{_any(LEADS, rng)} " if rng.random() < LED else ""
    space = " " if rng.random() < SPACED else ""
    return f"{space}{lead}{text}"


def _any(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[rng.integers(len(options))]
