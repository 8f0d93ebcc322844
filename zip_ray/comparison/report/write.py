"""The report of a suite: its tables and figures, and the text about them."""

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE
from zip_ray.comparison.report import figures, query_tables, tables, transfer_tables
from zip_ray.comparison.report.document import Code, Document, Picture, Section, Table, row, write_document
from zip_ray.comparison.report.scores import at_shots
from zip_ray.comparison.results import Results, read_results
from zip_ray.comparison.statistics import SMOOTHED_SHARE
from zip_ray.comparison.suite import dump
from zip_ray.config.secrets import without_secrets
from zip_ray.errors import InputError

DULL = ("output", "tracking")
"""Sections of a run's config that only say where it was written."""


def write_report(folder: Path) -> tuple[Path, Path]:
    """Write report.html, report.md and the figures into a suite's folder; the paths of the first two.

    Raises:
        InputError: it holds no suite, or no run of it has come to its end.
    """
    results = read_results(folder)
    if not results.finished:
        raise InputError(f"{folder}: no run has ended: continue with `zip-ray compare`")
    return write_document(folder, document(results))


def document(results: Results) -> Document:
    """All parts of the report, in their order."""
    suite = results.suite
    done = f"{len(results.finished)} of {len(results.planned)} runs finished"
    partial = sum(not one.whole for one in results.finished)
    untested = f", {partial} of them not tested on every target" if partial else ""
    failures = results.failures.keys() - {one.run.label for one in results.finished}
    failed = f", {len(failures)} failed" if failures else ""
    below = sum(one.below_zero_shot for one in results.finished)
    fallen = f" Tuned prompts below their task's plain template: {below} (see Every seed)." if below else ""
    seeds = ", ".join(map(str, suite.seeds))
    shots = ", ".join(map(str, suite.shots))
    summary = (
        f"Protocol {suite.protocol}, {shots} training images per class, seeds {seeds}, at most {results.budget:,} "
        f"queries per run. {done}{untested}{failed}. A query is one evaluation of the model on one mini-batch at one "
        f"prompt.{fallen}{_left_out(results)}"
    )
    sections = (
        _overview(results),
        *_accuracy(results),
        *_protocol(results),
        *_course(results),
        *_tests(results),
        *_record(results),
    )
    return Document(f"Comparison: {suite.name}", summary, sections)


def _overview(results: Results) -> Section:
    text = "Means over the tasks that all methods share, and over seeds. A row with a readout says so in its name."
    return Section("Overview", text, (tables.overview_table(results),))


def _left_out(results: Results) -> str:
    """What means and queries to target leave out, in words."""
    absent = [task for task in results.suite.tasks if task not in results.tasks]
    tasks = [task for task in results.tasks if task not in results.shared]
    methods = [method for method in results.suite.methods if method not in {one.run.method for one in results.finished}]
    lines = {
        "Left out, without a finished run": [*absent, *methods],
        "Means over tasks leave out those that another method has not finished": tasks,
    }
    return "".join(f" {line}: {', '.join(names)}." for line, names in lines.items() if names)


def _accuracy(results: Results) -> list[Section]:
    base = " on the base classes" if results.suite.protocol == "base-to-new" else ""
    text = (
        f"Test accuracy{base} of the tuned prompts in per cent: mean ± standard deviation over seeds. Zero-shot rows "
        "are hand-written templates; the best one was chosen on training and validation images. The best of a column "
        "is bold, unless several share it; white-box rows see gradients and do not compete, nor does a mean that lacks "
        "runs, which says so."
    )
    sections = []
    for shots in results.suite.shots:
        table = tables.grid_table(results, tables.accuracies(results, shots), "test accuracy, %")
        gain = tables.grid_table(
            results, tables.gains(results, shots), f"difference to {tables.untuned_label(PLAIN_TEMPLATE)}, points", "+"
        )
        sections.append(Section(at_shots(results, "Accuracy", shots), text, (table, gain)))
    caption = (
        "Test accuracy by task. Small points are seeds, large ones their mean, the dashed line is zero-shot with the "
        "plain template."
    )
    pictures = [Picture("tasks.png", figures.tasks(results), caption)]
    if len(results.suite.shots) > 1:
        caption = "Test accuracy against shots: mean over tasks, bars one standard deviation over seeds."
        pictures.append(Picture("shots.png", figures.against_shots(results), caption))
    return [
        *sections,
        Section("Tasks", "Test accuracy by task, with every seed.", tuple(pictures)),
        Section("Templates", "The texts of the zero-shot rows.", (tables.templates_table(results),)),
    ]


