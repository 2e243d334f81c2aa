"""Downloads of published files: atomic, and verified by their checksums."""

import gzip
import hashlib
import shutil
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from supersnn.errors import UserError
from supersnn.files import atomic_file

_TIMEOUT = 30.0  # seconds without a response


@dataclass(frozen=True)
class File:
    """A published file.

    md5: of its content; for a `gzipped` file of the unpacked content, because the packed bytes depend on the packer.
    """

    name: str
    url: str
    md5: str
    gzipped: bool = False

    def content(self, path: Path) -> bytes:
        """Return the (unpacked) content of a copy of this file.

        Raises:
            UserError: its checksum is wrong, or it is a damaged gzip file.
        """
        content = path.read_bytes()
        try:
            content = gzip.decompress(content) if self.gzipped else content
        except (OSError, EOFError) as error:
            raise UserError(f"{path}: damaged gzip file ({error}): delete it and fetch it again") from error
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if md5 != self.md5:
            raise UserError(f"{path}: MD5 {md5}, expected {self.md5}: delete it and fetch it again")
        return content


def obtain(files: Sequence[File], folder: Path, source: str) -> None:
    """Download the files that the folder does not have; safe for concurrent processes.

    Raises:
        UserError: a download fails; the text says which files to put where.
    """
    missing = [file for file in files if not (folder / file.name).exists()]
    if not missing:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            for file in missing:
                _download(file, folder / file.name)
    except OSError as error:
        names = ", ".join(file.name for file in missing)
        raise UserError(
            f"dataset.name: {source} cannot be downloaded ({error}): put {names} into the folder {folder} "
            f"(from {missing[0].url.rpartition('/')[0]}/), or set SUPERSNN_DATA to the folder that has it"
        ) from error


def _download(file: File, path: Path) -> None:
    if path.exists():  # another process downloaded it meanwhile
        return
    with atomic_file(path) as unfinished:
        with urllib.request.urlopen(file.url, timeout=_TIMEOUT) as response, unfinished.open("wb") as out:
            shutil.copyfileobj(response, out)
        file.content(unfinished)
