"""Whether a cluster answers at an address: dead addresses are named at once, and the token is found or asked for."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from tests.support.processes import HANG_SECONDS, free_port
from tests.support.ray_head import RayHead, ray_head
from zip_ray.actors.address import probe
from zip_ray.errors import InputError

OWN = "0123456789abcdef0123456789abcdef"
JOIN = """
import json, os, ray, sys
from zip_ray.actors.cluster import connect
from zip_ray.config.resources import ClusterConfig
from zip_ray.errors import InputError
try:
    print(json.dumps([connect(ClusterConfig(address=sys.argv[1])), os.environ.get("RAY_AUTH_MODE")]))
except InputError as error:
    print(json.dumps(str(error)))
"""
"""A driver that joins the address and prints what it found, as JSON."""


@pytest.fixture(scope="module")
def guarded() -> Iterator[RayHead]:
    """A running head that requires a token."""
    with ray_head(token=OWN) as head:
        yield head


def joined(address: str, home: Path, **environment: str) -> object:
    """What `JOIN` prints for a user with this home folder and environment."""
    fresh = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    fresh |= {"HOME": str(home), **environment}
    command = [sys.executable, "-c", JOIN, address]
    run = subprocess.run(command, env=fresh, capture_output=True, text=True, timeout=HANG_SECONDS, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("road", ["address", "client"])
def test_the_token_of_this_machine_is_used_where_the_cluster_requires_it(
    guarded: RayHead, tmp_path: Path, road: str
) -> None:
    token = tmp_path / ".ray" / "auth_token"  # where `ray get-auth-token --generate` puts it
    token.parent.mkdir()
    token.write_text(OWN)
    assert joined(getattr(guarded, road), tmp_path) == ["joined", "token"]


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({}, "and none is here: set RAY_AUTH_TOKEN to the token that `ray get-auth-token` prints on its head"),
        ({"RAY_AUTH_TOKEN": OWN[::-1]}, "and the one here is another: set RAY_AUTH_TOKEN to"),
        ({"RAY_AUTH_TOKEN_PATH": "/none"}, "cannot be opened or is empty: /none: set RAY_AUTH_TOKEN to"),
        ({"RAY_AUTH_TOKEN": OWN, "RAY_AUTH_MODE": "disabled"}, "RAY_AUTH_MODE is 'disabled' here: unset RAY_AUTH_MODE"),
        ({"RAY_AUTH_MODE": "token"}, "RAY_AUTH_MODE is 'token', and no token is here: set RAY_AUTH_TOKEN to"),
    ],
)
def test_a_token_that_is_missing_or_wrong_is_asked_for(
    guarded: RayHead, tmp_path: Path, environment: dict[str, str], why: str
) -> None:
    said = joined(guarded.address, tmp_path, **environment)
    assert isinstance(said, str)
    assert why in said


@contextmanager
def answering_nothing_of_ray() -> Iterator[int]:
    """The port of a server without any method of Ray, such as a proxy."""
    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield port
        server.stop(None).wait()


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_a_server_that_is_no_cluster_is_told_at_once(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("it would try for up to five minutes"))
    with answering_nothing_of_ray() as port, pytest.raises(InputError, match=r"no Ray cluster answers at .*`ray start"):
        probe(form.format(port))


def test_a_dead_address_is_told_at_once_over_tls_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with pytest.raises(InputError, match=r"^RAY_USE_TLS: .*RAY_TLS_CA_CERT must also be set"):
        probe(f"127.0.0.1:{free_port()}")
    for name in ("SERVER_CERT", "SERVER_KEY", "CA_CERT"):
        (tmp_path / name).write_text("a certificate")
        monkeypatch.setenv(f"RAY_TLS_{name}", str(tmp_path / name))
    with pytest.raises(InputError, match=r"no Ray cluster answers at .*`ray start"):
        probe(f"ray://127.0.0.1:{free_port()}")
