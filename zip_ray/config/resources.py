"""Section `cluster`: where the queries run."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from zip_ray.config.section import Count, Positive, Section

GPU_LEFT = 0.05
"""Fraction of a shared GPU that may be left over (0.33 stands for 1/3)."""
ACTORS = 2
"""On a cluster without GPUs, where no number is given."""


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
    """Ray actors, or one scorer in the driver's process."""
    address: str | None = None
    """Ray cluster: `auto`, `ray://host:port` or `host:port`. Default: RAY_ADDRESS, or else a local one."""
    actors: Count | tuple[Count, Count] | Literal["auto", "per-gpu"] = "per-gpu"
    """Number; minimum and maximum; auto (all that fit); per-gpu. Each actor has its own copy of the model. Minimum and
    maximum = the run begins with the minimum and keeps requesting the maximum, to which an autoscaler reacts. auto = as
    many as the cluster's nodes hold, adjusted as nodes are added and removed, and one while there is no node. per-gpu =
    auto on a cluster with GPUs, 2 on one without."""
    cpus_per_actor: Annotated[float, Field(ge=0)] = 1
    """CPU cores reserved per actor."""
    gpus_per_actor: Annotated[float, Field(ge=0), AfterValidator(_whole_or_share)] | Literal["auto"] = "auto"
    """GPUs reserved per actor: 0, 1/k or whole ones. auto = 1 where the cluster has GPUs at the start, else 0. A
    generative model divides its layers among several."""
    start_timeout: Positive = 300
    """Seconds to wait until the first actors have loaded, or until the given minimum has. An actor that was placed on a
    node and takes longer to load its model is replaced."""
    answer_timeout: Positive = 300
    """Seconds until an actor that does not respond is replaced. Overdue work is sent to an idle actor well before."""

    @property
    def fewest(self) -> int:
        """Minimum number of actors without which a run does not continue."""
        return self.actors[0] if isinstance(self.actors, tuple) else 1

    @property
    def most(self) -> int | None:
        """Actors requested; None for as many as fit."""
        match self.actors:
            case (_, most):
                return most
            case int(number):
                return number
            case "per-gpu":
                return ACTORS
        return None

    @property
    def gpus(self) -> float:
        """GPUs per actor, once `settled` has replaced auto."""
        return 0.0 if self.gpus_per_actor == "auto" else self.gpus_per_actor

    def settled(self, gpus: float) -> "ClusterConfig":
        """With `gpus_per_actor: auto` and `actors: per-gpu` replaced, given how many GPUs the cluster has."""
        share = float(gpus > 0) if self.gpus_per_actor == "auto" else self.gpus_per_actor
        actors = self.actors if self.actors != "per-gpu" else "auto" if share > 0 else ACTORS
        return self.model_copy(update={"gpus_per_actor": share, "actors": actors})

    @model_validator(mode="after")
    def _range(self) -> "ClusterConfig":
        if isinstance(self.actors, tuple) and self.actors[0] > self.actors[1]:
            raise ValueError(f"actors is {list(self.actors)}: give the minimum, then the maximum")
        return self