def _protocol(results: Results) -> list[Section]:
    suite = results.suite
    if suite.protocol == "few-shot":
        return []
    if suite.protocol == "base-to-new":
        text = (
            "Tuned on the base classes (the first half), tested on both halves; H is the harmonic mean of the two. "
            "Means over the seeds that have both; H is taken of those means. The mean's H is that of the mean base and "
            "the mean new."
        )
        return [
            Section(
                "Base to new",
                text,
                tuple(table for n in suite.shots for table in transfer_tables.harmonic_tables(results, n)),
            )
        ]
    text = (
        f"The prompts tuned on {', '.join(suite.tasks)}, tested elsewhere with the class names there. Means over "
        "those tasks, ± standard deviation over the seeds that have all of them. Zero-shot is the target's own plain "
        "template."
    )
    return [Section("Elsewhere", text, tuple(transfer_tables.applied_table(results, n) for n in suite.shots))]


def _course(results: Results) -> list[Section]:
    window = round(SMOOTHED_SHARE * results.budget)
    at_once = results.suite.at_once
    shared = "" if at_once == 1 else " Runs shared the pool, so seconds include time spent waiting for other runs."
    band = f"Mean over seeds; bands: one standard deviation, of {', '.join(figures.with_bands(results))}."
    held = f"{band} A seed that has ended keeps its last value."
    course = Section(
        "Course",
        f"Accuracy on validation images while tuning, {max(results.suite.shots)} shots. {band}{shared}",
        (
            Picture("queries.png", figures.against_queries(results), f"Validation accuracy against queries. {band}"),
            Picture("seconds.png", figures.against_seconds(results), f"Validation accuracy against seconds. {held}"),
        ),
    )
    text = (
        "A step's training accuracy is the mean over the points that it queries, on mini-batches, not that of the "
        "prompt it starts from: pairs lie c to either side of that, random search and one-sided estimates query it and "
        "points sigma or beta away, CMA-ES a generation as wide as its sigma. A method that queries far afield "
        "therefore seems slower than it is. The accuracy is averaged over the last "
        f"{window} queries. For each task and seed the target is the lowest, over the methods, of the best such "
        "accuracy within the budget; the figure is the first query count at which a method is there (the budget where "
        "it never is), averaged over seeds. Only tasks and seeds count that all methods with any finished run have "
        f"finished. The fewest are bold, unless several share them. The figure is at least {window}, and says no more "
        "than that where the target is low: a method that hardly learns sets it for all."
    )
    caption = f"Training accuracy, {max(results.suite.shots)} shots, averaged over the last {window} queries. {band}"
    parts: tuple[Table | Picture, ...] = (
        *(query_tables.target_table(results, shots) for shots in results.suite.shots),
        Picture("training.png", figures.training(results), caption),
    )
    return [course, Section("Queries to target", text, parts)]


def _tests(results: Results) -> list[Section]:
    reference = next(iter(results.suite.methods))
    on = {"few-shot": "", "base-to-new": " on the base classes"}.get(results.suite.protocol, " on the tasks tuned on")
    text = (
        f"Two-sided Wilcoxon signed-rank tests of test accuracy{on} against {reference}, paired by task, shots and "
        f"seed; p adjusted by Holm's method. A positive difference is in favour of the other method. Seeds of one task "
        "are not independent of each other, so with few tasks p is too small."
    )
    return [Section("Paired tests", text, (tables.tests_table(results),))]


def _record(results: Results) -> list[Section]:
    text = "All runs, including those where tuning hurt. (below): the tuned prompt is below the plain template."
    sections = [Section("Every seed", text, (tables.seeds_table(results),))]
    if results.failures:
        alike: dict[str, list[str]] = {}
        for label, error in results.failures.items():
            alike.setdefault(error, []).append(label)
        lines = tuple(row(_first_and_count(labels), [error]) for error, labels in alike.items())
        text = "Runs that did not finish, or were not tested on all targets; run `zip-ray compare` again to retry them."
        sections.append(Section("Failures", text, (Table(("run", "why"), lines, numbers=False),)))
    first = results.finished[0]
    facts = {"code": ", ".join(results.revisions) or "unknown", **first.environment}
    rows = tuple(row(name, [str(value)]) for name, value in facts.items())
    configs = tuple(
        Code(_config(without_secrets(run.config.model_dump(mode="json"))), f"{run.method}: config of {run.label}")
        for run in {run.method: run for run in reversed(results.planned)}.values()
    )
    text = (
        "Environment of the first run, the suite, and of each method the exact config of one run; those of all runs "
        "lie in their folders."
    )
    suite = Code(dump(results.suite).decode(), f"Suite {results.suite.name}")
    return [
        *sections,
        Section("How it was run", text, (Table(("what", "value"), rows, numbers=False), suite, *reversed(configs))),
    ]


def _first_and_count(labels: Sequence[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{labels[0]} and {len(labels) - 1} more"


def _config(tree: dict[str, object]) -> str:
    shown = {section: value for section, value in tree.items() if section not in DULL}
    return yaml.safe_dump(json.loads(json.dumps(shown)), sort_keys=False, allow_unicode=True)
