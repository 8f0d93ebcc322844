"""Running the parts of benchmarks/gpu.py: each in a separate process with a time limit; rows as they come."""

import json
import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.tables import table

Row = dict[str, str | float]
"""A row of a table, by column."""
Case = tuple[str, Callable[[], Iterable[Row]]]
"""The name of a group of measurements, and the function that makes them."""


@dataclass(frozen=True)
class Setting:
    """The device, and how much to measure."""

    device: str
    """cpu or cuda."""
    quick: bool
    """Small shapes."""

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"


class Part(NamedTuple):
    """A part of the program."""

    title: str
    seconds: float
    """Time limit in seconds."""
    cases: Callable[[Setting], Iterator[Case]]


class Outcome(NamedTuple):
    """A part's measurements."""

    rows: list[Row]
    errors: list[str]
    seconds: float


def run_part(name: str, part: Part, setting: Setting, folder: Path) -> Outcome:
    """Run a part in a fork of this process, which has all imports and has not touched the GPU.

    A part that crashes, or leaves the GPU in error, ends with its own process. What it had measured is kept.
    """
    file = folder / f"{name}.jsonl"
    file.write_text("")
    print(f"\n== {name}: {part.title}, at most {part.seconds:.0f} s", flush=True)
    start = time.perf_counter()
    process = multiprocessing.get_context("fork").Process(target=_measure, args=(part, setting, file))
    process.start()
    process.join(part.seconds)
    late = process.is_alive()
    if late:
        process.kill()
        process.join()
    seconds = time.perf_counter() - start
    lines = [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]
    errors = [line["error"] for line in lines if "error" in line]
    if late:
        errors.append(f"ended at its limit of {part.seconds:.0f} s")
    elif process.exitcode:
        errors.append(f"its process ended with {process.exitcode}")
    for error in errors[-1:] if late or process.exitcode else []:
        print(f"!! {error}", flush=True)
    return Outcome([line for line in lines if "error" not in line], errors, seconds)


def _measure(part: Part, setting: Setting, file: Path) -> None:
    """Run all cases of a part, one after another, writing to the file and to the screen."""
    with file.open("a") as out:

        def keep(row: Row) -> None:
            print("  " + "  ".join(f"{key} {shown(value)}" for key, value in row.items()), flush=True)
            out.write(json.dumps(row) + "\n")
            out.flush()

        for name, measure in part.cases(setting):
            try:
                for row in measure():
                    keep({"case": name, **row})
            except Exception as error:  # the next case may still succeed
                traceback.print_exc()
                keep({"error": f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"})


def shown(value: str | float) -> str:
    """Format a cell."""
    return value if isinstance(value, str) else f"{value:.4g}"


def markdown(title: str, found: Outcome) -> str:
    """The section of a part: a table for each set of columns, and its errors."""
    tables: dict[tuple[str, ...], list[Row]] = {}
    for row in found.rows:
        tables.setdefault(tuple(row), []).append(row)
    parts = [table(columns, [[shown(row[c]) for c in columns] for row in rows]) for columns, rows in tables.items()]
    errors = [f"- **not measured:** {error}" for error in found.errors]
    return "\n\n".join([f"## {title}", f"{found.seconds:.0f} s.", *parts, *(["\n".join(errors)] if errors else [])])
