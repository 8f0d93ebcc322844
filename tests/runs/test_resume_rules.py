"""Fields that may change on resume, except a budget that has cut a generation short."""

from pathlib import Path

import pytest

from tests.support.loop import make_config, tune
from zip_ray.errors import InputError
from zip_ray.runs.resume_rules import require_room, require_whole_steps


def test_a_budget_below_what_was_used_is_refused() -> None:
    outcome, _ = tune(make_config(budget={"queries": 30}))
    used = outcome.state.account.charged
    require_room(Path("run"), outcome.state, make_config(budget={"queries": used}))
    require_room(Path("run"), outcome.state, make_config(budget={"queries": None, "steps": 1}))
    with pytest.raises(InputError, match=rf"^budget\.queries: {used - 1}: run has used {used} already: give at least"):
        require_room(Path("run"), outcome.state, make_config(budget={"queries": used - 1}))


@pytest.mark.parametrize("incumbent", ["mean", "last"])
@pytest.mark.parametrize("queries", [18, 20])
def test_a_budget_that_has_cut_a_generation_short_stays(incumbent: str, queries: int) -> None:
    optimizer = {"method": "cma-es", "population": 6, "incumbent": incumbent}
    config = make_config(optimizer=optimizer, budget={"queries": queries})
    outcome, _ = tune(config)
    require_whole_steps(Path("run"), outcome.state, config)
    longer = make_config(optimizer=optimizer, budget={"queries": 300})
    if incumbent == "mean" or queries == 18:
        require_whole_steps(Path("run"), outcome.state, longer)
        return
    with pytest.raises(InputError, match=r"^budget\.queries: run was to spend 20 .* keep that budget, or start a new"):
        require_whole_steps(Path("run"), outcome.state, longer)
