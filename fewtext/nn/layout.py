"""Where each token goes: ragged texts into the rectangular rows that transformers models read.

Positions start again at each text, so that texts can share a row, and a model with absolute positions gives the same
vectors as with one text a row. On a CPU all texts lie end to end, for an attention that takes those of one length
together. On a GPU few large products are faster than many exact ones: rows of a fixed width are packed
with texts, and a block mask keeps them apart. Models that can do neither get one text a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

TEXTS_PER_RUN = 16
ROUND_TO = 8
FILL_FROM, FILL_TO = 512, 64
_TASK_SIZES: ContextVar[Sequence[int] | None] = ContextVar("task_sizes", default=None)


@dataclass(frozen=True)
class Runs:
    """Texts of one length each, for attention to take together.

    Attributes:
        sizes: how many texts of which length follow each other.
        filler: tokens behind them that belong to no text.
        read: the place in the row of each of their tokens; None where the row has this order already.
        write: for each token of the row, which of these it is; the first for tokens that belong to no text.
        unread: `[texts, 1, length]` for each run, minus infinity for tokens that only fill up, otherwise zero; None
            where there are none.
        by_head: what attention has made of these, by its number of heads.
    """

    sizes: list[tuple[int, int]]
    filler: int
    read: Tensor | None = None
    write: Tensor | None = None
    unread: list[Tensor] | None = None
    by_head: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def is_one_text(self) -> bool:
        """Whether there is a single text and nothing else."""
        return not self.filler and [count for count, _ in self.sizes] == [1]


class Layout(NamedTuple):
    """Rows for one forward pass; total is the number of real tokens.

    Attributes:
        ids: `[rows, width]` token numbers, `pad` where nothing is.
        position: `[rows, width]`, place of each token in its own text.
        text: `[rows, width]`, number of the text a token belongs to, -1 for padding.
        flat: `[total]`, where each ragged token lies in the flattened rows.
        runs: what attention takes together, where texts lie end to end.
    """

    ids: Tensor
    position: Tensor
    text: Tensor
    flat: Tensor
    runs: Runs | None = None

    def block_mask(self, dtype: torch.dtype) -> Tensor:
        """Return an additive mask `[rows, 1, width, width]` that lets tokens see their own text only."""
        same = self.text[:, :, None] == self.text[:, None, :]  # padding sees padding, so no row is all masked
        return torch.zeros(same.shape, dtype=dtype, device=same.device).masked_fill_(~same, torch.finfo(dtype).min)[
            :, None
        ]


@contextmanager
def rows_per_task(sizes: Sequence[int]) -> Iterator[None]:
    """Within this scope the rows of T tasks are so many each; elsewhere they are equally many.

    A layer with weights for each task has to know, and the model that lies between cannot pass it on.
    """
    token = _TASK_SIZES.set(sizes)
    try:
        yield
    finally:
        _TASK_SIZES.reset(token)


def task_sizes() -> Sequence[int] | None:
    """Return how many rows each task has, or None where they are equally many."""
    return _TASK_SIZES.get()


def one_per_row(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give each text a row of its own: returns row and offset of each text."""
    return np.arange(len(lengths)), np.zeros(len(lengths), dtype=np.int64)


