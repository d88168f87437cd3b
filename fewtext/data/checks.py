"""Checks of what users hand to a classifier."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count, islice
from typing import Any

import numpy as np
import pandas

from fewtext.errors import DataError


def checked_texts(texts: Iterable[str], *, first: int = 0) -> list[str]:
    """Return the texts as a list; `first` is the number of the first one in messages.

    Raises:
        DataError: a single string, no text, or a text that is empty or no string.
    """
    if isinstance(texts, str):
        raise DataError("one string where several texts are expected. Write [text].")
    rows = list(texts)
    if not rows:
        raise DataError("no texts. Give at least one.")
    for row, text in enumerate(rows, first):
        checked_text(text, f"text {row}")
    return rows


def checked_text(text: Any, where: str) -> str:
    """Return a text that is a string with something in it.

    Raises:
        DataError: empty, or no string.
    """
    if not isinstance(text, str):
        raise DataError(f"{where}: a text must be a string, got {type(text).__name__}.")
    if not text.strip():
        raise DataError(f"{where} is empty. Drop it, or give it words.")
    return text


def batches(texts: Iterable[str], size: int) -> Iterator[tuple[int, list[str]]]:
    """Yield lists of `size` texts, fewer in the last one, each with the number of its first text.

    Raises:
        DataError: a single string.
    """
    if isinstance(texts, str):
        raise DataError("one string where several texts are expected. Write [text].")
    rest = iter(texts)
    for start in count(step=size):
        if not (rows := list(islice(rest, size))):
            return
        yield start, rows


def checked_label(label: Any, where: str) -> Any:
    """Return a label that is a string, a number or a truth value.

    Raises:
        DataError: missing (None, NaN, an empty string), or something else, such as a list.
    """
    if label is not None and not pandas.api.types.is_scalar(label):
        raise DataError(f"{where} must be a string or a number, got {type(label).__name__}. Give one a text.")
    if label is None or pandas.isna(label) or (isinstance(label, str) and not label.strip()):
        raise DataError(f"{where} is missing. Drop the text or label it.")
    return label


def checked_labels(labels: Iterable[Any]) -> np.ndarray:
    """Return the labels as an array of their own type.

    Raises:
        DataError: a missing label, one that is no scalar, or strings mixed with something else.
    """
    values = [checked_label(label, f"label {row}") for row, label in enumerate(labels)]
    kinds = {type(label) for label in values}
    if str in kinds and len(kinds) > 1:
        raise DataError(f"labels of several types ({sorted(kind.__name__ for kind in kinds)}). Use one.")
    return np.array(values)
