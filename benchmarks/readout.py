"""What the fit of a readout takes in the driver, by the number of classes: seconds, memory, and what it gains.

`python benchmarks/readout.py --help`
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import MEASUREMENTS, BenchmarkOptions, machine, parallel, peak_mebibytes, table
from zip_ray.config.threads import one_blas_thread
from zip_ray.protocol.arrays import Float32, Int64
from zip_ray.protocol.readout import apply
from zip_ray.readout.fitting import fit_readout

WANTED_SECONDS, WANTED_MEBIBYTES = 60, 1024
EMBED = 512
SHOTS = 16
PROMPTS = {10: 12, 100: 8, 1000: 2}
TESTED = 2000
"""Images that the gain is measured on."""


@dataclass(frozen=True)
class Options(BenchmarkOptions):
    """Fit of a readout, 16 images per class, one core; wanted with 1,000 classes: 60 s, 1 GiB beside the scores."""

    classes: tuple[int, ...] = (10, 100, 1000)
    """Numbers of classes."""


@dataclass(frozen=True)
class Measured:
    """One fit."""

    seconds: float
    processor: float
    """Seconds of one core: what the fit takes where nothing else runs."""
    mebibytes: float
    """Peak of the process, less what it was before the fit."""
    before: float
    """Accuracy of the prompt alone, on other images."""
    after: float


def draw(classes: int, prompts: int) -> tuple[list[Float32], list[Float32], Int64, Int64]:
    """CLIP-like scores of training images and of other images at each prompt, with labels.
    Features have unit length around a direction for each class, which each prompt's text features partly contain."""
    rng = np.random.default_rng(classes)
    directions = rng.standard_normal((classes, EMBED), np.float32)
    bent = rng.standard_normal((EMBED, EMBED), np.float32) / np.float32(np.sqrt(EMBED))
    labels, others = np.repeat(np.arange(classes), SHOTS), rng.integers(0, classes, TESTED)

    def features(of: Int64) -> Float32:
        made = directions[of] + 3 * rng.standard_normal((len(of), EMBED), np.float32)
        return made / np.linalg.norm(made, axis=1, keepdims=True)

    texts = [
        0.4 * directions + directions @ bent + rng.standard_normal((classes, EMBED), np.float32) for _ in range(prompts)
    ]
    texts = [100 * text / np.linalg.norm(text, axis=1, keepdims=True) for text in texts]
    trained, tested = features(labels), features(others)
    return [trained @ text.T for text in texts], [tested @ text.T for text in texts], labels, others


def measure(classes: int) -> Measured:
    """Fit once, in a process of its own."""
    one_blas_thread()
    prompts = PROMPTS.get(classes, 3)
    scores, tested, labels, others = draw(classes, prompts)
    before, start, used = peak_mebibytes(), time.perf_counter(), time.process_time()
    found = fit_readout("auto", scores, labels, 1, [f"{k} {{}}." for k in range(1, prompts)])
    seconds, processor, grown = time.perf_counter() - start, time.process_time() - used, peak_mebibytes() - before
    made = apply(found.readout, tested[: 1 + len(found.readout.prompts)])
    plain, mended = (float((one.argmax(axis=1) == others).mean()) for one in (tested[0], made))
    return Measured(seconds, processor, grown, plain, mended)


def main(options: Options) -> int:
    """Measure; exit code."""
    sizes = (10, 20) if options.quick else options.classes
    found = [next(iter(parallel(measure, [classes], 1))) for classes in sizes]
    rows = [
        [
            f"{classes:,}",
            f"{classes * SHOTS:,}",
            str(PROMPTS.get(classes, 3)),
            f"{one.seconds:.1f}",
            f"{one.processor:.1f}",
            f"{one.mebibytes:.0f}",
            f"{100 * one.before:.1f}",
            f"{100 * one.after:.1f}",
        ]
        for classes, one in zip(sizes, found, strict=True)
    ]
    text = table(
        ["classes", "images", "prompts", "seconds", "processor s", "MiB", "prompt alone, %", "with readout, %"], rows
    )
    head = (
        f"`readout: auto` on drawn scores ({EMBED} dimensions), one BLAS thread, {machine()}; MiB: peak beyond what "
        f"the process had with the scores; accuracy on other images"
    )
    print(f"{head}\n\n{text}\n")
    if options.write:
        title = "# What a readout takes\n\nMade by `python benchmarks/readout.py --write`."
        (MEASUREMENTS / "readout.md").write_text(f"{title}\n\n{head}\n\n{text}\n")
    seconds, mebibytes = max(one.seconds for one in found), max(one.mebibytes for one in found)
    print(
        f"{seconds:.1f} s, {mebibytes:.0f} MiB with {max(sizes):,} classes "
        f"(wanted at most {WANTED_SECONDS} s, {WANTED_MEBIBYTES} MiB)"
    )
    return int(options.check and (seconds > WANTED_SECONDS or mebibytes > WANTED_MEBIBYTES))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
