"""Messages between the driver and a scorer: work and results. Plain numbers, picklable, without torch."""

import math
from dataclasses import dataclass
from enum import IntEnum
from itertools import count
from typing import ClassVar, Literal

import numpy as np

from zip_ray.protocol.arrays import Float32, Float64, Int32, Int64
from zip_ray.protocol.facts import Facts, Prompt, Split
from zip_ray.protocol.readout import Readout
from zip_ray.protocol.shards import Over, SliceResult

PerturbationLaw = Literal["segmented-uniform", "random-sign"]


@dataclass(frozen=True, slots=True)
class Perturbation:
    """The key of a perturbation: the same vector is drawn from it everywhere (see `protocol.perturbations`)."""

    law: PerturbationLaw
    seed: int
    step: int
    index: int


@dataclass(frozen=True, slots=True)
class ScoresWanted:
    """Which class scores an ask returns beside its losses."""

    classes: Int32 | None = None
    """k different classes per image, its own among them, shape (images, k), k < classes. One more column pools the
    others: the logsumexp of their logits, so that the cross-entropy is unchanged. None = all classes, no pooling."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What all asks of an optimiser have in common."""

    queries: ClassVar[int] = 1
    """Queries charged for it."""
    index: int
    """Number in the order of asking, from 0."""
    step: int
    """k, counted from 1."""
    version: int
    """Steps done when this was asked."""
    w: Float64
    """Parameters, shape (d,)."""
    batch: int
    """Key of the mini-batch; asks of one step may share it."""
    chunk: int | None = None
    """Instead of a mini-batch, this fixed run of the training images as at test time (see `protocol.mini_batches`)."""
    features: Float32 | None = None
    """Features of the mini-batch's fresh crops, shape (images, embed); None for the scorer's own fixed views."""
    start: str | None = None
    """Template whose words before {} the prompt space starts from, with its rest as suffix; None: as configured."""
    scores: ScoresWanted | None = None
    """Class scores that come back too; None for losses alone."""


@dataclass(frozen=True, kw_only=True)
class Pair(Ask):
    """The two queries at w + c z and w - c z on one mini-batch."""

    queries: ClassVar[int] = 2
    scale: float
    """c_k, the scale of the perturbation."""
    perturbation: Perturbation


@dataclass(frozen=True, kw_only=True)
class Query(Ask):
    """One query, at `w` itself."""


@dataclass(frozen=True, kw_only=True)
class TemplateQuery(Ask):
    """One query, at a sentence and not at `w`, which may be empty."""

    template: str
    """A sentence with {} for the class name."""


@dataclass(frozen=True, kw_only=True)
class Gradient(Ask):
    """White box: loss and gradient at `w` by one forward and one backward pass. Counted as one query."""


@dataclass(frozen=True, slots=True)
class AskResult:
    """The result of one ask."""

    losses: tuple[float, ...]
    """Mean loss over the mini-batch at each point of the ask (of a pair: w + c z, then w - c z); may be not finite."""
    accuracy: float
    """Share of the mini-batch classified correctly, mean over the points."""
    gradient: Float64 | None = None
    """Gradient, shape (d,), if the ask is a `Gradient`."""
    scores: Float32 | None = None
    """Logits that the ask wanted, shape (points, images, classes), or (points, images, k + 1) of chosen classes."""
    statistics: Float32 | None = None
    """Means, then variances, that the decoder's BatchNorm saw at each point, shape (points, numbers), where a run keeps
    account of them (`prompt.statistics`)."""

    @property
    def loss(self) -> float:
        """The mean loss over the points."""
        return sum(self.losses) / len(self.losses)

    @property
    def finite(self) -> bool:
        """Whether the result can be used."""
        slope = 0.0 if self.gradient is None else float(abs(self.gradient).max())
        scores = self.scores is None or bool(np.isfinite(self.scores).all())
        return scores and all(map(math.isfinite, (*self.losses, slope)))


@dataclass(frozen=True)
class Pass:
    """Asks of one kind that go through the model together. Which asks share it is part of the bits.

    The answer is a tuple of their results, in the order of the asks.
    """

    kind: ClassVar[str] = "pass"
    share: ClassVar[float] = 1.0
    asks: tuple[Ask, ...]


@dataclass(frozen=True)
class Slice:
    """A part of a pass: some sides of its asks, some of the classes or of their images."""

    kind: ClassVar[str] = "pass"
    asks: tuple[Ask, ...]
    """Any but gradients."""
    sides: tuple[int, ...]
    """Which points of each ask (see `protocol.perturbations.points`)."""
    shard: int
    """Which of `shards` nearly equal runs of classes or images."""
    shards: int
    over: Over = "classes"

    @property
    def share(self) -> float:
        """Share of a pass, as if its work were split evenly: what every shard repeats is small beside the rest."""
        return len(self.sides) / self.asks[0].queries / self.shards


