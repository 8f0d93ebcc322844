"""How many threads an actor gets, and that a run keeps their number."""

from pathlib import Path

import pytest
from zip_ray.config.UNKNOWN import threads

from tests.support.fakes import FakeScorer
from zip_ray.cli import doctor
from zip_ray.config.reading import load_config, validate
from zip_ray.config.tree import Config
from zip_ray.pool.in_process import InProcessPool
from zip_ray.runs.folder import CONFIG
from zip_ray.runs.lifecycle import tune


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
        ({"actors": 1, "threads_per_actor": 7}, 7),
    ],
)
def test_auto_fills_the_machine_and_no_more(
    monkeypatch: pytest.MonkeyPatch, cluster: dict[str, object], expected: int
) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 16)
    config = validate({"cluster": {"threads_per_actor": "auto", **cluster}}, "test")
    assert threads.with_threads(config).cluster.threads_per_actor == threads.threads(config.cluster) == expected


def test_a_cluster_of_the_environment_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert threads.threads(validate({"cluster": {"threads_per_actor": "auto"}}, "test").cluster) == 1


def test_the_default_does_not_depend_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 16)
    monkeypatch.setattr(doctor, "cores", lambda: 16)
    config = validate({"cluster": {"actors": 2}}, "test")
    assert threads.threads(config.cluster) == 1
    assert "1 threads an actor; cluster.threads_per_actor auto would give it 8" in doctor._devices(config)
    config = validate({"cluster": {"actors": 2, "threads_per_actor": "auto"}}, "test")
    assert doctor._devices(config).endswith("8 threads an actor")


def test_a_run_keeps_the_number_it_was_started_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 16)
    config = validate(
        {
            "cluster": {"actors": 2, "threads_per_actor": "auto"},
            "budget": {"queries": 20},
            "prompt": {"intrinsic_dim": 8},
            "output": {"dir": tmp_path / "run"},
            "tracking": {"enabled": False},
        },
        "test",
    )
    seen = []

    def opener(config: Config) -> InProcessPool:
        seen.append(config.cluster.threads_per_actor)
        return InProcessPool(FakeScorer)

    tune(config, opener, lambda: False)
    assert [*seen, load_config(tmp_path / "run" / CONFIG).cluster.threads_per_actor] == [8, 8]
