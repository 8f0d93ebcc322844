"""Miniatures of the papers' data sets: their layouts, with their oddities, and what a reader must make of them.

Images are empty files: layouts are read without opening one.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.io import savemat

WORDNET = "n01440764 tench\nn02391049 zebra\nn03773504 missile\nn04008634 missile\n"


def touch(folder: Path, *names: str) -> None:
    """Create empty files."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def class_folders(folder: Path, *classes: str, count: int = 10, suffix: str = ".jpg") -> None:
    touch(folder, *(f"{name}/{i:04d}{suffix}" for name in classes for i in range(count)))


# Each layout makes a miniature below the data root, without a split file.


def caltech101(root: Path) -> None:
    folder = root / "caltech-101" / "101_ObjectCategories"
    class_folders(folder, "BACKGROUND_Google", "Faces", "Faces_easy", "Leopards", "Motorbikes", "airplanes", "yin_yang")
    touch(folder, "BACKGROUND_Google/tmp", "yin_yang/notes.txt", "yin_yang/.hidden.jpg")


def oxford_pets(root: Path) -> None:
    folder = root / "oxford_pets"
    names = [f"{breed}_{i}" for breed in ("Abyssinian", "great_pyrenees") for i in range(10)]
    touch(folder / "images", *(f"{name}.jpg" for name in names))
    rows = [f"{name} {1 + ('great' in name)} 2 1" for name in names]
    write(folder / "annotations" / "trainval.txt", *rows[:5], *rows[10:15])
    write(folder / "annotations" / "test.txt", *rows[5:10], *rows[15:])


def oxford_flowers(root: Path) -> None:
    folder = root / "oxford_flowers"
    touch(folder / "jpg", *(f"image_{i:05d}.jpg" for i in range(1, 21)))
    savemat(folder / "imagelabels.mat", {"labels": np.array([[2, 1] * 10], dtype=np.uint8)})
    (folder / "cat_to_name.json").write_text(json.dumps({"1": "pink primrose", "2": "hard-leaved pocket orchid"}))


def food101(root: Path) -> None:
    class_folders(root / "food-101" / "images", "apple_pie", "waffles")


def fgvc_aircraft(root: Path) -> None:
    folder = root / "fgvc_aircraft"
    write(folder / "variants.txt", "707-320", "F/A-18", "Boeing 717")
    for p, part in enumerate(("train", "val", "test")):
        rows = [f"{p}{i} {name}" for i, name in enumerate(("Boeing 717", "707-320", "F/A-18"))]
        write(folder / f"images_variant_{part}.txt", *rows)
        touch(folder / "images", *(f"{row.split()[0]}.jpg" for row in rows))


def sun397(root: Path) -> None:
    folder = root / "sun397"
    places = ("/a/abbey", "/a/apartment_building/outdoor", "/c/church/indoor")
    write(folder / "ClassName.txt", *places)
    for file, start in (("Training_01.txt", 0), ("Testing_01.txt", 5)):
        images = [f"{place}/sun_{i}.jpg" for place in places for i in range(start, start + 5)]
        write(folder / file, *images)
        touch(folder / "SUN397", *(image[1:] for image in images))


def dtd(root: Path) -> None:
    class_folders(root / "dtd" / "images", "banded", "polka-dotted", count=120)


def eurosat(root: Path) -> None:
    classes = ("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop")
    class_folders(root / "eurosat" / "2750", *classes, "Residential", "River", "SeaLake")


def ucf101(root: Path) -> None:
    folder = root / "ucf101"
    actions = {"ApplyEyeMakeup": "Apply_Eye_Makeup", "HandstandPushups": "Handstand_Pushups", "YoYo": "Yo_Yo"}
    write(folder / "ucfTrainTestlist" / "classInd.txt", *(f"{i} {a}" for i, a in enumerate(actions, 1)))
    for file, start in (("trainlist01.txt", 0), ("testlist01.txt", 5)):
        videos = [(a, f"v_{a}_g{i}_c01") for a in actions for i in range(start, start + 5)]
        videos = [(a, video.replace("HandstandP", "HandStandP")) for a, video in videos]  # as in the real ones
        label = " 1" if file.startswith("train") else ""
        write(folder / "ucfTrainTestlist" / file, *(f"{a}/{video}.avi{label}" for a, video in videos))
        touch(folder / "UCF-101-midframes", *(f"{actions[a]}/{video}.jpg" for a, video in videos))


def svhn(root: Path) -> None:
    class_folders(root / "svhn" / "train", "0", "1", "9")
    class_folders(root / "svhn" / "test", "0", "1", "9", count=3)


def blackvips_svhn_split(root: Path, name: str) -> Path:
    """The split file that BlackVIP's code makes: no test part, paths below train/."""
    parts = {"train": range(8), "val": range(8, 10)}
    items = {
        part: [[f"{digit}/{i:04d}.jpg", label, digit] for label, digit in enumerate("019") for i in places]
        for part, places in parts.items()
    }
    path = root / "svhn" / name
    path.write_text(json.dumps(items))
    return path