@dataclass(frozen=True)
class Crops:
    """Encode the fresh random crops of a mini-batch (`task.views: fresh`). Not charged."""

    kind: ClassVar[str] = "crops"
    share: ClassVar[float] = 1.0
    batch: int
    """Key of the mini-batch."""


@dataclass(frozen=True, slots=True)
class CropsResult:
    """Answer to `Crops`."""

    features: Float32
    """Unit-length features, shape (images, embed)."""


@dataclass(frozen=True)
class Evaluation:
    """Loss and accuracy on a split, at parameters or at a hand-written template. Not charged."""

    kind: ClassVar[str] = "evaluation"
    share: ClassVar[float] = 1.0
    split: Split
    prompt: Float64 | str | Prompt
    """Parameters, shape (d,), a sentence with {} for the class name, or a prompt tuned elsewhere."""
    part: tuple[int, int] | None = None
    """First and end of the images; None for all."""
    start: str | None = None
    """Start of the prompt space, as in an `Ask`; for parameters."""
    readout: Readout | None = None
    """Applied to the scores before anything is made of them."""
    scores: bool = False
    """Whether the scores come back too."""


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """Answer to an `Evaluation`."""

    loss: float
    accuracy: float
    images: int
    scores: Float32 | None = None
    """If wanted: logits, after the readout, shape (images, classes)."""


@dataclass(frozen=True)
class Encoding:
    """The prompt and its text features at parameters: what a tuned prompt carries. Not charged."""

    kind: ClassVar[str] = "encoding"
    share: ClassVar[float] = 1.0
    w: Float64
    """Parameters, shape (d,)."""
    start: str | None = None
    """Start of the prompt space, as in an `Ask`."""
    readout: Readout | None = None
    """To be folded into class features."""


@dataclass(frozen=True, slots=True)
class EncodingResult:
    """Answer to an `Encoding`."""

    prompt: Prompt
    text_features: Float32
    """Unit-length text features, shape (classes, embed)."""
    head: Float32 | None = None
    """The readout folded into class features, shape (classes, embed) (see `protocol.readout.fold`)."""


@dataclass(frozen=True)
class Features:
    """Image features, for baselines that see more than a black box shows. Not charged."""

    kind: ClassVar[str] = "features"
    share: ClassVar[float] = 1.0
    split: Split
    part: tuple[int, int] | None = None
    """First and end of the images; None for all."""


@dataclass(frozen=True, slots=True)
class FeaturesResult:
    """Answer to `Features`."""

    features: Float32
    """Unit-length features, shape (images, embed)."""
    labels: Int64
    """Shape (images,)."""


@dataclass(frozen=True)
class FactsRequest:
    """The facts of one run, from a process that has the scorers of many; or with another start than its own."""

    kind: ClassVar[str] = "facts"
    share: ClassVar[float] = 1.0
    start: str | None = None
    """Whose context and suffix the facts have, as in an `Ask`."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a piece of one run's work could not be done, in one line."""

    text: str
    is_input: bool = False
    """Whether the run's input is at fault."""


Body = Pass | Slice | Crops | Evaluation | Encoding | Features | FactsRequest
Value = (
    tuple[AskResult, ...]
    | SliceResult
    | CropsResult
    | EvaluationResult
    | EncodingResult
    | FeaturesResult
    | Facts
    | Failure
)


class Priority(IntEnum):
    """Order in which waiting work is begun."""

    EVALUATION = 0
    """What a run may wait for before it asks again: evaluations, facts."""
    QUERY = 1
    PREFETCH = 2
    """What is needed later, such as the crops of coming mini-batches."""


@dataclass(frozen=True, slots=True)
class Work:
    """A piece of work. Pools begin the lowest (priority, id) first."""

    id: int
    """Unique in the driver's process, given once (see `new_work`); work that is issued again keeps it."""
    priority: Priority
    body: Body
    scorer: str = ""
    """Key of the run's scorer, for a process that has the scorers of many runs."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as a pool hands it out: each submitted id exactly once."""

    id: int
    value: Value
    attempts: int = 1
    """How often the work was issued until this answer came (1 = no loss)."""


_ids = count()


def new_work(body: Body, priority: Priority, scorer: str = "") -> Work:
    """Work with an id of its own, higher than all before it in this process."""
    return Work(next(_ids), priority, body, scorer)
