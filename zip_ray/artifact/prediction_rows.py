"""Predictions as a table: CSV with a header, or JSON lines."""

import csv
import json
from collections.abc import Iterable, Mapping
from typing import Literal, TextIO

RowFormat = Literal["csv", "jsonl"]
Row = Mapping[str, str | float]


def ranked(probabilities: Mapping[str, float], count: int) -> dict[str, str | float]:
    """The most probable classes as columns: classname, probability, classname_2, probability_2, ...

    Args:
        probabilities: by class name.
        count: how many classes; all where there are fewer.
    """
    best = sorted(probabilities.items(), key=lambda one: -one[1])[:count]
    row: dict[str, str | float] = {}
    for place, (name, probability) in enumerate(best, 1):
        ending = "" if place == 1 else f"_{place}"
        row |= {f"classname{ending}": name, f"probability{ending}": round(probability, 4)}
    return row


def write_rows(file: TextIO, rows: Iterable[Row], form: RowFormat) -> int:
    """Write rows with the same columns as they come; returns their number."""
    count, table = 0, csv.writer(file, lineterminator="\n")
    for count, row in enumerate(rows, 1):
        if form == "jsonl":
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            continue
        if count == 1:
            table.writerow(row)
        table.writerow(row.values())
    return count
