"""`folder:PATH`: the user's own images, a folder for each class.

Used are the files of `SUFFIXES` in class folders, at any depth; links to files and class folders that are links are
followed. Hidden files and folders (`.ipynb_checkpoints`, `._a.png`) and those that systems add (`__MACOSX`) are never
used. What else is not used is listed by `inspect`. A file that is used must be a good image.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from supersnn.config import ResizeConfig
from supersnn.errors import UserError
from supersnn.files import printable
from supersnn.sources import image_files
from supersnn.sources.base import ClassContents, Contents, Part, RawImages, SkippedFile
from supersnn.sources.cache import cached, stored_shape

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".webp")
_OF_SYSTEMS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found")
HIDDEN, OTHER_TYPE, LINKED, OUTSIDE = "hidden", "other type", "linked folder", "not in a class folder"
EMPTY = "empty folder"


@dataclass(frozen=True)
class Folder:
    """PATH/train and PATH/test, or one tree (PATH/train or PATH itself) to be split; classes are sorted by name."""

    path: Path
    resize: ResizeConfig | None = None

    def has_test(self) -> bool:
        """Return whether both parts exist."""
        return os.path.isdir(self.path / "train") and os.path.isdir(self.path / "test")

    def read(self, part: Part) -> RawImages:
        """Return the images in order of their paths; the test part must have the train part's shape and classes."""
        classes = self._classes(part)
        if part == "train":
            return read_tree(self._tree("train"), classes, resize=self.resize)
        channels, side = self.read("train").pixels.shape[1:3]
        return read_tree(self._tree("test"), classes, (channels, side), self.resize)

    def inspect(self, part: Part, shape: tuple[int, int] | None = None) -> Contents:
        """Return what a part consists of: file names, and the shape by the files' headers.

        Args:
            part: which part.
            shape: channels and side of the train part; None: they are looked up for the test part.

        Raises:
            UserError: the errors of `read`, except those for damage behind a file's header.
        """
        classes, tree = self._classes(part), self._tree(part)
        if part == "test" and shape is None:
            train = self.inspect("train")
            shape = train.channels, train.side
        found = [scan(tree, name, self.path) for name in classes]
        files = [(name, label) for label, one in enumerate(found) for name in one.files]
        channels, side = shape_of(tree, files, classes, shape, self.resize)
        return Contents(tuple(found), channels, side, tuple(self._outside(part)))

    def _tree(self, part: Part) -> Path:
        return self.path / part if part == "test" or os.path.isdir(self.path / "train") else self.path

    def _classes(self, part: Part) -> tuple[str, ...]:
        """Return the train part's class names, among which those of this part are."""
        tree = self._tree("train")
        classes = class_names(tree)
        if part == "test" and (unknown := set(class_names(self.path / "test")) - set(classes)):
            raise UserError(f"{printable(self.path / 'test' / min(unknown))}: no class of this name in {tree}")
        return classes

    def _outside(self, part: Part) -> list[SkippedFile]:
        """Return what is in no class folder: beside the class folders, and with "train" beside train and test."""
        tree = self._tree(part)
        levels = [tree] if part == "test" or tree == self.path else [self.path, tree]
        parts = {self.path / "train"} | ({self.path / "test"} if self.has_test() else set())
        return [
            SkippedFile(printable(os.path.relpath(entry.path, self.path)), HIDDEN if hidden(entry.name) else OUTSIDE)
            for level in levels
            for entry in sorted(os.scandir(level), key=lambda entry: entry.name)
            if hidden(entry.name) or not (entry.is_dir() if level == tree else Path(entry.path) in parts)
        ]


def hidden(name: str) -> bool:
    """Return whether a file or folder of this name is never used."""
    return name.startswith(".") or name in _OF_SYSTEMS


def class_names(tree: Path) -> tuple[str, ...]:
    """Return the names of a tree's class folders, sorted.

    Raises:
        UserError: the folder does not exist or cannot be read, or has fewer than two classes.
    """
    if not os.path.isdir(tree):
        raise UserError(f"dataset.name: folder {printable(tree)} does not exist")
    try:
        names = tuple(sorted(entry.name for entry in os.scandir(tree) if entry.is_dir() and not hidden(entry.name)))
    except OSError as error:
        raise UserError(f"dataset.name: folder {printable(tree)} cannot be read: {error.strerror}") from error
    if len(names) < 2:
        raise UserError(f"dataset.name: {printable(tree)} has {len(names)} class folders; expected two or more")
    for name in names:
        if not name.isprintable():
            raise UserError(f"{printable(tree / name)}: expected a class name in UTF-8 without control characters")
    return names


