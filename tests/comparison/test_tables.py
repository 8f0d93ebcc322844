"""The tables of a report, cell by cell, against figures worked out by hand."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.comparisons import finished
from zip_ray.comparison.plan import Planned, plan
from zip_ray.comparison.report import query_tables, tables, transfer_tables
from zip_ray.comparison.report.document import Table
from zip_ray.comparison.report.write import document
from zip_ray.comparison.results import Finished, Results
from zip_ray.comparison.statistics import Curve
from zip_ray.comparison.suite import Suite
from zip_ray.runs.zero_shot import LINEAR_PROBE
from zip_ray.tuning.ledger import Account

SUITE = {
    "name": "s",
    "protocol": "transfer",
    "seeds": [1, 2],
    "tasks": ["digits", "letter"],
    "targets": {"far": {"name": "count"}, "near": {"name": "shape"}},
    "methods": {
        "A": {"optimizer": {"method": "zip"}},
        "B": {"optimizer": {"method": "random-search", "points": 4}, "budget": {"queries": 99}},
        "W": {"optimizer": {"method": "gradient"}, "budget": {"queries": 1000}},
    },
    "base": {"budget": {"queries": 205}},
}
ACCURACIES = {
    ("A", "digits"): [0.6, 0.8],
    ("A", "letter"): [0.3, 0.5],
    ("B", "digits"): [0.5, 0.5],
    ("B", "letter"): [0.8],
    ("W", "digits"): [0.9, 0.9],
    ("W", "letter"): [0.9, 0.9],
}
"""By seed; B has not finished the letters with seed 2."""
PLAIN = {"digits": [0.2, 0.3], "letter": [0.1, 0.2]}
FAR = {("A", "digits"): [0.5, 0.4], ("A", "letter"): [0.7, 0.4]}
NOT_NEAR = [("A", "letter", 2), ("B", "digits", 1), ("B", "digits", 2), ("B", "letter", 1)]
"""Runs whose prompt could not be tested on that target."""
TRAINING = {
    ("A", "digits"): ([10, 20, 30], [0.25, 0.5, 0.75]),
    ("A", "letter"): ([10, 20, 30], [0, 0, 0.25]),
    "B": ([5, 10, 15, 20], [0, 0.25, 0.5, 0.5]),
    "W": ([12, 250], [0.25, 1]),
}
"""Queries and accuracies. With a window of 10, B's smoothed values are 0.125 at 10, 0.375 at 15, 0.5 at 20."""


def by_hand(run: Planned) -> Finished | None:
    """Only the runs on digits have a generic template."""
    key, place = (run.method, run.task), run.seed - 1
    if place >= len(ACCURACIES[key]):
        return None
    generic = {"generic template": 0.25} if run.task == "digits" else {}
    best = {"digits": 0.3, "letter": 0.2}[run.task]
    far = FAR.get(key, [0.85, 0.85])[place]
    applied = {"far": {"tuned": far, "plain template": {"digits": 0.1, "letter": 0.3}[run.task]}}
    if (*key, run.seed) not in NOT_NEAR:
        applied["near"] = {"tuned": 0.3, "plain template": 0.3}
    queries, accuracy = np.array(TRAINING.get(key) or TRAINING[run.method], np.float64)
    return finished(
        run,
        ACCURACIES[key][place],
        generic | {"plain template": PLAIN[run.task][place], "best template": best},
        applied=applied,
        training=Curve(queries, queries, accuracy),
        account=Account(charged={"A": 190, "B": 180, "W": 1000}[run.method]),
    )


def all_of(tree: Mapping[str, object]) -> Results:
    suite = Suite.model_validate(tree)
    planned = plan(suite, Path("x"))
    return Results(suite, planned, [one for run in planned if (one := by_hand(run))], {})


@pytest.fixture(scope="module")
def results() -> Results:
    return all_of(SUITE)


def cells(table: Table) -> dict[str, list[str]]:
    """The texts of each row; bold ones between stars."""
    return {first.text: [f"*{cell.text}*" if cell.best else cell.text for cell in rest] for first, *rest in table.rows}


def test_accuracies(results: Results) -> None:
    table = tables.grid_table(results, tables.accuracies(results, 16), "%")
    assert table.header == ("%", "digits", "letter", "mean")
    assert list(cells(table).items()) == [
        ("zero-shot, generic template", ["25.0", "n/a", "n/a"]),
        ("zero-shot, plain template", ["25.0 ± 7.1", "15.0 ± 7.1", "20.0"]),
        ("zero-shot, best template", ["30.0", "20.0", "25.0"]),
        ("A", ["*70.0 ± 14.1*", "*40.0 ± 14.1*", "*55.0*"]),
        ("B", ["50.0", "80.0 (1 of 2)", "65.0 (3 of 4)"]),
        ("W (white box)", ["90.0", "90.0", "90.0"]),
    ]


