"""Field names of earlier versions, and their current names."""

from collections.abc import Iterable

from zip_ray.errors import InputError

NEW_NAMES = {
    "optimizer.a": "optimizer.step_size",
    "optimizer.c": "optimizer.perturbation_scale",
    "optimizer.alpha": "optimizer.step_size_decay",
    "optimizer.gamma": "optimizer.perturbation_decay",
    "optimizer.offset": "optimizer.step_size_offset",
    "optimizer.clip": "optimizer.clip_norm",
    "optimizer.beta": "optimizer.distance",
    "optimizer.sigma": "optimizer.initial_std (cma-es) or optimizer.step_std (random-search)",
    "optimizer.schedule_steps": "optimizer.schedule_epochs, in epochs",
    "optimizer.mode": "execution.mode",
    "optimizer.in_flight": "execution.in_flight",
    "optimizer.max_staleness": "execution.max_staleness",
    "model.parallel": "execution.split",
    "model.pairs_per_pass": "execution.pairs_per_pass",
    "cluster.threads_per_actor": "execution.threads",
    "cluster.cache": "execution.cache",
    "prompt.intrinsic_dim": "prompt.intrinsic_dimension",
    "prompt.shared": "prompt.shared_feature",
}
"""The current name of a field, by its old one."""


def refuse_old_names(paths: Iterable[str], source: str = "") -> None:
    """Refuse a field that has been renamed.

    Raises:
        InputError: names the new one.
    """
    for path in paths:
        if (new := NEW_NAMES.get(path)) is not None:
            raise InputError(f"{source}: {path}: this is now {new}" if source else f"{path}: this is now {new}")
