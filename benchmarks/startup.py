"""How long the quickstart takes from pressing return to its first query, by stage.

`python benchmarks/startup.py --help`
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import MEASUREMENTS, ROOT, BenchmarkOptions, machine, table

WANTED_SECONDS = 10.0
"""To the first query on two cores: half of what it was."""
STAGES = (
    *("command's imports", "Ray's imports", "Ray", "actors' processes", "actors' imports", "weights", "features"),
    *("first query", "zero-shot", "first step"),
)
"""In the order in which they are over; of several actors, in the last."""
RUNS = 3


@dataclass(frozen=True)
class Options(BenchmarkOptions):
    """Seconds from pressing return to the first query of the quickstart, wanted: at most 10 on two cores."""

    against: Path | None = None
    """Folder of another version of zip-ray, a git worktree say, to be measured beside this one."""


def measure(tree: Path, actors: int) -> dict[str, float]:
    """Seconds from the start of the process to the end of each stage.

    Args:
        tree: folder of the version of zip-ray.
        actors: of the run.
    """
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder, "notes")
        command = [sys.executable, str(ROOT / "benchmarks" / "startup_stages.py"), str(notes), str(actors)]
        start = time.time()
        subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(tree)}, check=True)
        ends = [line.split(" ", 1) for line in notes.read_text().splitlines()]
    return {stage: max(float(end) for end, of_stage in ends if of_stage == stage) - start for stage in STAGES}


def revision(tree: Path) -> str:
    """The commit of a version of zip-ray."""
    command = ["git", "-C", str(tree), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main(options: Options) -> int:
    """Measure, and print the table; the exit code."""
    trees = (
        {"now": ROOT} if options.against is None else {f"at {revision(options.against)}": options.against, "now": ROOT}
    )
    runs, actors = (1, 1) if options.quick else (RUNS, 2)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
    for repeat in range(runs if options.quick else runs + 1):  # the first warms the file cache
        for name, tree in trees.items():
            measured = measure(tree, actors)
            if repeat or options.quick:
                found[name].append(measured)
    ends = {
        name: [statistics.median(run[stage] for run in of_tree) for stage in STAGES] for name, of_tree in found.items()
    }
    columns = {name: [end - begin for begin, end in pairwise([0.0, *of_tree])] for name, of_tree in ends.items()}
    rows = [[stage, *(f"{column[k]:.1f}" for column in columns.values())] for k, stage in enumerate(STAGES)]
    rows.append(["all", *(f"{of_tree[-1]:.1f}" for of_tree in ends.values())])
    text = table(["stage, seconds", *trees], rows)
    head = f"The quickstart from pressing return to its first step, {actors} actors on {machine()}; median of {runs}"
    print(f"{head}\n\n{text}\n")
    if options.write:
        title = "# How long a run takes to start\n\nMade by `python benchmarks/startup.py --against FOLDER --write`."
        (MEASUREMENTS / "startup.md").write_text(f"{title}\n\n{head}\n\n{text}\n")
    seconds = ends["now"][STAGES.index("first query")]
    print(f"first query after {seconds:.1f} s (wanted at most {WANTED_SECONDS:g})")
    return int(options.check and seconds > WANTED_SECONDS)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
