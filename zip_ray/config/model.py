"""Sections `model` and `prompt`: what is frozen, and what is tuned."""

from typing import Annotated, Literal, get_args

from zip_ray.config.section import AtHome, Count, Section
from zip_ray.protocol.messages import VisualKind

Space = Literal["low-rank", "full", "context", "random-projection"] | VisualKind


class ModelConfig(Section):
    """The frozen model, as open_clip names it."""

    name: str = "local-dir:zip_ray/shipped/small_clip"
    """open_clip model name, `local-dir:PATH` or `hf-hub:ORG/REPO`. A relative PATH is looked for in the working
    directory, then beside the installed package; the default is the small CLIP that ships with it."""
    pretrained: Annotated[str, AtHome] | None = None
    """open_clip pretrained tag, or a checkpoint file; not used with local-dir: and hf-hub:."""
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """Of the text tower's matrix products. tf32 (GPU) and bf16 are faster, but blur the small loss differences that
    ZIP learns from: `run.py doctor` measures how much."""
    pairs_per_pass: Count | Literal["auto"] | None = None
    """Pairs (or queries) that one actor encodes in one pass: more fill a GPU, fewer spread over more actors. auto = on
    GPUs, those that are out at once shared among the actors that are there; 1 on CPUs. It changes results by float32
    rounding, and auto is not the same bits on another number of GPUs; so where this is absent, it is 1 in synchronous
    mode, and auto in asynchronous mode."""
    parallel: tuple[Literal[1, 2], Count] | Literal["auto"] | None = None
    """How a pass is split over actors: sides (2 = the two queries of a pair apart) and shards, of the classes, or of
    the mini-batch's images where the prompt is visual; more of either when there are more actors than pairs in flight.
    auto = by the actors that are there and their speed, chosen again when they come and go. It changes results by
    float32 rounding, and auto is not the same bits twice; so where this is absent, it is `1 1` in synchronous mode, and
    auto in asynchronous mode."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where an actor runs the model; auto = cuda where the actor has been given a GPU."""


class PromptConfig(Section):
    """What is tuned."""

    space: Space = "low-rank"
    """low-rank = ZIP's, W = U diag(s) V^T + 1 v^T, each token's row of W through a map of its own; full = W itself;
    context = the context itself (CoOp); random-projection = one dense Gaussian map of all numbers to the whole context
    (BBT). Visual ones, under which each query encodes its images: frame = an image in a frame (BAR); decoder = an
    image added that a small network draws (BlackVIP); tokens = text tokens, and tokens beside the patches (BPT-VLM)."""
    tokens: Count = 8
    """m, the number of context tokens; with `init` given as words, their number of tokens is used instead."""
    intrinsic_dim: Count = 500
    """Intrinsic dimension. low-rank, full: each token gets floor(intrinsic_dim / m) numbers; random-projection: the
    number of parameters."""
    rank: Count = 5
    """low-rank: r, the rank of the factors."""
    diagonal: bool = True
    """low-rank: whether diag(s) is learnt; it is 1 otherwise."""
    shared: bool = True
    """low-rank: whether there is a feature v that all tokens share."""
    projection: Literal["fastfood", "none"] = "fastfood"
    """low-rank, full: the map of a token's numbers to its width; none = W is as wide as the context, and
    `intrinsic_dim` is not used."""
    init: str = "random"
    """Initial context: `random` = N(0, 0.02^2) as published, `template` = the words before {} in the task's
    template (where none stand there: a photo of a), or any words."""
    encoder: str = "clip"
    """decoder: the frozen image encoder. clip = the model's own image tower, or a name of timm (published:
    vit_base_patch16_224.mae), fetched when it is first needed."""

    @property
    def visual(self) -> bool:
        """Whether images are encoded anew for each prompt."""
        return self.space in get_args(VisualKind)
