"""Tune a prompt on half of the classes, and test it on the other half, which the prompt has never been tuned for.

    python examples/new_classes.py

A readout applies only to the classes that it was fitted to, so the prompt is tuned without one.
"""

from pathlib import Path

import zip_ray


def base_to_new(task: str, folder: Path, **options: object) -> dict[str, dict[str, float]]:
    """Test accuracies by name, on the base classes and on the new ones."""
    result = zip_ray.tune(task, task={"classes": "base"}, readout="none", output=folder, **options)
    return {half: zip_ray.evaluate(result, task={"classes": half}) for half in ("base", "new")}


if __name__ == "__main__":
    for half, accuracies in base_to_new("texture", Path("runs/new-classes"), queries=1000).items():
        print(half, "  ".join(f"{name}: {accuracy:.1%}" for name, accuracy in accuracies.items()))
