"""Labelled texts: the one form in which data enters fewtext."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fewtext.data.checks import checked_label
from fewtext.errors import DataError


def normalise(text: str) -> str:
    """Return the form under which two texts count as the same: NFKC, case-folded, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def readable(label: object) -> str:
    """Return a label as words, the way an encoder reads it best: `card_not-arrived` → `card not arrived`."""
    return " ".join(str(label).translate(str.maketrans("_/-.", "    ")).split())


@dataclass(frozen=True, eq=False)
class LabeledTexts:
    """Texts with one class each, and out-of-scope texts kept apart.

    Attributes:
        name: where the texts come from, for messages and result files.
        texts: n texts.
        labels: `[n]`, positions in `classes`.
        classes: class names, sorted.
        out_of_scope: texts that belong to none of the classes; never a class themselves.
        descriptions: words for a class that say more than its name; classes without an entry use `readable`.
        partition: the official row split (`"train"`, `"validation"`, `"test"`) of each text, if there is one.
        out_of_scope_partition: the same for the out-of-scope texts.
        about: what the texts are about, in a sentence; may be empty.
        paraphrases: other ways to say a text, by text.
    """

    name: str
    texts: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    out_of_scope: tuple[str, ...] = ()
    descriptions: Mapping[str, str] = field(default_factory=dict)
    partition: tuple[str, ...] | None = None
    out_of_scope_partition: tuple[str, ...] | None = None
    about: str = ""
    paraphrases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def of(
        cls,
        texts: Iterable[Any],
        labels: Iterable[Any],
        *,
        name: str = "texts",
        out_of_scope_label: str | None = None,
        partition: Sequence[str] | None = None,
        descriptions: Mapping[str, str] | None = None,
    ) -> LabeledTexts:
        """Check raw texts and labels and number the classes in sorted order.

        Rows with an empty text are left out, as data sets in the wild have some; a wrong type is an error.

        Raises:
            DataError: not one label per text, a text that is not a string, a missing label, or no text at all.
        """
        texts, labels = list(texts), list(labels)
        if len(texts) != len(labels):
            raise DataError(f"{name}: {len(texts)} texts but {len(labels)} labels. Give one label per text.")
        for row, (text, label) in enumerate(zip(texts, labels, strict=True)):
            if not isinstance(text, str):
                raise DataError(f"{name}, row {row}: a text must be a string, got {type(text).__name__}.")
            checked_label(label, f"{name}, row {row}: the label")
        rows = [row for row, text in enumerate(texts) if text.strip()]
        if not rows:
            raise DataError(f"{name}: no text that is not empty. Give at least one.")
        names = [str(labels[row]) for row in rows]
        inside = [i for i, label in enumerate(names) if label != out_of_scope_label]
        outside = [i for i, label in enumerate(names) if label == out_of_scope_label]
        classes = tuple(sorted({names[i] for i in inside}))
        number = {label: position for position, label in enumerate(classes)}

        def pick(values: Sequence, chosen: list[int]) -> tuple:
            return tuple(values[rows[i]] for i in chosen)

        return cls(
            name=name,
            texts=pick(texts, inside),
            labels=np.array([number[names[i]] for i in inside], dtype=np.int64),
            classes=classes,
            out_of_scope=pick(texts, outside),
            descriptions=dict(descriptions or {}),
            partition=None if partition is None else pick(partition, inside),
            out_of_scope_partition=None if partition is None else pick(partition, outside),
        )

    def words(self, position: int) -> str:
        """Return the words that stand for a class: its description, else its readable name."""
        label = self.classes[position]
        return self.descriptions.get(label) or readable(label)

    def rows(self, chosen: Sequence[int] | np.ndarray) -> LabeledTexts:
        """Return the texts at these positions, with only the classes that remain, renumbered."""
        chosen = np.asarray(chosen, dtype=np.int64)
        kept, labels = np.unique(self.labels[chosen], return_inverse=True)
        return replace(
            self,
            texts=tuple(self.texts[i] for i in chosen),
            labels=labels.astype(np.int64),
            classes=tuple(self.classes[i] for i in kept),
            partition=None if self.partition is None else tuple(self.partition[i] for i in chosen),
        )

    def part(self, name: str) -> LabeledTexts:
        """Return the rows of the official row split `name`, its out-of-scope texts included.

        Raises:
            DataError: there is no official row split, or none of that name.
        """
        if self.partition is None or name not in self.partition:
            known = sorted(set(self.partition or ()))
            raise DataError(f"{self.name}: no official {name!r} rows; the row splits are {known or 'none'}.")
        outside = zip(self.out_of_scope, self.out_of_scope_partition or (), strict=False)
        return replace(
            self.rows([row for row, part in enumerate(self.partition) if part == name]),
            name=f"{self.name}/{name}",
            out_of_scope=tuple(text for text, part in outside if part == name),
            out_of_scope_partition=None,
            partition=None,
        )

    def only(self, classes: Iterable[str], name: str | None = None) -> LabeledTexts:
        """Return the texts of these classes.

        Raises:
            DataError: a class that is not there.
        """
        wanted = set(classes)
        if missing := sorted(wanted - set(self.classes)):
            raise DataError(f"{self.name}: no class {missing[0]!r} ({len(missing)} of {len(wanted)} missing).")
        keep = np.array([label in wanted for label in self.classes])
        return replace(self.rows(np.flatnonzero(keep[self.labels])), name=name or self.name)

    def at_most(self, per_class: int, *, seed: int = 0) -> LabeledTexts:
        """Return a random `per_class` texts of each class, or all where there are fewer.

        Raises:
            DataError: a number below 0.
        """
        if per_class < 0:
            raise DataError(f"{self.name}: {per_class} texts of each class cannot be drawn. Ask for 0 or more.")
        order = np.random.default_rng(seed).permutation(len(self))
        kept = [order[self.labels[order] == label][:per_class] for label in range(len(self.classes))]
        return self.rows(np.sort(np.concatenate([order[:0], *kept])))

    def fingerprint(self) -> str:
        """Return a hash of texts and labels, in order: equal exactly when the data are equal."""
        digest = hashlib.sha256()
        for text, label in zip(self.texts, self.labels, strict=True):
            digest.update(f"{text}\x1f{self.classes[label]}\x1e".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


def class_disjoint(
    texts: LabeledTexts, groups: Mapping[str, Sequence[str]] | None = None, *, seed: int = 0
) -> dict[str, LabeledTexts]:
    """Split into `train`, `validation` and `test` texts that share no class.

    Args:
        texts: what to split.
        groups: class names per part; without them the classes are dealt at random, half to training and a
            quarter each to validation and test.
        seed: of the random deal.

    Raises:
        DataError: a class in two parts, an unknown class, or fewer than 6 classes for a random deal.
    """
    if groups is None:
        if len(texts.classes) < 6:
            raise DataError(
                f"{texts.name}: {len(texts.classes)} classes cannot be dealt to train, validation and test; "
                "6 or more are needed. Give class lists, or use all classes as test."
            )
        order = np.random.default_rng(seed).permutation(np.array(texts.classes, dtype=object))
        quarter = max(2, len(order) // 4)
        parts = {"validation": order[:quarter], "test": order[quarter : 2 * quarter]}
        groups = {"train": list(order[2 * quarter :])} | {key: list(part) for key, part in parts.items()}
    seen: dict[str, str] = {}
    for part, classes in groups.items():
        for label in classes:
            if label in seen:
                raise DataError(f"{texts.name}: class {label!r} stands in {seen[label]} and in {part}.")
            seen[label] = part
    return {part: texts.only(classes, f"{texts.name}/{part}") for part, classes in groups.items() if len(classes)}
