"""All that is to be known on a GPU, in at most four minutes: `python benchmarks/gpu.py --out FOLDER`.

Needs Python 3.10 or later with torch (CUDA), timm (torchvision), transformers, accelerate, numpy, scipy, safetensors,
pillow and matplotlib, with what these bring (psutil, pyyaml, huggingface_hub, packaging, tqdm, regex, filelock, jinja2,
typing_extensions); and, carried along: open_clip_torch, ftfy, wcwidth, threadpoolctl, typing_inspection,
annotated_types, pydantic, and pydantic_core, which is compiled: take the wheel for that Python. Neither Ray nor MLflow.

    python benchmarks/gpu.py --out FOLDER                          all parts
    python benchmarks/gpu.py --out FOLDER --parts a c              some
    python benchmarks/gpu.py --out FOLDER --device cpu --quick     small shapes, on a CPU

Prints as it goes; gpu.json and gpu.md in the folder are written anew after each part.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # otherwise checking for a GPU would make it unusable in a fork

from benchmarks.on_gpu.running import Outcome, Part, Row, Setting, markdown, run_part

PARTS = ["a", "b", "c", "d", "e", "f"]
QUICK_SECONDS = 300.0
"""Limit of a part with --quick: a CPU that others use too may be slow."""
WANTED_TIMES, WANTED_PEAK, WANTED_BUSY = 30.0, 0.5, 0.9


def parts() -> dict[str, Part]:
    """The parts; importing them here, before any is run, costs the time only once."""
    from benchmarks.on_gpu import agreement, end_to_end, generative, precision, text_passes

    return {
        "a": Part("GPU against CPU, graphs against kernels", 40, agreement.cases),
        "b": Part("seconds per query", 80, text_passes.cases),
        "c": Part("precision", 15, precision.cases),
        "d": Part("whole runs", 35, end_to_end.cases),
        "e": Part("generative models", 45, generative.cases),
        "f": Part("torch.compile", 25, text_passes.compiler_cases),
    }


def judge(found: dict[str, Outcome]) -> list[str]:
    """The wanted figures beside the measured ones."""
    passes, runs = (found[name].rows if name in found else [] for name in ("b", "d"))
    said = []
    for count in (47, 100):
        times = _best(passes, f"ViT-B-16, {count} classes", "times faster")
        said.append(_judged(f"times faster with {count} classes", times, WANTED_TIMES, ".0f"))
    share = _best(passes, "ViT-B-16, 1000 classes", "of float32 peak")
    said.append(_judged("share of float32 peak with 1,000 classes", share, WANTED_PEAK, ".0%"))
    busy = _best(runs, "ViT-B-16, gauss-newton", "GPU busy")
    said.append(_judged("share of a run of gauss-newton in which the GPU is busy", busy, WANTED_BUSY, ".0%"))
    return said


def _judged(what: str, reached: float | None, wanted: float, form: str) -> str:
    return f"{what}: {'not measured' if reached is None else format(reached, form)} (wanted {wanted:{form}})"


def _best(rows: list[Row], case: str, column: str) -> float | None:
    """The highest of a column; None where nothing was measured."""
    return max((float(row[column]) for row in rows if row["case"] == case and column in row), default=None)


def write(folder: Path, setting: Setting, titles: dict[str, str], found: dict[str, Outcome]) -> None:
    """Write what is known so far, as JSON and as Markdown."""
    where = f"{platform.machine()}, Python {platform.python_version()}, {json.dumps(versions())}"
    said = judge(found)
    whole = {"device": setting.device, "quick": setting.quick, "machine": where, "wanted": said}
    whole["parts"] = {name: outcome._asdict() for name, outcome in found.items()}
    (folder / "gpu.json").write_text(json.dumps(whole, indent=1))
    sections = [markdown(f"{name}: {titles[name]}", outcome) for name, outcome in found.items()]
    head = "# On a GPU\n\nMade by `python benchmarks/gpu.py`; random weights where not the small CLIP's."
    wanted = "\n".join(f"- {line}" for line in said)
    (folder / "gpu.md").write_text("\n\n".join([head, where, wanted, *sections]) + "\n")


def versions() -> dict[str, str]:
    """Versions of the packages that matter; does not touch the GPU, which a fork could then not use."""
    import torch
    import transformers

    return {"torch": torch.__version__, "CUDA": str(torch.version.cuda), "transformers": transformers.__version__}


def main() -> int:
    """Measure; exit code 1 if a part has errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json and gpu.md")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="which, in this order")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--quick", action="store_true", help="small shapes")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    setting, began = Setting(given.device, given.quick), time.perf_counter()
    known, found = parts(), {}
    print(f"imports {time.perf_counter() - began:.0f} s", flush=True)
    for name in given.parts:
        part = known[name]._replace(seconds=QUICK_SECONDS) if given.quick else known[name]
        found[name] = run_part(name, part, setting, given.out)
        write(given.out, setting, {one: known[one].title for one in known}, found)
    print("\n" + "\n".join(judge(found)))
    print(f"{time.perf_counter() - began:.0f} s in all; {given.out / 'gpu.md'}")
    return int(any(outcome.errors for outcome in found.values()))


if __name__ == "__main__":
    sys.exit(main())
