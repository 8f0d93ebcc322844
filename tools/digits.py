"""Writes the digits that ship, from scikit-learn's copy of the data set: `python -m tools.digits`."""

import numpy as np
from safetensors.numpy import save
from sklearn.datasets import load_digits

from zip_ray.files import write_whole
from zip_ray.shipped import DIGITS

SOURCE = {"source": "E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits", "licence": "CC BY 4.0"}


def main() -> None:
    data = load_digits()
    arrays = {"images": data.images.astype(np.uint8), "labels": data.target.astype(np.uint8)}
    write_whole(DIGITS, save(arrays, SOURCE))


if __name__ == "__main__":
    main()
