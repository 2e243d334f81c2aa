"""Folders of images, Tiny ImageNet's among them, and the decoded copy that is kept of them."""

import hashlib
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from supersnn.config import DatasetConfig
from supersnn.errors import UserError
from supersnn.sources import image_files, registry, tiny_imagenet
from supersnn.sources.base import RawImages
from supersnn.sources.folder import Folder
from supersnn.sources.registry import read

RANDOM = np.random.default_rng(0)


def write(path: Path, shape: tuple[int, ...] = (6, 6, 3), seed: int | None = None) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = RANDOM if seed is None else np.random.default_rng(seed)
    array = generator.integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(array).save(path)
    return array


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUPERSNN_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("cat", "ant", "bee"):
        for number in range(4):
            write(tmp_path / "tree" / name / f"{number}.png")
    return tmp_path / "tree"


def test_one_tree_is_read_in_order_of_class_and_name(tree: Path) -> None:
    first = write(tree / "ant" / "0.png", seed=1)
    (tree / "ant" / "notes.txt").write_text("no image")
    source = Folder(tree)
    images = source.read("train")
    assert not source.has_test()
    assert images.classes == ("ant", "bee", "cat")
    assert images.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert images.pixels.shape == (12, 3, 6, 6)
    np.testing.assert_array_equal(images.pixels[0].numpy(), first.transpose(2, 0, 1))


def test_train_and_test_folders_are_the_parts(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("test", 2)):
        for name in ("a", "b"):
            for number in range(count):
                write(tmp_path / "set" / part / name / f"{number}.JPG")
    source = Folder(tmp_path / "set")
    assert source.has_test()
    assert source.read("train").labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert source.read("test").labels.tolist() == [0, 0, 1, 1]
    write(tmp_path / "set" / "test" / "c" / "0.png")
    with pytest.raises(UserError, match="test/c: no class of this name"):
        source.read("test")


def test_a_train_folder_alone_is_one_tree(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "set" / "train" / name / "0.png")
    source = Folder(tmp_path / "set")
    assert not source.has_test()
    assert source.read("train").classes == ("a", "b")


def test_grey_files_make_one_channel_and_mixed_ones_three(tree: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        grey = write(tmp_path / "grey" / name / "0.png", (5, 5))
    images = Folder(tmp_path / "grey").read("train")
    assert images.pixels.shape == (2, 1, 5, 5)
    np.testing.assert_array_equal(images.pixels[1, 0].numpy(), grey)
    grey = write(tree / "ant" / "0.png", (6, 6))
    mixed = Folder(tree).read("train")
    assert mixed.pixels.shape[1] == 3
    np.testing.assert_array_equal(mixed.pixels[0].numpy(), np.stack([grey] * 3))


def test_the_test_part_takes_the_shape_of_the_train_part(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "set" / "train" / name / "0.png")
        write(tmp_path / "set" / "test" / name / "0.png", (6, 6))
    assert Folder(tmp_path / "set").read("test").pixels.shape == (2, 3, 6, 6)
    for name in ("a", "b"):
        write(tmp_path / "set" / "train" / name / "0.png", (6, 6))
        write(tmp_path / "set" / "test" / name / "0.png", (6, 6, 3))
    with pytest.raises(UserError, match=r"test/a/0.png: colour image"):
        Folder(tmp_path / "set").read("test")
    for name in ("a", "b"):
        write(tmp_path / "set" / "test" / name / "0.png", (8, 8))
    with pytest.raises(UserError, match=r"test/a/0.png: 8×8 pixels; expected 6×6"):
        Folder(tmp_path / "set").read("test")


@pytest.mark.parametrize(("shape", "found"), [((7, 7, 3), "7×7"), ((6, 5, 3), "5×6")])
def test_the_first_odd_size_is_named(tree: Path, shape: tuple[int, ...], found: str) -> None:
    write(tree / "bee" / "1.png", shape)
    write(tree / "cat" / "1.png", shape)
    with pytest.raises(UserError, match=rf"bee/1.png: {found} pixels"):
        Folder(tree).read("train")


def test_what_is_no_image_is_named(tree: Path) -> None:
    (tree / "bee" / "1.png").write_bytes(b"text")
    with pytest.raises(UserError, match=r"bee/1.png: not a readable image"):
        Folder(tree).read("train")


def test_folders_that_cannot_be_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"folder .*nowhere does not exist"):
        Folder(tmp_path / "nowhere").read("train")
    (tmp_path / "one" / "class").mkdir(parents=True)
    with pytest.raises(UserError, match="1 class folders; expected two"):
        Folder(tmp_path / "one").read("train")
    (tmp_path / "one" / "other").mkdir()
    with pytest.raises(UserError, match="no images"):
        Folder(tmp_path / "one").read("train")


