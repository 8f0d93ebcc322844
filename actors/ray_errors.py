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
NODE_DIED = "its node has died"
"""How Ray says that an actor was lost with its node."""


def fault(error: RayError, loading: bool) -> tuple[str, bool]:
    """Why an actor whose call raised this can no longer be used, in one line; and whether only its node failed.

    Args:
        error: what the call raised.
        loading: whether the actor was to load its model.
    """
    if isinstance(error, RayActorError):
        return f"actor lost: {one_line(error)}", NODE_DIED in str(error)
    if isinstance(error, RayTaskError):  # for example after a CUDA error, further work on this actor would also fail
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
    """The error as one line; of a long one its beginning and its end, which names the cause."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
    text = text if len(text) <= 300 else f"{text[:100]} ... {text[-200:]}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
