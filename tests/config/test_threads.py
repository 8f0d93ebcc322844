"""How many threads an actor gets; a run keeps that number."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fakes import FakeScorer
from zip_ray.config import threads
from zip_ray.config.reading import validate
from zip_ray.config.tree import Config
from zip_ray.pool.in_process import InProcessPool
from zip_ray.runs.folder import run_config
from zip_ray.runs.lifecycle import tune
from zip_ray.scorer import self_checks


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        ({"actors": 1}, 16),
        ({"actors": 3}, 5),
        ({"actors": [1, 4]}, 4),
        ({"actors": 20}, 1),
        ({"actors": "auto", "cpus_per_actor": 2}, 2),
        ({"actors": 1, "pool": "in-process"}, 16),
        ({"actors": 1, "address": "head:6379", "cpus_per_actor": 4}, 4),
        ({"actors": 1, "address": "head:6379", "cpus_per_actor": 0}, 1),
    ],
)
def test_auto_fills_the_machine_and_no_more(
    monkeypatch: pytest.MonkeyPatch, cluster: dict[str, object], expected: int
) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 16)
    config = validate({"execution": {"threads": "auto"}, "cluster": cluster}, "test")
    assert threads.with_threads(config).execution.threads == threads.threads(config) == expected


def test_every_blas_of_the_driver_has_one_thread() -> None:
    """Also SciPy's, which a readout loads later; with several threads its bits would depend on the number of cores."""
    code = (
        "from zip_ray.config.threads import one_blas_thread; one_blas_thread(); import scipy.optimize, threadpoolctl; "
        "print({one['num_threads'] for one in threadpoolctl.threadpool_info() if one['user_api'] == 'blas'})"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "{1}\n"


def test_a_number_stays() -> None:
    assert threads.with_threads(validate({"execution": {"threads": 7}}, "test")).execution.threads == 7


def test_a_cluster_of_the_environment_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert threads.threads(validate({"execution": {"threads": "auto"}}, "test")) == 1


def test_the_default_does_not_depend_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 16)
    monkeypatch.setattr(self_checks, "cores", lambda: 16)
    config = validate({"cluster": {"actors": 2}}, "test")
    assert threads.threads(config) == 1
    assert self_checks.devices(config).endswith("1 thread per actor; execution.threads auto would give it 8")
    config = validate({"cluster": {"actors": 2}, "execution": {"threads": "auto"}}, "test")
    assert self_checks.devices(config).endswith("8 threads per actor")


def test_a_run_keeps_the_number_it_was_started_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 16)
    config = validate(
        {
            "cluster": {"actors": 2},
            "execution": {"threads": "auto"},
            "budget": {"queries": 20},
            "prompt": {"space": "full", "intrinsic_dimension": 8},
            "output": {"dir": tmp_path / "run"},
            "tracking": {"enabled": False},
        },
        "test",
    )
    seen = []

    def opener(config: Config) -> InProcessPool:
        seen.append(config.execution.threads)
        return InProcessPool(FakeScorer)

    tune(config, opener, lambda: False)
    assert [*seen, run_config(tmp_path / "run").execution.threads] == [8, 8]