def test_files_are_decoded_once_until_one_changes(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    decode = image_files.decode

    def counted(*given: Any) -> RawImages:
        decoded.append(given)
        return decode(*given)

    monkeypatch.setattr(image_files, "decode", counted)
    first = Folder(tree).read("train")
    second = Folder(tree).read("train")
    assert len(decoded) == 1
    assert torch.equal(first.pixels, second.pixels)
    os.utime(tree / "cat" / "3.png", ns=(1, 1))
    Folder(tree).read("train")
    assert len(decoded) == 2
    (tree / "cat" / "3.png").unlink()
    assert len(Folder(tree).read("train").labels) == 11


def test_a_torn_copy_is_made_anew(tree: Path, data_folder: Path) -> None:
    first = Folder(tree).read("train")
    (copy,) = (data_folder / "cache").glob("*.safetensors")
    for torn in (b"", copy.read_bytes()[:-7]):
        copy.write_bytes(torn)
        assert torch.equal(Folder(tree).read("train").pixels, first.pixels)
        assert torch.equal(Folder(tree).read("train").pixels, first.pixels)


def test_a_data_folder_that_cannot_be_written_to_is_named(tree: Path, data_folder: Path) -> None:
    data_folder.write_text("a file")
    with pytest.raises(UserError, match="set SUPERSNN_DATA"):
        Folder(tree).read("train")


def test_writing_to_the_pixels_does_not_reach_the_kept_copy(tree: Path) -> None:
    Folder(tree).read("train")
    mapped = Folder(tree).read("train")
    before = mapped.pixels.clone()
    mapped.pixels.zero_()
    assert torch.equal(Folder(tree).read("train").pixels, before)


def test_two_processes_may_ask_at_once(tree: Path, data_folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from supersnn.sources.folder import Folder;"
        "print(int(Folder(Path(sys.argv[1])).read('train').pixels.sum()))"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", program, str(tree)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    sums = [process.communicate(timeout=60)[0] for process in both]
    assert sums[0] == sums[1] != ""
    assert len(list((data_folder / "cache").glob("*.safetensors"))) == 1
    assert not list((data_folder / "cache").glob(".*.safetensors.*"))


@pytest.fixture
def tiny_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an archive in Tiny ImageNet's form that can be downloaded."""
    root = tmp_path / "origin" / "tiny-imagenet-200"
    for word in ("n02", "n01"):
        for number in range(2):
            write(root / "train" / word / "images" / f"{word}_{number}.JPEG", (64, 64, 3))
    lines = []
    for number, word in enumerate(("n02", "n01", "n02")):
        write(root / "val" / "images" / f"val_{number}.JPEG", (64, 64) if number else (64, 64, 3))
        lines.append(f"val_{number}.JPEG\t{word}\t0\t0\t9\t9\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    archive = tmp_path / "origin" / "tiny-imagenet-200.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for path in sorted(root.rglob("*")):
            out.write(path, path.relative_to(root.parent))
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(tiny_imagenet, "_ARCHIVE", replace(tiny_imagenet._ARCHIVE, url=archive.as_uri(), md5=md5))
    return archive


@pytest.mark.usefixtures("tiny_zip")
def test_tiny_imagenet_is_unpacked_and_its_validation_images_are_the_test() -> None:
    source = tiny_imagenet.TinyImageNet()
    assert not source.present()
    train = source.read("train")
    assert source.present()
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert train.classes == ("n01", "n02")
    test = source.read("test")
    assert test.labels.tolist() == [1, 0, 1]
    assert test.pixels.shape == (3, 3, 64, 64)


def test_a_missing_tiny_imagenet_says_what_goes_where(tiny_zip: Path, data_folder: Path) -> None:
    tiny_zip.unlink()
    with pytest.raises(UserError, match=r"put tiny-imagenet-200.zip into the folder") as refused:
        tiny_imagenet.TinyImageNet().read("train")
    assert str(data_folder) in str(refused.value)


def test_hidden_files_and_folders_are_never_used(tree: Path) -> None:
    """Copies in `.ipynb_checkpoints` and files of systems, at any depth; a set beside it without them is the same."""
    before = Folder(tree).read("train")
    for name in (".ipynb_checkpoints/0.png", "ant/.ipynb_checkpoints/0-checkpoint.png", "ant/._0.png"):
        write(tree / name)
    for name in ("__MACOSX/ant/._0.png", "ant/__MACOSX/0.png", "ant/more/.hidden.png", "@eaDir/0.png"):
        write(tree / name)
    (tree / "bee" / ".DS_Store").write_bytes(b"\0")
    after = Folder(tree).read("train")
    assert after.classes == before.classes
    assert torch.equal(after.pixels, before.pixels)
    contents = Folder(tree).inspect("train")
    assert contents.images == 12
    assert {(file.name, file.reason) for file in contents.all_skipped} == {
        (".ipynb_checkpoints", "hidden"),
        ("__MACOSX", "hidden"),
        ("@eaDir", "hidden"),
        ("ant/.ipynb_checkpoints", "hidden"),
        ("ant/__MACOSX", "hidden"),
        ("ant/._0.png", "hidden"),
        ("ant/more/.hidden.png", "hidden"),
        ("bee/.DS_Store", "hidden"),
    }


def test_what_is_not_used_is_named(tree: Path, tmp_path: Path) -> None:
    write(tree / "ant" / "more" / "deep.png")
    for name in ("stray.png", "ant/a.gif", "ant/more/b.tif", "bee/notes.txt"):
        (tree / name).write_bytes(b"")
    (tmp_path / "elsewhere").mkdir()
    (tree / "cat" / "others").symlink_to(tmp_path / "elsewhere")
    (tree / "cat" / "5.png").mkdir()
    (tree / "cat" / "more" / "empty").mkdir(parents=True)
    contents = Folder(tree).inspect("train")
    assert contents.names == ("ant", "bee", "cat")
    assert [one.images for one in contents.classes] == [5, 4, 4]
    assert contents.classes[0].files == (*(f"ant/{number}.png" for number in range(4)), "ant/more/deep.png")
    assert [[(file.name, file.reason) for file in one.skipped] for one in contents.classes] == [
        [("ant/a.gif", "other type"), ("ant/more/b.tif", "other type")],
        [("bee/notes.txt", "other type")],
        [("cat/others", "linked folder"), ("cat/5.png", "empty folder"), ("cat/more/empty", "empty folder")],
    ]
    assert [(file.name, file.reason) for file in contents.skipped] == [("stray.png", "not in a class folder")]
    assert len(Folder(tree).read("train").labels) == contents.images


def test_folders_beside_train_and_test_are_named(tmp_path: Path) -> None:
    for part in ("train", "test", "val"):
        for name in ("a", "b"):
            write(tmp_path / "set" / part / name / "0.png")
    (tmp_path / "set" / "test" / "a" / "1.gif").write_bytes(b"")
    source = Folder(tmp_path / "set")
    assert [file.name for file in source.inspect("train").all_skipped] == ["val"]
    assert [file.name for file in source.inspect("test").all_skipped] == ["test/a/1.gif"]


def test_links_to_files_and_class_folders_are_followed(tree: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    (linked / "ant").mkdir(parents=True)
    (linked / "bee").symlink_to(tree / "bee")
    (linked / "ant" / "0.png").symlink_to(tree / "ant" / "0.png")
    images = Folder(linked).read("train")
    assert images.labels.tolist() == [0, 1, 1, 1, 1]
    assert torch.equal(images.pixels[1:], Folder(tree).read("train").pixels[4:8])


def test_what_should_be_an_image_and_is_none_is_refused(tree: Path) -> None:
    link = tree / "bee" / "9.png"
    link.symlink_to("nowhere.png")
    for look in (Folder(tree).read, Folder(tree).inspect):
        with pytest.raises(UserError, match=r"bee/9\.png: a broken link: restore or delete it"):
            look("train")
    link.unlink()
    os.mkfifo(link)
    for look in (Folder(tree).read, Folder(tree).inspect):
        with pytest.raises(UserError, match=r"bee/9\.png: not a regular file"):
            look("train")


def test_inspecting_reads_no_pixels_and_finds_the_first_fault(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("pixels were decoded"))
    contents = Folder(tree).inspect("train")
    assert (contents.channels, contents.side) == (3, 6)
    monkeypatch.undo()
    monkeypatch.setenv("SUPERSNN_DATA", str(tree.parent / "data"))
    write(tree / "bee" / "1.png", (6, 5, 3))
    with pytest.raises(UserError, match=r"bee/1\.png: 5×6 pixels"):
        Folder(tree).inspect("train")


def test_decoded_images_are_inspected_without_their_files(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Folder(tree).read("train")
    monkeypatch.setattr(Image, "open", lambda _: pytest.fail("a file was opened"))
    contents = Folder(tree).inspect("train")
    assert (contents.channels, contents.side, contents.images) == (3, 6, 12)


def test_names_of_classes_that_are_no_text_are_refused(tree: Path) -> None:
    (tree / os.fsdecode(b"caf\xe9")).mkdir()
    with pytest.raises(UserError, match=r"caf\\udce9: expected a class name in UTF-8") as refused:
        Folder(tree).read("train")
    str(refused.value).encode()


def test_changed_pixels_in_the_kept_copy_are_found(tree: Path, data_folder: Path) -> None:
    first = Folder(tree).read("train")
    (copy,) = (data_folder / "cache").glob("*.safetensors")
    content = bytearray(copy.read_bytes())
    for place in (len(content) - 1, len(content) - 500):
        content[place] ^= 1
        copy.write_bytes(content)
        assert torch.equal(Folder(tree).read("train").pixels, first.pixels)
        assert copy.read_bytes() != content
    safetensors.torch.save_file({"pixels": first.pixels.contiguous(), "labels": first.labels}, copy)
    assert Folder(tree).read("train").classes == first.classes


@pytest.mark.parametrize(
    "name", ["folder:", "folder: ", "folder:a\0b", "folder:~no-such-user/a", "folder:" + "n" * 300]
)
def test_paths_that_cannot_be_are_one_line(name: str) -> None:
    config = DatasetConfig(name=name)
    for look in (lambda: read(config, "train"), lambda: next(registry.inspect(config))):
        with pytest.raises(UserError, match=r"dataset\.name: ") as refused:
            look()
        assert "\n" not in str(refused.value)
