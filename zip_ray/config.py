"""The one config tree: typed, frozen, read from YAML, overridable field by field on the command line.

The defaults of `prompt`, `optimizer` and `budget` are the published setting of ZIP (Park et al., ICLR 2025,
section 5 and the released code). Units stand in each field's docstring.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from zip_ray.errors import InputError
from zip_ray.work import VisualKind

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
# Seeds key a 64-bit counter-based generator; the command line and JSON hold them exactly up to 2^53.
Seed = Annotated[int, Field(ge=0, lt=2**53)]

ROOTED = ("folder", "manifest", "coop", "torchvision", "webdataset")
"""Kinds of task (the name up to its colon) that need a root; huggingface may have one, built-in tasks have none."""


Method = Literal["zip", "spsa", "spsa-gc", "one-sided", "cma-es", "random-search", "gradient"]
SYNCHRONOUS: tuple[Method, ...] = ("one-sided", "cma-es", "random-search")
"""Methods whose step compares its queries with one another: they belong to one point and one mini-batch."""
SCHEDULED: tuple[Method, ...] = ("one-sided", "gradient")
"""Methods whose learning rate falls over the whole run."""
Space = Literal["low-rank", "full", "context", "random-projection"] | VisualKind
Loss = Literal["cross-entropy", "focal"]


class Section(BaseModel):
    """A part of the config: immutable, and an unknown key is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class TaskConfig(Section):
    """What is classified."""

    name: str = "digits"
    """A built-in task (digits, count, texture, shape, letter, colour, street, style, crowd, inlay, background, stars:
    docs/tasks.md), `folder` or `manifest` for your own images, `coop:NAME`, `torchvision:NAME`, `huggingface:NAME` or
    `webdataset`: docs/datasets.md."""
    root: Path | None = None
    """For `folder`: a folder with train/CLASS/ and test/CLASS/, or one folder a class, split by the seed. For
    `manifest`: the .csv or .jsonl file. For the others: the folder of the data."""
    classes: Literal["all", "base", "new"] = "all"
    """base = the first half of the classes (rounded up), new = the rest: tune on the one, test on both."""
    template: str | None = None
    """Sentence with {} for the class name; the task's own where absent."""
    test_set: str = "test"
    """What is tested on: `test`, or a shifted test set of a built-in task (docs/tasks.md), such as `inverted`."""
    shots: Count = 16
    """Training images a class; validation gets min(shots, 4) a class."""
    batch_size: Count = 128
    """Images in a mini-batch; a training set smaller than this is one batch."""
    views: Annotated[int, Field(ge=0)] | Literal["fresh"] = 0
    """Keyed random crops of each training image, encoded once; 0 = the image as at test time; fresh = new crops every
    step, as published, each encoded once."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Smallest and largest area of a random crop, as a share of the image (RandomResizedCrop)."""
    flip: bool = True
    """Whether a random crop may be mirrored."""

    @model_validator(mode="after")
    def _consistent(self) -> "TaskConfig":
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop_scale is {self.crop_scale}: give 0 < smallest <= largest <= 1")
        if self.template is not None and self.template.count("{}") != 1:
            raise ValueError(f"template is '{self.template}': it needs {{}} once, where the class name goes")
        kind = self.name.partition(":")[0]
        if kind != "huggingface" and (kind in ROOTED) != (self.root is not None):
            raise ValueError(f"root goes with name {', '.join(map(repr, ROOTED))}, which need it: where the images are")
        return self


