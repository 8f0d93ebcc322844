"""What travels between the driver and a scorer: work out, results back. Plain numbers, picklable, no torch."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

Split = Literal["train", "val", "test"]
VisualKind = Literal["frame", "decoder", "tokens"]
PerturbationLaw = Literal["segmented-uniform", "random-sign"]

PHOTO = "a photo of a {}."
"""The generic template (Radford et al., 2021), and that of a data set that has none of its own."""


@dataclass(frozen=True)
class Perturbation:
    """The key of a perturbation: whoever holds it draws the same vector (see `optimizers.perturbations`)."""

    law: PerturbationLaw
    seed: int
    step: int
    index: int


@dataclass(frozen=True)
class Asked:
    """What all that an optimiser asks has in common."""

    id: int
    """Unique in the run: the number in the order of asking, from 0. Re-issued work keeps its id."""
    step: int
    """k, counted from 1."""
    version: int
    """Steps that the optimiser had behind it when this was asked."""
    w: Float64
    """Parameters, shape (d,)."""


@dataclass(frozen=True)
class Pair(Asked):
    """The two queries at w + c z and w - c z on one mini-batch."""

    queries: ClassVar[int] = 2
    c: float
    """Scale c_k of the perturbation."""
    perturbation: Perturbation
    batch: int
    """Key of the mini-batch; pairs of one step share it."""
    features: Float32 | None = None
    """Features of the mini-batch's fresh crops, shape (images, embed); without them the scorer's own fixed views."""


@dataclass(frozen=True)
class Query(Asked):
    """One query, at `w` itself."""

    queries: ClassVar[int] = 1
    batch: int
    features: Float32 | None = None


@dataclass(frozen=True)
class Gradient(Asked):
    """White box: loss and gradient at `w` by one forward and one backward pass. Counted as one query."""

    queries: ClassVar[int] = 1
    batch: int
    features: Float32 | None = None


Ask = Pair | Query | Gradient


@dataclass(frozen=True)
class Pass:
    """Asks of one kind that go through the model together: the unit that travels.

    Which asks share it is part of the bits.
    """

    asks: tuple[Ask, ...]

    @property
    def id(self) -> int:
        """That of the first ask."""
        return self.asks[0].id


@dataclass(frozen=True)
class Slice:
    """A part of a pass: some sides of its asks, some of the classes or of the mini-batch's images (see `layout`)."""

    id: int
    asks: tuple[Pair | Query, ...]
    sides: tuple[int, ...]
    """Which points of each ask (see `optimizers.points`): of a pair 0 = w + c z, 1 = w - c z; of a query 0 = w."""
    shard: int
    """Which of `shards` nearly equal runs of classes or images."""
    shards: int
    over: Literal["classes", "images"] = "classes"

    @property
    def share(self) -> float:
        """Of a pass, as if its work were split evenly: what every shard does again is small beside the rest."""
        return len(self.sides) / self.asks[0].queries / self.shards


@dataclass(frozen=True)
class VisualPrompt:
    """What is done to an image before or inside the image tower."""

    kind: VisualKind
    tensors: dict[str, Float32]
    """By the names that the prompt space gives them (see `prompts.visual`)."""
    encoder: str = ""
    """Of a decoder: the frozen image encoder, as `prompt.encoder` names it."""


@dataclass(frozen=True)
class Prompt:
    """What parameters mean to the model."""

    context: Float32 | None
    """Context token embeddings, shape (m, width); None where the task's plain template is the text."""
    visual: VisualPrompt | None = None
    suffix: str | None = None
    """Text after the class name; None for the scorer's own."""


@dataclass(frozen=True)
class Crops:
    """Encode the fresh random crops of a mini-batch (`task.views: fresh`). Not charged."""

    id: int
    batch: int
    """Key of the mini-batch."""


@dataclass(frozen=True)
class Evaluation:
    """Loss and accuracy on a split, at parameters or at a hand-written template. Not charged."""

    id: int
    split: Split
    prompt: Float64 | str | Prompt
    """Parameters, shape (d,), a sentence with {} for the class name, or a prompt tuned elsewhere."""
    part: tuple[int, int] | None = None
    """First and end of the images that it is of; None for all."""


@dataclass(frozen=True)
class Encoding:
    """The prompt and its text features at parameters: what a tuned prompt carries. Not charged."""

    id: int
    w: Float64
    """Parameters, shape (d,)."""


@dataclass(frozen=True)
class PairResult:
    """What came of a `Pair`."""

    queries: ClassVar[int] = Pair.queries
    id: int
    plus: float
    """Mean loss at w + c z; not finite if the model says so."""
    minus: float
    """Mean loss at w - c z."""
    accuracy: float
    """Share of the mini-batch classified rightly, mean of the two sides."""

    @property
    def loss(self) -> float:
        """Mean of the two sides."""
        return (self.plus + self.minus) / 2

    @property
    def finite(self) -> bool:
        """Whether it can be used."""
        return math.isfinite(self.plus) and math.isfinite(self.minus)


