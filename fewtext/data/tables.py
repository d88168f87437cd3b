"""Tables of text: csv and tsv files, in which everything is text."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pandas

from fewtext.errors import DataError

TABLES = (".csv", ".tsv")
OTHERS = (";", "\t")  # what spreadsheets put between columns where a comma is in numbers
QUOTES = "Put texts with a separator in them in quotes."


def read_table(path: Path, rows: int = sys.maxsize) -> Iterator[pandas.DataFrame]:
    """Yield the rows of a table, so many at a time; of one without rows, its columns.

    Left to themselves, readers take "NA" as missing and 007 as 7.

    Raises:
        DataError: not UTF-8, or rows of more fields than the header has.
    """
    try:
        sep = _separator(path)
        with pandas.read_csv(path, sep=sep, dtype=str, keep_default_na=False, chunksize=rows) as frames:
            for frame in frames:
                if not isinstance(frame.index, pandas.RangeIndex):
                    raise DataError(f"{path.name}: rows have more fields than the header. {QUOTES}")
                yield frame
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name}: cannot be read ({error}). Save it as UTF-8.") from error
    except pandas.errors.ParserError as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{path.name}: cannot be read ({reason}). {QUOTES}") from error


def _separator(path: Path) -> str:
    """Return what stands between columns: in a csv file without a comma in its header perhaps something else."""
    if path.suffix == ".tsv":
        return "\t"
    with path.open(encoding="utf-8", errors="replace") as file:
        header = file.readline()
    return next((mark for mark in (",", *OTHERS) if mark in header), ",")
