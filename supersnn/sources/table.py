"""`dataset.layout`: images named by a CSV file with a path and a label a row, in place of class folders.

Paths are relative to the data set's folder. With a column for the part, whose values are ``train`` and ``test``, it has
a test part of its own. Classes are the labels, sorted.
"""

import csv
import os
from dataclasses import dataclass
from pathlib import Path

from supersnn.config import LayoutConfig, ResizeConfig
from supersnn.errors import UserError, nearest, shortened
from supersnn.files import printable
from supersnn.sources.base import ClassContents, Contents, Part, RawImages
from supersnn.sources.folder import SUFFIXES, read_files, shape_of

_PARTS = ("train", "test")


@dataclass(frozen=True)
class Row:
    """One image: its path relative to the folder, its label and its part."""

    path: str
    label: str
    part: str


@dataclass(frozen=True)
class Table:
    """The images of a folder that a CSV file names."""

    folder: Path
    layout: LayoutConfig
    resize: ResizeConfig | None = None

    def has_test(self) -> bool:
        """Return whether the file has a column for the part."""
        return self.layout.part is not None

    def read(self, part: Part) -> RawImages:
        """Return the images of a part in the order of the file; the test part has the train part's shape."""
        files, classes = self._files(part)
        shape = None
        if part == "test":
            channels, side = self.read("train").pixels.shape[1:3]
            shape = channels, side
        return read_files(self.folder, files, classes, shape, self.resize)

    def inspect(self, part: Part, shape: tuple[int, int] | None = None) -> Contents:
        """Return what a part consists of, by the files' headers; the errors of `read`."""
        if part == "test" and shape is None:
            train = self.inspect("train")
            shape = train.channels, train.side
        files, classes = self._files(part)
        channels, side = shape_of(self.folder, files, classes, shape, self.resize)
        names: list[list[str]] = [[] for _ in classes]
        for name, label in files:
            names[label].append(name)
        found = (ClassContents(one, len(of), tuple(of)) for one, of in zip(classes, names, strict=True))
        return Contents(tuple(found), channels, side)

    def _files(self, part: Part) -> tuple[list[tuple[str, int]], tuple[str, ...]]:
        rows = self._rows()
        classes = tuple(sorted({row.label for row in rows if row.part == "train"}))
        if len(classes) < 2:
            raise UserError(f"{self._name}: {len(classes)} classes; expected two or more")
        for row in rows:
            if row.label not in classes:
                raise UserError(f"{self._name}: {row.path}: no training image of class {row.label!r}")
        chosen = [(row.path, classes.index(row.label)) for row in rows if row.part == part]
        return chosen, classes

    @property
    def _file(self) -> Path:
        return self.folder / self.layout.file

    @property
    def _name(self) -> str:
        return f"dataset.layout.file: {printable(self._file)}"

    def _rows(self) -> list[Row]:
        """Return the file's rows.

        Raises:
            UserError: the file cannot be read, lacks a column, or has a row that names no image.
        """
        try:
            with self._file.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                self._require_columns(list(reader.fieldnames or ()))
                rows = [self._row(reader.line_num, row) for row in reader]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{self._name}: cannot be read as a CSV file: {shortened(str(error))}") from error
        if not rows:
            raise UserError(f"{self._name}: no rows below the names of the columns")
        seen: set[str] = set()
        for row in rows:
            if row.path in seen:
                raise UserError(f"{self._name}: {row.path} is named twice; name each image once")
            seen.add(row.path)
        return rows

    def _require_columns(self, columns: list[str]) -> None:
        for key, column in (("path", self.layout.path), ("label", self.layout.label), ("part", self.layout.part)):
            if column is not None and column not in columns:
                found = f"; its columns are {', '.join(columns)}" if columns else "; it is empty"
                raise UserError(
                    f"dataset.layout.{key}: {printable(self._file)} has no column {column!r}"
                    f"{nearest(column, columns) or found}"
                )

    def _row(self, line: int, row: dict[str, str]) -> Row:
        path, label = (row.get(self.layout.path) or "").strip(), (row.get(self.layout.label) or "").strip()
        part = "train" if self.layout.part is None else (row.get(self.layout.part) or "").strip()
        where = f"{self._name}, line {line}"
        if not path or not label:
            raise UserError(f"{where}: expected a path and a label, found {shortened(str(list(row.values())))}")
        if part not in _PARTS:
            raise UserError(f"{where}: {self.layout.part}: expected train or test, found {shortened(repr(part))}")
        if not path.lower().endswith(SUFFIXES):
            raise UserError(f"{where}: {shortened(repr(path))}: expected an image ({', '.join(SUFFIXES)})")
        return Row(os.path.normpath(path), label, part)
