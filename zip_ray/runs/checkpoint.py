"""Checkpoints: one file with the whole state of a run between two steps, written whole or not at all."""

import hashlib
import json
import logging
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from zip_ray.errors import InputError
from zip_ray.files import write_whole
from zip_ray.optimizers import OptimizerState
from zip_ray.protocol.arrays import Float64
from zip_ray.tuning.ledger import Account
from zip_ray.tuning.state import Best, RunState
from zip_ray.tuning.trend import Trend

FILE_NAME = "checkpoint.safetensors"
SCHEMA_VERSION = 4
MEMORY = "memory."
"""Prefix of the tensors in the method's memory."""
_log = logging.getLogger(__name__)


def save_checkpoint(path: Path, state: RunState) -> None:
    """Write a checkpoint atomically: tensors, and the rest as JSON in the header, with a digest of both.

    Raises:
        OSError: it cannot be written; the previous checkpoint is untouched.
    """
    optimizer, best = state.optimizer, state.best
    tensors = {"w": optimizer.w, **{MEMORY + name: tensor for name, tensor in optimizer.memory.items()}}
    if best is not None:
        tensors["best_w"] = best.w
    facts: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "steps": optimizer.steps,
        "nonfinite_streak": optimizer.nonfinite_streak,
        "asked": state.asked,
        "account": asdict(state.account),
        "seconds": state.seconds,
        "nonfinite_results": state.nonfinite_results,
        "dropped_results": state.dropped_results,
        "validated_step": state.validated_step,
        "accuracy": None if np.isnan(state.accuracy) else state.accuracy,
        "best": None if best is None else {"accuracy": best.accuracy, "loss": best.loss, "step": best.step},
        "trend": asdict(state.trend),
    }
    facts["digest"] = _digest(facts, tensors)
    write_whole(path, save(tensors, metadata={"zip_ray": json.dumps(facts)}))


def load_checkpoint(path: Path) -> RunState:
    """Read a checkpoint.

    Raises:
        InputError: it is missing, damaged, or of a schema that this version does not read.
    """
    if not path.is_file():
        raise InputError(f"{path}: no checkpoint: give the folder of a run that `zip-ray tune` made")
    try:
        with safe_open(path, framework="numpy") as file:
            facts: dict[str, Any] = json.loads((file.metadata() or {})["zip_ray"])
            tensors: dict[str, Float64] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if facts["schema_version"] != SCHEMA_VERSION:
            raise InputError(
                f"{path}: checkpoint of schema {facts['schema_version']}, this version reads {SCHEMA_VERSION}: "
                "resume with the version that wrote it"
            )
        if facts.pop("digest") != _digest(facts, tensors):
            raise ValueError("its numbers do not match its digest")
        return _state(facts, tensors)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: damaged checkpoint ({reason}): start a new run, or restore the file") from error


def _state(facts: dict[str, Any], tensors: dict[str, Float64]) -> RunState:
    best = facts["best"]
    return RunState(
        optimizer=OptimizerState(
            w=tensors["w"],
            steps=facts["steps"],
            nonfinite_streak=facts["nonfinite_streak"],
            memory={name.removeprefix(MEMORY): t for name, t in tensors.items() if name.startswith(MEMORY)},
        ),
        asked=facts["asked"],
        account=Account(**facts["account"]),
        seconds=facts["seconds"],
        nonfinite_results=facts["nonfinite_results"],
        dropped_results=facts["dropped_results"],
        validated_step=facts["validated_step"],
        accuracy=float("nan") if facts["accuracy"] is None else facts["accuracy"],
        best=None if best is None else Best(best["accuracy"], best["loss"], best["step"], tensors["best_w"]),
        trend=Trend(**facts.get("trend", {})),  # older checkpoints have none
    )


def _digest(facts: dict[str, Any], tensors: dict[str, Float64]) -> str:
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()


class CheckpointWriter:
    """Writes checkpoints in a thread, so that no step waits for the disk; if several wait, only the newest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: RunState | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    def write(self, state: RunState) -> None:
        """Write a checkpoint soon. When the first of a row fails, a warning is logged, and the run continues."""
        with self._changed:
            self._waiting = state
            self._changed.notify()

    def close(self) -> None:
        """Wait until the last one is on disk, or has failed."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        failed = False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None or self._closed)
                state, self._waiting = self._waiting, None
            if state is None:
                return
            try:
                save_checkpoint(self._path, state)
                failed = False
            except OSError as error:
                if not failed:  # not once per checkpoint: a full disk stays full for hundreds
                    _log.warning("checkpoint %s not written: %s; the previous one is kept", self._path, error)
                failed = True
