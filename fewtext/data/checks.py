"""Checks of what users hand to a classifier."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sized
from itertools import count, islice
from typing import Any

import numpy as np
import pandas

from fewtext.errors import DataError


def column(rows: Iterable[Any], of: str = "text") -> Iterable[Any]:
    """Return texts or labels as they are, if that is what iterating over them gives.

    Raises:
        DataError: a single string; a table, which gives the names of its columns; or nothing to iterate over.
    """
    if isinstance(rows, str):
        raise DataError(f"one string where several {of}s are expected. Write [{of}].")
    kind = type(rows)
    table = isinstance(rows, Mapping) or hasattr(kind, "columns") or hasattr(kind, "column_names")
    if table or not isinstance(rows, Iterable) or getattr(rows, "ndim", 1) != 1:
        raise DataError(f"{of}s must be a list or one column, got {kind.__name__}. Write data['{of}'] or data[:, 0].")
    return rows


def check_pairs(texts: Sized, labels: Sized) -> None:
    """Raise a DataError where there is not one label per text."""
    if len(texts) != len(labels):
        raise DataError(f"{len(texts)} texts but {len(labels)} labels. Give one label per text.")


def checked_texts(texts: Iterable[str], *, first: int = 0) -> list[str]:
    """Return the texts as a list; `first` is the number of the first one in messages.

    Raises:
        DataError: a single string, a table, no text, or a text that is empty or no string.
    """
    rows = [checked_text(text, f"text {row}") for row, text in enumerate(column(texts), first)]
    if not rows:
        raise DataError("no texts. Give at least one.")
    return rows


def checked_text(text: Any, where: str) -> str:
    """Return a text that is a string with something in it, as a plain one that can be written.

    Raises:
        DataError: empty, or no string.
    """
    if not isinstance(text, str):
        raise DataError(f"{where}: a text must be a string, got {type(text).__name__}.")
    if not text.strip():
        raise DataError(f"{where} is empty. Drop it, or give it words.")
    plain = str(text)  # NumPy's strings say more than their text when they are shown
    writable = plain.encode("utf-8", "replace").decode()  # as encoders read it: lone surrogates are in no file
    return plain if plain == writable else writable


def checked_paraphrases(given: Mapping[str, Iterable[str]], texts: Container[str]) -> dict[str, tuple[str, ...]]:
    """Return other ways to say some of the texts, by text.

    Raises:
        DataError: no mapping, a text that is not there, or a paraphrase that is empty or no string.
    """
    if not isinstance(given, Mapping):
        raise DataError(f"paraphrases must be lists of texts by text, got {type(given).__name__}.")
    found = {}
    for raw, ways in given.items():
        text = checked_text(raw, "paraphrases: a text")
        if raw not in texts and text not in texts:
            raise DataError(f"paraphrases: no text {text!r:.80} among those to learn from.")
        found[text] = tuple(checked_text(way, f"a paraphrase of {text!r:.80}") for way in column(ways))
    return {text: ways for text, ways in found.items() if ways}


def batches(texts: Iterable[str], size: int) -> Iterator[tuple[int, list[str]]]:
    """Yield lists of `size` texts, fewer in the last one, each with the number of its first text.

    Raises:
        DataError: a single string, or a table.
    """
    rest = iter(column(texts))
    for start in count(step=size):
        if not (rows := list(islice(rest, size))):
            return
        yield start, rows


def checked_label(label: Any, where: str) -> Any:
    """Return a label that is a string, a number or a truth value.

    Raises:
        DataError: missing (None, NaN, an empty string), infinite, or something else, such as a list.
    """
    if label is not None and not pandas.api.types.is_scalar(label):
        raise DataError(f"{where} must be a string or a number, got {type(label).__name__}. Give one a text.")
    if label is None or pandas.isna(label) or (isinstance(label, str) and not label.strip()):
        raise DataError(f"{where} is missing. Drop the text or label it.")
    if isinstance(label, float) and math.isinf(label):
        raise DataError(f"{where} is infinite. Give it a finite number, or a name.")
    return label


def checked_labels(labels: Iterable[Any]) -> np.ndarray:
    """Return the labels as an array of their own type.

    Raises:
        DataError: a table, a missing label, one that is no scalar, or strings mixed with something else.
    """
    values = [checked_label(label, f"label {row}") for row, label in enumerate(column(labels, "label"))]
    if 0 < sum(isinstance(label, str) for label in values) < len(values):
        raise DataError(f"labels of several types ({sorted({type(label).__name__ for label in values})}). Use one.")
    return np.array(values)


def checked_choices(given: Iterable[Any]) -> tuple[bool, list[Any]]:
    """Return whether texts may have several labels, and the labels as plain Python values.

    Raises:
        DataError: as `checked_labels` does, or lists mixed with labels that are none.
    """
    labels = list(column(given, "label"))
    lists = [isinstance(label, list | tuple | set | frozenset | np.ndarray) for label in labels]
    if not any(lists):
        return False, checked_labels(labels).tolist()
    if not all(lists):
        raise DataError(f"label {lists.index(False)} is no list, others are. Give every text a list of labels.")
    flat = [checked_label(label, f"a label of text {row}") for row, own in enumerate(labels) for label in own]
    plain = iter(checked_labels(flat).tolist())
    return True, [frozenset(next(plain) for _ in own) for own in labels]
