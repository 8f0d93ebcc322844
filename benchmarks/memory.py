"""Memory of 1, 2 and 4 actors, with their own weights and with shared ones, and the size of the feature store:
`python benchmarks/memory.py --help`."""

import itertools
import json
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import open_clip
import psutil
import torch
import tyro
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import MEASUREMENTS, BenchmarkOptions, machine, table
from zip_ray.actors.ray_pool import RayPool
from zip_ray.clip.feature_cache import FeatureCache
from zip_ray.clip.image_features import train_features
from zip_ray.clip.loading import load_clip
from zip_ray.config.model import ModelConfig
from zip_ray.config.reading import validate
from zip_ray.config.task import TaskConfig
from zip_ray.config.tree import Config
from zip_ray.prompts import make_space
from zip_ray.protocol.messages import Pair, Pass, Perturbation, Priority, new_work
from zip_ray.scorer.scorer import build_scorer
from zip_ray.tasks import load_task

LIMITS = """Proportional memory counts a page that several processes map in shares. What limits the gain: an actor has
more than weights (torch, Ray, the images, the numbers of a pass)."""
STORE = """The feature store has one file for each set of images, views and weights. Features are float32, whatever the
precision of the model; actors that find the file map it, so that a machine holds it once."""
WANTED_SHARE = 0.75
"""Memory of four actors with shared weights over that with their own; ViT-B-32."""


VIEWS = (0, 4)
"""Views in the feature store; 0 = the image as at test time."""
SHOTS = 2
"""Training images per class that it is measured with: 20 digits."""


@dataclass(frozen=True)
class Options(BenchmarkOptions):
    """Proportional (PSS), resident and peak memory of actors; wanted: four with shared weights at most 0.75 of own."""

    model: str = "ViT-B-32"
    """Model of open_clip, randomly initialised."""
    actors: tuple[int, ...] = (1, 2, 4)
    """Numbers of actors."""


def checkpoint(name: str, folder: Path) -> str:
    """A folder that open_clip loads, with random weights in half precision, as they are often shipped."""
    torch.manual_seed(0)
    model = open_clip.create_model(name)
    config = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


def configure(model: str, actors: int, shared: bool) -> Config:
    """A run on the digits."""
    return validate(
        {
            "model": {"name": model},
            "prompt": {"init": "template"},
            "cluster": {"actors": actors},
            "execution": {"cache": shared},
        },
        "benchmark",
    )


def measure(config: Config) -> list[float]:
    """MiB of all actors together after each has done a pair: proportional, resident, highest resident of one."""
    pool = RayPool(partial(build_scorer, config), config.cluster)
    try:
        pids = work(pool, config)
        details = [psutil.Process(pid).memory_full_info() for pid in pids]
        peaks = [peak_kibibytes(pid) / 1024 for pid in pids]
        return [sum(d.pss for d in details) / 2**20, sum(d.rss for d in details) / 2**20, max(peaks)]
    finally:
        pool.close()


def work(pool: RayPool, config: Config) -> list[int]:
    """Rounds of a few pairs per actor until every actor is ready, then one more; their process ids."""
    space = make_space(config.prompt, pool.facts().shape, config.seed)
    actors = config.cluster.most or 1
    each = 4 * actors
    for k in itertools.count():
        all_ready = len(pool.pids()) == actors
        pairs = [
            Pair(
                index=index,
                step=1,
                version=0,
                w=space.initial(),
                batch=1,
                scale=0.01,
                perturbation=Perturbation("random-sign", 1, 1, index),
            )
            for index in range(k * each, (k + 1) * each)
        ]
        pool.submit([new_work(Pass((pair,)), Priority.QUERY) for pair in pairs])
        done = 0
        while done < each:
            done += len(pool.collect(0.5))
        if all_ready:
            break
    return pool.pids()


def peak_kibibytes(pid: int) -> int:
    """Highest resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def feature_store(model: str) -> list[list[str]]:
    """A row for each number of views: what the store keeps of the training images, and the bytes of an image's view."""
    clip, rows = load_clip(ModelConfig(name=model), "cpu"), []
    for views in VIEWS:
        task = TaskConfig(shots=SHOTS, views=views)
        with tempfile.TemporaryDirectory() as folder:
            features = train_features(clip, load_task(task, 1).train, task, 1, FeatureCache(Path(folder), {}))
            (file,) = Path(folder).iterdir()
            size = file.stat().st_size
        crops, images, embed = features.shape
        shape = [str(n) for n in (views, images, embed, size)]
        rows.append([*shape, f"{features.nbytes // (crops * images)}", f"{size - features.nbytes}"])
    return rows


def main(options: Options) -> int:
    """Measure; exit code."""
    name, counts = ("small", options.actors[:1]) if options.quick else (options.model, options.actors)
    rows, pss = [], {}
    with tempfile.TemporaryDirectory() as folder:
        model = ModelConfig().name if options.quick else checkpoint(name, Path(folder))
        for actors in counts:
            for shared in (False, True):
                pss[actors, shared], resident, peak = measure(configure(model, actors, shared))
                label = "shared" if shared else "own"
                rows.append([str(actors), label, *(f"{x:.0f}" for x in (pss[actors, shared], resident, peak))])
        stored = feature_store(model)
    text = table(["actors", "weights", "proportional, all", "resident, all", "peak of one"], rows)
    head = f"MiB, model {name}, {machine()}"
    store = table(
        ["views", "images", "numbers per view", "bytes of the file", "bytes per view", "bytes besides"], stored
    )
    text = f"{head}\n\n{text}\n\n{LIMITS}\n\n{STORE}\n\n{store}"
    print(f"{text}\n")
    if options.write:
        title = "# Memory of actors\n\nMade by `python benchmarks/memory.py --write`."
        (MEASUREMENTS / "memory.md").write_text(f"{title}\n\n{text}\n")
    share = pss[counts[-1], True] / pss[counts[-1], False]
    print(f"{counts[-1]} actors with shared weights: {share:.2f} of their own copies (wanted {WANTED_SHARE})")
    return int(options.check and share > WANTED_SHARE)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