class ModelConfig(Section):
    """The frozen model, as open_clip names it."""

    name: str = "local-dir:zip_ray/tiny_clip/model"
    """open_clip model name, `local-dir:PATH` or `hf-hub:ORG/REPO`. A relative PATH is looked for in the working
    directory, then beside the installed package; the default is the small CLIP that ships with it."""
    pretrained: str | None = None
    """open_clip pretrained tag, or a checkpoint file; not used with local-dir: and hf-hub:."""
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """Of the text tower's matrix products. tf32 (GPU) and bf16 are faster, but blur the small loss differences that
    ZIP learns from: `run.py doctor` measures how much."""
    pairs_per_pass: Count = 1
    """Pairs (or queries) of a step that one actor encodes in one pass: more fill a GPU, fewer spread over more actors.
    It changes results by float32 rounding, so a run keeps it."""
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
    template, or any words."""
    encoder: str = "clip"
    """decoder: the frozen image encoder. clip = the model's own image tower, or a name of timm (published:
    vit_base_patch16_224.mae), fetched when it is first needed."""

    @property
    def visual(self) -> bool:
        """Whether images are encoded anew for each prompt."""
        return self.space in get_args(VisualKind)


class OptimizerConfig(Section):
    """How the parameters move."""

    method: Method = "zip"
    """zip = SPSA with clipping; spsa = no clipping; spsa-gc = no clipping, with momentum; one-sided = BAR's estimator;
    cma-es = by pycma; random-search = the best of some normal steps; gradient = backpropagation, which needs the white
    box: an upper bound."""
    mode: Literal["sync", "async"] = "sync"
    """sync = a step waits for all its pairs: the same bits on any number of actors. async = an update is made of the
    first K answers, while other pairs are out: no actor ever waits, and answers are a little stale. Not for methods
    that compare the queries of a step: one-sided, cma-es and random-search."""
    loss: Loss = "cross-entropy"
    """What a query answers, a mean over the mini-batch: cross-entropy, or focal loss with gamma 2. Validation and test
    losses are cross-entropies."""
    pairs_per_step: Count = 5
    """zip, spsa, spsa-gc: K, perturbation pairs averaged in one step (update of the parameters); a step costs 2 K
    queries."""
    in_flight: Count = 8
    """async: pairs out at once, on all actors together. Up to 8 cost no queries, 32 cost half as many again
    (docs/staleness.md); with more actors than that, split passes first (`model.parallel`)."""
    max_staleness: Annotated[int, Field(ge=0)] = 256
    """async: an answer whose pair was asked more steps ago than this is charged, counted and not used."""
    perturbation: Literal["segmented-uniform", "random-sign"] = "segmented-uniform"
    """Law of the entries of a perturbation: random sign times U[0.5, 1], or random signs."""
    a: Positive = 0.01
    """Step size gain: a_k = a / (k + offset)^alpha, k = 1, 2, ..."""
    c: Positive = 0.01
    """Perturbation gain: c_k = c / k^gamma."""
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Decay of the step size."""
    gamma: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Decay of the perturbation."""
    offset: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Offset o of the step size's counter."""
    clip: Literal["intrinsic"] | Positive = "intrinsic"
    """zip: largest norm of the estimate; intrinsic = sqrt(number of parameters)."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.8
    """b of spsa-gc: m <- b m + g, the update is g + b m. Other methods do not use it."""
    points: Count = 5
    """one-sided, random-search: points around the current one, which is queried too: a step costs points + 1."""
    beta: Positive = 0.01
    """one-sided: distance of the points."""
    population: Annotated[int, Field(ge=4)] = 15
    """cma-es: individuals of a generation, which is a step."""
    fitness_batches: Count = 1
    """cma-es: mini-batches that each individual is queried on; their mean loss is its fitness."""
    covariance: Literal["full", "diagonal"] = "full"
    """cma-es: what is learnt of the covariance; full takes d^2 numbers, and now and then d^3 operations."""
    sigma: Positive = 0.3
    """cma-es: initial standard deviation; random-search: that of the steps. In units of the parameters."""
    learning_rate: Positive = 0.002
    """one-sided: the initial one, which falls to a hundredth by a polynomial of power 0.9 over the budget's steps;
    gradient: Adam's, which falls to 0 by a cosine."""

    @property
    def asks_per_step(self) -> int:
        """Asks (pairs, queries or gradients) of one step."""
        match self.method:
            case "one-sided" | "random-search":
                return self.points + 1
            case "cma-es":
                return self.population * self.fitness_batches
            case "gradient":
                return 1
        return self.pairs_per_step

    @property
    def batches_per_step(self) -> int:
        """Mini-batches that they go through, one after another."""
        return self.fitness_batches if self.method == "cma-es" else 1

    @property
    def queries_per_step(self) -> int:
        """What a step costs."""
        return self.asks_per_step * (2 if self.method in ("zip", "spsa", "spsa-gc") else 1)

    @model_validator(mode="after")
    def _mode_is_known(self) -> "OptimizerConfig":
        if self.mode == "async" and self.method in SYNCHRONOUS:
            raise ValueError(
                f"mode is async, but method {self.method} compares the queries of a step: set mode to sync "
                "(all of a step's queries are in flight at once)"
            )
        return self


