"""Where prefixes are kept: on the device while they fit, then in host memory, then in files that are memory-mapped."""

import os
import tempfile
from collections.abc import Callable, Hashable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from zip_ray.vlm.prefixes import Prefix


class PrefixStore:
    """Prefixes by image; each is computed once, if it can be kept. The bits are the same wherever one is kept."""

    def __init__(
        self, device: torch.device, host_bytes: int, device_bytes: int = 0, folder: Path | None = None
    ) -> None:
        """Nothing is kept yet.

        Args:
            device: of the model.
            host_bytes: of memory for prefixes.
            device_bytes: of the GPUs' memory for prefixes, which is used first.
            folder: for files where neither suffices; None to compute again what does not fit.
        """
        self._folder = folder
        self._devices: tuple[torch.device, ...] = ()
        """Of the layers, as the model makes their keys and values: those of a spread model differ."""
        self._left = {"device": device_bytes if device.type != "cpu" else 0, "host": host_bytes}
        self.room = sum(self._left.values())
        """Bytes of memory for prefixes."""
        self._kept: dict[Hashable, Prefix] = {}
        self._files: dict[Hashable, tuple[Path, int]] = {}
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    @property
    def places(self) -> dict[str, int]:
        """How many prefixes are kept in memory, and how many in files."""
        return {"memory": len(self._kept), "disk": len(self._files)}

    def get(self, key: Hashable, compute: Callable[[], Prefix], lasting: bool = True) -> Prefix:
        """A prefix, each layer on the device where `compute` makes it.

        Args:
            key: of the image.
            compute: makes the prefix.
            lasting: whether it is worth a file.
        """
        if key in self._kept:
            return self._moved(self._kept[key], self._devices)
        if key in self._files:
            return self._read(*self._files[key])
        made = compute()
        self._devices = made.devices
        self._keep(key, made, lasting)
        return made

    def _keep(self, key: Hashable, made: Prefix, lasting: bool) -> None:
        if made.size <= self._left["device"]:
            self._left["device"] -= made.size
            self._kept[key] = made
        elif made.size <= self._left["host"]:
            self._left["host"] -= made.size
            self._kept[key] = self._moved(made, (torch.device("cpu"),) * len(made.layers))
        elif lasting and self._folder is not None:
            self._files[key] = self._write(made, len(self._files)), made.next_position

    def _moved(self, prefix: Prefix, devices: tuple[torch.device, ...]) -> Prefix:
        """Each layer on its device; what goes to host memory from a GPU is pinned, so that it comes back fast."""

        def moved(one: torch.Tensor, device: torch.device) -> torch.Tensor:
            if device.type == "cpu" and one.is_cuda:
                return one.cpu().pin_memory()
            return one.to(device, non_blocking=True)

        placed = zip(prefix.layers, devices, strict=True)
        layers = tuple((moved(keys, device), moved(values, device)) for (keys, values), device in placed)
        return Prefix(layers, prefix.next_position)

    def _write(self, prefix: Prefix, number: int) -> Path:
        assert self._folder is not None
        if self._scratch is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._scratch = tempfile.TemporaryDirectory(prefix=f"prefixes-{os.getpid()}-", dir=self._folder)
        path = Path(self._scratch.name, f"{number}.safetensors")
        parts = {
            f"{kind}{place}": one.contiguous()
            for place, layer in enumerate(prefix.layers)
            for kind, one in zip("kv", layer, strict=True)
        }
        save_file(parts, path)
        return path

    def _read(self, path: Path, next_position: int) -> Prefix:
        parts = load_file(path)
        layers = tuple((parts[f"k{place}"], parts[f"v{place}"]) for place in range(len(parts) // 2))
        return self._moved(Prefix(layers, next_position), self._devices)
