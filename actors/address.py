"""Whether a Ray cluster answers at an address, and the token that it may require."""

import os
import re

import grpc  # type: ignore[import-untyped]
from ray._private.authentication.authentication_token_setup import _enable_token_auth
from ray._private.grpc_utils import init_grpc_channel
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]
from ray.core.generated.ray_client_pb2 import ClusterInfoRequest, ClusterInfoType
from ray.exceptions import AuthenticationError

from zip_ray.errors import InputError

CONNECT_SECONDS = 10.0
"""Longest wait for an answer; an address gets at most three questions."""
HEAD = "/ray.rpc.NodeInfoGcsService/CheckAlive", b""
"""Method and request that only a head answers; it requires the token, unlike gRPC's health check."""
CLIENT_SERVER = "/ray.rpc.RayletDriver/ClusterInfo", ClusterInfoRequest(type=ClusterInfoType.PING).SerializeToString()
"""The same of a server for Ray clients (`ray://`)."""
TOKEN = (
    "set RAY_AUTH_TOKEN to the token that `ray get-auth-token` prints on its head (or RAY_AUTH_TOKEN_PATH to a file "
    "with it)"
)
"""What to do where the token is missing or wrong."""


def probe(address: str) -> None:
    """Check that a cluster answers and accepts this process: without one, `ray.init` retries for up to five minutes.

    Where the cluster requires a token, one is here, and RAY_AUTH_MODE is unset, that is set to `token`: Ray itself does
    so only for a cluster that it finds on this machine.

    Args:
        address: `auto`, HOST:PORT of a head, or ray://HOST:PORT of a server for Ray clients.

    Raises:
        InputError: no cluster answers, it is one of the other kind, or it requires a token that is not here.
    """
    address = _found_here() if address == "auto" else address
    if not re.fullmatch(r"(ray://)?[^/\s]+:\d+", address):
        raise InputError(f"cluster.address: '{address}' is not an address: give auto, HOST:PORT or ray://HOST:PORT")
    of_client = address.startswith("ray://")
    kind, other = (CLIENT_SERVER, HEAD) if of_client else (HEAD, CLIENT_SERVER)
    code, details = _ask(address, kind)
    if code is grpc.StatusCode.UNIMPLEMENTED and _answers(_ask(address, other)[0]):
        right = "without ray://" if of_client else f"as ray://{address}, if it is a Ray client server"
        raise InputError(f"cluster.address: '{address}' has the wrong form for this port: write it {right}")
    if not _answers(code):
        raise unreachable(address, details or code)
    if code is grpc.StatusCode.UNAUTHENTICATED:
        _use_token(address, kind)


def _use_token(address: str, kind: tuple[str, bytes]) -> None:
    """Use the token of this machine, for a cluster that has refused a call without one.

    Raises:
        InputError: there is none, it is wrong, or the environment forbids it.
    """
    mode = os.environ.get("RAY_AUTH_MODE")
    if mode is not None and mode.lower() != "token":
        raise _refused(address, f"RAY_AUTH_MODE is '{mode}' here", "unset RAY_AUTH_MODE")
    try:
        if not AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True):
            raise _refused(address, "none is here", TOKEN)
    except AuthenticationError as error:
        raise _refused(address, f"it cannot be read: {short(error).partition('. ')[0]}", TOKEN) from error
    _enable_token_auth()  # for this process and those that it starts
    if _ask(address, kind)[0] is grpc.StatusCode.UNAUTHENTICATED:
        raise _refused(address, "the one here is another", TOKEN)


def _ask(address: str, kind: tuple[str, bytes]) -> tuple[grpc.StatusCode, str]:
    """The status of a call, and its details; over TLS and with the token, where the environment says so.

    Raises:
        InputError: the environment asks for TLS, or a token, that is not there.
    """
    method, request = kind
    try:
        with init_grpc_channel(address.removeprefix("ray://"), [("grpc.enable_http_proxy", 0)]) as channel:
            channel.unary_unary(method)(request, timeout=CONNECT_SECONDS)
            return grpc.StatusCode.OK, ""
    except grpc.RpcError as error:
        return error.code(), error.details() or ""
    except AuthenticationError as error:
        raise InputError(f"RAY_AUTH_MODE is 'token', and no token is here: {TOKEN}, or unset RAY_AUTH_MODE") from error
    except (RuntimeError, OSError) as error:
        raise InputError(f"RAY_USE_TLS: {short(error)}: correct the files of the certificate, or unset it") from error


def _answers(code: grpc.StatusCode) -> bool:
    """Whether this is the status of a cluster of the kind that was asked for."""
    return code in (grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED)


def _found_here() -> str:
    """The address that `auto` stands for; it may be that of a head that has ended since."""
    from ray._private.services import canonicalize_bootstrap_address

    try:
        return str(canonicalize_bootstrap_address("auto"))
    except ConnectionError as error:
        raise unreachable("auto", error) from error


def unreachable(address: str, reason: object) -> InputError:
    """No cluster at an address, and what to do."""
    return InputError(
        f"cluster.address: no Ray cluster answers at '{address}' ({short(reason)}): start one with "
        "`ray start --head`, correct the address (or RAY_ADDRESS), or leave it out for a local one"
    )


def _refused(address: str, reason: str, remedy: str) -> InputError:
    return InputError(f"cluster.address: the Ray cluster at '{address}' requires a token, and {reason}: {remedy}")


def short(reason: object) -> str:
    """A reason on one line of at most 200 characters."""
    return " ".join(str(reason).split())[:200]
