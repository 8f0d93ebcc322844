"""`manifest`: a table of images, as CSV or JSON lines.

Columns path, label, classname, split; or path, split, question, answer and maybe options: an image's own question.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from zip_ray.errors import InputError
from zip_ray.protocol.facts import PHOTO
from zip_ray.tasks.asked_images import Asked, QuestionImages
from zip_ray.tasks.images import FileImages
from zip_ray.tasks.paths import locate
from zip_ray.tasks.source import Item, Lists, Source, listed
from zip_ray.tasks.splits import located

BETWEEN = "|"
"""Separates the options of a cell."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Row(BaseModel):
    """An image of the table."""

    model_config = ConfigDict(frozen=True)

    path: str
    """Below the table's folder."""
    split: Literal["train", "val", "test"]
    label: int | None = None
    """Its class; classes are in the order of their labels."""
    classname: str | None = None
    question: str | None = None
    """Of its own, in place of a class."""
    answer: str | None = None
    """The right one."""
    options: tuple[str, ...] = ()
    """Candidate answers of its own; none: all answers of the table."""

    @field_validator("options", mode="before")
    @classmethod
    def _of_a_cell(cls, given: Any) -> Any:
        return [one for one in given.split(BETWEEN) if one.strip()] if isinstance(given, str) else given

    @model_validator(mode="after")
    def _whole(self) -> "Row":
        if not self.question:
            if self.label is None or self.classname is None:
                raise ValueError("give label and classname, or question and answer")
        elif not self.answer:
            raise ValueError("a question needs its answer")
        elif self.options and self.answer not in self.options:
            raise ValueError(f"the answer '{self.answer}' is not among the options")
        elif len({*self.options}) < len(self.options) or len(self.options) > len(LETTERS):
            raise ValueError(f"give up to {len(LETTERS)} different options")
        return self


def manifest(path: Path) -> Source:
    """The images of a table. Without rows of `val`, validation images are drawn from `train` too.

    Raises:
        InputError: no such table, an invalid row, or an image that is missing or outside of the table's folder.
    """
    rows = list(_rows(path))
    if any(row.question for row in rows):
        return _with_questions(rows, path)

    def part(name: str) -> list[Item]:
        return [
            (_slashed(row.path, path.parent), row.label or 0, row.classname or "") for row in rows if row.split == name
        ]

    lists = located(Lists(part("train"), part("val"), part("test")), path.parent, str(path))
    return listed(lists, (PHOTO,), str(path))


def _with_questions(rows: Sequence[Row], path: Path) -> Source:
    """Images with questions: classes are the places of the options (A, B, ...), or all answers of the table.

    Raises:
        InputError: rows of several kinds, no test images, or an image that is missing.
    """
    chosen = any(row.options for row in rows)
    if not all(row.question and bool(row.options) == chosen for row in rows):
        raise InputError(f"{path}: some rows have a question or options and others none: give all or no row either")
    if chosen:
        names = tuple(LETTERS[: max(len(row.options) for row in rows)])
    else:
        names = tuple(sorted({str(row.answer) for row in rows}))
    if len(names) < 2 or not any(row.split == "test" for row in rows):
        raise InputError(f"{path}: {len(names)} different answers: give at least two, and one row of split test")

    def part(name: str) -> QuestionImages | None:
        own = [row for row in rows if row.split == name]
        answers = [(row.options or names).index(str(row.answer)) for row in own]
        files = tuple(locate(path.parent, (_slashed(row.path, path.parent) for row in own), str(path)))
        asked = tuple(Asked(str(row.question), row.options) for row in own)
        return QuestionImages(FileImages(files, np.array(answers, dtype=np.int64)), asked) if own else None

    test = part("test")
    assert test is not None
    return Source(names, (PHOTO,), test, part("train"), part("val"))


def _rows(path: Path) -> Iterator[Row]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"task.root: '{path}' cannot be read ({error}): give a .csv or .jsonl file") from error
    for number, entry in _entries(text, path):
        try:
            yield Row.model_validate(entry) if isinstance(entry, dict) else Row.model_validate_json(entry)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in fault["loc"]) or "row"
            raise InputError(f"{path}:{number}: {where}: {fault['msg']}: correct the row") from error


def _slashed(name: str, folder: Path) -> str:
    """A path of Windows with slashes, unless a file here is really called so."""
    return name if (folder / name).exists() else name.replace("\\", "/")


def _entries(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Rows with the numbers of their lines."""
    if path.suffix.lower() != ".csv":
        yield from ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
        return
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        for row in reader:
            named = {key.strip().lower(): value for key, value in row.items() if key is not None and value is not None}
            yield reader.line_num, {key: value.strip() for key, value in named.items()}
    except csv.Error as error:  # such as a quotation mark that is never closed
        raise InputError(f"{path}:{reader.line_num + 1}: row: {error}: correct the row") from error
