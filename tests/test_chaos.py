"""A short version of the chaos harness; `make chaos` runs the long one."""

import pytest

from tests.chaos import real_cluster, real_schedule, simulated_schedule


@pytest.mark.parametrize("block", range(4))
def test_simulated_schedules(block: int) -> None:
    for seed in range(30 * block, 30 * (block + 1)):
        simulated_schedule(seed)


def test_real_schedules() -> None:
    with real_cluster() as cluster:
        for seed in range(3):
            real_schedule(seed, cluster)
