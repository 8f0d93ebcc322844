"""A short version of the chaos harness; `make chaos` runs the long one."""

import pytest

from tests.support.simulated import Faults, SimulatedPool
from tests.system.chaos import real_cluster, real_schedule, simulated_schedule


@pytest.mark.parametrize("block", range(4))
def test_simulated_schedules(block: int) -> None:
    for seed in range(10 * block, 10 * (block + 1)):
        simulated_schedule(seed)


def test_a_fault_that_meets_nobody_is_not_counted() -> None:
    alone, several = (SimulatedPool(1, members, Faults(kill_node=1.0, until=50)) for members in (1, 4))
    for pool in (alone, several):
        pool.collect(50.0)
    assert alone.struck.total() == 0
    assert several.struck["kill_node"] > 0


@pytest.mark.slow
def test_real_schedules() -> None:
    with real_cluster() as cluster:
        for seed in range(2):
            real_schedule(seed, cluster)
