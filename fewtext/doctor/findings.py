"""What the doctor examines, and the form of what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np

HELD_OUT = ("validation", "test")
OUTSIDE = "(out of scope)"  # stands as the label of texts that belong to no class
Severity: TypeAlias = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Place:
    """One text and where it stands.

    Attributes:
        part: its row split, "" where there is none.
        row: its number within the row split, from 0.
        label: its label.
        text: the text.
    """

    part: str
    row: int
    label: str
    text: str


@dataclass(frozen=True)
class Example:
    """One case of a finding.

    Attributes:
        note: what is special about it.
        places: the texts concerned; none where it is about labels.
    """

    note: str
    places: tuple[Place, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        name: what was found.
        severity: `error` spoils results, `warning` probably costs accuracy, `note` is worth knowing.
        count: how many cases there are.
        advice: what to do about it.
        examples: the worst cases first.
    """

    name: str
    severity: Severity
    count: int
    advice: str
    examples: tuple[Example, ...]


@dataclass(frozen=True, eq=False)
class Sheet:
    """The n labelled texts that are examined.

    Attributes:
        texts: none of them empty.
        labels: label of each, or `OUTSIDE`.
        parts: row split of each, "" where there is none.
        rows: number of each within its row split, from 0.
        empty: rows without a text, which are left out.
        separator: what stands between the labels of a text that has several; None where each has one.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    parts: tuple[str, ...]
    rows: tuple[int, ...]
    empty: tuple[Place, ...] = ()
    separator: str | None = None

    def __add__(self, other: Sheet) -> Sheet:
        return Sheet(
            self.texts + other.texts,
            self.labels + other.labels,
            self.parts + other.parts,
            self.rows + other.rows,
            self.empty + other.empty,
            self.separator,
        )

    def place(self, position: int) -> Place:
        """Return the text at a position."""
        return Place(self.parts[position], self.rows[position], self.labels[position], self.texts[position])

    def example(self, positions: Sequence[int], note: str = "") -> Example:
        """Return the texts at these positions as one case."""
        return Example(note, tuple(self.place(int(position)) for position in positions))

    def only(self, positions: Sequence[int]) -> Sheet:
        """Return the texts at these positions."""
        return replace(
            self,
            texts=tuple(self.texts[position] for position in positions),
            labels=tuple(self.labels[position] for position in positions),
            parts=tuple(self.parts[position] for position in positions),
            rows=tuple(self.rows[position] for position in positions),
        )

    @cached_property
    def label_sets(self) -> list[tuple[str, ...]]:
        """The labels of each text, sorted, none of them twice."""
        if not self.separator:
            return [(label,) for label in self.labels]
        parts = [[label] if label == OUTSIDE else label.split(self.separator) for label in self.labels]
        return [tuple(sorted({part.strip() for part in own})) for own in parts]

    @cached_property
    def several(self) -> list[int]:
        """Positions of the supports that have several labels."""
        return [int(row) for row in self.supports if len(self.label_sets[row]) > 1]

    @cached_property
    def supports(self) -> np.ndarray:
        """Positions of the texts to learn from: in scope, and in no row split that is held out."""
        rows = zip(self.labels, self.parts, strict=True)
        return np.flatnonzero([label != OUTSIDE and part not in HELD_OUT for label, part in rows])

    @cached_property
    def classes(self) -> tuple[list[str], np.ndarray]:
        """The N classes of the supports, sorted, and the class number of each label of each support."""
        labels = [label for row in self.supports for label in self.label_sets[row]]
        names, numbers = np.unique(labels, return_inverse=True)
        return names.tolist(), numbers


def found(name: str, severity: Severity, advice: str, examples: Sequence[Example]) -> list[Finding]:
    """Return the cases as a finding; none where there are no cases."""
    return [Finding(name, severity, len(examples), advice, tuple(examples))] if examples else []