def pack(lengths: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Put texts into as few rows of `width` tokens as best-fit decreasing finds: row and offset of each text."""
    row, offset = np.zeros(len(lengths), dtype=np.int64), np.zeros(len(lengths), dtype=np.int64)
    open_rows: list[list[int]] = [[] for _ in range(width + 1)]  # by free tokens
    used = 0
    for text in np.argsort(-lengths, kind="stable"):
        length = int(lengths[text])
        free = next((free for free in range(length, width + 1) if open_rows[free]), None)
        if free is None:
            open_rows[width].append(used)
            free, used = width, used + 1
        row[text] = open_rows[free].pop()
        offset[text] = width - free
        open_rows[free - length].append(int(row[text]))
    return row, offset


def end_to_end(ids: Tensor, lengths: Tensor, *, pad: int = 0) -> Layout:
    """Place all texts in one row, filled up to a round number of tokens.

    Libraries prepare each product for its shape and keep what they prepared; a few shapes that come again are faster
    than many, and take less memory.

    Args:
        ids: `[total]` tokens, text after text, task after task.
        lengths: `[T, S]` tokens per text, 0 for an absent one.
        pad: token number for filling up.
    """
    sizes = lengths.reshape(-1).cpu().numpy()
    text, position = _texts(sizes)
    filler = -len(text) % FILL_TO if len(text) >= FILL_FROM else 0

    def row(values: Tensor, fill: int) -> Tensor:
        return torch.cat([values, values.new_full((filler,), fill)])[None].to(ids.device)

    positions, texts = torch.from_numpy(position), torch.from_numpy(text)
    flat = torch.arange(len(text), device=ids.device)
    return Layout(row(ids, pad), row(positions, 0), row(texts, -1), flat, _runs(sizes, filler))


def _runs(sizes: np.ndarray, filler: int) -> Runs:
    """Put texts of one length together; where that gives many small runs, texts of about the same length.

    They are filled up with their own first token, which is not looked at.
    """
    exact = len(np.unique(sizes[sizes > 0])) <= max(1, (sizes > 0).sum() // TEXTS_PER_RUN)
    filled = sizes if exact else -(-sizes // ROUND_TO) * ROUND_TO
    if exact and (np.diff(sizes[sizes > 0]) >= 0).all():
        found = zip(*np.unique(sizes[sizes > 0], return_counts=True), strict=True)
        return Runs([(int(count), int(length)) for length, count in found], filler)
    start = np.cumsum(sizes) - sizes
    runs, read, write, unread = [], [], np.zeros(sizes.sum() + filler, dtype=np.int64), []
    used = 0
    for length in np.unique(filled[filled > 0]):
        texts, step = np.flatnonzero(filled == length), np.arange(length)
        real = step < sizes[texts][:, None]
        places = start[texts][:, None] + np.where(real, step, 0)
        write[places[real]] = used + np.flatnonzero(real)
        used += real.size
        runs.append((len(texts), int(length)))
        read.append(places.reshape(-1))
        unread.append(torch.from_numpy(np.where(real, np.float32(0), -np.float32("inf")))[:, None])
    return Runs(
        runs, filler, torch.from_numpy(np.concatenate(read)), torch.from_numpy(write), None if exact else unread
    )


def in_rows(ids: Tensor, lengths: Tensor, *, packed: bool, width: int = 64, pad: int = 0) -> Layout:
    """Place the texts of T tasks in rows of equal width; each task gets the same number of rows, task after task.

    Args:
        ids: `[total]` tokens, row after row, task after task.
        lengths: `[T, S]` tokens per text, 0 for an absent one.
        packed: several texts a row (True) or one (False).
        width: tokens per row when packed; rows are as long as the longest text if that is longer.
        pad: token number for padding.
    """
    sizes = lengths.cpu().numpy()
    longest = int(sizes.max(initial=1))
    width = max(width, longest) if packed else longest
    per_task = [pack(own, width) if packed else one_per_row(own) for own in sizes]
    used = max(
        (int(row[own > 0].max(initial=-1)) + 1 for (row, _), own in zip(per_task, sizes, strict=True)),
        default=1,
    )
    used = max(used, 1)
    start = np.concatenate([(task * used + row) * width + offset for task, (row, offset) in enumerate(per_task)])
    text, position = _texts(sizes.reshape(-1))
    flat = torch.from_numpy(start[text] + position).to(ids.device)
    shape = (len(sizes) * used * width,)

    def rows(values: Tensor, fill: int) -> Tensor:
        out = torch.full(shape, fill, dtype=torch.long, device=ids.device)
        return out.index_copy_(0, flat, values.to(ids.device)).view(-1, width)

    return Layout(rows(ids, pad), rows(torch.from_numpy(position), 0), rows(torch.from_numpy(text), -1), flat)


def _texts(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each of the tokens of texts of these sizes, its text and its place in it."""
    text = np.repeat(np.arange(len(sizes)), sizes)
    return text, np.arange(len(text)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
