"""The page of a report: its tables, figures and style."""

import re
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.comparisons import finished
from zip_ray.comparison.plan import plan
from zip_ray.comparison.report import figures
from zip_ray.comparison.report.document import Document, Table, to_html, to_markdown
from zip_ray.comparison.report.scores import percent, sole_best
from zip_ray.comparison.report.write import document
from zip_ray.comparison.results import Results
from zip_ray.comparison.statistics import Curve
from zip_ray.comparison.suite import Suite
from zip_ray.runs.plotting import legend_below, looks, new_figure, plain_numbers

METHODS = [f"method {n}" for n in range(12)]
TASKS = ("digits", "letter")
NAN = float("nan")


class Elements(HTMLParser):
    """All start tags of a page with their attributes, in order, and the texts of header cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.heads: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag == "th":
            self.heads.append("")

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] == "th":
            self.heads[-1] += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def many(methods: list[str]) -> Results:
    """Each method is 0.01 points below the plain template, so all tie and the differences round to zero."""
    tree = {
        "name": "many",
        "seeds": [1, 2],
        "shots": [4, 16],
        "tasks": list(TASKS),
        "methods": {name: {} for name in methods},
        "base": {"budget": {"queries": 20000}},
    }
    suite = Suite.model_validate(tree)
    planned = plan(suite, Path("x"))
    queries = np.arange(1, 21) * 1000.0
    accuracy = np.linspace(0.4, 0.5, 20)
    done = [
        finished(
            run,
            0.4999,
            {"plain template": 0.5},
            validation=Curve(queries, queries / 100, accuracy + run.seed / 100),
            training=Curve(queries, queries / 100, accuracy),
        )
        for run in planned
    ]
    return Results(suite, planned, done, {})


@pytest.fixture(scope="module")
def results() -> Results:
    return many(METHODS)


@pytest.fixture(scope="module")
def report() -> Document:
    """A report on four methods, which draws all figures."""
    return document(many(METHODS[:4]))


@pytest.fixture(scope="module")
def tables(report: Document) -> list[Table]:
    return [part for section in report.sections for part in section.parts if isinstance(part, Table)]


@pytest.fixture(scope="module")
def page(report: Document) -> str:
    return to_html(report)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collects the figures instead of writing files."""
    kept: list[Any] = []

    def keep(figure: Any, _dpi: int) -> bytes:
        figure.draw_without_rendering()
        kept.append(figure)
        return b""

    monkeypatch.setattr(figures, "png", keep)
    return kept


def test_every_table_of_differences_names_its_zero_shot(results: Results, tables: list[Table]) -> None:
    heads = [name for table in tables for name in table.header]
    assert [name for name in heads if name.startswith("difference")] == [
        "difference to zero-shot, plain template, points",
    ] * len(results.suite.shots)
    assert "mean difference to method 0, points" in heads
    words = [*heads, *(table_row[0].text for table in tables for table_row in table.rows)]
    assert all("template" in text for text in words if "zero-shot" in text)


def test_header_cells_have_scopes_and_words(page: str) -> None:
    elements = Elements(page)
    assert {head["scope"] for head in elements.of("th")} == {"col", "row"}
    assert all(elements.heads)
    assert len([head for head in elements.of("th") if head["scope"] == "row"]) == len(elements.of("tr")) - len(
        elements.of("table")
    )


def test_every_table_scrolls_in_a_box_of_its_own_with_a_name(page: str) -> None:
    found = Elements(page).found
    boxes = [found[place - 1] for place, (tag, _) in enumerate(found) if tag == "table"]
    assert boxes
    assert all((tag, box["class"], box["tabindex"]) == ("div", "wide", "0") for tag, box in boxes)
    names = [box["aria-label"] for _, box in boxes]
    assert len(set(names)) == len(names)
    assert re.search(r"\.wide \{ overflow-x: auto", page)
    assert re.search(r"th:first-child \{ position: sticky; left: 0", page)


def test_the_mean_stays_in_view(page: str, tables: list[Table]) -> None:
    assert re.search(r"\.mean :is\(th, td\):last-child \{ position: sticky; right: 0", page)
    for table in tables:
        assert table.mean_last == (table.header[-1] == "mean")
    marked = [one["class"] for one in Elements(page).of("table")]
    assert marked.count("numbers mean") == sum(table.mean_last for table in tables) > 0


def test_text_is_set_to_the_left_and_numbers_to_the_right(page: str, report: Document, tables: list[Table]) -> None:
    words = [table.header for table in tables if not table.numbers]
    assert words == [("task", "plain template"), ("what", "value")]
    assert re.search(r"th, td \{[^}]*text-align: left", page)
    assert re.search(r"\.numbers :is\(th, td\):not\(:first-child\) \{ text-align: right", page)
    text = to_markdown(report)
    assert "| what | value |\n| --- | --- |" in text
    assert "| method | test accuracy, % | queries | updates | seconds |\n| --- | ---: | ---: | ---: | ---: |" in text