class BudgetConfig(Section):
    """When to stop: whichever comes first. Evaluation on validation and test images is not counted."""

    queries: Count | None = 5000
    """Queries: evaluations of the model on one mini-batch at one prompt."""
    seconds: Positive | None = None
    """Seconds of tuning, over all resumes."""
    steps: Count | None = None
    """Updates of the parameters."""
    target_accuracy: Annotated[float, Field(gt=0, le=1)] | None = None
    """Validation accuracy, a share between 0 and 1."""

    @model_validator(mode="after")
    def _finite(self) -> "BudgetConfig":
        if self.queries is None and self.seconds is None and self.steps is None:
            raise ValueError("no limit is set: give queries, seconds or steps (target_accuracy may never be reached)")
        return self


class ClusterConfig(Section):
    """Where the queries run."""

    pool: Literal["ray", "in-process"] = "ray"
    """ray = actors on a Ray cluster; in-process = one scorer inside the driver, no Ray."""
    address: str | None = None
    """Ray cluster to join (`auto`, `ray://host:port`, `host:port`); absent = RAY_ADDRESS, or else a local one."""
    actors: Count | tuple[Count, Count] | Literal["auto"] = 2
    """Actors, each with its own copy of the model: a number; least and most (waits for the least, and keeps asking for
    the most, which is what an autoscaler reads); or auto = as many as the cluster's nodes hold, as they come and go."""
    cpus_per_actor: Annotated[float, Field(ge=0)] = 1
    """CPU cores that Ray reserves for an actor."""
    gpus_per_actor: Annotated[float, Field(ge=0)] = 0
    """GPUs that Ray reserves for an actor: 0, 1/k or whole ones."""
    threads_per_actor: Count | Literal["auto"] = 1
    """CPU threads of an actor's forward pass. Another number gives other bits: the default is the same for any number
    of actors, and a run keeps what it was started with. auto = this machine's cores shared out among the actors, or
    `cpus_per_actor` on a cluster that is joined."""
    cache: bool = True
    """Keep image features for later runs on the same images, and weights that CPU actors share, in ~/.cache/zip-ray
    (or $XDG_CACHE_HOME/zip-ray)."""
    start_timeout: Positive = 300
    """Seconds to wait for the first (or least) actors to have loaded their model."""
    answer_timeout: Positive = 300
    """Seconds after which an actor that has not answered is taken for hung and replaced. Long before, a copy of its
    work goes to an idle one."""

    @property
    def fewest(self) -> int:
        """Actors without which a run does not go on."""
        return self.actors[0] if isinstance(self.actors, tuple) else 1

    @property
    def most(self) -> int | None:
        """Actors asked for; None for as many as there is room for."""
        match self.actors:
            case (_, most):
                return most
            case int(number):
                return number
        return None

    @model_validator(mode="after")
    def _range(self) -> "ClusterConfig":
        if isinstance(self.actors, tuple) and self.actors[0] > self.actors[1]:
            raise ValueError(f"actors is {list(self.actors)}: give the least, then the most")
        return self


class ValidationConfig(Section):
    """How progress is judged; apart from the budget."""

    every_queries: Count = 250
    """Queries between two evaluations on the validation images."""
    deploy: Literal["last", "best"] = "last"
    """Which iterate becomes the tuned prompt: the last (published) or the best by validation accuracy."""


class OutputConfig(Section):
    """Where the run is written."""

    dir: Path | None = None
    """Run folder, which must not exist; absent = runs/TASK-DATE-TIME."""
    remote: str | None = None
    """URI of a folder that gets a copy of the run folder while the run goes on, on any storage that fsspec knows, such
    as s3://BUCKET/runs/NAME (needs zip-ray[remote] and that storage's driver). `run.py resume URI` goes on from it."""
    checkpoint_every_steps: Count = 10
    """Steps between two checkpoints: what a killed driver has to do again."""


