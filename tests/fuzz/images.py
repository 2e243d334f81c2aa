"""Damaged and odd image files through class folders, `predict` and `evaluate`.

What must hold: a file is used, or refused in one line that names it; what is left out is told; and a network sees the
same pixels of it in training and in prediction.
"""

import functools
import io
import json
import os
import re
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import yaml
from PIL import Image

from supersnn.config import DatasetConfig
from supersnn.errors import UserError
from supersnn.files import DamagedFile
from supersnn.sources import registry
from tests.fuzz.command import Ended, call, lasting_folder, variables
from tests.fuzz.findings import Finding, last_line, place_of

PART = "images"
SECONDS = 30.0
SIDE = 8
FLIPPED = 60
"""How many files with flipped bytes."""


@dataclass(frozen=True)
class Odd:
    """A file: its name, and what puts it at a path."""

    name: str
    told: str
    put: Callable[[Path], object]


def picture(mode: str = "RGB", side: int = SIDE, seed: int = 0) -> Image.Image:
    """A picture with a gradient and a bright corner, so that orientation and colours show."""
    rows = np.random.default_rng(seed).integers(0, 60, (side, side, 3), np.uint8)
    rows[..., 0] += np.arange(side, dtype=np.uint8)[:, None] * (128 // side)
    rows[: side // 2, : side // 2] += 120
    return Image.fromarray(rows).convert(mode)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, pixels: bytes, *others: bytes) -> bytes:
    """A PNG file with this header and these bytes of pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(pixels))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(others) + data + chunk(b"IEND", b"")


def _bytes(name: str, told: str, content: bytes) -> Odd:
    return Odd(name, told, lambda path: path.write_bytes(content))


@functools.cache
def odd_files(seed: int) -> tuple[Odd, ...]:
    """Every odd file."""
    return (*_formats(), *_damaged(seed), *_headers(), *_names(), *_not_files())


def _formats() -> Iterator[Odd]:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        yield _bytes("odd.png", f"PNG of mode {mode}", saved(picture(mode), "PNG"))
    yield _bytes("odd.png", "palette with a transparent colour", saved(picture("P"), "PNG", transparency=0))
    yield _bytes("odd.png", "RGB with a transparent colour", saved(picture(), "PNG", transparency=(0, 0, 0)))
    shape = picture("L")
    alpha = Image.merge("RGBA", [Image.new("L", shape.size, 0)] * 3 + [shape])
    yield _bytes("odd.png", "a black shape in alpha", saved(alpha, "PNG"))
    white = Image.merge("RGBA", [Image.new("L", shape.size, 255)] * 3 + [shape])
    yield _bytes("odd.png", "a white shape in alpha", saved(white, "PNG"))
    yield _bytes("odd.png", "nothing but transparency", saved(Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0)), "PNG"))
    sixteen = Image.fromarray(np.asarray(shape).astype(np.uint16) * 257)
    yield _bytes("odd.png", "16 bits", saved(sixteen, "PNG"))
    dark = Image.fromarray(np.asarray(shape).astype(np.uint16))
    yield _bytes("odd.png", "16 bits, of which the lower 8 are used", saved(dark, "PNG"))
    deep = b"".join(b"\0" + bytes(range(SIDE * 6)) for _ in range(SIDE))
    yield _bytes("odd.png", "16 bits a colour", png(SIDE, SIDE, 16, 2, deep))
    yield _bytes("odd.jpg", "CMYK", saved(picture("CMYK"), "JPEG"))
    yield _bytes("odd.jpg", "YCbCr, progressive", saved(picture("YCbCr"), "JPEG", progressive=True))
    yield _bytes("odd.tif", "32-bit floats", saved(Image.fromarray(np.ones((SIDE, SIDE), np.float32)), "TIFF"))
    yield _bytes("odd.png", "32-bit floats under another extension", saved(picture("F"), "TIFF"))
    for orientation in (*range(1, 9), 0, 9, 77):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield _bytes("odd.jpg", f"EXIF orientation {orientation}", saved(picture(), "JPEG", exif=exif, quality=95))
        yield _bytes("odd.png", f"EXIF orientation {orientation} in a PNG", saved(picture(), "PNG", exif=exif))
    yield _bytes("odd.jpg", "damaged EXIF", saved(picture(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"))
    frames = [picture("P", seed=n) for n in range(3)]
    yield _bytes("odd.gif", "an animation", saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    yield _bytes(
        "odd.png", "a GIF under another extension", saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    )
    colours = [picture(seed=n) for n in range(3)]
    for form in ("PNG", "WEBP"):
        content = saved(colours[0], form, save_all=True, append_images=colours[1:])
        yield _bytes(f"odd.{form.lower()}", f"an animated {form}", content)
    for form, suffix in (
        ("PNG", "jpg"),
        ("JPEG", "png"),
        ("BMP", "ppm"),
        ("TIFF", "tiff"),
        ("ICO", "png"),
        ("PPM", "pgm"),
    ):
        yield _bytes(f"odd.{suffix}", f"{form} as .{suffix}", saved(picture(), form))
    yield _bytes("ODD.PNG", "upper case", saved(picture(), "PNG"))
    for side in (1, 7, 9, 64):
        yield _bytes("odd.png", f"{side}×{side}", saved(picture(side=side), "PNG"))
    yield _bytes("odd.png", "8×16", saved(picture(side=16).crop((0, 0, 8, 16)), "PNG"))


def _damaged(seed: int) -> Iterator[Odd]:
    forms = (("PNG", "png"), ("JPEG", "jpg"), ("PPM", "ppm"), ("BMP", "bmp"), ("WEBP", "webp"))
    for form, suffix in forms:
        content = saved(picture(), form)
        for tenth in range(10):
            cut = len(content) * tenth // 10
            yield _bytes(f"odd.{suffix}", f"{form} cut after {cut} of {len(content)} bytes", content[:cut])
        yield _bytes(f"odd.{suffix}", f"{form} without its last byte", content[:-1])
        yield _bytes(f"odd.{suffix}", f"{form} with a page behind it", content + b"<html>" * 50)
    for number in range(FLIPPED):
        random = Random(f"{PART}/{seed}/{number}")
        form, suffix = random.choice(forms)
        flipped = bytearray(saved(picture(), form))
        places = [random.randrange(len(flipped)) for _ in range(random.choice((1, 2, 8)))]
        for at in places:
            flipped[at] ^= 1 << random.randrange(8)
        yield _bytes(f"odd.{suffix}", f"{form} with bits flipped at {places}", bytes(flipped))


def _headers() -> Iterator[Odd]:
    rows = b"".join(b"\0" + bytes(SIDE) for _ in range(SIDE))
    for width, height in ((30_000, 30_000), (2**31 - 1, 1), (12_000, 12_000), (0, 8), (8, 0), (2**32 - 1, 2**32 - 1)):
        yield _bytes("odd.png", f"a header of {width}×{height}", png(width, height, 8, 0, rows))
    yield _bytes("odd.png", "an unknown depth", png(SIDE, SIDE, 3, 0, rows))
    yield _bytes("odd.png", "an unknown colour type", png(SIDE, SIDE, 8, 5, rows))
    yield _bytes("odd.png", "too few pixels", png(SIDE, SIDE, 8, 0, rows[:20]))
    yield _bytes("odd.png", "too many pixels", png(SIDE, SIDE, 8, 0, rows * 50))
    yield _bytes(
        "odd.png", "pixels that are not compressed", png(SIDE, SIDE, 8, 0, rows).replace(zlib.compress(rows), b"x" * 20)
    )
    bomb = zlib.compress(bytes(80_000_000), 9)
    yield _bytes("odd.png", "a colour profile of 80 MB", png(SIDE, SIDE, 8, 0, rows, chunk(b"iCCP", b"x\0\0" + bomb)))
    yield _bytes("odd.png", "a text of 80 MB", png(SIDE, SIDE, 8, 0, rows, chunk(b"zTXt", b"x\0\0" + bomb)))
    yield _bytes("odd.png", "many texts", png(SIDE, SIDE, 8, 0, rows, *[chunk(b"tEXt", b"x\0" + b"y" * 900_000)] * 80))
    yield _bytes("odd.png", "a palette that is missing", png(SIDE, SIDE, 8, 3, rows))
    yield _bytes("odd.png", "no end", png(SIDE, SIDE, 8, 0, rows)[:-12])
    yield _bytes("odd.png", "the signature alone", b"\x89PNG\r\n\x1a\n")
    for text in (
        "P6",
        "P6 8",
        "P6 8 8",
        "P6 8 8 255",
        "P6 8 8 0\n",
        "P6 -8 8 255\n",
        "P5 8 8 65535\n",
        "P6 99999 99999 255\n",
    ):
        yield _bytes("odd.ppm", f"PPM {text!r}", text.encode())
    yield _bytes("odd.pgm", "PGM of 16 bits", b"P5 8 8 65535\n" + bytes(range(128)))
    yield _bytes("odd.ppm", "PPM in text", b"P3 8 8 255\n" + b"1 2 3 " * 64)
    yield _bytes("odd.ppm", "PPM in text, a letter in it", b"P3 8 8 255\n" + b"1 x 3 " * 64)
    yield _bytes(
        "odd.bmp",
        "BMP of -8×8",
        saved(picture(), "BMP")[:18] + struct.pack("<ii", -8, 8) + saved(picture(), "BMP")[26:],
    )
    for told, content in (
        ("nothing", b""),
        ("text", b"hello\n"),
        ("a page", b"<!doctype html><p>404"),
        ("zeros", bytes(500)),
    ):
        for suffix in ("png", "jpg"):
            yield _bytes(f"odd.{suffix}", f"{told} as .{suffix}", content)
    yield _bytes("odd.png", "SVG", b'<svg xmlns="http://www.w3.org/2000/svg"/>')


def _names() -> Iterator[Odd]:
    content, damaged = saved(picture("L"), "PNG"), b"hello"
    for stem in (
        *(
            "odd[b]",
            "odd [bold red]x",
            "odd one",
            " odd",
            "odd\n2",
            "odd\t2",
            "-odd",
            "--odd",
            "odd%41",
            "odd?x#y",
            "odd'q\"q",
        ),
        *(
            "ódd",
            "odd日本",
            "odd\u202ex",
            "odd🙂",
            "odd\\x",
            "odd\x1b[31m",
            "odd" + "x" * 240,
            "odd\udcff",
            ".odd",
            "~odd",
            "$odd",
            "odd:1",
        ),
    ):
        yield _bytes(f"{stem}.png", f"the name {stem[:40]!r}", content)
        yield _bytes(f"{stem}.png", f"the name {stem[:40]!r}, damaged", damaged)


def _not_files() -> Iterator[Odd]:
    yield Odd("odd.png", "a folder", lambda path: path.mkdir())
    yield Odd("odd.png", "a link to nothing", lambda path: path.symlink_to("/nowhere"))
    yield Odd("odd.png", "a link to itself", lambda path: path.symlink_to(path))
    yield Odd("odd.png", "a pipe", os.mkfifo)
    yield Odd("odd.png", "a device", lambda path: path.symlink_to("/dev/zero"))

    def hidden(path: Path) -> None:
        folder = path.parent / ".ipynb_checkpoints"
        folder.mkdir()
        picture().save(folder / path.name)

    yield Odd("odd-checkpoint.png", "a copy in a hidden folder", hidden)


@functools.cache
def student() -> Path:
    """An export folder of a student of the digits, made once; it is removed at the process's end."""
    folder = lasting_folder("fuzz-student-")
    config = {
        "dataset": {"name": "digits", "images": 200},
        "student": {"architecture": "resnet8", "time_steps": 1},
        "train": {"epochs": 1},
    }
    (folder / "train.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    ended = call(["train", folder / "train.yaml", "--to", folder / "export", "--store", folder / "store"], 240)
    assert ended.error is None
    assert ended.code == 0, ended.err
    return folder / "export"


def prepare() -> None:
    """Make the student before the processes are forked that share it."""
    import torch

    torch.set_num_threads(1)
    student()


def count() -> int:
    """How many cases there are."""
    return len(odd_files(0))


def check(seed: int, number: int) -> tuple[str, list[Finding]]:
    """Try an odd file; return it in words, and what does not hold."""
    odd = odd_files(seed)[number]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name, variables(SUPERSNN_DATA=f"{name}/cache"):
        return odd.told, list(try_image(odd, Path(name)))


def try_image(odd: Odd, folder: Path) -> Iterator[Finding]:
    """Yield what does not hold of an odd file."""
    export = folder / "export"
    shutil.copytree(student(), export)
    alone = folder / odd.name
    odd.put(alone)
    alone = alone if os.path.lexists(alone) else next(folder.rglob(odd.name))
    words = ["--"] if odd.name.startswith("-") else []
    predicted = call(["predict", "--json", export, *words, alone], SECONDS)
    table = call(["predict", export, *words, alone], SECONDS)
    for ended in (predicted, table):
        yield from _judged(odd, ended)
    if predicted.code != table.code:
        yield Finding(PART, "another exit code with --json", "predict", odd.told, f"{predicted.code}, {table.code}")
    elif predicted.error is None and predicted.code == 0:
        told = json.loads(predicted.out)[0]["image"]
        if "[" in odd.name and odd.name.split(".")[0] not in table.out.replace("\n", ""):
            yield Finding(PART, "another file's name is printed", "predict", odd.told, table.out[:200])
        if "odd" not in told.lower() and "ódd" not in told:
            yield Finding(PART, "another file's name is printed", "predict --json", odd.told, told)
    yield from _as_data(odd, folder, export, predicted)


def _as_data(odd: Odd, folder: Path, export: Path, predicted: Ended) -> Iterator[Finding]:
    """The file among good ones, in a class folder of the training part and of the test part."""
    for part in ("train", "test"):
        data = folder / f"data-{part}"
        for label in range(10):
            for side in ("train", "test"):
                (data / side / str(label)).mkdir(parents=True)
                for number in range(3):
                    picture("L", seed=100 + 10 * number + label).save(data / side / str(label) / f"{number}.png")
        odd.put(data / part / "3" / odd.name)
        file = folder / "sweep.yaml"
        sweep = {
            "name": "x",
            "dataset": {"name": f"folder:{data}", "validation": 0.34},
            "student": {"architecture": "resnet8"},
            "arms": {"direct": {}},
        }
        file.write_text(yaml.safe_dump(sweep), encoding="utf-8")
        dry = call(["sweep", file, "--dry-run", "--no-timing"], SECONDS)
        yield from _judged(odd, dry)
        if part == "test":
            yield from _judged(odd, call(["evaluate", export, "--data", f"folder:{data}"], SECONDS))
        else:
            yield from _read(odd, data, export, dry, predicted)


def _read(odd: Odd, data: Path, export: Path, dry: Ended, predicted: Ended) -> Iterator[Finding]:
    """Read the training part; compare what is read of the file with what `predict` sees of it."""
    case = f"{odd.told}, in a class folder"
    try:
        raw = registry.read(DatasetConfig(name=f"folder:{data}"), "train")
    except (UserError, DamagedFile) as error:
        if not _named(str(error)):
            yield Finding(PART, "the file is not named", "class folder", case, str(error)[:300])
        if len(str(error).splitlines()) > 1:
            yield Finding(PART, "more than a line", "class folder", case, str(error)[:300])
        return
    except Exception as error:
        yield Finding(PART, "traceback", place_of(error), case, last_line(error))
        return
    told = dry.out + dry.err
    hidden = "hidden" in odd.told or odd.name.startswith(".")
    if hidden and len(raw.labels) > 30:
        yield Finding(PART, "a hidden file is trained on", "class folder", case, f"{len(raw.labels)} images")
    if (
        not hidden
        and len(raw.labels) == 30
        and not re.search(r"odd|skip|passed over|not used|ignored", told, re.IGNORECASE)
    ):
        yield Finding(PART, "left out without a word", "class folder", case, f"30 of 31 files; dry run: {told[-200:]}")
    if len(raw.labels) == 31 and predicted.error is None and predicted.code == 0:
        row = next(row for row in range(31) if not _known(raw.pixels[row].numpy()))
        again = export.parent / "again.png"
        Image.fromarray(raw.pixels[row].permute(1, 2, 0).numpy().squeeze()).save(again)
        ended = call(["predict", "--json", export, again], SECONDS)
        mine, theirs = (json.loads(one.out)[0] for one in (predicted, ended))
        if abs(mine["probability"] - theirs["probability"]) > 0.02 or mine["class"] != theirs["class"]:
            yield Finding(
                PART, "predict sees another image than a training", odd.told, case, f"{mine} against {theirs}"
            )


def _known(pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> bool:
    """Whether an image is one of the good ones."""
    grey = {
        np.asarray(picture("L", seed=100 + 10 * number + label)).tobytes() for number in range(3) for label in range(10)
    }
    return bool((pixels == pixels[:1]).all()) and pixels[0].tobytes() in grey


def _named(text: str) -> bool:
    return "odd" in text.lower() or "ódd" in text


def _judged(odd: Odd, ended: Ended) -> Iterator[Finding]:
    yield from ended.faults(PART, odd.told, lines=2)
    if ended.error is None and ended.code and not _named(ended.err):
        yield Finding(PART, "the file is not named", ended.command.split()[0], odd.told, ended.err[-300:])
