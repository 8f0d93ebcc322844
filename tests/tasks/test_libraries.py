"""Data sets from other libraries: torchvision, Hugging Face, webdataset."""

import builtins
import gzip
import io
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.painted import COLOURS, assert_images_are_of_their_class, load, paint
from tests.support.paths import SHARED
from zip_ray.errors import InputError

# torchvision.


def write_idx(folder: Path, part: str, images: np.ndarray, labels: np.ndarray) -> None:
    """The files of LeCun's MNIST: big-endian magic number and sizes, then bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, *images.shape) + images.tobytes())
    (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, len(labels)) + labels.tobytes())


@pytest.mark.parametrize(("name", "first"), [("MNIST", "0"), ("FashionMNIST", "T-shirt/top")])
def test_torchvision_with_a_train_flag(tmp_path: Path, name: str, first: str) -> None:
    labels = np.repeat(np.arange(10, dtype=np.uint8), 4)
    images = np.broadcast_to(labels[:, None, None] * 20, (40, 28, 28)).astype(np.uint8)
    write_idx(tmp_path / name / "raw", "train", images, labels)
    write_idx(tmp_path / name / "raw", "t10k", images[::2], labels[::2])
    task = load(f"torchvision:{name}", tmp_path, shots=2)
    assert (task.classnames[0], len(task.classnames)) == (first, 10)
    assert (len(task.train), len(task.val), len(task.test)) == (20, 20, 20)
    for images_of_part in (task.train, task.test):
        for i, label in enumerate(images_of_part.labels):
            assert images_of_part.image(i).getpixel((3, 3)) == (20 * label,) * 3


def test_torchvision_with_a_split_argument(tmp_path: Path) -> None:
    for colour in ("red", "green"):
        for i in range(4):
            paint(tmp_path / "dtd" / "dtd" / "images" / colour / f"{i}.jpg", colour)
    lists = tmp_path / "dtd" / "dtd" / "labels"
    lists.mkdir()
    (lists / "train1.txt").write_text("".join(f"{c}/{i}.jpg\n" for c in ("red", "green") for i in range(3)))
    (lists / "test1.txt").write_text("red/3.jpg\ngreen/3.jpg\n")
    task = load("torchvision:DTD", tmp_path, shots=1)
    assert task.classnames == ("green", "red")
    assert (len(task.train), len(task.val), len(task.test)) == (2, 2, 2)
    assert task.test.image(0).getpixel((0, 0))[0] > 250


def test_torchvision_with_other_names_for_its_parts_and_synonyms(tmp_path: Path) -> None:
    for part, count in (("train", 2), ("val", 1)):
        for wnid in ("n01440764", "n02102040"):
            for i in range(count):
                paint(tmp_path / "imagenette2" / part / wnid / f"{i}.JPEG", "red")
    task = load("torchvision:Imagenette", tmp_path, shots=1)
    assert task.classnames[:2] == ("tench", "English springer")
    assert len(task.test) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FakeData", "torchvision has no set 'FakeData' with a training and a test part: use manifest"),
        ("Nothing", "torchvision has no set 'Nothing'"),
        ("CIFAR10", r"torchvision's CIFAR10 is not in '.*' and cannot be fetched \(no network\): put its files there"),
    ],
)
def test_what_torchvision_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    def offline(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.cifar.CIFAR10.download", offline)
    with pytest.raises(InputError, match=message):
        load(f"torchvision:{name}", tmp_path / "new")


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="../shared/data is not here")
def test_real_mnist_and_dtd(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for kind in ("images-idx3", "labels-idx1"):
        data = gzip.decompress((SHARED / "data" / "mnist" / f"t10k-{kind}-ubyte.gz").read_bytes())
        for part in ("train", "t10k"):  # the test set twice, since the training set is not available
            (raw / f"{part}-{kind}-ubyte").write_bytes(data)
    mnist = load("torchvision:MNIST", tmp_path)
    assert np.bincount(mnist.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert mnist.test.labels[:4].tolist() == [7, 2, 1, 0]
    (tmp_path / "dtd").mkdir()
    (tmp_path / "dtd" / "images").symlink_to(SHARED / "data" / "dtd10" / "images")
    dtd = load("coop:dtd", tmp_path)
    assert (len(dtd.classnames), dtd.classnames[0], dtd.template) == (10, "banded", "{} texture.")
    assert (len(dtd.train), len(dtd.val), len(dtd.test)) == (160, 40, 360)
    assert min(dtd.train.image(0).size) == 96


# Hugging Face and webdataset.


def encoded(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 5), COLOURS[colour]).save(buffer, "png")
    return buffer.getvalue()


def hub_folder(folder: Path, parts: dict[str, int], withheld: dict[str, int | None] | None = None) -> None:
    """This many images per class; if a part's labels are withheld, each label is replaced by the given value."""
    datasets = pytest.importorskip("datasets", reason="datasets is not installed: an extra")
    features = datasets.Features({"id": datasets.Value("int64"), "picture": datasets.Image()})
    features["colour"] = datasets.ClassLabel(names=list(COLOURS))
    for part, count in parts.items():
        labels = [label for label in range(3) for _ in range(count)]
        rows = {
            "id": list(range(len(labels))),
            "picture": [{"bytes": encoded(list(COLOURS)[label]), "path": None} for label in labels],
            "colour": [(withheld or {}).get(part, label) for label in labels],
        }
        folder.mkdir(exist_ok=True)
        datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / f"{part}-00000-of-00001.parquet")


