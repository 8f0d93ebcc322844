"""What Ray raises, and what it says: an actor is at fault, its node, the run's input, or the whole cluster is gone."""

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
"""Where no actor is at fault: Ray's head, or the way to it, is gone."""
OWN_FAULT = (OutOfMemoryError, RuntimeEnvSetupError, ActorUnschedulableError)
"""Ends of an actor that are not its node's, and that Ray does not count among the deaths of actors."""
NODE_DIED = "its node has died"
"""How Ray says that an actor was lost with its node."""


def fault(error: RayError, loading: bool) -> tuple[str, bool]:
    """Why an actor whose call raised this cannot be used further, in one line; whether its node alone is to blame.

    Args:
        error: what the call raised.
        loading: whether the actor was to load its model.
    """
    if isinstance(error, RayActorError):
        return f"actor died: {one_line(error)}", NODE_DIED in str(error)
    if isinstance(error, RayTaskError):  # after a CUDA error, say, all that follows on this actor would fail too
        return f"{'scorer not built' if loading else 'work failed'}: {one_line(error.cause or error)}", False
    if isinstance(error, OWN_FAULT):
        return f"actor failed: {one_line(error)}", False
    return f"answer lost with its node: {one_line(error)}", True


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
    """One line: where Ray says much, its beginning and its end, which names the cause."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
    text = text if len(text) <= 300 else f"{text[:100]} ... {text[-200:]}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
