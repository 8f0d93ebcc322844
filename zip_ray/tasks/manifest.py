"""`manifest`: a table of images, as CSV or JSON lines, with the columns path, label, classname, split."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from zip_ray.errors import InputError
from zip_ray.protocol.facts import PHOTO
from zip_ray.tasks.source import Item, Lists, Source, listed
from zip_ray.tasks.splits import located


class Row(BaseModel):
    """An image of the table."""

    model_config = ConfigDict(frozen=True)

    path: str
    """Below the table's folder."""
    label: int
    """Its class; classes are in the order of their labels."""
    classname: str
    split: Literal["train", "val", "test"]


def manifest(path: Path) -> Source:
    """The images of a table. Without rows of `val`, validation images are drawn from `train` too.

    Raises:
        InputError: no such table, an invalid row, or an image that is missing or outside of the table's folder.
    """
    rows = list(_rows(path))

    def part(name: str) -> list[Item]:
        return [(_slashed(row.path, path.parent), row.label, row.classname) for row in rows if row.split == name]

    lists = located(Lists(part("train"), part("val"), part("test")), path.parent, str(path))
    return listed(lists, (PHOTO,), str(path))


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
