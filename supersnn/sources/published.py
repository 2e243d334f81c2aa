"""A data set that is published as a few files with known checksums."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from supersnn.sources.base import Part, RawImages, data_root
from supersnn.sources.cache import cached
from supersnn.sources.files import File, obtain


@dataclass(frozen=True)
class Published:
    """Files in a folder of their own name under the data folder, and how they are decoded.

    files: what each part is made from.
    decode: the part and its files' contents, in their order → images.
    installed: where a package of the operating system puts the same files.
    """

    name: str
    class_count: int
    files: Mapping[Part, Sequence[File]]
    decode: Callable[[Part, Sequence[bytes]], RawImages]
    installed: Path | None = None

    @property
    def folder(self) -> Path:
        """Where its files are, or belong."""
        if self.installed is not None and all((self.installed / file.name).exists() for file in self._all()):
            return self.installed
        return data_root() / self.name

    def has_test(self) -> bool:
        """It has a test part."""
        return True

    def present(self) -> bool:
        """Whether all its files are there."""
        return all((self.folder / file.name).exists() for file in self._all())

    def fetch(self) -> None:
        """Download the files that are missing."""
        obtain(self._all(), self.folder, self.name)

    def read(self, part: Part) -> RawImages:
        """Return one part; its files are needed, and checked, when it is first read."""
        return cached(self.name, [part, [file.md5 for file in self.files[part]]], lambda: self._decoded(part))

    def _decoded(self, part: Part) -> RawImages:
        obtain(self.files[part], self.folder, self.name)
        return self.decode(part, [file.content(self.folder / file.name) for file in self.files[part]])

    def _all(self) -> list[File]:
        return list(dict.fromkeys(file for files in self.files.values() for file in files))