@dataclass(frozen=True)
class QueryResult:
    """What came of a `Query`."""

    queries: ClassVar[int] = Query.queries
    id: int
    loss: float
    accuracy: float

    @property
    def finite(self) -> bool:
        """Whether it can be used."""
        return math.isfinite(self.loss)


@dataclass(frozen=True)
class GradientResult:
    """What came of a `Gradient`."""

    queries: ClassVar[int] = Gradient.queries
    id: int
    loss: float
    accuracy: float
    gradient: Float64
    """Shape (d,)."""

    @property
    def finite(self) -> bool:
        """Whether it can be used."""
        return math.isfinite(self.loss) and bool(np.isfinite(self.gradient).all())


AskResult = PairResult | QueryResult | GradientResult


@dataclass(frozen=True)
class PassResult:
    """Answer to a `Pass`, in the order of its asks."""

    results: tuple[AskResult, ...]

    @property
    def id(self) -> int:
        """That of the first ask."""
        return self.results[0].id


@dataclass(frozen=True)
class SliceResult:
    """Answer to a `Slice`, all of shape (queries, images): what the cross-entropy needs of these classes and images.

    The queries are the first ask's sides, then the second's, and so on.
    """

    id: int
    maxima: Float64
    """Largest logit."""
    sums: Float64
    """Sum of exp(logit - largest)."""
    targets: Float64
    """Logit of the image's own class; -inf where it is not among these."""
    right: npt.NDArray[np.bool_]
    """Whether the largest logit is that of the image's own class."""


@dataclass(frozen=True)
class CropsResult:
    """Answer to `Crops`."""

    id: int
    batch: int
    features: Float32
    """Unit-length features, shape (images, embed)."""


@dataclass(frozen=True)
class EvaluationResult:
    """Answer to an `Evaluation`."""

    id: int
    loss: float
    accuracy: float
    images: int


@dataclass(frozen=True)
class EncodingResult:
    """Answer to an `Encoding`."""

    id: int
    prompt: Prompt
    text_features: Float32
    """Unit-length text features, shape (classes, embed)."""


SHARED_PREFIX = "shared prefix"
"""What facts say of a scorer whose texts go through the engine."""
TEMPLATE_ONCE = "template, encoded once"
"""What they say where only images are prompted; anything else is the plain pass, and why."""


@dataclass(frozen=True)
class Patches:
    """How an image tower cuts images up."""

    width: int
    """Of a token of the image tower."""
    mean: float
    """Of the patch embedding's weights."""
    std: float


@dataclass(frozen=True)
class ModelShape:
    """What a prompt space must know of the frozen model."""

    initial_context: Float32
    """c0, shape (m, width)."""
    token_std: float
    """Standard deviation of the numbers in the token embeddings."""
    image_size: tuple[int, int]
    """Height and width of a preprocessed image."""
    patches: Patches | None
    """None for an image tower that has no patch embedding."""
    encoder_features: int = 0
    """Numbers that the frozen encoder of a decoder makes of an image; 0 where there is none."""


@dataclass(frozen=True)
class Facts:
    """What the driver must know of the model and the task; the same on every actor of a run."""

    shape: ModelShape
    classnames: tuple[str, ...]
    template: str
    """The task's plain template."""
    templates: tuple[str, ...]
    """Hand-written templates of the task, the plain one first."""
    suffix: str
    """Text after the class name in a tuned prompt."""
    images: dict[Split, int]
    """Images in each split."""
    model: str
    pretrained: str | None
    weights_digest: str
    """SHA-256 over names, shapes and values of the weights."""
    preprocess: dict[str, object]
    """Preprocessing of images, as open_clip describes it."""
    logit_scale: float
    """Factor of the cosine, already exponentiated."""
    device: str
    text_pass: str
    """How texts are encoded: `shared prefix`, `template, encoded once`, or the plain pass and why."""
    precision: str
    """What a reduced precision does to loss differences, in words; empty for float32."""


@dataclass(frozen=True)
class Hosted:
    """A piece of one run's work, for a process that has the scorers of many runs (see `compare.host`)."""

    id: int
    scorer: str
    """Key of the run's scorer."""
    work: "Work | None"
    """None asks for the facts."""


@dataclass(frozen=True)
class Failure:
    """Why a piece of one run's work could not be done, in one line."""

    text: str
    is_input: bool = False
    """Whether the run's input is at fault."""


@dataclass(frozen=True)
class HostedResult:
    """Answer to `Hosted`."""

    id: int
    result: "Result | Facts | Failure"


Work = Pass | Slice | Crops | Evaluation | Encoding | Hosted
Result = PassResult | SliceResult | CropsResult | EvaluationResult | EncodingResult | HostedResult


@dataclass(frozen=True)
class Answer:
    """A result as a pool hands it out: each submitted id exactly once."""

    result: Result
    attempts: int = 1
    """How often the work was issued until this answer came (1 = no loss)."""
