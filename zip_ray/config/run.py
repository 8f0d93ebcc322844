"""Sections `budget`, `cluster`, `validation`, `output` and `tracking`: how long and where, and what is left."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from zip_ray.config.section import Count, Place, Positive, Section

GPU_LEFT = 0.05
"""Of a GPU that actors share: what may be left over (0.33 stands for 1/3)."""


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


ACTORS = 2
"""Without GPUs, where nothing is said."""


def _whole_or_share(gpus: float) -> float:
    if gpus.is_integer() or (1e-3 <= gpus < 1 and 1 - gpus * per_gpu(gpus) <= GPU_LEFT):
        return gpus
    raise ValueError(f"{gpus:g} is neither whole nor 1/k: give 0, 1, 2 ..., or 0.5, 0.3333, 0.25 ...")


def per_gpu(share: float) -> int:
    """Actors to a GPU, where each reserves this much. A millionth more: 1/3 of one three times over is one."""
    return int(1 / share + 1e-6)


class ClusterConfig(Section):
    """Where the queries run."""

    pool: Literal["ray", "in-process"] = "ray"
    """ray = actors on a Ray cluster; in-process = one scorer inside the driver, no Ray."""
    address: str | None = None
    """Ray cluster to join (`auto`, `ray://host:port`, `host:port`); absent = RAY_ADDRESS, or else a local one."""
    actors: Count | tuple[Count, Count] | Literal["auto"] | None = None
    """Actors, each with its own copy of the model: a number; least and most (waits for the least, and keeps asking for
    the most, which is what an autoscaler reads); or auto = as many as the cluster's nodes hold, as they come and go,
    and one while they hold none. Absent = auto where actors have GPUs, else 2."""
    cpus_per_actor: Annotated[float, Field(ge=0)] = 1
    """CPU cores that Ray reserves for an actor."""
    gpus_per_actor: Annotated[float, Field(ge=0), AfterValidator(_whole_or_share)] | None = None
    """GPUs that Ray reserves for an actor: 0, 1/k or whole ones. Absent = 1 where the cluster has GPUs at the start,
    else 0."""
    threads_per_actor: Count | Literal["auto"] = 1
    """CPU threads of an actor's forward pass. Another number gives other bits: the default is the same for any number
    of actors, and a run keeps what it was started with. auto = this machine's cores shared out among the actors, or
    `cpus_per_actor` on a cluster that is joined."""
    cache: bool = True
    """Keep image features for later runs on the same images, and weights that CPU actors share, in ~/.cache/zip-ray
    (or $XDG_CACHE_HOME/zip-ray)."""
    start_timeout: Positive = 300
    """Seconds to wait for the first (or least) actors to have loaded their model. An actor that has its place and takes
    longer to load is replaced."""
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
            case None:
                return ACTORS
        return None

    @property
    def gpus(self) -> float:
        """GPUs an actor, of what `settled` has filled in."""
        return self.gpus_per_actor or 0.0

    def settled(self, gpus: float) -> "ClusterConfig":
        """With what is left to the cluster filled in, given how many GPUs it has."""
        share = float(gpus > 0) if self.gpus_per_actor is None else self.gpus_per_actor
        actors = self.actors or ("auto" if share > 0 else ACTORS)
        return self.model_copy(update={"gpus_per_actor": share, "actors": actors})

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

    dir: Place | None = None
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
    name: str | None = None
    """Name of the run there; absent = that of its folder. `run.py compare` gives its runs their labels."""
    parent: str | None = None
    """Id of the MLflow run that this one is a part of; `run.py compare` sets it."""
