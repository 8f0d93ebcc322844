"""The file of a suite: its runs, and its faults."""

import math
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.support.faults import check_each
from tests.support.paths import ROOT
from tests.support.suite_files import BASE, suite_file
from zip_ray.comparison.plan import plan
from zip_ray.comparison.suite import Suite, dump, load_suite
from zip_ray.config.merging import merge
from zip_ray.errors import InputError

SUITES = sorted((ROOT / "configs" / "suites").glob("*.yaml"))


def test_suites_open_with_their_command_and_can_be_planned() -> None:
    check_each(SUITES, opens_with_its_command_and_can_be_planned)


def opens_with_its_command_and_can_be_planned(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith(f"# zip-ray compare suites/{path.stem}\n")
    suite = load_suite(path)
    assert suite.name == path.stem
    assert len(plan(suite, Path("x"))) == (len(suite.tasks) * len(suite.shots) * len(suite.seeds) * len(suite.methods))


def test_a_config_is_put_together_in_its_order(tmp_path: Path) -> None:
    (tmp_path / "method.yaml").write_text(
        "optimizer: {method: spsa, step_size: 0.1, perturbation_scale: 0.1}\nbudget: {queries: 99}"
    )
    suite = Suite.model_validate(
        {
            "name": "s",
            "protocol": "base-to-new",
            "shots": [4],
            "seeds": [3],
            "tasks": {"numbers": {"name": "digits", "batch_size": 30}},
            "methods": {"M (1)": {"file": str(tmp_path / "method.yaml"), "optimizer": {"perturbation_scale": 0.3}}},
            "base": {
                "budget": {"queries": 50},
                "optimizer": {"perturbation_scale": 0.2, "step_size_decay": 0.5},
                "task": {"batch_size": 10},
            },
        }
    )
    (planned,) = plan(suite, Path("here"))
    config, optimizer = planned.config, planned.config.optimizer
    gains = (optimizer.step_size, optimizer.perturbation_scale, optimizer.step_size_decay)
    assert (optimizer.method, gains) == ("spsa", (0.1, 0.3, 0.5))
    assert (config.budget.queries, config.seed, config.task.shots, config.task.batch_size) == (50, 3, 4, 30)
    assert planned.folder == Path("here/runs/numbers/4-shot/m-1/seed-3")
    assert config.task.classes == "base"
    assert planned.targets["new classes"].task.classes == "new"


CLASSES = {
    "caltech101": 100,
    "oxford_pets": 37,
    "oxford_flowers": 102,
    "food101": 101,
    "fgvc_aircraft": 100,
    "sun397": 397,
    "dtd": 47,
    "svhn": 10,
    "eurosat": 10,
    "resisc45": 45,
    "clevr": 8,
    "ucf101": 101,
    "imagenet": 1000,
}
"""Classes of the data sets of CoOp (Zhou et al., IJCV 2022) and ZIP (Park et al., ICLR 2025)."""


def test_bpt_vlm_and_bar_as_published_know_the_length_of_an_epoch() -> None:
    """A fitness is a mean over an epoch; BAR's learning rate falls over 900 epochs."""
    check_each((path for path in SUITES if path.name.startswith("paper")), knows_the_length_of_an_epoch)


def knows_the_length_of_an_epoch(path: Path) -> None:
    for one in plan(load_suite(path), Path("x")):
        classes = CLASSES[one.task] if one.config.task.classes == "all" else math.ceil(CLASSES[one.task] / 2)
        batches = max(1, 16 * classes // 128)
        if one.method == "BPT-VLM":
            assert one.config.optimizer.fitness_batches == batches, one.label
        if one.method == "BAR":
            assert one.config.schedule_steps(16 * classes) == 900 * batches, one.label


def test_what_is_kept_of_a_suite_needs_none_of_its_files(tmp_path: Path) -> None:
    method = tmp_path / "method.yaml"
    method.write_text("optimizer: {method: spsa, step_size: 0.5, perturbation_scale: 0.5}")
    methods = {"M": {"file": str(method), "optimizer": {"perturbation_scale": 0.25}}}
    base = {**BASE, "optimizer": {"pairs_per_step": 1}}
    suite = load_suite(tmp_path / suite_file(tmp_path, methods=methods, base=base))
    (tmp_path / "kept.yaml").write_bytes(dump(suite))
    planned = plan(suite, tmp_path)
    method.unlink()
    assert plan(load_suite(tmp_path / "kept.yaml", written=True), tmp_path) == planned
    optimizer = planned[0].config.optimizer
    gains = (optimizer.step_size, optimizer.perturbation_scale)
    assert (optimizer.method, gains, optimizer.pairs_per_step) == ("spsa", (0.5, 0.25), 1)


def test_data_of_tasks_and_of_targets_lie_in_another_place(tmp_path: Path) -> None:
    suite = Suite.model_validate(
        {
            "name": "s",
            "protocol": "transfer",
            "tasks": {"one": {"name": "folder", "root": "here"}, "two": {"name": "digits"}},
            "targets": {"three": {"name": "coop:dtd", "root": "here"}, "four": {"name": "letter", "root": None}},
            "methods": {"ZIP": {}},
            "base": {"task": {"root": "here", "views": 3}},
        }
    ).rooted(tmp_path)
    assert suite.base == {"task": {"root": str(tmp_path), "views": 3}}
    roots = {label: task.get("root") for label, task in (suite.tasks | suite.targets).items()}
    assert roots == {"one": str(tmp_path), "two": None, "three": str(tmp_path), "four": None}


def test_a_target_of_other_data_takes_over_nothing_of_the_runs_data() -> None:
    """Except the root, if its kind needs one; a target on the run's own data keeps all fields it does not replace."""
    task = {"name": "folder", "root": "here", "template": "the number {}.", "batch_size": 7}
    targets = {
        "count": {"name": "count"},
        "beside": {"name": "coop:dtd"},
        "there": {"name": "folder", "root": "there", "template": "a {}."},
        "new": {"classes": "new"},
    }
    tree = {"name": "s", "protocol": "transfer", "seeds": [1], "targets": targets, "methods": {"ZIP": {}}}
    (planned,) = plan(Suite.model_validate({**tree, "tasks": {"mine": task}}), Path("x"))
    found = {label: one.task for label, one in planned.targets.items()}
    assert {label: (one.template, one.root) for label, one in found.items()} == {
        "count": (None, None),
        "beside": (None, Path("here")),
        "there": ("a {}.", Path("there")),
        "new": ("the number {}.", Path("here")),
    }
    assert {one.batch_size for one in found.values()} == {7}
    dark = {"name": "digits", "test_set": "inverted"}
    (planned,) = plan(
        Suite.model_validate({**tree, "tasks": {"d": dark}, "targets": {"c": {"name": "count"}}}), Path("x")
    )
    assert planned.targets["c"].task.test_set == "test"


def test_a_label_stands_for_the_name_of_a_built_in_task() -> None:
    """If no name is given; in `style`, a label such as digits refers to its test set of that name."""
    tree = {
        "name": "s",
        "protocol": "transfer",
        "seeds": [1],
        "methods": {"ZIP": {}},
        "base": {"task": {"name": "count"}},
    }
    tasks = {"letter": {}, "shape": {"name": "style"}, "other": {}}
    targets = {"digits": {"test_set": "noisy"}, "colour": {}, "itself": {}}
    runs = plan(Suite.model_validate({**tree, "tasks": tasks, "targets": targets}), Path("x"))
    assert [run.config.task.name for run in runs] == ["letter", "style", "count"]
    assert [one.task.name for one in runs[1].targets.values()] == ["digits", "colour", "style"]
    shifted = {"tasks": {"style": {}}, "targets": {"digits": {"test_set": "digits"}}}
    (run,) = plan(Suite.model_validate({**tree, **shifted}), Path("x"))
    assert (run.targets["digits"].task.name, run.targets["digits"].task.test_set) == ("style", "digits")


def test_the_budget_of_the_command_line_lowers_those_of_the_methods() -> None:
    methods = {
        "less": {"budget": {"queries": 100}},
        "more": {"budget": {"queries": 1000}},
        "none": {"budget": {"queries": None, "seconds": 9}},
        "as base": {},
        "by task": {"by_task": {"digits": {"budget": {"queries": 1000}}}},
    }
    tree = {"name": "s", "tasks": ["digits"], "seeds": [1], "methods": methods, "base": {"budget": {"queries": 500}}}
    suite = Suite.model_validate(tree)

    def budgets(**changes: object) -> list[int | None]:
        changed = suite.changed({"budget": changes})
        return [run.config.budget.queries for run in plan(changed, Path("x"))]

    assert budgets() == [100, 1000, None, 500, 1000]
    assert budgets(queries=200) == [100, 200, 200, 200, 200]
    assert budgets(queries=None, seconds=9.0) == [100, 1000, None, None, 1000]
    assert suite.methods == methods


def test_base_need_not_be_a_config_by_itself(tmp_path: Path) -> None:
    """`root` needs the tasks' names and `budget` the methods' steps; shared fields are still checked."""
    tree = {
        "name": "s",
        "tasks": {"one": {"name": "coop:dtd"}},
        "methods": {"ZIP": {"optimizer": {"method": "zip", "pairs_per_step": 1}}},
    }
    base = {"task": {"root": "data"}, "budget": {"queries": 4}, "cluster": {"actors": 3}}
    suite = Suite.model_validate({**tree, "base": base})
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(suite.model_dump(mode="json")))
    common = load_suite(tmp_path / "s.yaml").common(tmp_path / "s.yaml")
    assert (common.budget.queries, common.cluster.actors) == (4, 3)
    assert {run.config.task.root for run in plan(suite, Path("x"))} == {Path("data")}
    with pytest.raises(InputError, match=r"^s\.yaml: base\.cluster\.actor: unknown key; known here: pool, "):
        Suite.model_validate({**tree, "base": {"cluster": {"actor": 3}}}).common(Path("s.yaml"))


@pytest.mark.parametrize(("option", "steps"), [(500, 67), (50, 50)])
def test_the_budget_of_the_command_line_does_not_raise_that_of_a_methods_file(option: int, steps: int) -> None:
    """As published, BPT-VLM stops after 67 generations; its tuned form, of another file, has no such limit."""
    suite = load_suite(ROOT / "configs/suites/images.yaml")
    changed = suite.changed({"budget": {"steps": option}})
    found = {run.method: run.config.budget for run in plan(changed, Path("x"))}
    assert (found["BPT-VLM, published gains, no crops"].steps, found["BPT-VLM, tuned"].steps) == (steps, option)
    assert {budget.queries for budget in found.values()} == {5000}


def test_a_run_takes_of_base_what_has_an_effect_beside_its_method() -> None:
    """And a later layer that chooses another alternative drops the values an earlier layer set for the first."""
    methods = {
        "ZIP": {"file": {"optimizer": {"method": "zip"}}},
        "BBT": {"file": {"optimizer": {"method": "cma-es", "population": 4}}},
        "no map": {"file": {"optimizer": {"method": "zip"}}, "prompt": {"projection": "none"}},
        "spread": {"file": {"optimizer": {"method": "zip"}}, "execution": {"mode": "async"}},
    }
    base = {"optimizer": {"step_size": 0.3}, "prompt": {"intrinsic_dimension": 30}, "execution": {"in_flight": 3}}
    base["cluster"] = {"actors": 3}
    tree = {"name": "s", "tasks": ["digits"], "seeds": [1], "methods": methods, "base": base}
    zip_, bbt, no_map, spread = plan(Suite.model_validate(tree), Path("x"))
    assert zip_.config.optimizer.step_size == no_map.config.optimizer.step_size == 0.3
    assert bbt.config.optimizer.population == 4
    assert (zip_.config.execution.in_flight, spread.config.execution.in_flight) == (8, 3)
    changed = Suite.model_validate(tree).changed({"cluster": {"pool": "in-process"}})
    assert {run.config.cluster.pool for run in plan(changed, Path("x"))} == {"in-process"}


TREES = st.recursive(st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner), max_leaves=8)
SECTIONS = st.dictionaries(st.sampled_from("abc"), TREES)


