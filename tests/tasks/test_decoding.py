"""Image files as RGB: every mode and format of Pillow, wide greys, EXIF orientation."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zip_ray.errors import InputError
from zip_ray.tasks.decoding import as_rgb, read_image
from zip_ray.tasks.images import FileImages, LazyImages
from zip_ray.tasks.source import Lists, listed

pytestmark = pytest.mark.filterwarnings("ignore:Saving I mode images:DeprecationWarning")
Image.init()
GREYS = np.repeat(np.repeat(np.linspace(0, 255, 16).astype(np.uint8).reshape(4, 4), 8, 0), 8, 1)
"""What every picture shows: 16 greys in squares of 8 x 8, which survive a lossy format."""
FORMATS = sorted(set(Image.SAVE) & set(Image.OPEN))


def shown(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def in_mode(mode: str) -> Image.Image:
    """The grey levels in a mode: those of more than 8 bits span the mode's whole range."""
    if mode == "F":
        return Image.fromarray(GREYS.astype(np.float32) / 255)
    if mode == "I" or mode.startswith("I;16"):
        order = ">" if mode == "I;16B" else "<"
        kind = "i4" if mode == "I" else f"{order}u2"
        return Image.frombytes(mode, GREYS.T.shape, (GREYS.astype(np.int64) * 257).astype(kind).tobytes())
    if mode == "LAB":
        flat = np.full_like(GREYS, 128)
        return Image.merge("LAB", [Image.fromarray(GREYS), Image.fromarray(flat), Image.fromarray(flat)])
    if mode in ("La", "RGBa"):
        return Image.fromarray(GREYS).convert({"La": "LA", "RGBa": "RGBA"}[mode]).convert(mode)
    return Image.fromarray(GREYS).convert(mode)


def expected(mode: str) -> np.ndarray:
    return np.asarray(in_mode("1").convert("L") if mode == "1" else GREYS).astype(int)[..., None]


@pytest.mark.parametrize("mode", Image.MODES)
def test_every_mode_shows_the_same_picture(mode: str) -> None:
    lossy = 10 if mode == "LAB" else 3
    assert np.abs(shown(as_rgb(in_mode(mode))) - expected(mode)).max() <= lossy


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_shows_the_same_picture_or_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    tried = 0
    for mode in Image.MODES:
        path = tmp_path / f"{mode.replace(';', '-')}.{kind.lower()}"
        try:
            in_mode(mode).save(path, kind)
            with Image.open(path) as written:
                range_lost = mode[0] in "IF" and (
                    written.mode[0] not in "IF" or np.max(written) != np.max(in_mode(mode))
                )
        except (OSError, ValueError, KeyError, SyntaxError, AttributeError, TypeError):
            continue  # the format has no such mode
        tried += not range_lost
        try:
            found = shown(read_image(path).resize(GREYS.T.shape, Image.Resampling.BOX))
        except InputError as error:
            if str(error).startswith(f"{path}: unreadable image ("):
                continue
            raise
        assert range_lost or np.abs(found - expected(mode)).mean() < 6, mode
    assert tried or kind in ("BUFR", "GRIB", "HDF5", "WMF"), "without a plug-in that writes them"


@pytest.mark.parametrize(
    ("values", "top"),
    [(np.uint16, 65535), (np.int32, 65535), (np.int32, 255), (np.float32, 1), (np.float32, 255)],
)
@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_wide_greys_are_scaled(tmp_path: Path, values: type, top: int, suffix: str) -> None:
    image = Image.fromarray((GREYS * (top / 255)).astype(values))
    if suffix == "png" and values is not np.uint16:
        pytest.skip("PNG has no such greys")
    image.save(tmp_path / f"a.{suffix}")
    assert np.abs(shown(read_image(tmp_path / f"a.{suffix}")) - GREYS[..., None]).max() <= 1


def test_a_file_that_is_no_image_is_named_without_python(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("not an image")
    with pytest.raises(InputError) as fault:
        read_image(tmp_path / "notes.png")
    reason = "not in a format that Pillow reads"
    assert str(fault.value) == f"{tmp_path / 'notes.png'}: unreadable image ({reason}): replace or remove the file"


@pytest.mark.parametrize(
    "odd", [np.float32(-0.5), np.float32(300), np.float32("nan"), np.float32("inf"), np.int32(-1), np.int32(70000)]
)
def test_a_range_that_is_not_plain_is_refused_by_name(tmp_path: Path, odd: np.generic) -> None:
    values = np.full((4, 4), 0, odd.dtype)
    values[1, 2] = odd
    Image.fromarray(values).save(tmp_path / "x-ray.tif")
    with pytest.raises(InputError, match=r"x-ray.tif: unreadable image \(mode [IF], values from .* to .*: replace or"):
        read_image(tmp_path / "x-ray.tif")


def test_transparency_is_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (9, 9, 9, 0)).save(tmp_path / "a.png")
    assert shown(read_image(tmp_path / "a.png")).min() == 255
    wide = np.array([[0, 257], [1000, 65535]], np.uint16)
    Image.fromarray(wide).save(tmp_path / "b.png", transparency=257)
    assert shown(read_image(tmp_path / "b.png"))[..., 0].tolist() == [[0, 255], [4, 255]]


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a),
}
"""What each EXIF orientation requires, according to its standard."""


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_images_are_turned_as_they_say(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(GREYS[:, :24]).save(path, exif=exif, **({"quality": 95} if suffix in ("jpg", "webp") else {}))
    turned = TURNS[orientation](GREYS[:, :24]).astype(int)
    found = shown(read_image(path)).mean(axis=2)
    assert found.shape == turned.shape
    assert np.abs(found - turned).mean() < 6
    with path.open("rb") as file, Image.open(file) as opened:
        lazy = LazyImages(lambda _: opened, np.arange(1), np.arange(1))
        assert np.abs(shown(lazy.image(0)).mean(axis=2) - turned).mean() < 6


def test_published_lists_keep_their_protocol(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (20, 10)).save(path, exif=exif)
    items = [(str(path), label, name) for label, name in enumerate(("cat", "dog"))]
    sets = [listed(Lists([], [], items), ("{}",), "x", published).test for published in (True, False)]
    assert [images.subset([1]).image(0).size for images in sets] == [(20, 10), (10, 20)]
    assert sets[0].digest() != sets[1].digest(), "kept features are not those of images that were turned"


def test_kept_features_of_an_earlier_law_are_not_found(tmp_path: Path) -> None:
    """A digest of the bytes alone would find features of an image that was decoded clipped or unrotated."""
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    images = FileImages((str(tmp_path / "a.png"),), np.arange(1))
    bytes_alone = hashlib.sha256(hashlib.sha256((tmp_path / "a.png").read_bytes()).digest()).hexdigest()
    assert images.digest() != bytes_alone
