"""The causes of Ray's exceptions: an actor or its node failed, the run's input is invalid, or the cluster is lost."""

import re

import grpc  # type: ignore[import-untyped]
from ray.exceptions import (
    ActorUnschedulableError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    RuntimeEnvSetupError,
)

from zip_ray.errors import InputError
from zip_ray.pool.contract import PoolError

LOST_CLUSTER = (ConnectionError, RayError, grpc.RpcError)
"""Exceptions without a fault of an actor: Ray's head, or the connection to it, is lost."""
OWN_FAULT = (OutOfMemoryError, RuntimeEnvSetupError, ActorUnschedulableError)
"""Failures of a single actor, not of its node, that Ray does not report as ActorDiedError."""
CAUSE = 160
"""Longest cause of an actor's death that is shown, in characters."""
NODE_DIED = "its node has died"
"""Ray's wording when an actor was lost with its node."""


def fault(error: RayError, loading: bool) -> tuple[str, bool]:
    """Why an actor whose call raised this can no longer be used, in one line; and whether only its node failed.

    Args:
        error: what the call raised.
        loading: whether the actor was to load its model.
    """
    if isinstance(error, RayActorError):
        return _loss(error), NODE_DIED in str(error)
    if isinstance(error, RayTaskError):  # for example after a CUDA error, further work on this actor would also fail
        return f"{'scorer not built' if loading else 'work failed'}: {one_line(error.cause or error)}", False
    if isinstance(error, OWN_FAULT):
        return f"actor failed: {one_line(error)}", False
    return f"answer lost with its node: {one_line(error)}", True


def _loss(error: RayActorError) -> str:
    """How an actor was lost: on which node, with which exit type, from which cause, as far as Ray says so.

    Ray's message of twenty lines ends with a list of common causes, which are those of any death.
    """
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
    ip = re.search(r"\bip: ([\w.:]*\w)", text)
    where = f" on {ip[1]}" if ip else ""
    if NODE_DIED in text:
        return f"actor lost: its node{where} died"
    kind = re.search(r"Worker exit type: (\w+)", text)
    if kind is None:
        return f"actor lost{where}: {one_line(error)}"
    detail = re.search(r"Worker exit detail: (.*?)(?= There are some potential| Some common causes|$)", text)
    cause = f": {detail[1][:CAUSE]}" if detail else ""
    return f"actor lost: its process{where} ended, {kind[1]}{cause}"


def raise_refusal(error: RayError) -> None:
    """Do nothing for any other error.

    Raises:
        InputError: the scorer refuses the run's input.
    """
    if isinstance(error, RayTaskError) and isinstance(error.cause, InputError):
        raise InputError(str(error.cause)) from error


def lost_cluster(error: BaseException) -> PoolError:
    """One of `LOST_CLUSTER`, as what the user can do."""
    return PoolError(f"the Ray cluster is lost ({one_line(error)}): once one is up, `zip-ray resume RUN_DIR` continues")


def one_line(error: BaseException) -> str:
    """The error as one line; of a long one its beginning and its end, which names the cause."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
    text = text if len(text) <= 300 else f"{text[:100]} ... {text[-200:]}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
