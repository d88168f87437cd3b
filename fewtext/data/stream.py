"""Texts without labels, read as they are needed: a file of any size takes the memory of a few thousand rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fewtext.data.checks import checked_text
from fewtext.data.load import SUFFIXES, choose_column, read_rows
from fewtext.data.tables import read_table
from fewtext.errors import DataError

ROWS = 4096  # read at a time, where a reader wants to know


def stream_texts(source: str | Path, *, text_column: str | None = None) -> Iterator[str]:
    """Yield the texts of a file, of the files of a folder in the order of their names, or of a hub data set.

    Only a .json file is read as a whole. In a plain text file each line that is not blank is a text.

    Args:
        source: a csv, tsv, json, jsonl, parquet or text file (.txt or no suffix), a folder, or a hub id.
        text_column: column of the texts; guessed from `TEXT_COLUMNS` by default.

    Raises:
        DataError: not to be read, no such column, or a row whose text is empty or no string.
    """
    path = Path(source)
    if path.suffix in (".txt", *SUFFIXES) and not path.exists():
        raise DataError(f"{source}: no such file.")
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
    if path.is_dir() and not files:
        raise DataError(f"{path.name}: no file in this folder ends in one of {', '.join(SUFFIXES)}.")
    for file in files or [path]:
        read = READERS.get(file.suffix, _rows) if file.is_file() else _rows
        try:
            for row, text in enumerate(read(file, text_column)):
                yield checked_text(text, f"{file.name}, row {row}: the text")
        except (OSError, ValueError) as error:  # Arrow's, pandas' and json's errors are ValueErrors
            if isinstance(error, DataError):
                raise
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise DataError(f"{file}: cannot be read ({reason}).") from error


def _lines(path: Path, column: str | None) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            if line.strip():
                yield line.rstrip("\n")


def _json_lines(path: Path, column: str | None) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path.name}, line {number}: no JSON ({error}).") from error
            if not isinstance(row, dict):
                raise DataError(f"{path.name}, line {number}: an object is needed, got {type(row).__name__}.")
            if column is None or column not in row:
                column = choose_column(list(row), "text", column, f"{path.name}, line {number}")
            yield row[column]


def _table(path: Path, column: str | None) -> Iterator[Any]:
    for frame in read_table(path, ROWS):
        yield from frame[choose_column(list(frame), "text", column, path.name)]


def _parquet(path: Path, column: str | None) -> Iterator[Any]:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        column = choose_column(file.schema_arrow.names, "text", column, path.name)
        for rows in file.iter_batches(ROWS, columns=[column]):
            yield from rows.column(0).to_pylist()


def _rows(path: Path, column: str | None) -> Iterator[Any]:
    """Read whatever `load_texts` reads; a data set of the hub stays on the disk."""
    for rows in read_rows(str(path)).values():
        own = choose_column(rows.column_names, "text", column, str(path))
        part: Any
        for part in rows.select_columns([own]).iter(ROWS):
            yield from part[own]


READERS: dict[str, Callable[[Path, str | None], Iterator[Any]]] = {
    "": _lines,
    ".txt": _lines,
    ".jsonl": _json_lines,
    ".csv": _table,
    ".tsv": _table,
    ".parquet": _parquet,
}
