"""What `evaluate` derives from class scores: confusions, top-k, tables and a picture."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from zip_ray.artifact.evaluation_files import write_test
from zip_ray.artifact.prediction_rows import ranked, write_rows
from zip_ray.artifact.scored_test import ScoredTest
from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE, READ_OUT, TUNED
from zip_ray.cli.printing import show_test

NAMES = ("cat", "$dog_", "a, b", "d", "e", "f")
LABELS = np.array([0, 0, 1, 2, 2], dtype=np.int64)
CHOSEN = [0, 1, 1, 5, 2]


@pytest.fixture
def scored() -> ScoredTest:
    """Five images; the readout, which classifies, gets three of them right."""
    scores = np.tile(np.linspace(0.5, 0, len(NAMES), dtype=np.float32), (5, 1))
    scores[np.arange(5), CHOSEN] = 2.0
    alone = np.eye(len(NAMES), dtype=np.float32)[[0, 0, 0, 0, 0]]
    made = {PLAIN_TEMPLATE: alone, TUNED: alone, READ_OUT: scores}
    return ScoredTest(NAMES, LABELS, ("x/1.png", "x/2.png", "y/1.png", "z/1.png", "z/2.png"), made)


def test_confusions_and_top_k(scored: ScoredTest) -> None:
    assert scored.accuracies == {PLAIN_TEMPLATE: 0.4, TUNED: 0.4, READ_OUT: 0.6}
    expected = np.zeros((6, 6), dtype=int)
    for label, chosen in zip(LABELS, CHOSEN, strict=True):
        expected[label, chosen] += 1
    np.testing.assert_array_equal(scored.confusion, expected)
    assert [scored.top(count) for count in (1, 2, 3, 4, 6)] == [0.6, 0.8, 0.8, 1.0, 1.0]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_files(scored: ScoredTest, tmp_path: Path, form: str) -> None:
    paths = write_test(scored, tmp_path / "new" / "folder", form)
    assert [path.name for path in paths] == [f"predictions.{form}", "classes.csv", "confusion.csv", "confusion.png"]

    def table(path: Path) -> list[dict[str, str]]:
        return [*csv.DictReader(io.StringIO(path.read_text()))]

    text = paths[0].read_text()
    rows = table(paths[0]) if form == "csv" else [json.loads(line) for line in text.splitlines()]
    assert [row["image"] for row in rows] == [*scored.images]
    assert [row["label"] for row in rows] == [NAMES[label] for label in LABELS]
    assert [row["classname"] for row in rows] == [NAMES[chosen] for chosen in CHOSEN]
    odds = np.exp(scored.deployed.astype(float))
    assert float(rows[0]["probability"]) == pytest.approx((odds.max(axis=1) / odds.sum(axis=1))[0], abs=1e-4)
    assert "classname_5" in rows[0]
    assert "classname_6" not in rows[0]
    classes = table(paths[1])
    assert [(row["classname"], row["images"], row["accuracy"]) for row in classes[:4]] == [
        *[("cat", "2", "0.5"), ("$dog_", "1", "1.0"), ("a, b", "2", "0.5"), ("d", "0", "0.0")]
    ]
    confusion = table(paths[2])
    assert [[int(row[name]) for name in NAMES] for row in confusion] == scored.confusion.tolist()
    with Image.open(paths[3]) as picture:
        assert min(picture.size) > 300


def test_shown(scored: ScoredTest) -> None:
    console = Console(file=io.StringIO(), width=200)
    show_test(console, scored)
    shown = console.file.getvalue()
    assert "5 test images, 6 classes: chance 16.7%" in shown
    assert "top-5 accuracy  80.0%" not in shown
    assert "top-5 accuracy  100.0%" in shown
    assert "$dog_ (1)" in shown


def test_rows_have_one_header_and_any_name() -> None:
    file = io.StringIO()
    rows = [
        {"path": "a,b.png", **ranked({"x": 0.25, 'y "z"': 0.75}, 5)},
        {"path": "c", **ranked({"x": 1.0, "y": 0}, 2)},
    ]
    assert write_rows(file, rows, "csv") == 2
    assert [*csv.reader(io.StringIO(file.getvalue()))] == [
        ["path", "classname", "probability", "classname_2", "probability_2"],
        ["a,b.png", 'y "z"', "0.75", "x", "0.25"],
        ["c", "x", "1.0", "y", "0"],
    ]
    assert write_rows(io.StringIO(), [], "csv") == 0