def test_figures_open_in_full_size(page: str) -> None:
    elements = Elements(page)
    shown = {figure["id"] for figure in elements.of("figure")}
    links = [link["href"] for link in elements.of("a") if link.get("title") == "Full size"]
    assert shown == {"tasks.png", "shots.png", "queries.png", "seconds.png", "training.png"}
    assert sorted(links) == sorted(f"#{name}" for name in shown)
    back = {link["href"] for link in elements.of("a") if link.get("class") == "close"}
    assert back <= {f"#{head['id']}" for head in elements.of("h2")}
    assert "figure:target img { max-width: none; }" in page
    assert all(image["alt"] for image in elements.of("img"))


def test_the_page_follows_a_dark_scheme(page: str) -> None:
    """Exactly the variables of the light scheme have dark values, and no rule uses any other colour."""
    light, dark = re.findall(r":root \{([^}]*)\}", page)
    names = re.compile(r"(--\w+):")
    assert names.findall(light) == names.findall(dark)
    rest = page[: page.index("</style>")].replace(light, "").replace(dark, "")
    assert re.findall(r"#[0-9a-f]{3,6}\b", rest) == ["#fff"], "only the ground of a figure"
    assert "prefers-color-scheme: dark" in page


def test_zero_has_no_sign(page: str) -> None:
    assert [percent(share, "+") for share in (-0.0004, 0.0004, -0.0, -0.0006, 0.0006)] == [
        *["0.0"] * 3,
        "-0.1",
        "+0.1",
    ]
    assert percent(-0.0004) == "0.0"
    assert "-0.0" not in re.sub(r"base64,[^\"]*", "", page)


def test_what_all_share_is_not_bold(page: str) -> None:
    """All methods tie everywhere, but zero-shot has a higher accuracy."""
    bold = re.findall(r"<strong>(.*?)</strong>", page)
    assert set(bold) == {"50.0"} or not bold
    rows = {"A": [0.5, 0.3, NAN, 0.1], "B": [0.5, 0.4, NAN, NAN]}
    assert sole_best(rows, max) == {"A": [False, False, False, True], "B": [False, True, False, False]}
    assert sole_best(rows, min) == {"A": [False, True, False, True], "B": [False, False, False, False]}


def test_at_most_three_curves_have_bands(results: Results, report: Document, drawn: list[Any]) -> None:
    figures.against_queries(results)
    panels = drawn[0].axes[: len(TASKS)]
    assert [len(axes.lines) for axes in panels] == [12] * len(TASKS)
    assert [len(axes.collections) for axes in panels] == [3] * len(TASKS)
    texts = [section.text for section in report.sections if section.title == "Course"]
    assert "bands: one standard deviation, of method 0, method 1, method 2." in texts[0]


def test_legends_lie_off_the_lines(results: Results, drawn: list[Any]) -> None:
    for draw in (figures.against_queries, figures.tasks, figures.against_shots):
        draw(results)
        figure = drawn[-1]
        (legend,) = figure.legends
        assert not any(axes.get_legend() for axes in figure.axes)
        box = legend.get_window_extent()
        assert all(not axes.get_visible() or not box.overlaps(axes.get_window_extent()) for axes in figure.axes)


def test_axes_have_plain_numbers(results: Results, drawn: list[Any]) -> None:
    figures.against_queries(results)
    figures.against_shots(results)
    curves, shots = drawn
    assert "10,000" in [label.get_text() for label in curves.axes[0].get_xticklabels()]
    assert [label.get_text() for label in shots.axes[0].get_xticklabels()] == ["4", "16"]


def test_logarithmic_axes_have_plain_numbers() -> None:
    figure = new_figure(4, 3)
    axes = figure.add_subplot()
    axes.loglog([0.01, 10000], [1, 1e7])
    plain_numbers(axes)
    figure.draw_without_rendering()
    labels = {label.get_text() for side in (axes.xaxis, axes.yaxis) for label in side.get_ticklabels(which="both")}
    assert {"0.01", "1", "100", "10,000", "10,000,000"} <= labels
    assert not [text for text in labels if "$" in text or "e" in text]


def test_curves_differ_in_more_than_colour() -> None:
    """Any two of twelve curves share at most one of colour, marker and dashes; all colours are Okabe and Ito's."""
    parts = [(look["color"], look["marker"], str(look["linestyle"])) for look in looks(METHODS).values()]
    assert all(sum(a == b for a, b in zip(one, other, strict=True)) <= 1 for one, other in combinations(parts, 2))
    okabe_ito = {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}
    assert {colour for colour, _, _ in parts} <= okabe_ito


def test_a_legend_takes_the_columns_that_fit() -> None:
    figure = new_figure(3, 3)
    axes = figure.add_subplot()
    for name in METHODS:
        axes.plot([0, 1], [0, 1], label=f"a rather long name of {name}")
    legend_below(figure)
    assert len(figure.legends) == 1
    assert figure.legends[0]._ncols == 1
