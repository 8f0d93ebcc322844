"""Facts of the model and the task that the driver needs, and the types of prompts."""

from dataclasses import dataclass, field
from typing import Literal

from zip_ray.protocol.arrays import Float32, Int64

Split = Literal["train", "val", "test"]
Scoring = Literal["sum", "mean", "calibrated"]
VisualKind = Literal["frame", "decoder", "tokens"]

PHOTO = "a photo of a {}."
"""The generic template (Radford et al., 2021), and that of a data set that has none of its own."""
SHARED_PREFIX = "shared prefix"
"""`ClipFacts.text_pass` where texts take the shared-prefix pass."""
TOKEN_TREE = "token tree"
"""`VlmFacts.text_pass` where answers are scored as a tree behind kept prefixes; anything else is the plain pass."""
SERVED = "token tree, by a server"
"""`VlmFacts.text_pass` where a server scores the nodes of that tree."""
TEMPLATE_ONCE = "template, encoded once"
"""`ClipFacts.text_pass` where only images are prompted; anything else is the plain pass, and why."""


@dataclass(frozen=True)
class VisualPrompt:
    """What is done to an image before or inside the image tower."""

    kind: VisualKind
    tensors: dict[str, Float32]
    """By the names that the prompt space gives them (see `prompts.visual`)."""
    encoder: str = ""
    """The frozen image encoder of a decoder, as in `prompt.encoder`."""


@dataclass(frozen=True)
class Prompt:
    """The prompt that parameters describe."""

    context: Float32 | None
    """Context token embeddings, shape (m, width); None where the task's plain template is the text."""
    visual: VisualPrompt | None = None
    suffix: str | None = None
    """Text after the class name; of a generative model the question behind the context. None for the scorer's own."""


@dataclass(frozen=True)
class Patches:
    """How an image tower cuts images up."""

    width: int
    """Width of a token of the image tower."""
    mean: float
    """Mean of the patch embedding's weights."""
    std: float


@dataclass(frozen=True)
class ModelShape:
    """Facts of the frozen model that a prompt space needs."""

    initial_context: Float32
    """c0, shape (m, width)."""
    token_std: float
    """Standard deviation of the numbers in the token embeddings."""
    image_size: tuple[int, int] | None = None
    """Height and width of a preprocessed image; None where images cannot be prompted."""
    patches: Patches | None = None
    """None for an image tower that has no patch embedding."""
    encoder_features: int = 0
    """Numbers that the frozen encoder of a decoder makes of an image; 0 where there is none."""


@dataclass(frozen=True)
class ClipFacts:
    """Further facts of a model of open_clip."""

    model: str
    pretrained: str | None
    preprocess: dict[str, object]
    """Preprocessing of images, as open_clip describes it."""
    logit_scale: float
    """Factor of the cosine, already exponentiated."""
    text_pass: str
    """How texts are encoded: `shared prefix`, `template, encoded once`, or the plain pass and why."""
    precision: str
    """What a reduced precision does to loss differences, in words; empty for float32."""


@dataclass(frozen=True)
class VlmFacts:
    """What is known besides of a generative model."""

    model: str
    """As the config names it; a folder by its absolute path."""
    scoring: Scoring
    """What a candidate's score is: its log-likelihood, that per token, or less that without the image."""
    text_pass: str
    """How answers are scored: `token tree`, that by a server, or the plain pass and why."""
    before: str
    """Text before the soft prompt, the image's place in it."""
    question: tuple[int, ...]
    """Token ids between the context and the answer."""
    answers: tuple[tuple[int, ...], ...]
    """Token ids of the class names as answers, the end token among them."""
    memory: str = field(compare=False)
    """How much memory the images' keys and values take, and where there is room for them, in words."""


@dataclass(frozen=True)
class Facts:
    """Facts of a scorer and its task that the driver needs; the same on every actor of a run."""

    shape: ModelShape
    classnames: tuple[str, ...]
    template: str
    """The task's plain template."""
    templates: tuple[str, ...]
    """Hand-written templates of the task, the plain one first."""
    suffix: str
    """Text after the class name in a tuned prompt; of a generative model the question behind its soft prompt."""
    images: dict[Split, int]
    """Images in each split."""
    device: str
    labels: Int64 = field(repr=False, compare=False)
    """Classes of the training images, shape (n,)."""
    val_labels: Int64 = field(repr=False, compare=False)
    """Classes of the validation images."""
    weights_digest: str = ""
    """Identity of the frozen model: for CLIP, SHA-256 over names, shapes and values of the weights."""
    clip: ClipFacts | None = None
    """What a model of open_clip adds."""
    vlm: VlmFacts | None = None
    """What a generative model adds."""
    generic: str = PHOTO
    """The template that fits any task."""
    images_digest: str = ""
    """Identity of the task's images and labels (see `tasks.identity`)."""
    notes: tuple[str, ...] = ()
    """Remarks on the task's images and classes for the user, one line each."""

    def difference(self, other: "Facts") -> str:
        """How the model or task of another scorer differs from this one's, in words; empty if they agree."""
        if self.weights_digest != other.weights_digest:
            return "other weights"
        if self.classnames != other.classnames:
            return "other class names"
        same = (self.images, self.images_digest) == (other.images, other.images_digest)
        return "" if same else "other images"