class TrackingConfig(Section):
    """MLflow. The JSON lines in the run folder are the record; MLflow is a copy of them."""

    enabled: bool = True
    """Whether the run is sent to MLflow."""
    uri: str = "sqlite:///mlflow.db"
    """MLflow tracking server, or a local sqlite file."""
    experiment: str = "zip-ray"
    """MLflow experiment."""
    parent: str | None = None
    """Id of the MLflow run that this one is a part of; `run.py compare` sets it."""


class Config(Section):
    """A run of zip-ray."""

    seed: Seed = 1
    """Keys every draw: the few-shot images, the random projection and context, perturbations, mini-batches."""
    task: TaskConfig = TaskConfig()
    model: ModelConfig = ModelConfig()
    prompt: PromptConfig = PromptConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    budget: BudgetConfig = BudgetConfig()
    validation: ValidationConfig = ValidationConfig()
    cluster: ClusterConfig = ClusterConfig()
    output: OutputConfig = OutputConfig()
    tracking: TrackingConfig = TrackingConfig()

    @property
    def parallel(self) -> tuple[int, int] | Literal["auto"]:
        """`model.parallel`, or what it is where it is absent."""
        default: tuple[int, int] | Literal["auto"] = "auto" if self.optimizer.mode == "async" else (1, 1)
        return self.model.parallel or default

    @property
    def encodes_crops(self) -> bool:
        """Whether fresh crops are encoded ahead of the loop; under a visual prompt each query encodes them itself."""
        return self.task.views == "fresh" and not self.prompt.visual

    @property
    def planned_steps(self) -> int | None:
        """Steps that the budget of queries and steps allows; None where it has neither."""
        queries, steps = self.budget.queries, self.budget.steps
        limits = [] if queries is None else [queries // self.optimizer.queries_per_step]
        return min([*limits, *([] if steps is None else [steps])], default=None)

    @model_validator(mode="after")
    def _gradient_is_of_texts(self) -> "Config":
        if self.optimizer.method == "gradient" and self.prompt.visual:
            raise ValueError(
                f"optimizer.method gradient differentiates texts, and prompt.space {self.prompt.space} prompts images: "
                "choose another method, or a space of contexts"
            )
        return self

    @model_validator(mode="after")
    def _schedule_has_an_end(self) -> "Config":
        if self.optimizer.method in SCHEDULED and self.planned_steps is None:
            raise ValueError(
                f"optimizer.method {self.optimizer.method} lowers its learning rate over the whole run: "
                "give budget.queries or budget.steps"
            )
        return self

    @model_validator(mode="after")
    def _one_step_fits(self) -> "Config":
        step = self.optimizer.queries_per_step
        if self.budget.queries is not None and self.budget.queries < step:
            raise ValueError(
                f"budget.queries is {self.budget.queries}, less than one step: give at least {step} "
                f"(a step of optimizer.method {self.optimizer.method})"
            )
        return self


def load_config(path: Path) -> Config:
    """Read and validate a YAML file.

    Raises:
        InputError: no such file, not YAML, an unknown key, a value of the wrong type or range.
    """
    return validate(read_tree(path), source=str(path))


def read_tree(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        InputError: no such file, not YAML, or something else than a mapping.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give the path of a config (see configs/)") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if tree is not None and not isinstance(tree, dict):
        raise InputError(f"{path}: holds a {type(tree).__name__}; a config is a mapping of sections")
    return tree or {}


def validate(tree: dict[str, Any], source: str) -> Config:
    """The config that a tree of plain values describes.

    Raises:
        InputError: one line that names source, field, value and remedy of the first fault.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{source}: {explain(error)}") from error


def explain(error: ValidationError, root: type[BaseModel] = Config) -> str:
    """One line about the first fault of a validation of `root`: field, value, remedy."""
    fault = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in fault["loc"]) or "config"
    if fault["type"] == "extra_forbidden":
        return f"{field}: unknown key; known here: {', '.join(_siblings(root, fault['loc']))}"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error":
        return f"{field}: {message}" if fault["loc"] else message
    return f"{field}: {fault['input']!r}: {message}"


def _siblings(root: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    section = root
    for part in location[:-1]:
        annotation = section.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        section = annotation
    return list(section.model_fields)
