"""Tiny ImageNet: 64×64 RGB images of 200 classes.

Its own test images have no labels, so its validation images are the test part.
"""

import os
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from filelock import FileLock

from supersnn.errors import UserError
from supersnn.sources.base import Contents, Part, RawImages, contents_of, data_root
from supersnn.sources.files import File, obtain
from supersnn.sources.folder import class_names, read_files, read_tree, scan

_ARCHIVE = File(
    "tiny-imagenet-200.zip",
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    "90528d7ca1a48142e341f4ef8d21d0de",
)
_SHAPE = (3, 64)


class TinyImageNet:
    """`tiny-imagenet-200` under the data folder, as in the archive."""

    class_count = 200

    @property
    def folder(self) -> Path:
        """Folder that the archive is unpacked to."""
        return data_root() / "tiny-imagenet-200"

    def has_test(self) -> bool:
        """Return True: its validation images."""
        return True

    def present(self) -> bool:
        """Return whether the archive has been unpacked."""
        return (self.folder / "val" / "val_annotations.txt").exists()

    def fetch(self) -> None:
        """Download and unpack the archive unless that is done; safe for concurrent processes."""
        if self.present():
            return
        obtain([_ARCHIVE], data_root(), "tiny-imagenet")
        with FileLock(data_root() / ".tiny-imagenet.lock"):
            if self.present():
                return
            if self.folder.exists():
                raise UserError(
                    f"{self.folder}: no val/val_annotations.txt in it: delete the folder to unpack the archive again"
                )
            content = _ARCHIVE.content(data_root() / _ARCHIVE.name)
            with TemporaryDirectory(dir=data_root()) as unfinished, ZipFile(BytesIO(content)) as archive:
                archive.extractall(unfinished)
                os.replace(Path(unfinished) / self.folder.name, self.folder)

    def read(self, part: Part) -> RawImages:
        """Return one part."""
        self.fetch()
        classes = class_names(self.folder / "train")
        if part == "train":
            return read_tree(self.folder / "train", classes, _SHAPE)
        label = {name: position for position, name in enumerate(classes)}
        annotations = self.folder / "val" / "val_annotations.txt"
        files = []
        for line in annotations.read_text().splitlines():
            name, class_name, *_ = line.split("\t")
            if class_name not in label:
                raise UserError(f"{annotations}: {name}: class {class_name!r} is not in {self.folder / 'train'}")
            files.append((f"images/{name}", label[class_name]))
        return read_files(annotations.parent, files, classes, _SHAPE)

    def inspect(self, part: Part) -> Contents:
        """Return what the train part consists of, by its file names; other parts are read."""
        if part == "test":
            return contents_of(self.read(part))
        self.fetch()
        tree = self.folder / "train"
        return Contents(tuple(scan(tree, name, self.folder) for name in class_names(tree)), *_SHAPE)
