"""Published files: downloaded whole or not at all, and never believed without their checksum."""

import gzip
import hashlib
import os
import shutil
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from supersnn.errors import UserError

_TIMEOUT = 30.0  # seconds without an answer


@dataclass(frozen=True)
class File:
    """A published file.

    md5: of its content; of a `gzipped` file's, unpacked, since packers differ in what they write.
    """

    name: str
    url: str
    md5: str
    gzipped: bool = False

    def content(self, path: Path) -> bytes:
        """Return the content (unpacked) of a copy of this file.

        Raises:
            UserError: it is another content.
        """
        content = path.read_bytes()
        try:
            content = gzip.decompress(content) if self.gzipped else content
        except (OSError, EOFError) as error:
            raise UserError(f"{path}: a damaged gzip file ({error}): delete it and fetch it again") from error
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != self.md5:
            raise UserError(f"{path}: MD5 {found}, expected {self.md5}: delete it and fetch it again")
        return content


def obtain(files: Sequence[File], folder: Path, source: str) -> None:
    """Download those of the files that the folder lacks; several processes may ask at once.

    Raises:
        UserError: a download fails: which files to put where.
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
        wanted = ", ".join(file.name for file in missing)
        raise UserError(
            f"dataset.name: {source} cannot be downloaded ({error}): put {wanted} into the folder {folder} "
            f"(from {missing[0].url.rpartition('/')[0]}/), or set SUPERSNN_DATA to where it is"
        ) from error


def _download(file: File, path: Path) -> None:
    if path.exists():  # another process was faster
        return
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with urllib.request.urlopen(file.url, timeout=_TIMEOUT) as answer, unfinished.open("wb") as out:
            shutil.copyfileobj(answer, out)
        file.content(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