def test_what_sees_image_features_does_not_compete(results: Results) -> None:
    probed = [replace(one, zero_shot={**one.zero_shot, LINEAR_PROBE: 0.99}) for one in results.finished]
    seen = replace(results, finished=probed)
    table = cells(tables.grid_table(seen, tables.accuracies(seen, 16), "%"))
    assert table[f"{LINEAR_PROBE} (white box)"] == ["99.0", "99.0", "99.0"]
    assert table["A"] == ["*70.0 ± 14.1*", "*40.0 ± 14.1*", "*55.0*"]
    assert LINEAR_PROBE not in tables.templates_table(seen).header


def test_a_tuned_prompt_below_the_plain_template_is_marked(results: Results) -> None:
    assert "below" not in document(results).summary
    better = {"plain template": 0.55, "best template": 0.55}
    some = [replace(one, zero_shot=better) if one.run.task == "letter" else one for one in results.finished]
    changed = replace(results, finished=some)
    assert "Tuned prompts below their task's plain template: 2 (see Every seed)." in document(changed).summary
    marked = [[cell.text for cell in row] for row in tables.seeds_table(changed).rows if "below" in row[2].text]
    assert [row[:4] for row in marked] == [
        ["letter, 16 shots, A", "1", "30.0 (below)", "55.0"],
        ["letter, 16 shots, A", "2", "50.0 (below)", "55.0"],
    ]


def test_gains(results: Results) -> None:
    assert cells(tables.grid_table(results, tables.gains(results, 16), "points", "+")) == {
        "A": ["*+45.0 ± 7.1*", "*+25.0 ± 7.1*", "*+35.0*"],
        "B": ["+25.0 ± 7.1", "+70.0 (1 of 2)", "+47.5 (3 of 4)"],
        "W (white box)": ["+65.0 ± 7.1", "+75.0 ± 7.1", "+70.0"],
    }


def test_templates(results: Results) -> None:
    table = tables.templates_table(results)
    assert table.header == ("task", "generic template", "plain template", "best template")
    assert cells(table) == {
        "digits": [f"digits: {name} {{}}." for name in table.header[1:]],
        "letter": ["n/a", "letter: plain template {}.", "letter: best template {}."],
    }


def test_tests_elsewhere(results: Results) -> None:
    """A seed counts in a column if it has both tasks; zero-shot has one value per task, whichever methods finished.
    On `near` all have 30.0, and only zero-shot may be bold.

    On `near` all have 30.0, and zero-shot alone may be bold.
    """
    table = transfer_tables.applied_table(results, 16)
    assert table.header == ("method", "own test set", "far", "near", "mean of the targets")
    assert cells(table) == {
        "zero-shot, plain template": ["20.0 ± 7.1", "20.0", "*30.0*", "*25.0*"],
        "A": ["*55.0 ± 14.1*", "*50.0 ± 14.1*", "30.0 (1 of 2)", "45.0 (1 of 2)"],
        "B": ["65.0 (1 of 2)", "85.0 (1 of 2)", "n/a", "n/a"],
        "W (white box)": ["90.0", "85.0", "30.0", "57.5"],
    }


def test_means_are_over_the_tasks_that_all_have(results: Results) -> None:
    """A third task has no runs: the means stay, and the report names it. A's run with another number of shots
    is a row of its own, without the letters."""
    tree = {**SUITE, "tasks": ["digits", "gone", "letter"]}
    wider = replace(results, suite=Suite.model_validate(tree))
    failing = Suite.model_validate({**tree, "methods": {**SUITE["methods"], "broken": {}}})
    for grid in (tables.accuracies, tables.gains):
        before, after = (cells(tables.grid_table(one, grid(one, 16), "")) for one in (results, wider))
        assert {name: line[-1] for name, line in after.items()} == {name: line[-1] for name, line in before.items()}
    assert cells(transfer_tables.applied_table(wider, 16)) == cells(transfer_tables.applied_table(results, 16))
    assert [line[-1] for line in cells(query_tables.target_table(wider, 16)).values()] == ["25.0", "20", "*15*", "12"]
    assert document(replace(wider, suite=failing)).summary.endswith("Left out, without a finished run: gone, broken.")
    one = results.finished[0]
    assert replace(results, finished=[*results.finished, replace(one, run=replace(one.run, shots=4))]).shared == [
        "digits"
    ]


