"""A folder of images, from tuning to a classifier and to weights for other programs.

    python examples/own_images.py images

The folder has train/CLASS/ and test/CLASS/, or one folder per class.
"""

import sys
from pathlib import Path

import zip_ray


def tune_and_classify(images: Path, folder: Path, **options: object) -> list[str]:
    """Tune on the images, write the weights, and classify the images again; a line for each."""
    result = zip_ray.tune("folder", task={"root": images}, output=folder, **options)
    print(f"test accuracy {result.accuracy:.1%} after {result.queries} queries")
    result.prompt.export(folder / "classes.npz")
    classifier = result.prompt.classifier()
    return [f"{one.path}: {one.classname} ({one.probability:.0%})" for one in classifier(images)]


if __name__ == "__main__":
    print("\n".join(tune_and_classify(Path(sys.argv[1]), Path("runs/mine"), shots=4)))
