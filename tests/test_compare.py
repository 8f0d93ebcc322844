"""Suites: what a file comes to, figures against closed forms, and whole suites from outside."""

import math
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import FakeScorer
from tests.test_cli import ROOT, assert_same_run, command, run, steps_done
from zip_ray.compare.document import Cell, Code, Document, Picture, Section, Table, to_html, to_markdown
from zip_ray.compare.host import ScorerHost, scorer_key
from zip_ray.compare.hub import PoolHub
from zip_ray.compare.report import write_report
from zip_ray.compare.results import Finished, Results, read_facts, read_results
from zip_ray.compare.runner import Runner, SuiteOutcome, prepare, run_suite
from zip_ray.compare.statistics import (
    Curve,
    band,
    harmonic_mean,
    holm,
    mean_and_deviation,
    paired_tests,
    queries_to_target,
    smoothed,
)
from zip_ray.compare.suite import Planned, Suite, dump, load_suite, merge, plan
from zip_ray.compare.tables import harmonic_table
from zip_ray.compare.view import SuiteView
from zip_ray.config import Config
from zip_ray.errors import InputError
from zip_ray.pool import InProcessPool, Pool, ScorerLike
from zip_ray.record import Event, read_record
from zip_ray.runs import Listener, locked

SUITES = sorted((ROOT / "configs" / "suites").glob("*.yaml"))
BASE = {
    "task": {"batch_size": 20},
    "prompt": {"init": "template", "intrinsic_dim": 60},
    "optimizer": {"pairs_per_step": 1},
    "budget": {"queries": 20},
    "validation": {"every_queries": 10},
    "cluster": {"pool": "in-process"},
    "tracking": {"enabled": False},
}