def test_queries_to_target(results: Results) -> None:
    """The target is W's 0.25: what it reached past the budget does not count. B lacks the letters with seed 2."""
    aim = {"the target, % on training mini-batches": ["25.0"] * 3}
    found = {**aim, "A": ["*10*", "30", "20"], "B": ["15", "*15*", "*15*"], "W (white box)": ["12", "12", "12"]}
    assert cells(query_tables.target_table(results, 16)) == found
    failing = Suite.model_validate({**SUITE, "methods": {**SUITE["methods"], "broken": {}}})
    table = query_tables.target_table(replace(results, suite=failing), 16)
    assert cells(table) == found | {"broken": ["n/a"] * 3}
    few = [replace(one, run=replace(one.run, shots=4)) for one in results.finished if one.run.method != "B"]
    suite = Suite.model_validate({**SUITE, "shots": [4, 16]})
    both = replace(results, suite=suite, finished=[*few, *results.finished])
    at_4, at_16 = (query_tables.target_table(both, shots) for shots in suite.shots)
    assert (at_16.header[0], cells(at_16)) == ("queries to target, 16 shots", found)
    assert cells(at_4) == found | {"A": ["*10*", "*30*", "*20*"], "B": ["n/a"] * 3}


def test_paired_tests(results: Results) -> None:
    """B minus A: -0.1, -0.3, +0.5, ranks 1 + 2 against 3. The others: four of one sign, 2 / 2^4, of three tests."""
    assert cells(tables.tests_table(results)) == {
        "B": ["3", "+3.3", "1.000", "1.000"],
        "W": ["4", "+35.0", "0.125", "0.375"],
        "zero-shot, plain template": ["4", "-35.0", "0.125", "0.375"],
    }


def test_the_budget_is_that_of_the_methods_that_compete(results: Results) -> None:
    """A: 20 steps of 10; B: 19 of 5; the white box: 1,000. If only time is limited: what A was charged."""
    assert results.budget == 200
    methods = {**SUITE["methods"], "B": {"optimizer": {"method": "random-search"}}}
    timed = all_of({**SUITE, "methods": methods, "base": {"budget": {"queries": None, "seconds": 60}}})
    assert timed.budget == 190
    alone = replace(timed, finished=[one for one in timed.finished if one.run.method == "W"])
    assert alone.budget == 1000


def test_overview_is_the_mean_over_tasks_and_seeds() -> None:
    tree = {"name": "s", "seeds": [1], "tasks": ["digits", "letter"], "methods": {"ZIP": {}}}
    suite = Suite.model_validate(tree)
    planned = plan(suite, Path("x"))
    done = [finished(run, accuracy, {"plain template": 0.5}) for run, accuracy in zip(planned, (0.8, 0.6), strict=True)]
    table = tables.overview_table(Results(suite, planned, done, {}))
    assert table.header == ("method", "test accuracy, %", "queries", "updates", "seconds")
    assert cells(table) == {"zero-shot, plain template": ["50.0", "0", "0", "0"], "ZIP": ["70.0", "1", "3", "1"]}


def test_base_to_new() -> None:
    """Two tasks and one seed: base 0.8 and 0.6, new 0.4 and 0.6; H of each, and of the means 0.7 and 0.5. Ties with
    zero-shot are not bold."""
    tree = {"name": "s", "protocol": "base-to-new", "seeds": [1], "tasks": ["digits", "letter"], "methods": {"ZIP": {}}}
    suite = Suite.model_validate(tree)
    planned = plan(suite, Path("x"))
    done = [
        finished(run, base, {"plain template": 0.5}, applied={"new classes": {"tuned": new, "plain template": 0.5}})
        for run, base, new in zip(planned, (0.8, 0.6), (0.4, 0.6), strict=True)
    ]
    over, by_task = transfer_tables.harmonic_tables(Results(suite, planned, done, {}), 16)
    assert over.header == ("mean over tasks", "base", "new", "H")
    assert by_task.header == ("by task", *(f"{task}, {part}" for task in suite.tasks for part in ("base", "new", "H")))
    plain = {"zero-shot, plain template": ["50.0", "50.0", "50.0"]}
    assert cells(over) == plain | {"ZIP": ["*70.0*", "50.0", "*58.3*"]}
    assert cells(by_task) == {
        "zero-shot, plain template": ["50.0", "*50.0*", "50.0", "50.0", "50.0", "50.0"],
        "ZIP": ["*80.0*", "40.0", "*53.3*", "*60.0*", "*60.0*", "*60.0*"],
    }
    gone = Suite.model_validate({**tree, "tasks": ["digits", "gone"]})
    over, by_task = transfer_tables.harmonic_tables(Results(gone, planned, done[:1], {}), 16)
    assert cells(over)["ZIP"] == ["*80.0*", "40.0", "*53.3*"]
    assert cells(by_task)["ZIP"] == ["*80.0*", "40.0", "*53.3*"]
    half = [done[0], replace(done[1], applied={})]
    over, by_task = transfer_tables.harmonic_tables(Results(suite, planned, half, {}), 16)
    assert cells(over)["ZIP"] == ["n/a"] * 3
    assert cells(by_task)["ZIP"] == ["*80.0*", "40.0", "*53.3*", "n/a", "n/a", "n/a"]
