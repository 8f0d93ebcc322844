"""Manifests; base and new classes, lazy images and roots of any source."""

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.painted import COLOURS, assert_images_are_of_their_class, load, paint
from zip_ray.config.reading import validate
from zip_ray.config.task import TaskConfig
from zip_ray.errors import InputError
from zip_ray.pool.in_process import InProcessPool
from zip_ray.runs.lifecycle import tune
from zip_ray.scorer.scorer import build_scorer
from zip_ray.tasks import ImageSet, load_task
from zip_ray.tasks.images import ArrayImages, LazyImages


def table(root: Path) -> list[dict[str, str]]:
    """Rows of three classes with 6 train, 2 val and 3 test images each; the labels have a gap."""
    rows = []
    for colour, label in (("blue", 7), ("red", 0), ("green", 2)):
        for split, count in (("train", 6), ("val", 2), ("test", 3)):
            for i in range(count):
                path = f"{colour}/{split}-{i}.png"
                paint(root / path, colour)
                rows.append({"path": path, "label": str(label), "classname": colour, "split": split})
    return rows


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8-sig") as file:  # as a spreadsheet saves it
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("\n".join(json.dumps({**row, "label": int(row["label"])}) for row in rows) + "\n\n")
    return path


@pytest.mark.parametrize("write", [write_csv, write_jsonl])
def test_manifest(tmp_path: Path, write: Callable[[Path, list[dict[str, str]]], Path]) -> None:
    suffix = "csv" if write is write_csv else "jsonl"
    task = load("manifest", write(tmp_path / f"images.{suffix}", table(tmp_path)), shots=4)
    assert task.classnames == ("red", "green", "blue"), "in the order of their labels"
    assert (len(task.train), len(task.val), len(task.test)) == (12, 6, 9)
    assert_images_are_of_their_class(task)
    assert all("train-" in path for path in task.train.paths)
    assert all("val-" in path for path in task.val.paths)


def test_rows_end_where_their_format_says(tmp_path: Path) -> None:
    """Not at every character that Python takes as the end of a line; and also after "\\r\\n"."""
    rows = [{**row, "classname": row["classname"] + "\u2028\x0cish"} for row in table(tmp_path)]
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({**row, "label": int(row["label"])}, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    named = load("manifest", path).classnames
    assert named == load("manifest", write_csv(tmp_path / "a.csv", rows)).classnames
    assert named[0].startswith("red")
    path.write_bytes("\r\n".join(lines).encode())
    assert load("manifest", path).classnames == named


def test_manifest_without_val_and_without_train(tmp_path: Path) -> None:
    rows = [row for row in table(tmp_path) if row["split"] != "val"]
    task = load("manifest", write_csv(tmp_path / "a.csv", rows), shots=3)
    assert (len(task.train), len(task.val)) == (9, 9)
    assert not set(task.train.paths) & set(task.val.paths)
    only_test = [row for row in rows if row["split"] == "test"]
    assert len(load("manifest", write_csv(tmp_path / "b.csv", only_test)).train) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "../secret.png"}, r"a.csv: '../secret.png' leads out of '.*': copy the image into it"),
        ({"path": "/etc/hostname"}, r"a.csv: '/etc/hostname' leads out of"),
        ({"path": "blue/none.png"}, r"a.csv: 'blue/none.png' is not in '.*': add the image, or take it out"),
        ({"path": ""}, r"a.csv: '' is not in"),
        ({"label": "seven"}, r"a.csv:2: label: .* integer.*: correct the row"),
        ({"split": "training"}, r"a.csv:2: split: Input should be 'train', 'val' or 'test': correct the row"),
        ({"classname": "azure"}, r"label 7 is both 'azure' and 'blue': give a class one name"),
        ({"label": "9", "classname": "teal"}, r"class 'teal' of 'manifest' has no val images: add some or remove"),
    ],
)
def test_what_is_wrong_with_a_manifest_is_named(tmp_path: Path, change: dict[str, str], message: str) -> None:
    (tmp_path / "data").mkdir()
    paint(tmp_path / "secret.png", "red")
    rows = table(tmp_path / "data")
    path = write_csv(tmp_path / "data" / "a.csv", [{**rows[0], **change}, *rows[1:]])
    with pytest.raises(InputError, match=message) as caught:
        load("manifest", path)
    assert "\n" not in str(caught.value)


def test_a_manifest_that_is_none(tmp_path: Path) -> None:
    for name, text, message in (
        ("no.csv", None, "cannot be read"),
        ("a.csv", "file,class\nx,y\n", "a.csv:2: path: Field required"),
        (
            "long.csv",
            f"path,label,classname,split\n{'x' * 200_000}\n",
            "long.csv:2: row: field larger",
        ),
        ("a.jsonl", "{", "a.jsonl:1: row: Invalid JSON"),
        ("b.jsonl", "[1]", "b.jsonl:1: row: "),
        ("empty.csv", "path,label,classname,split\n", "0 classes and 0 test images: a task needs at least two classes"),
    ):
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=message):
            load("manifest", tmp_path / name)