@given(SECTIONS, SECTIONS)
def test_of_two_trees_the_later_wins(one: dict, two: dict) -> None:
    assert merge(one, {}) == merge({}, one) == one
    assert merge(merge(one, two), two) == merge(one, two)
    for key, value in two.items():
        if not isinstance(value, dict):
            assert merge(one, two)[key] == value


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"metods": {}}, "mini.yaml: metods: unknown key; known here: name, protocol"),
        ({"tasks": []}, "mini.yaml: tasks:"),
        (
            {"tasks": {"digits": {}, "mine": {"views": 2}}},
            "mini.yaml: tasks.mine: no name: give one, or a label of digits,",
        ),
        ({"seeds": []}, "mini.yaml: seeds: []: give one or more, each once"),
        ({"shots": []}, "mini.yaml: shots: []: give one or more, each once"),
        ({"seeds": [1, 1]}, "mini.yaml: seeds: [1, 1]: give one or more, each once"),
        ({"tasks": ["digits", {"name": "digits", "views": 2}]}, "mini.yaml: two entries of a list are called 'digits'"),
        ({"methods": {"A": {"by_task": {"letters": {}}}}}, "methods.A.by_task: 'letters' is not a task of the suite"),
        ({"methods": {"A": {"by_task": {"digits": None}}}}, "methods.A.by_task: give changes, section by section"),
        ({"methods": ["a/zip.yaml", "b/zip.yaml"]}, "mini.yaml: two entries of a list are called 'zip'"),
        (
            {"methods": [{"A": {"file": "methods/zip"}}]},
            "in a list of config files: to give labels or changes, write a mapping of labels, `LABEL: {file: CONFIG,",
        ),
        ({"protocol": "transfer"}, "protocol transfer needs targets"),
        ({"targets": {"letter": {"name": "letter"}}}, "protocol few-shot has no targets"),
        (
            {"protocol": "out-of-distribution", "targets": {"night": {"test_set": "dark"}}},
            "mini: ZIP, digits, night: task: test_set is 'dark': 'digits' has test, inverted, noisy, rotated, moved",
        ),
        ({"methods": {"A": {"optimizer": {"lr": 3}}}}, "mini: A, digits: optimizer.lr: unknown key"),
        (
            {"methods": {"A": {"optimizer": {"a": 3}}}},
            "mini: A, digits: optimizer.a: this is now optimizer.step_size",
        ),
        (
            {"methods": {"A": {"optimizer": {"initial_std": 3}}}},
            "mini: A, digits: optimizer.initial_std: has no effect with optimizer.method zip: it belongs to cma-es",
        ),
        (
            {"methods": {"A": {"by_task": {"digits": {"execution": {"in_flight": 3}}}}}},
            "mini: A, digits: execution.in_flight: has no effect with execution.mode sync",
        ),
        ({"base": {**BASE, "optimizer": {"points": 3}}}, "mini: base.optimizer.points: has no effect in any run"),
        ({"base": {"cluster": {"cache": False}}}, "mini: ZIP, digits: cluster.cache: this is now execution.cache"),
        ({"methods": {"A": {"file": "none.yaml"}}}, "none.yaml: No such file"),
        ({"methods": {"A b": {}, "a B": {}}}, "labels that differ in signs only"),
        ({"methods": {"A": {}, "B": {"cluster": {"pool": "ray"}}}}, "cluster differs between methods"),
    ],
)
def test_faults_of_a_suite_are_one_line(tmp_path: Path, fields: dict, message: str) -> None:
    with pytest.raises(InputError) as caught:
        plan(load_suite(tmp_path / suite_file(tmp_path, **fields)), tmp_path)
    assert message in re.sub(r"mini\.yaml:\d+:", "mini.yaml:", str(caught.value))
    assert "\n" not in str(caught.value)
