"""Why an actor waits for a place: what it needs, what the cluster has, what of it is free, and what holds the rest."""

from collections import Counter
from collections.abc import Mapping

import ray
from ray.util import client

from zip_ray.actors.cluster import free_places, shortage
from zip_ray.config.resources import ClusterConfig

HOLDERS = 4
"""Number of holders named, the largest first."""

Amounts = Mapping[str, float]
"""CPUs and GPUs, by "CPU" and "GPU"."""


def actor_name(run: str, number: int) -> str:
    """Name of an actor in Ray's dashboard and logs."""
    return f"zip-ray/{run}/actor-{number}"


def why_waiting(cluster: ClusterConfig) -> str:
    """Why the next actor is not placed, in one line; empty if there is room for it.

    Asks Ray's head directly, a few milliseconds: the state API would need a dashboard, and blocks without one.
    """
    if lack := shortage(cluster):
        return lack
    if free_places(cluster, 1):
        return ""
    need = {kind: amount for kind, amount in (("CPU", cluster.cpus_per_actor), ("GPU", cluster.gpus)) if amount}
    return waiting_text(need, ray.cluster_resources(), ray.available_resources(), _holders())


def waiting_text(need: Amounts, total: Amounts, free: Amounts, holders: Mapping[str, Amounts]) -> str:
    """A message that an actor waits for resources, with the numbers.

    Args:
        need: of an actor, on one node; only what it needs.
        total: of the cluster.
        free: of those.
        holders: what each holds, as far as known.
    """
    kinds = list(need)
    shares = " and ".join(f"{free.get(kind, 0.0):g} of {total.get(kind, 0.0):g} {kind}" for kind in kinds)
    known = {name: held for name, held in holders.items() if any(held.get(kind) for kind in kinds)}
    largest = sorted(known, key=lambda name: (*(-known[name].get(kind, 0.0) for kind in reversed(kinds)), name))
    named = [f"{name} ({_amounts(known[name], kinds)})" for name in largest[:HOLDERS]]
    rest = {
        kind: total.get(kind, 0.0) - free.get(kind, 0.0) - sum(known[name].get(kind, 0.0) for name in largest[:HOLDERS])
        for kind in kinds
    }
    others = [f"others or starting actors ({text})"] if (text := _amounts(rest, kinds)) else []
    return f"waiting for {_amounts(need, kinds)} on one node: {shares} free, held by {', '.join(named + others)}"


def _amounts(amounts: Amounts, kinds: list[str]) -> str:
    """Text such as "2 CPU and 1 GPU"; kinds with none are left out."""
    return " and ".join(f"{amounts[kind]:g} {kind}" for kind in kinds if amounts.get(kind, 0.0) > 1e-6)


def _holders() -> dict[str, Amounts]:
    """What the cluster's running actors hold, by class, and those of a zip-ray run by its name.
    Excludes tasks, placement groups and actors that are starting. Empty for a Ray client, which cannot ask, and with
    a Ray that keeps the table elsewhere, since it is not part of the public interface.

    Tasks, placement groups and actors that are starting are not among them. Empty for a Ray client, which cannot ask,
    and with a Ray that keeps the table elsewhere: it is not part of the public interface.
    """
    held: dict[str, Counter[str]] = {}
    if client.ray.is_connected():
        return {}
    try:
        from ray._private.state import state
        from ray.core.generated.gcs_pb2 import ActorTableData

        rows = state._connect_and_get_accessor().get_actor_table(None, "ALIVE")
    except (ImportError, AttributeError, TypeError):
        return {}
    for row in rows:
        actor = ActorTableData.FromString(row)
        run, _, number = actor.name.rpartition("/actor-")
        name = run if run.startswith("zip-ray/") and number.isdigit() else actor.class_name
        held.setdefault(name, Counter()).update(dict(actor.required_resources))
    return dict(held)