def resisc45(root: Path) -> None:
    class_folders(root / "resisc45" / "NWPU-RESISC45", "airplane", "baseball_diamond")


def clevr(root: Path) -> None:
    folder = root / "CLEVR_v1.0"
    for part, count in (("train", 5), ("val", 2)):
        scenes = [
            {"image_filename": f"CLEVR_{part}_{objects}_{i}.png", "split": part, "objects": [{}] * objects}
            for objects in (3, 4, 9, 10)
            for i in range(count)
        ]
        touch(folder / "images", *(f"{part}/{scene['image_filename']}" for scene in scenes))
        write(folder / "scenes" / f"CLEVR_{part}_scenes.json", json.dumps({"info": {}, "scenes": scenes}))


def imagenet(root: Path) -> None:
    write(root / "imagenet" / "classnames.txt", WORDNET.strip())
    elsewhere = root / "elsewhere"
    for part, count in (("train", 25), ("val", 2)):
        class_folders(
            elsewhere / part, *(line.split()[0] for line in WORDNET.splitlines()), count=count, suffix=".JPEG"
        )
    (root / "imagenet" / "images").mkdir()
    for part in ("train", "val"):  # links, as CoOp's instructions suggest
        (root / "imagenet" / "images" / part).symlink_to(elsewhere / part)


def imagenetv2(root: Path) -> None:
    write(root / "imagenetv2" / "classnames.txt", *(f"n{i:08d} class {i}" for i in range(12)))
    images = root / "imagenetv2" / "imagenetv2-matched-frequency-format-val"
    class_folders(images, *(str(i) for i in range(12)), count=2, suffix=".jpeg")


def variant(folder: str, images: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        write(root / folder / "classnames.txt", WORDNET.strip())
        class_folders(root / folder / images, "n02391049", "n04008634", count=2)
        touch(root / folder / images, "README.txt")

    return make


LAYOUTS: dict[str, Callable[[Path], None]] = {
    **{f.__name__: f for f in (caltech101, oxford_pets, oxford_flowers, food101, fgvc_aircraft, sun397, dtd, eurosat)},
    **{f.__name__: f for f in (ucf101, svhn, resisc45, clevr, imagenet, imagenetv2)},
    "imagenet_sketch": variant("imagenet-sketch", "images"),
    "imagenet_a": variant("imagenet-adversarial", "imagenet-a"),
    "imagenet_r": variant("imagenet-rendition", "imagenet-r"),
}
EUROSAT = "Annual Crop Land,Forest,Herbaceous Vegetation Land,Highway or Road,Industrial Buildings,Pasture Land"
EXPECTED: dict[str, tuple[str, str, list[list[int]]]] = {
    # classes in the order of their labels; template; images per class of train, val and test
    "caltech101": ("face,leopard,motorbike,airplane,yin yang", "a photo of a {}.", [[5] * 5, [2] * 5, [3] * 5]),
    "oxford_pets": ("abyssinian,great pyrenees", "a photo of a {}, a type of pet.", [[4, 4], [1, 1], [5, 5]]),
    "oxford_flowers": (
        "pink primrose,hard-leaved pocket orchid",
        "a photo of a {}, a type of flower.",
        [[5, 5], [2, 2], [3, 3]],
    ),
    "food101": ("apple pie,waffles", "a photo of {}, a type of food.", [[5, 5], [2, 2], [3, 3]]),
    "fgvc_aircraft": ("707-320,F/A-18,Boeing 717", "a photo of a {}, a type of aircraft.", [[1, 1, 1]] * 3),
    "sun397": (
        "abbey,outdoor apartment building,indoor church",
        "a photo of a {}.",
        [[4, 4, 4], [1, 1, 1], [5, 5, 5]],
    ),
    "dtd": ("banded,polka-dotted", "{} texture.", [[60, 60], [24, 24], [36, 36]]),
    "eurosat": (
        f"{EUROSAT},Permanent Crop Land,Residential Buildings,River,Sea or Lake",
        "a centered satellite photo of {}.",
        [[5] * 10, [2] * 10, [3] * 10],
    ),
    "ucf101": (
        "Apply Eye Makeup,Handstand Pushups,Yo Yo",
        "a photo of a person doing {}.",
        [[4, 4, 4], [1, 1, 1], [5, 5, 5]],
    ),
    "svhn": ("0,1,9", "This is a photo of a {}.", [[7, 7, 7], [3, 3, 3], [3, 3, 3]]),
    "resisc45": ("airplane,baseball diamond", "This is a photo of a {}.", [[5, 5], [2, 2], [3, 3]]),
    "clevr": ("10,3,4,9", "This is a photo of {} objects.", [[4] * 4, [1] * 4, [2] * 4]),
    "imagenet": ("tench,zebra,missile,missile", "a photo of a {}.", [[25] * 4, [], [2] * 4]),
    "imagenetv2": (",".join(f"class {i}" for i in range(12)), "a photo of a {}.", [[], [], [2] * 12]),
    **{
        n: ("zebra,missile", "a photo of a {}.", [[], [], [2, 2]])
        for n in ("imagenet_sketch", "imagenet_a", "imagenet_r")
    },
}
