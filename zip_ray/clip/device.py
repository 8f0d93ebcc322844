"""Where a scorer computes."""

import platform
from pathlib import Path

import torch

from zip_ray.config.tree import Config


def choose_device(config: Config) -> str:
    """`auto` is cuda for a scorer to which a GPU is assigned, or that has the machine to itself.

    If `gpus_per_actor` is left to the cluster, any GPU visible to an actor is assigned to it.
    """
    asked = str(getattr(config.model, "device", "auto"))
    if asked != "auto":
        return asked
    entitled = config.cluster.gpus_per_actor != 0 or config.cluster.pool == "in-process"
    return "cuda" if entitled and torch.cuda.is_available() else "cpu"


def describe(device: torch.device) -> str:
    """The device with its processor's model, for comparing times."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return f"{device} ({name})"


def processor() -> str:
    """Model of the CPU; on Linux, Python itself reports only the architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
