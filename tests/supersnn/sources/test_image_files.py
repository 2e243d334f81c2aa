"""The rules by which image files become pixels, and one line for every file that is no good image."""

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from supersnn.errors import UserError
from supersnn.sources.image_files import check_headers, decode, read_image

GREY = np.random.default_rng(0).integers(0, 256, (6, 6), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (6, 6, 3), dtype=np.uint8)
SHAPE = np.zeros((6, 6), np.uint8)
SHAPE[1:5, 2:4] = 255


def read(path: Path, mode: str) -> np.ndarray:
    image = read_image(path)
    assert image.mode == mode
    return np.asarray(image)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    image, exif = Image.fromarray(COLOUR), Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored))
    np.testing.assert_array_equal(read(tmp_path / "a.png", "RGB"), expected)
    assert orientation == 1 or not np.array_equal(expected, COLOUR)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
@pytest.mark.parametrize(("ink", "background"), [(0, 255), (255, 0), (100, 255)])
def test_a_shape_that_lies_in_alpha_alone_stays_visible(tmp_path: Path, mode: str, ink: int, background: int) -> None:
    """Onto white; a white shape onto black."""
    if mode == "PA":  # a palette whose second colour is transparent
        image = Image.fromarray(np.where(SHAPE > 0, 0, 1).astype(np.uint8), "P")
        image.putpalette([ink] * 6)
        image.save(tmp_path / "a.png", transparency=1)
    else:
        layers = [np.full_like(SHAPE, ink)] * (3 if mode == "RGBA" else 1)
        Image.fromarray(np.stack([*layers, SHAPE], 2), mode).save(tmp_path / "a.png")
    expected = np.where(SHAPE > 0, ink, background).astype(np.uint8)
    found = read(tmp_path / "a.png", "L" if mode == "LA" else "RGB")
    np.testing.assert_array_equal(found, expected if mode == "LA" else np.stack([expected] * 3, 2))


def test_half_transparent_is_half_white(tmp_path: Path) -> None:
    Image.fromarray(np.stack([GREY, np.full_like(GREY, 128)], 2), "LA").save(tmp_path / "a.png")
    expected = GREY * (128 / 255) + 255 * (127 / 255)
    assert np.abs(read(tmp_path / "a.png", "L") - expected).max() <= 1


def test_opaque_alpha_changes_nothing(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([COLOUR, np.full((6, 6), 255, np.uint8)]), "RGBA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png", "RGB"), COLOUR)


def test_a_transparent_level_and_colour_are_transparent(tmp_path: Path) -> None:
    drawn = np.where(SHAPE > 0, 40, 90).astype(np.uint8)
    expected = np.where(SHAPE > 0, 40, 255).astype(np.uint8)
    Image.fromarray(drawn).save(tmp_path / "grey.png", transparency=90)
    np.testing.assert_array_equal(read(tmp_path / "grey.png", "L"), expected)
    Image.fromarray(np.stack([drawn] * 3, 2)).save(tmp_path / "colour.png", transparency=(90, 90, 90))
    np.testing.assert_array_equal(read(tmp_path / "colour.png", "RGB"), np.stack([expected] * 3, 2))
    Image.fromarray(drawn.astype(np.uint16) * 257).save(tmp_path / "deep.png", transparency=90 * 257)
    np.testing.assert_array_equal(read(tmp_path / "deep.png", "L"), expected)


def test_the_upper_eight_bits_of_sixteen_are_kept(tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) * 256 + GREY[::-1]
    Image.fromarray(deep).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png", "L"), GREY)
    (tmp_path / "a.pgm").write_bytes(b"P5 6 6 65535\n" + deep.astype(">u2").tobytes())
    np.testing.assert_array_equal(read(tmp_path / "a.pgm", "L"), GREY)
    Image.fromarray(np.full((6, 6), 3, np.uint16)).save(tmp_path / "flat.png")
    assert read(tmp_path / "flat.png", "L").max() == 0
    Image.fromarray((GREY % 200).astype(np.uint16)).save(tmp_path / "dark.png")
    with pytest.raises(UserError, match=r"dark\.png: 16-bit image with levels from \d+ to 1\d\d only"):
        read_image(tmp_path / "dark.png")