def test_a_set_for_testing_only_is_not_tuned_on(tmp_path: Path) -> None:
    rows = [row for row in table(tmp_path) if row["split"] == "test"]
    task = {"name": "manifest", "root": str(write_csv(tmp_path / "a.csv", rows))}
    config = validate({"task": task, "output": {"dir": str(tmp_path / "run")}, "cluster": {"pool": "in-process"}}, "x")
    with pytest.raises(InputError, match="this data set is for testing only: tune on another, then"):
        tune(config, lambda config: InProcessPool(partial(build_scorer, config)), lambda: False)
    assert not (tmp_path / "run").exists()


@settings(max_examples=10)
@given(shots=st.integers(1, 8), seed=st.integers(0, 2**40))
def test_base_and_new_are_all_of_all(shots: int, seed: int) -> None:
    tasks = {c: load_task(TaskConfig(shots=shots, classes=c), seed) for c in ("all", "base", "new")}
    assert tasks["base"].classnames + tasks["new"].classnames == tasks["all"].classnames
    for part in ("train", "val", "test"):
        whole, base, new = (getattr(tasks[c], part) for c in ("all", "base", "new"))
        assert sorted(set(new.labels)) == sorted(set(base.labels)) == list(range(5)), "labels from 0"
        low = whole.labels < 5
        np.testing.assert_array_equal(base.pixels, whole.pixels[low])
        np.testing.assert_array_equal(new.pixels, whole.pixels[~low])
        np.testing.assert_array_equal(new.labels, whole.labels[~low] - 5)


@pytest.mark.parametrize(("count", "base"), [(2, 1), (3, 2)])
def test_base_is_rounded_up(tmp_path: Path, count: int, base: int) -> None:
    rows = [row for row in table(tmp_path) if row["classname"] in list(COLOURS)[:count]]
    path = write_csv(tmp_path / "a.csv", rows)
    names = {c: load("manifest", path, classes=c).classnames for c in ("base", "new")}
    assert names == {"base": tuple(COLOURS)[:base], "new": tuple(COLOURS)[base:count]}
    assert_images_are_of_their_class(load("manifest", path, classes="new"))


def test_lazy_images_are_those_that_they_stand_for() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 4, 3, 3), dtype=np.uint8)
    held = ArrayImages(pixels, np.arange(5))
    lazy = LazyImages(held.image, np.arange(5), np.arange(5))
    for images in (held.subset([3, 1]).labelled(np.array([0, 1])), lazy.subset([3, 1]).labelled(np.array([0, 1]))):
        assert [np.asarray(images.image(i)).tolist() for i in range(2)] == [pixels[3].tolist(), pixels[1].tolist()]
        assert images.labels.tolist() == [0, 1]
    digests: list[str] = [images.digest() for images in _orders(lazy)]
    assert len(set(digests)) == len(digests)
    assert lazy.labelled(np.zeros(5, dtype=np.int64)).digest() == lazy.digest(), "labels are not part of it"


def _orders(images: ImageSet) -> list[ImageSet]:
    return [images, images.subset([0, 1]), images.subset([1, 0]), images.subset([])]


@pytest.mark.parametrize("name", ["coop:dtd", "manifest", "torchvision:MNIST", "webdataset", "folder"])
def test_a_source_needs_its_root(name: str) -> None:
    with pytest.raises(
        InputError, match=r"x: task: root goes with name 'folder', 'manifest', 'coop', .*, which need it"
    ):
        validate({"task": {"name": name}}, "x")
    assert validate({"task": {"name": name, "root": "data"}}, "x").task.root == Path("data")
    assert validate({"task": {"name": "huggingface:a/b"}}, "x").task.root is None


HEAD = ("path", "label", "classname", "split")


@pytest.mark.parametrize("change", ["backslashes", "semicolons", "tabs", "blanks", "capitals"])
def test_tables_as_other_programs_write_them(tmp_path: Path, change: str) -> None:
    rows = [[row[name] for name in HEAD] for row in table(tmp_path)]
    head = [name.capitalize() if change == "capitals" else name for name in HEAD]
    if change == "backslashes":
        rows = [[path.replace("/", "\\"), *rest] for path, *rest in rows]
    separator = {"semicolons": ";", "tabs": "\t", "blanks": " , ", "capitals": ", "}.get(change, ",")
    file = tmp_path / "images.csv"
    file.write_text("\n".join(separator.join(row) for row in [head, *rows]))
    task = load("manifest", file, shots=4)
    assert (task.classnames, len(task.test)) == (("red", "green", "blue"), 9)
    assert_images_are_of_their_class(task)
