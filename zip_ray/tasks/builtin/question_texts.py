"""Hand-written questions about the built-in tasks, for generative models: the plain one first."""

COUNT = (
    "How many objects are there?",
    "Count the objects.",
    "How many are shown?",
    "What number of objects is shown?",
)
SHAPE = ("What is shown?", "What shape is this?", "Name the shape.", "What object is shown?")
TEXTURE = ("What is shown?", "What texture is this?", "What pattern is shown?", "Name the texture.")
QUESTIONS: dict[str, tuple[str, ...]] = {
    "digits": ("What number is shown?", "What digit is this?", "Which digit is it?", "Read the digit."),
    "count": COUNT,
    "texture": TEXTURE,
    "shape": SHAPE,
    "letter": ("What is shown?", "What letter is this?", "Which letter is it?", "Read the letter."),
    "colour": ("What colour is it?", "What colour is the object?", "Which colour is the drawing?"),
    "street": ("What number is shown?", "What digit is this?", "Which digit is it?", "Read the digit."),
    "style": ("What style is the picture?", "Which style is it?", "How does the picture look?"),
    "crowd": COUNT,
    "inlay": TEXTURE,
    "background": ("What colour is it?", "What colour is behind it?", "Which colour is the paper?"),
    "stars": SHAPE,
}
"""By task. The question that fits background best is left out: a prompt is to be found that takes its place."""
