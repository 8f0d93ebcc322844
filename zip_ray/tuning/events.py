"""The events of a run, in the order in which they happen: the event log keeps them, all views show them."""

from dataclasses import dataclass
from typing import Any

from zip_ray.readout.evidence import Evidence
from zip_ray.tuning.ledger import Account


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Where in its run an event belongs."""

    step: int
    """Updates of `w` made."""
    queries: int
    """Queries charged."""
    seconds: float
    """Seconds of tuning, over all resumes."""


@dataclass(frozen=True)
class ZeroShot:
    """Test accuracy of hand-written templates, each by its name (generic, plain, best)."""

    templates: dict[str, str]
    """Their texts."""
    test: dict[str, float]
    """Share of the test images classified correctly, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class StartEvent(Moment):
    """A run has been opened: the first event of its log."""

    time: float
    """Seconds since 1970."""
    config: dict[str, Any]
    """The whole config, as JSON has it."""
    environment: dict[str, str | int | None]
    """Versions, platform and device, for comparing runs."""
    weights_digest: str
    """Digest of the frozen model's weights."""
    parameters: int
    """Dimension d of `w`."""
    images: dict[str, int]
    """Images by split."""
    zero_shot: ZeroShot
    template: str | None = None
    """Template whose words the context starts from, where a survey has chosen it."""
    surveyed: int = 0
    """Queries charged for that."""
    reserved: int = 0
    """Queries kept for the readout."""
    classnames: tuple[str, ...] = ()
    """Class names of the task; empty in records of earlier versions, like `images_digest`."""
    images_digest: str = ""
    """Identity of the task's images and labels."""


@dataclass(frozen=True, kw_only=True)
class StepEvent(Moment):
    """One update of `w`."""

    loss: float
    """Mean loss of the step's finite results; NaN when there is none."""
    accuracy: float
    """Mean mini-batch accuracy of the finite results, 0 to 1; NaN when there is none."""
    gradient_norm: float
    """Norm of the estimate before clipping; NaN for a method without one."""
    clipped: bool
    """Whether this step's estimate was clipped."""
    nonfinite: int
    """Answers without a finite loss, since the start."""
    staleness: float
    """Mean number of updates made since the step's queries were asked; 0 in rounds."""
    dropped: int
    """Answers that were too late to be used, since the start."""
    wasted: int
    """Queries issued without use, since the start."""
    queries_per_second: float
    """Queries per second over the latest seconds; 0 at the first step."""


@dataclass(frozen=True, kw_only=True)
class ValidationEvent(Moment):
    """The parameters of one step have been tried on the validation images."""

    loss: float
    accuracy: float
    """Share of the images classified correctly, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class PoolEvent(Moment):
    """The actors of the pool: written when they change, and once per minute."""

    ready: int
    """Actors that have loaded their model."""
    pending: int
    """Actors that are not placed on a node yet."""
    loading: int = 0
    """Actors that are placed, and loading their model."""
    given_up: int
    """Actors that are not replaced any more, after too many failed starts."""
    last_error: str
    """Why an actor failed last; empty if none did."""
    waits: str = ""
    """Why an actor is not placed; empty if none is pending, or while that is unknown."""
    paces: tuple[float, float] | None
    """Seconds per pass of the fastest and of the slowest actor; None before the first pass."""
    asked: tuple[int, int] | None = None
    """Parts of a test that are done, and how many there are, while the run waits for them alone; else None."""


@dataclass(frozen=True, kw_only=True)
class StallEvent(Moment):
    """The loss has not moved by more than its noise since the start; at most once per run."""

    steps: int
    """Steps with a finite loss since the start."""
    change: float
    """What a straight line through their losses rises by; negative where the loss falls."""
    error: float
    """Standard error of the change."""
    remedy: str
    """What to do."""


@dataclass(frozen=True, kw_only=True)
class ChosenEvent(Moment):
    """The method has chosen options of its own that the config leaves to it (`auto`); at most once per run."""

    options: dict[str, float]
    """By their names in the config's optimizer section."""


@dataclass(frozen=True, kw_only=True)
class ReadoutEvent(Moment):
    """The run has made its last step, and asks for the scores that the readout needs: `queries` has them charged."""


@dataclass(frozen=True, kw_only=True)
class EndEvent(Moment):
    """The run has come to its end, and its prompt has been tested: the last event of its log."""

    reasons: dict[str, str]
    """Why it ended, by kind: queries, seconds, steps, target_accuracy, nonfinite."""
    deployed_step: int
    """Step whose parameters became the tuned prompt."""
    test_accuracy: float
    """Share of the test images that the tuned prompt classifies correctly, 0 to 1."""
    zero_shot_accuracy: float
    """The same of the task's plain template."""
    below_zero_shot: bool
    """Whether the tuned prompt classifies fewer images correctly than the plain template."""
    account: Account
    dropped: int
    """Answers that were too late to be used."""
    left_over: int
    """Answers charged and neither used nor dropped: too few for a step when the run ended."""
    readout: str = "none"
    """Kind of the readout that the tuned prompt has."""
    prompt_alone_accuracy: float | None = None
    """Test accuracy without it; None where there is none."""
    evidence: Evidence | None = None
    """Evidence for the tuned prompt and its readout on the validation images, compared with the start."""


Event = StartEvent | StepEvent | ValidationEvent | PoolEvent | StallEvent | ChosenEvent | ReadoutEvent | EndEvent