def suite_file(folder: Path, **fields: object) -> str:
    tree = {
        "name": "mini",
        "shots": [2],
        "seeds": [1, 2],
        "tasks": ["digits"],
        "methods": {"ZIP": {}, "SPSA": {"optimizer": {"method": "spsa"}}},
        "base": BASE,
        **fields,
    }
    (folder / "mini.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return "mini.yaml"


@pytest.mark.parametrize("path", SUITES, ids=lambda p: p.name)
def test_suites_open_with_their_command_and_can_be_planned(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith(f"# python run.py compare configs/suites/{path.name}\n")
    suite = load_suite(path)
    assert suite.name == path.stem
    assert len(plan(suite, Path("x"))) == (len(suite.tasks) * len(suite.shots) * len(suite.seeds) * len(suite.methods))


def test_a_config_is_put_together_in_its_order(tmp_path: Path) -> None:
    (tmp_path / "method.yaml").write_text("optimizer: {method: spsa, a: 0.1, c: 0.1}\nbudget: {queries: 99}")
    suite = Suite.model_validate(
        {
            "name": "s",
            "protocol": "base-to-new",
            "shots": [4],
            "seeds": [3],
            "tasks": {"numbers": {"name": "digits", "batch_size": 30}},
            "methods": {"M (1)": {"file": str(tmp_path / "method.yaml"), "optimizer": {"c": 0.3}}},
            "base": {"budget": {"queries": 50}, "optimizer": {"c": 0.2, "alpha": 0.5}, "task": {"batch_size": 10}},
        }
    )
    (planned,) = plan(suite, Path("here"))
    config, optimizer = planned.config, planned.config.optimizer
    assert (optimizer.method, optimizer.a, optimizer.c, optimizer.alpha) == ("spsa", 0.1, 0.3, 0.5)
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
"""Of the papers' data sets (reference: ZIP.md, section 6)."""


@pytest.mark.parametrize("path", [path for path in SUITES if path.name.startswith("paper")], ids=lambda p: p.name)
def test_the_fitness_of_bpt_vlm_as_published_is_taken_over_an_epoch(path: Path) -> None:
    for one in plan(load_suite(path), Path("x")):
        if one.method == "BPT-VLM":
            classes = CLASSES[one.task] if one.config.task.classes == "all" else math.ceil(CLASSES[one.task] / 2)
            assert one.config.optimizer.fitness_batches == max(1, 16 * classes // 128), one.label


def test_what_is_kept_of_a_suite_needs_none_of_its_files(tmp_path: Path) -> None:
    method = tmp_path / "method.yaml"
    method.write_text("optimizer: {method: spsa, a: 0.5, c: 0.5}")
    methods = {"M": {"file": str(method), "optimizer": {"c": 0.25}}}
    suite = load_suite(tmp_path / suite_file(tmp_path, methods=methods))
    (tmp_path / "kept.yaml").write_bytes(dump(suite))
    planned = plan(suite, tmp_path)
    method.unlink()
    assert plan(load_suite(tmp_path / "kept.yaml"), tmp_path) == planned
    optimizer = planned[0].config.optimizer
    assert (optimizer.method, optimizer.a, optimizer.c, optimizer.pairs_per_step) == ("spsa", 0.5, 0.25, 1)


def test_data_of_tasks_and_of_targets_lie_in_another_place(tmp_path: Path) -> None:
    suite = Suite.model_validate(
        {
            "name": "s",
            "protocol": "transfer",
            "tasks": {"one": {"name": "folder", "root": "here"}, "two": {"name": "digits"}},
            "targets": {"three": {"name": "coop:dtd", "root": "here"}, "four": {"name": "letter", "root": None}},
            "methods": {"ZIP": {}},
        }
    ).rooted(tmp_path)
    roots = {label: task.get("root") for label, task in (suite.tasks | suite.targets).items()}
    assert roots == {"one": str(tmp_path), "two": None, "three": str(tmp_path), "four": None}


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
        ({"tasks": ["digits", {"name": "digits", "views": 2}]}, "mini.yaml: two entries of a list are called 'digits'"),
        ({"methods": {"A": {"by_task": {"letters": {}}}}}, "methods.A.by_task: 'letters' is no task of the suite"),
        ({"methods": {"A": {"by_task": {"digits": None}}}}, "methods.A.by_task: give changes, section by section"),
        ({"methods": ["a/zip.yaml", "b/zip.yaml"]}, "mini.yaml: two entries of a list are called 'zip'"),
        ({"protocol": "transfer"}, "protocol transfer needs targets"),
        ({"targets": {"letter": {"name": "letter"}}}, "protocol few-shot has no targets"),
        ({"methods": {"A": {"optimizer": {"lr": 3}}}}, "mini: A, digits: optimizer.lr: unknown key"),
        ({"methods": {"A": {"file": "none.yaml"}}}, "none.yaml: No such file"),
        ({"methods": {"A b": {}, "a B": {}}}, "labels that differ in signs only"),
        ({"methods": {"A": {}, "B": {"cluster": {"actors": 7}}}}, "cluster differs between methods"),
    ],
)
def test_faults_of_a_suite_are_one_line(tmp_path: Path, fields: dict, message: str) -> None:
    with pytest.raises(InputError) as caught:
        plan(load_suite(tmp_path / suite_file(tmp_path, **fields)), tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def curve(queries: list[float], accuracy: list[float]) -> Curve:
    return Curve(np.array(queries, float), np.array(queries, float) / 10, np.array(accuracy, float))


def test_smoothing_by_hand() -> None:
    """A window of 20 of 400 queries: means of the last two steps of ten queries, once there are two."""
    found = smoothed(curve([10, 20, 30, 40], [0.0, 1.0, 0.0, 0.5]), 400)
    np.testing.assert_array_equal(found.queries, [20, 30, 40])
    np.testing.assert_array_equal(found.accuracy, [0.5, 0.5, 0.25])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(1, 7))
def test_smoothing_is_the_mean_over_the_window(values: list[float], per_step: int) -> None:
    queries = [per_step * (k + 1) for k in range(len(values))]
    found = smoothed(curve(queries, values), 200)
    for at, mean in zip(found.queries, found.accuracy, strict=True):
        inside = [v for q, v in zip(queries, values, strict=True) if at - 10 < q <= at]
        assert mean == pytest.approx(np.mean(inside))
    assert len(found.queries) == sum(q >= 10 for q in queries)


def test_queries_to_target_by_hand() -> None:
    """B's best, 0.6, is the lowest best: A is there at 30, B at 50, C without a curve never."""
    a = curve([10, 20, 30, 40, 50], [0.1, 0.5, 0.7, 0.9, 0.8])
    b = curve([10, 20, 30, 40, 50], [0.1, 0.2, 0.4, 0.5, 0.6])
    none = curve([], [])
    assert queries_to_target({"A": a, "B": b, "C": none}, 50) == (0.6, {"A": 30.0, "B": 50.0, "C": 50.0})
    target, figures = queries_to_target({"C": none}, 50)
    assert math.isnan(target)
    assert figures == {"C": 50.0}


def test_means_and_deviations_by_hand() -> None:
    assert mean_and_deviation([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert mean_and_deviation([0.4])[0] == 0.4
    assert math.isnan(mean_and_deviation([0.4])[1])
    assert math.isnan(mean_and_deviation([])[0])
    assert harmonic_mean(0.5, 1.0) == pytest.approx(2 / 3)
    assert harmonic_mean(0.0, 0.0) == 0.0


def test_the_signed_rank_test_against_its_closed_form() -> None:
    """Of n differences all of one sign and of different sizes, the exact two-sided p is 2 / 2^n."""
    for n in (3, 5, 9):
        ours = {str(k): 0.5 for k in range(n)}
        theirs = {str(k): 0.5 + 0.01 * (k + 1) for k in range(n)}
        (test,) = paired_tests({"A": ours, "B": theirs}, "A")
        assert (test.method, test.pairs) == ("B", n)
        assert test.p == pytest.approx(2 / 2**n)
        assert test.difference == pytest.approx(0.01 * (n + 1) / 2)
    (same,) = paired_tests({"A": ours, "B": ours}, "A")
    assert same.p == 1.0
    (apart,) = paired_tests({"A": ours, "B": {"elsewhere": 0.1}}, "A")
    assert (apart.pairs, math.isnan(apart.holm)) == (0, True)


def test_equal_differences_are_ties_whatever_their_rounding() -> None:
    """Three of four signs agree, all sizes are the same: p of 1, 1, 1, -1, not of the order of rounding errors."""
    from scipy.stats import wilcoxon

    ours = dict(zip("abcd", [0.6, 0.5, 0.65, 0.35], strict=True))
    theirs = dict(zip("abcd", [0.65, 0.55, 0.7, 0.3], strict=True))
    (test,) = paired_tests({"A": ours, "B": theirs}, "A")
    assert test.p == pytest.approx(wilcoxon([1, 1, 1, -1]).pvalue)


def test_holm_by_hand() -> None:
    """Holm's own steps: 0.01 x 4, then 0.02 x 3, 0.03 x 2 (raised to 0.06), 0.5 x 1."""
    nan = float("nan")
    found = holm([0.03, 0.01, nan, 0.5, 0.02])
    assert found[:2] + found[3:] == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert math.isnan(found[2])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(p: list[float]) -> None:
    found = holm(p)
    for one, adjusted in zip(p, found, strict=True):
        assert one <= adjusted <= min(1.0, len(p) * one) + 1e-12
    assert sorted(found) == [found[k] for k in sorted(range(len(p)), key=lambda k: p[k])]


def test_a_band_goes_as_far_as_the_shortest_curve() -> None:
    axis, mean, deviation = band(
        [(np.array([0.0, 10.0]), np.array([0.0, 1.0])), (np.array([0.0, 5.0]), np.array([1.0, 1.5]))], points=3
    )
    np.testing.assert_allclose(axis, [0, 2.5, 5])
    np.testing.assert_allclose(mean, [0.5, 0.75, 1.0])
    np.testing.assert_allclose(deviation, np.sqrt(0.5) * np.ones(3))


def test_a_document_says_the_same_twice() -> None:
    table = Table(("a", "b"), ((Cell("x | y"), Cell("<b>1</b>", best=True)),))
    parts = (table, Picture("p.png", b"\x89PNG", "a picture"), Code("k: 1", "config"))
    document = Document("Title", "Summary.", (Section("Part", "Text & more.", parts),))
    text, page = to_markdown(document), to_html(document)
    assert "| x \\| y | **<b>1</b>** |" in text
    assert "![a picture](p.png)" in text
    assert "<strong>&lt;b&gt;1&lt;/b&gt;</strong>" in page
    assert "data:image/png;base64,iVBORw==" in page
    assert "Text &amp; more." in page


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite from outside: two methods, two seeds, shots 1 and 2, in process."""
    folder = tmp_path_factory.mktemp("suite")
    done = run(folder, "compare", suite_file(folder, shots=[1, 2]), "--output=out")
    assert "8 runs done" in done.stdout
    return folder / "out"


def test_a_suite_leaves_its_report(finished: Path) -> None:
    page, text = (finished / "report.html").read_text(), (finished / "report.md").read_text()
    results = read_results(finished)
    assert len(results.finished) == 8
    for one in results.finished:
        end = read_record(one.run.folder / "metrics.jsonl")[-1]
        row = f"{one.run.task}, {one.run.shots} shots, {one.run.method}"
        cells = (row, str(one.run.seed), f"{100 * end['test_accuracy']:.1f}")
        assert re.search(r"\s*".join(f"<td>{re.escape(cell)}</td>" for cell in cells), page)
        assert "| " + " | ".join(cells) in text
    for shots in (1, 2):
        for method in ("ZIP", "SPSA"):
            mean, deviation = mean_and_deviation([one.accuracy for one in results.of(method, "digits", shots)])
            assert f"{100 * mean:.1f} ± {100 * deviation:.1f}" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page), "nothing is fetched from elsewhere"
    assert "http://" not in page
    assert "https://" not in page
    for name in re.findall(r"\]\(([^)]+\.png)\)", text):
        assert (finished / name).read_bytes().startswith(b"\x89PNG")
    assert "pairs_per_step: 1" in page


def test_a_finished_suite_is_only_reported_again(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / "runs").rglob("*")}
    (finished / "report.html").unlink()
    again = run(finished.parent, "compare", "mini.yaml", "--output=out")
    assert "all runs were done before" in again.stdout
    assert (finished / "report.html").is_file()
    (finished / "report.html").unlink()
    write_report(finished)
    assert (finished / "report.html").is_file()
    assert {path: path.stat().st_mtime_ns for path in (finished / "runs").rglob("*")} == before


def test_a_changed_suite_needs_another_folder(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "out")
    suite_file(tmp_path, shots=[1, 2], methods={"ZIP": {"optimizer": {"a": 0.5}}})
    done = run(tmp_path, "compare", "mini.yaml", "--output=out", code=2)
    assert "optimizer.a: differs from what" in done.stderr


def test_a_suite_does_not_go_into_the_folder_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/config.yaml").touch()
    with pytest.raises(InputError, match=r"^output: .* is the folder of a run: choose another$"):
        carry_out(tmp_path, build_fake)


def test_runs_of_another_budget_are_not_taken_for_this_suites(tmp_path: Path) -> None:
    carry_out(tmp_path, build_fake)
    with pytest.raises(InputError, match=r"budget\.queries: is 40, .*seed-1 was started with 20"):
        carry_out(tmp_path, build_fake, base={**SMALLER, "budget": {"queries": 40}})
    assert len(read_results(tmp_path / "out").finished) == 4


def test_a_suite_whose_threads_are_auto_goes_on(tmp_path: Path) -> None:
    """A run keeps the number that it was started with."""
    base = {**SMALLER, "cluster": {"pool": "in-process", "threads_per_actor": "auto"}}
    assert carry_out(tmp_path, build_fake, stop_after=13, at_once=1, base=base).left == 3
    assert carry_out(tmp_path, build_fake, at_once=1, base=base).finished == 3
    assert carry_out(tmp_path, build_fake, base=base).finished == 0


def test_a_suite_that_is_running_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out"), pytest.raises(InputError, match="in use by another process"):
        carry_out(tmp_path, build_fake)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["lock"]


def test_runs_that_are_cut_off_go_on_and_the_finished_stay(finished: Path, tmp_path: Path) -> None:
    """Killed in the midst; the end is that of the undisturbed suite, run by run."""
    suite_file(tmp_path, shots=[1, 2])
    process = subprocess.Popen(command("compare", "mini.yaml", "--output=out"), cwd=tmp_path, stderr=subprocess.PIPE)
    some = tmp_path / "out/runs/digits/1-shot/spsa/seed-1"
    for _ in range(24_000):
        if steps_done(some) >= 2:
            break
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(read_results(tmp_path / "out").finished) < 8
    run(tmp_path, "compare", "mini.yaml", "--output=out")
    for path in (finished / "runs").rglob("checkpoint.safetensors"):
        assert_same_run(tmp_path / "out" / path.parent.relative_to(finished), path.parent)


SMALLER = {**BASE, "prompt": {"intrinsic_dim": 12}}
"""For scorers without a model."""


def carry_out(
    folder: Path, build: Callable[[Config], ScorerLike], stop_after: float = math.inf, **fields: object
) -> SuiteOutcome:
    """A suite in this process, over scorers without a model; asked to stop after so many steps of all its runs."""
    suite = load_suite(folder / suite_file(folder, **{"base": SMALLER, **fields}))
    steps: list[Event] = []

    def listen(_: Config, view: Listener) -> Listener:
        def hear(event: Event) -> None:
            view(event)
            steps.extend([event] * (event["event"] == "step"))

        return hear

    def open_pool(_: Config, keys: list[str]) -> Pool:
        return InProcessPool(partial(ScorerHost, build, keys))

    return run_suite(suite, folder / "out", open_pool, lambda: len(steps) > stop_after, listen)


def build_fake(_: Config) -> FakeScorer:
    return FakeScorer()


def build_with_faults(config: Config) -> FakeScorer:
    if config.task.root:
        raise InputError("task.root: 'no' is not a folder")
    return FakeScorer(raise_at=(3,) if config.optimizer.loss == "focal" else ())


def test_a_stopped_suite_goes_on(tmp_path: Path) -> None:
    outcome = carry_out(tmp_path, build_fake, stop_after=13, at_once=1)
    assert (outcome.finished, outcome.left, outcome.failures) == (1, 3, {})
    assert not (tmp_path / "out/report.html").exists()
    assert read_facts(tmp_path / "out")["failures"] == {}
    outcome = carry_out(tmp_path, build_fake, at_once=1)
    assert (outcome.finished, outcome.left) == (3, 0)
    assert (tmp_path / "out/report.html").exists()
    (tmp_path / "alone").mkdir()
    carry_out(tmp_path / "alone", build_fake)
    for path in (tmp_path / "alone/out/runs").rglob("checkpoint.safetensors"):
        assert_same_run(tmp_path / path.parent.relative_to(tmp_path / "alone"), path.parent)


def test_a_run_that_fails_does_not_end_the_suite_and_is_tried_again(tmp_path: Path) -> None:
    fields = {
        "seeds": [1],
        "tasks": {"digits": {"name": "digits"}, "mine": {"name": "folder", "root": "no"}},
        "methods": {"ZIP": {}, "broken": {"optimizer": {"loss": "focal"}}},
    }
    outcome = carry_out(tmp_path, build_with_faults, **fields)
    assert (outcome.finished, outcome.left) == (1, 0)
    assert outcome.failures == {
        "digits, 2 shots, broken, seed 1": "RuntimeError: fault at 3",
        "mine, 2 shots, ZIP, seed 1": "task.root: 'no' is not a folder",
        "mine, 2 shots, broken, seed 1": "task.root: 'no' is not a folder",
    }
    page = (tmp_path / "out/report.html").read_text()
    assert "1 of 4 runs finished, 3 failed" in page
    assert "is not a folder" in page
    outcome = carry_out(tmp_path, build_fake, **fields)
    assert (outcome.finished, outcome.failures) == (3, {})


@pytest.mark.parametrize(("pairs", "most"), [(1, 2), (5, 1)])
def test_as_many_runs_at_a_time_as_the_actors_can_use(tmp_path: Path, pairs: int, most: int) -> None:
    """One actor holds two passes: two runs of one pair a step, one run of five."""
    going: set[str] = set()
    seen: list[int] = []

    class Watched(SuiteView):
        def started(self, run: Planned) -> None:
            super().started(run)
            going.add(run.label)
            seen.append(len(going))

        def ended(self, run: Planned, how: str) -> None:
            going.discard(run.label)
            super().ended(run, how)

    base = {**SMALLER, "optimizer": {"pairs_per_step": pairs}, "budget": {"queries": 200}}
    suite = load_suite(tmp_path / suite_file(tmp_path, base=base))
    (tmp_path / "out").mkdir()
    runs = prepare(tmp_path / "out", suite, plan(suite, tmp_path / "out"))
    keys = [scorer_key(run.config) for run in runs]
    with (
        closing(InProcessPool(partial(ScorerHost, lambda _: FakeScorer(delay=0.005), keys))) as pool,
        closing(PoolHub(pool)) as hub,
        Watched(len(runs)) as view,
    ):
        outcome = Runner(tmp_path / "out", suite, hub, lambda: False, lambda _, view: view, view).go(runs)
    assert outcome.finished == 4
    assert max(seen) == most


def test_a_tuned_prompt_is_tested_elsewhere(tmp_path: Path) -> None:
    """Where the target is the task itself, the figure is the run's own; with other classes it is that of `evaluate`."""
    targets = {"itself": {}, "counts": {"name": "count", "shots": 1}}
    suite_file(tmp_path, protocol="transfer", targets=targets, seeds=[1], methods={"ZIP": {}})
    run(tmp_path, "compare", "mini.yaml", "--output=out")
    (one,) = read_results(tmp_path / "out").finished
    assert one.applied["itself"] == {"tuned": one.accuracy, "plain template": one.zero_shot["plain template"]}
    out = run(tmp_path, "evaluate", str(one.run.folder), "--task.name=count", "--task.shots=1").stdout
    for figure in one.applied["counts"].values():
        assert f"{figure:.1%}" in out


def test_a_target_that_has_changed_is_tested_again(tmp_path: Path) -> None:
    """One label, another target; then fewer targets."""
    fields = {"protocol": "transfer", "seeds": [1], "methods": {"ZIP": {}}}
    asked: list[str] = []

    def build(config: Config) -> FakeScorer:
        asked.append(config.task.name)
        return FakeScorer()

    for targets in ({"one": {"name": "count"}, "two": {"name": "shape"}}, {"one": {"name": "letter"}}):
        assert carry_out(tmp_path, build, targets=targets, **fields).finished == 1
        (one,) = read_results(tmp_path / "out").finished
        assert set(one.applied) == set(targets)
    assert asked == ["digits", "count", "shape", "letter"]
    assert carry_out(tmp_path, build, targets=targets, **fields).finished == 0


def test_a_suite_with_ray_gives_the_same_bits(finished: Path, tmp_path: Path, ray_cluster: str) -> None:
    suite_file(tmp_path, shots=[1])
    run(
        tmp_path,
        *("compare", "mini.yaml", "--output=out", "--cluster.pool=ray", f"--cluster.address={ray_cluster}"),
        *("--tracking.enabled", "--tracking.uri=sqlite:///m.db"),
    )
    for path in (finished / "runs/digits/1-shot").rglob("checkpoint.safetensors"):
        assert_same_run(tmp_path / "out" / path.parent.relative_to(finished), path.parent)
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'm.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "zip-ray"]
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [one for one in runs if "mlflow.parentRunId" not in one.data.tags]
    assert len(runs) == 5
    assert {one.data.tags.get("mlflow.parentRunId") for one in runs if one is not parent} == {parent.info.run_id}
    assert "report.html" in {file.path for file in client.list_artifacts(parent.info.run_id)}


def test_a_folder_without_a_suite_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no suite\.yaml"):
        write_report(tmp_path)


def test_base_to_new_by_hand() -> None:
    """Two tasks and one seed: base 0.8 and 0.6, new 0.4 and 0.6; H of each, and of the means 0.7 and 0.5."""
    tree = {"name": "s", "protocol": "base-to-new", "seeds": [1], "tasks": ["digits", "letter"], "methods": {"ZIP": {}}}
    suite = Suite.model_validate(tree)
    none = curve([], [])
    finished = [
        Finished(
            run=one,
            accuracy=base,
            zero_shot={"plain template": 0.5, "best template": 0.5},
            applied={"new classes": {"tuned": new, "plain template": 0.5}},
            training=none,
            validation=none,
            parameters=1,
            account={"charged": 1, "wasted": 0},
            seconds=1.0,
            environment={},
        )
        for one, base, new in zip(plan(suite, Path("x")), (0.8, 0.6), (0.4, 0.6), strict=True)
    ]
    table = harmonic_table(Results(suite, plan(suite, Path("x")), finished, {}), 16)
    plain, zip_row = ([cell.text for cell in row] for row in table.rows)
    assert plain == ["zero-shot, plain template", *["50.0"] * 9]
    assert zip_row == ["ZIP", "70.0", "50.0", "58.3", "80.0", "40.0", "53.3", "60.0", "60.0", "60.0"]
    assert table.header[1:4] == ("mean, base", "mean, new", "mean, H")