@pytest.mark.parametrize(
    ("parts", "sizes"),
    [
        ({"train": 5, "validation": 3, "test": 2}, (12, 9, 6)),
        ({"train": 8, "validation": 3}, (12, 12, 9)),  # held-out images become the test set
    ],
)
def test_huggingface(tmp_path: Path, parts: dict[str, int], sizes: tuple[int, int, int]) -> None:
    hub_folder(tmp_path / "set", parts)
    task = load(f"huggingface:{tmp_path / 'set'}", tmp_path / "cache", shots=4)
    assert task.classnames == tuple(COLOURS)
    assert (len(task.train), len(task.val), len(task.test)) == sizes
    assert_images_are_of_their_class(task)


@pytest.mark.parametrize("mark", [-1, None])
def test_huggingface_with_withheld_test_labels(tmp_path: Path, mark: int | None) -> None:
    hub_folder(tmp_path / "set", {"train": 8, "validation": 3, "test": 2}, {"test": mark})
    task = load(f"huggingface:{tmp_path / 'set'}", tmp_path / "cache", shots=4)
    assert (len(task.train), len(task.val), len(task.test)) == (12, 12, 9), "what is labelled is for testing"
    assert_images_are_of_their_class(task)


def test_what_huggingface_lacks(tmp_path: Path) -> None:
    hub_folder(tmp_path / "set", {"test": 2})
    with pytest.raises(InputError, match="has labels in test: it needs train and test: use manifest"):
        load(f"huggingface:{tmp_path / 'set'}", tmp_path / "cache")
    hub_folder(tmp_path / "blind", {"train": 4, "test": 2}, {"test": -1})
    with pytest.raises(InputError, match="has labels in train: it needs train and test: use manifest"):
        load(f"huggingface:{tmp_path / 'blind'}", tmp_path / "cache")
    with pytest.raises(InputError, match=r"'huggingface:.*none' cannot be loaded \(.*\): check its name"):
        load(f"huggingface:{tmp_path / 'none'}", tmp_path / "cache")


def write_shard(path: Path, samples: list[dict[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for i, sample in enumerate(samples):
            for suffix, data in sample.items():
                entry = tarfile.TarInfo(f"{path.stem}-{i:04d}.{suffix}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    pytest.importorskip("webdataset", reason="webdataset is not installed: an extra")
    (tmp_path / "classnames.txt").write_text("\n".join(COLOURS))
    for part, count in (("train", 3), ("test", 1)):
        for shard in range(2):
            samples = [{"cls": b"%d" % i, "png": encoded(c)} for i, c in enumerate(COLOURS) for _ in range(count)]
            write_shard(tmp_path / part / f"{shard}.tar", samples)
    return tmp_path


def test_webdataset(shards: Path) -> None:
    task = load("webdataset", shards, shots=3)
    assert task.classnames == tuple(COLOURS)
    assert (len(task.train), len(task.val), len(task.test)) == (9, 9, 6)
    assert not set(task.train.places) & set(task.val.places)
    assert_images_are_of_their_class(task)
    assert task.test.digest() == load("webdataset", shards, shots=1).test.digest()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "classnames.txt").unlink(), "has no classnames.txt"),
        (
            lambda root: [shard.unlink() for shard in (root / "test").iterdir()],
            "'.*test' holds no .tar shards: add them",
        ),
        (lambda root: write_shard(root / "test" / "9.tar", [{"cls": b"3", "png": b""}]), "'.*test' are not the 3 of"),
        (lambda root: write_shard(root / "test" / "9.tar", [{"cls": b"1", "txt": b""}]), "test' cannot be read"),
        (lambda root: write_shard(root / "test" / "9.tar", [{"png": b""}]), r"cannot be read \(KeyError: 'cls'\)"),
        (lambda root: (root / "test" / "9.tar").write_bytes(b"x" * 2000), "a shard of '.*test' cannot be read"),
    ],
)
def test_what_is_wrong_with_shards_is_named(shards: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(shards)
    with pytest.raises(InputError, match=message) as caught:
        load("webdataset", shards)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("extra", ["huggingface", "webdataset"])
def test_an_extra_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name in ("datasets", "webdataset"):
            raise ImportError(name)
        return real(name, *rest)

    (tmp_path / "classnames.txt").write_text("a\nb\n")
    write_shard(tmp_path / "train" / "0.tar", [])
    write_shard(tmp_path / "test" / "0.tar", [])
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=rf"pip install 'zip-ray\[{extra}\]'"):
        load({"huggingface": "huggingface:x/y", "webdataset": "webdataset"}[extra], tmp_path)
