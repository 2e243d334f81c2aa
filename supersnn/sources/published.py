"""Data sets that are published as a few files with known checksums."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from supersnn.sources.base import Contents, Part, RawImages, contents_of, data_root
from supersnn.sources.cache import cached
from supersnn.sources.files import File, obtain


@dataclass(frozen=True)
class Published:
    """Files in a folder of the data set's name under the data folder, and their decoder.

    files: the files of each part.
    decode: called with the part and its files' contents, in their order.
    installed: folder in which a package of the operating system installs the same files.
    """

    name: str
    class_count: int
    files: Mapping[Part, Sequence[File]]
    decode: Callable[[Part, Sequence[bytes]], RawImages]
    installed: Path | None = None

    @property
    def folder(self) -> Path:
        """Folder that its files are in, or are downloaded to."""
        if self.installed is not None and all((self.installed / file.name).exists() for file in self._all()):
            return self.installed
        return data_root() / self.name

    def has_test(self) -> bool:
        """Return True."""
        return True

    def present(self) -> bool:
        """Return whether all files exist."""
        return all((self.folder / file.name).exists() for file in self._all())

    def fetch(self) -> None:
        """Download missing files."""
        obtain(self._all(), self.folder, self.name)

    def read(self, part: Part) -> RawImages:
        """Return one part; its files are downloaded and verified only when it is not cached yet."""
        return cached(self.name, [part, [file.md5 for file in self.files[part]]], lambda: self._decoded(part))

    def inspect(self, part: Part) -> Contents:
        """Return what a part consists of; its files are decoded unless they are cached."""
        return contents_of(self.read(part))

    def _decoded(self, part: Part) -> RawImages:
        obtain(self.files[part], self.folder, self.name)
        return self.decode(part, [file.content(self.folder / file.name) for file in self.files[part]])

    def _all(self) -> list[File]:
        return list(dict.fromkeys(file for files in self.files.values() for file in files))
