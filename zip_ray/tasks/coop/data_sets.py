"""The data sets of CoOp's and ZIP's protocols: where each lies below the data root, and how it is read.

Folders, file names, class names and templates are those of CoOp (Zhou et al., IJCV 2022, DATASETS.md) and, for SVHN,
Resisc45 and CLEVR, of BlackVIP (Oh et al., CVPR 2023) and ZIP (Park et al., ICLR 2025).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from zip_ray.protocol.facts import PHOTO
from zip_ray.tasks.coop import split_files as files
from zip_ray.tasks.source import Lists


@dataclass(frozen=True)
class CoopSet:
    """A data set."""

    folder: str
    """Its folder below the data root."""
    images: str
    """The folder of its images, below that."""
    read: Callable[[Path, Path], Lists]
    """Reads its lists from its own files; a missing split file is made of these."""
    split: str | None = None
    """Its split file; None if the official lists are read each time."""
    template: str = PHOTO
    other_split: str | None = None
    """Another name of its split file, tried first."""
    divided: str = ""
    """The folder below `images` that the paths of a split file without test images are relative to. The test images are
    then those of the data set's own files."""


_CALTECH_NAMES = {"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"}
_EUROSAT_NAMES = {
    "AnnualCrop": "Annual Crop Land",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "SeaLake": "Sea or Lake",
}

SETS: dict[str, CoopSet] = {
    "imagenet": CoopSet("imagenet", "images", files.imagenet),
    "caltech101": CoopSet(
        "caltech-101",
        "101_ObjectCategories",
        partial(files.class_folders, dropped=("BACKGROUND_Google", "Faces_easy"), renamed=_CALTECH_NAMES),
        "split_zhou_Caltech101.json",
    ),
    "oxford_pets": CoopSet(
        "oxford_pets", "images", files.oxford_pets, "split_zhou_OxfordPets.json", "a photo of a {}, a type of pet."
    ),
    "oxford_flowers": CoopSet(
        "oxford_flowers",
        "jpg",
        files.oxford_flowers,
        "split_zhou_OxfordFlowers.json",
        "a photo of a {}, a type of flower.",
    ),
    "food101": CoopSet(
        "food-101", "images", files.class_folders, "split_zhou_Food101.json", "a photo of {}, a type of food."
    ),
    "fgvc_aircraft": CoopSet(
        "fgvc_aircraft", "images", files.fgvc_aircraft, template="a photo of a {}, a type of aircraft."
    ),
    "sun397": CoopSet("sun397", "SUN397", files.sun397, "split_zhou_SUN397.json"),
    "dtd": CoopSet("dtd", "images", files.class_folders, "split_zhou_DescribableTextures.json", "{} texture."),
    "eurosat": CoopSet(
        "eurosat",
        "2750",
        partial(files.class_folders, renamed=_EUROSAT_NAMES),
        "split_zhou_EuroSAT.json",
        "a centered satellite photo of {}.",
    ),
    "ucf101": CoopSet(
        "ucf101", "UCF-101-midframes", files.ucf101, "split_zhou_UCF101.json", "a photo of a person doing {}."
    ),
    "svhn": CoopSet(
        "svhn", ".", files.svhn, "split_mlai_SVHN.json", "This is a photo of a {}.", "split_SVHN.json", "train"
    ),
    "resisc45": CoopSet(
        "resisc45", "NWPU-RESISC45", files.class_folders, "split_mlai_Resisc45.json", "This is a photo of a {}."
    ),
    "clevr": CoopSet("CLEVR_v1.0", "images", files.clevr, "split_mlai_CLEVR.json", "This is a photo of {} objects."),
    "imagenetv2": CoopSet("imagenetv2", "imagenetv2-matched-frequency-format-val", files.imagenetv2),
    "imagenet_sketch": CoopSet("imagenet-sketch", "images", files.imagenet_variant),
    "imagenet_a": CoopSet("imagenet-adversarial", "imagenet-a", files.imagenet_variant),
    "imagenet_r": CoopSet("imagenet-rendition", "imagenet-r", files.imagenet_variant),
}