def test_bits_palettes_and_cmyk(tmp_path: Path) -> None:
    Image.fromarray(SHAPE).convert("1").save(tmp_path / "bit.png")
    np.testing.assert_array_equal(read(tmp_path / "bit.png", "L"), SHAPE)
    few = (COLOUR // 128) * 255
    Image.fromarray(few).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read(tmp_path / "palette.png", "RGB"), few)
    Image.new("CMYK", (6, 6), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=100)
    assert np.abs(read(tmp_path / "print.jpg", "RGB").astype(int) - [255, 0, 0]).max() <= 3


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read(tmp_path / "a.png", "L"), GREY)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int = 6, height: int = 6, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" + bytes(6))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def stored(kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(COLOUR).save(out, kind)
    return out.getvalue()


BAD = {
    "empty.png": b"",
    "text.png": b"no image",
    "profile.png": png(extra=chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(3_000_000)))),
    "short.ppm": b"P6\n6 6\n",
    "shorter.ppm": b"P6",
    "negative.pgm": b"P5 -6 -6 255\n",
    "float.tif": b"",
    "huge.png": png(30_000, 30_000),
    "large.png": png(10_000, 10_000),
    "cut.png": stored("png")[:-40],
    "cut.jpg": stored("jpeg")[:-200],
    "cut.webp": stored("webp")[:20],
    "cut.bmp": stored("bmp")[:40],
    "header.gif": b"GIF89a",
    "header.tif": b"II*\0\x08\0\0\0",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line_with_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(BAD[name])
    if name == "float.tif":
        Image.fromarray(np.zeros((6, 6), np.float32)).save(path)
    for read_file in (read_image, lambda path: decode(path.parent, [(path.name, 0)], ("a",))):
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            with pytest.raises(UserError) as refused:
                read_file(path)
        assert str(refused.value).startswith(f"{path}: ")
        assert "\n" not in str(refused.value)


def test_every_damage_is_one_line_or_an_image(tmp_path: Path) -> None:
    """Cut and changed anywhere, in each format that folders may have."""
    random = np.random.default_rng(0)
    for kind in ("png", "jpeg", "bmp", "ppm", "webp", "gif", "tiff"):
        content = stored(kind)
        for trial in range(60):
            damaged = bytearray(content)
            place = int(random.integers(len(content)))
            if trial % 3 == 0:
                damaged = damaged[:place]
            else:
                damaged[place : place + 4] = random.integers(0, 256, 4, dtype=np.uint8).tobytes()
            path = tmp_path / f"a.{kind}"
            path.write_bytes(damaged)
            assert outcome(path) in ("L", "RGB", "one line")


def outcome(path: Path) -> str:
    """Return the mode of an image, or "one line" if it is refused so."""
    try:
        return read_image(path).mode
    except UserError as error:
        return "several lines" if "\n" in str(error) else "one line"


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("nowhere")
    (tmp_path / "folder.png").mkdir()
    for name, problem in (
        ("pipe.png", "not a file"),
        ("folder.png", "not a file"),
        ("link.png", "a broken link"),
        ("none.png", "no such file"),
        ("n" * 300, "no such file"),
    ):
        with pytest.raises(UserError, match=f"{name}: not a readable image: {problem}"):
            read_image(tmp_path / name)


def test_headers_tell_what_decoding_would(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    Image.fromarray(GREY.astype(np.uint16) * 256).save(tmp_path / "deep.png")
    Image.fromarray(COLOUR).save(tmp_path / "colour.png")
    Image.fromarray(COLOUR).resize((6, 7)).save(tmp_path / "odd.png")
    for names, shape in ((["grey.png", "deep.png"], (1, 6)), (["grey.png", "colour.png"], (3, 6))):
        files = [(name, 0) for name in names]
        assert check_headers(tmp_path, names) == shape
        assert decode(tmp_path, files, ("a",)).pixels.shape[1:3] == shape
    for names, needed, problem in (
        (["grey.png", "odd.png"], None, "odd.png: 6×7 pixels; expected 6×6"),
        (["grey.png", "colour.png"], (1, 6), "colour.png: colour image"),
    ):
        for check in (
            lambda names=names, needed=needed: check_headers(tmp_path, names, needed),
            lambda names=names, needed=needed: decode(tmp_path, [(name, 0) for name in names], ("a",), needed),
        ):
            with pytest.raises(UserError, match=problem):
                check()


def test_names_that_cannot_be_printed_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"a\nb\xff.png")
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"a\\nb\\udcff\.png: not a readable image") as refused:
        read_image(path)
    str(refused.value).encode()
