"""The part of Ray that `zip_ray.actors.ray_pool` uses, simulated: actors in this process, in virtual time."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayActorError, RayTaskError

from zip_ray.actors.ray_errors import NODE_DIED
from zip_ray.actors.ray_pool import RayPool
from zip_ray.config.resources import ClusterConfig
from zip_ray.pool.contract import ScorerLike


class NodeDied(RayActorError):
    """Ray's wording."""

    def __str__(self) -> str:
        return f"The actor died because {NODE_DIED}."


@dataclass(eq=False)
class FakeActor:
    """An actor whose methods run when their outcome is asked for."""

    instance: Any
    require_cluster: Callable[[], None]
    """Raises the error of a call, once the cluster is lost."""
    death: Exception | None = None
    hangs: bool = False
    """Whether it hangs while loading."""

    def __getattr__(self, method: str) -> Any:
        return SimpleNamespace(remote=lambda *arguments: self._call(method, arguments))

    def _call(self, method: str, arguments: tuple[Any, ...]) -> "FakeRef":
        self.require_cluster()
        return FakeRef(self, method, arguments)


@dataclass(eq=False)
class FakeRef:
    """A call."""

    actor: FakeActor
    method: str
    arguments: tuple[Any, ...]


class FakeRay:
    """Stands in for the modules `ray` and `time` in the pool."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, places: int = 100) -> None:
        """Stand in for Ray under `zip_ray.actors.ray_pool`.

        Args:
            monkeypatch: restores the real one.
            places: actors that the cluster can hold; others wait.
        """
        self.now, self.looks, self.places = 1000.0, 0, places
        self.others = 0
        """Places held by other programs."""
        self.waits = "waiting for 1 CPU on one node"
        """What Ray reports for an actor without a place."""
        self.cluster_fault: Exception | None = None
        """What every call raises once the cluster is lost."""
        self.actors: list[FakeActor] = []
        """Every actor that was requested, in order."""
        monkeypatch.setattr("zip_ray.actors.ray_pool.ray", self)
        monkeypatch.setattr("zip_ray.actors.ray_pool.time", self)
        monkeypatch.setattr("zip_ray.actors.ray_pool.connect", lambda *_: "joined")
        monkeypatch.setattr("zip_ray.actors.ray_pool.shortage", lambda _: None)
        monkeypatch.setattr("zip_ray.actors.ray_pool.why_waiting", lambda _: "" if self._free else self.waits)
        monkeypatch.setattr("zip_ray.actors.ray_pool.places", lambda _: self.places)
        monkeypatch.setattr("zip_ray.actors.ray_pool.free_places", lambda _, most: min(self._free, most))

    def pool(self, build: Callable[[], ScorerLike], **cluster: Any) -> RayPool:
        """A pool over this fake Ray."""
        return RayPool(build, ClusterConfig(**cluster))

    def lose(self, *actors: FakeActor, death: Exception | None = None) -> None:
        """Make these actors fail."""
        for actor in actors:
            actor.death = death or RayActorError()

    def cluster_resources(self) -> dict[str, float]:
        return {}

    def monotonic(self) -> float:
        self.looks += 1
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def remote(self, kind: type) -> Any:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda name: self._start(kind, name)))

    def wait(self, refs: list[FakeRef], num_returns: int, timeout: float) -> tuple[list[FakeRef], None]:
        self._require_cluster()
        ready = [ref for ref in refs if self._is_done(ref)]
        if not ready:
            self.now += timeout
        return ready[:num_returns], None

    def get(self, ref: FakeRef, timeout: float) -> Any:  # noqa: ARG002 - what is got is ready
        if ref.actor.death:
            raise ref.actor.death
        try:
            return getattr(ref.actor.instance, ref.method)(*ref.arguments)
        except Exception as error:
            raise RayTaskError(ref.method, "", error) from error

    def kill(self, actor: FakeActor) -> None:
        if self.cluster_fault:
            pytest.fail("without a cluster, ray.kill joins one, or ends the process")
        self.lose(actor)

    def is_initialized(self) -> bool:
        return self.cluster_fault is None

    def shutdown(self) -> None:
        self._require_cluster()

    def _require_cluster(self) -> None:
        if self.cluster_fault:
            raise self.cluster_fault

    def _start(self, kind: type, name: str) -> FakeActor:
        self.actors.append(FakeActor(kind(name), self._require_cluster))
        return self.actors[-1]

    @property
    def _alive(self) -> list[FakeActor]:
        return [actor for actor in self.actors if not actor.death]

    @property
    def _free(self) -> int:
        return max(self.places - self.others - len(self._alive), 0)

    def _is_done(self, ref: FakeRef) -> bool:
        """Whether its actor has failed, or is placed and does not hang."""
        placed = self._alive[: self.places - self.others]
        hangs = ref.actor.hangs and ref.method == "load"
        return ref.actor.death is not None or (ref.actor in placed and not hangs)