def read_tree(
    tree: Path, classes: tuple[str, ...], shape: tuple[int, int] | None = None, resize: ResizeConfig | None = None
) -> RawImages:
    """Return the images in a tree's class folders, at any depth; see `read_files`."""
    files = [(name, label) for label, folder in enumerate(classes) for name in scan(tree, folder, tree).files]
    return read_files(tree, files, classes, shape, resize)


def read_files(
    tree: Path,
    files: Sequence[tuple[str, int]],
    classes: tuple[str, ...],
    shape: tuple[int, int] | None,
    resize: ResizeConfig | None = None,
) -> RawImages:
    """Return images of a tree, given by name and label; see `image_files.decode`.

    The decoded images are cached, and decoded again when any name, label, size or modification time changes.

    Raises:
        UserError: `files` is empty, and the errors of `image_files.decode`.
    """
    key = _key(tree, files, classes, shape, resize)
    return cached("folder", key, lambda: image_files.decode(tree, files, classes, shape, resize))


def shape_of(
    tree: Path,
    files: Sequence[tuple[str, int]],
    classes: tuple[str, ...],
    shape: tuple[int, int] | None,
    resize: ResizeConfig | None = None,
) -> tuple[int, int]:
    """Return channels and side of what `read_files` would return, from its cache or the files' headers."""
    stored = stored_shape("folder", _key(tree, files, classes, shape, resize))
    if stored is not None:
        return stored[1], stored[2]
    return image_files.check_headers(tree, [name for name, _ in files], shape, resize)


def scan(tree: Path, folder: str, root: Path) -> ClassContents:
    """Return the files under a folder of a tree, at any depth.

    Args:
        tree: the used files' names, sorted, are relative to it.
        folder: name of the class folder; it may be missing.
        root: the skipped files' names are relative to it.

    Raises:
        UserError: a folder cannot be read.
    """
    used, skipped = [], []

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise UserError(f"{printable(error.filename)}: folder cannot be read: {error.strerror}") from error

    for parent, folders, names in os.walk(tree / folder, onerror=refuse):

        def skip(name: str, reason: str, parent: str = parent) -> None:
            skipped.append(SkippedFile(printable(os.path.relpath(os.path.join(parent, name), root)), reason))

        if not folders and not names and parent != str(tree / folder):
            skipped.append(SkippedFile(printable(os.path.relpath(parent, root)), EMPTY))
        for name in sorted(folders):
            if hidden(name) or os.path.islink(os.path.join(parent, name)):
                skip(name, HIDDEN if hidden(name) else LINKED)
        folders[:] = [name for name in sorted(folders) if not hidden(name)]  # os.walk does not follow links
        relative = Path(parent).relative_to(tree).as_posix()
        for name in sorted(names):
            if hidden(name) or not name.lower().endswith(SUFFIXES):
                skip(name, HIDDEN if hidden(name) else OTHER_TYPE)
            else:
                used.append(f"{relative}/{name}")
    return ClassContents(folder, len(used), tuple(sorted(used)), tuple(skipped))


def _key(
    tree: Path,
    files: Sequence[tuple[str, int]],
    classes: tuple[str, ...],
    shape: tuple[int, int] | None,
    resize: ResizeConfig | None,
) -> list[object]:
    """Return everything that decoded images depend on."""
    if not files:
        raise UserError(f"dataset.name: no images ({', '.join(SUFFIXES)}) in the class folders of {printable(tree)}")
    listing = []
    for name, label in files:
        path = f"{tree}/{name}"
        try:
            status = os.stat(path)
        except OSError as error:
            problem = "a broken link" if os.path.islink(path) else f"cannot be read: {error.strerror}"
            raise UserError(f"{printable(path)}: {problem}: restore or delete it") from error
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{printable(path)}: not a regular file: delete it")
        listing.append((name, label, status.st_size, status.st_mtime_ns))
    key: list[object] = [image_files.RULES, str(tree.resolve()), listing, classes, shape]
    return key if resize is None else [*key, resize.model_dump()]
