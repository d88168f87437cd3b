"""The texts a classifier is made of, and what can be done to them. Every edit returns new supports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fewtext.data.checks import (
    check_pairs,
    checked_choices,
    checked_labels,
    checked_paraphrases,
    checked_text,
    checked_texts,
    column,
)
from fewtext.data.texts import normalise, readable
from fewtext.data.training_set import TrainingSet
from fewtext.errors import DataError


@dataclass(frozen=True, eq=False)
class Supports:
    """Labelled texts.

    Attributes:
        texts: n texts.
        labels: the label of each, or a frozenset of them where a text may have several.
        classes: all labels, sorted; a class without texts is learned from its words.
        several: whether a text may have several labels, or none.
        descriptions: words for a label that say more than the label does.
        out_of_scope: texts that belong to no class.
        paraphrases: other ways to say a text, which count as one text with it.
    """

    texts: tuple[str, ...]
    labels: tuple[Any, ...]
    classes: tuple[Any, ...]
    several: bool = False
    descriptions: Mapping[Any, str] = field(default_factory=dict)
    out_of_scope: tuple[str, ...] = ()
    paraphrases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        texts: Iterable[str],
        labels: Iterable[Any],
        classes: Iterable[Any] | None = None,
        descriptions: Mapping[Any, str] | None = None,
        out_of_scope: Iterable[str] = (),
        paraphrases: Mapping[str, Iterable[str]] | None = None,
    ) -> Supports:
        """Check what a user gives.

        Raises:
            DataError: not one label per text, something that is no text or no label, a label or a description
                outside `classes`, paraphrases of another text, or fewer than two classes.
        """
        texts, outside = list(column(texts)), list(column(out_of_scope))
        rows = checked_texts(texts) if texts or classes is None else []
        several, values = checked_choices(labels)
        check_pairs(rows, values)
        found = {label for value in values for label in (value if several else (value,))}
        known = found if classes is None else set(checked_labels(classes).tolist())
        if unknown := sorted(found - known):
            raise DataError(f"label {unknown[0]!r} is none of the classes. Add it there, or correct it.")
        if not isinstance(descriptions := descriptions or {}, Mapping):
            raise DataError(f"label_descriptions must be words by label, got {type(descriptions).__name__}.")
        if unknown := descriptions.keys() - known:
            raise DataError(f"label_descriptions: no class {next(iter(unknown))!r} among the labels.")
        spoken = {label: checked_text(words, f"description of {label!r}") for label, words in descriptions.items()}
        outside = checked_texts(outside) if outside else []
        said = checked_paraphrases(paraphrases or {}, {*rows})
        return cls(tuple(rows), tuple(values), _sorted(known), several, spoken, tuple(outside), said).checked()

    def checked(self) -> Supports:
        """Return these supports if they make a classifier.

        Raises:
            DataError: fewer than two classes.
        """
        if len(self.classes) < 2:
            only = f"only one class, {self.classes[0]!r}" if self.classes else "no class"
            raise DataError(f"{only}. A classifier needs texts of at least two.")
        return self

    def words(self, names: bool) -> list[str]:
        """Return the words that stand for each class, "" for none.

        Raises:
            DataError: a class with neither words nor texts.
        """
        plain = names and all(isinstance(label, str) for label in self.classes)
        words = [self.descriptions.get(label) or (readable(label) if plain else "") for label in self.classes]
        seen = self.used()
        for label, word in zip(self.classes, words, strict=True):
            if not (word or label in seen):
                raise DataError(f"class {label!r} has no text and no words. Give it a text or a description.")
        return words

    def numbers(self) -> np.ndarray:
        """Return the class number of each text, `[n]`; with several labels, whether it has a class, `[n, N]`."""
        number = {label: place for place, label in enumerate(self.classes)}
        if not self.several:
            return np.array([number[label] for label in self.labels], dtype=np.int64)
        targets = np.zeros((len(self.texts), len(self.classes)), dtype=bool)
        for row, value in enumerate(self.labels):
            targets[row, [number[label] for label in value]] = True
        return targets

    def training_set(self, names: bool) -> TrainingSet:
        """Return the texts, the class numbers, and the words that stand for each class."""
        return TrainingSet(self.texts, self.numbers(), self.words(names), self.paraphrases)

    def used(self) -> set[Any]:
        """Return the classes that have texts."""
        return {label for value in self.labels for label in (value if self.several else (value,))}

    def shots(self) -> list[int]:
        """Return how many texts each class has."""
        counts = Counter(label for value in self.labels for label in (value if self.several else (value,)))
        return [counts[label] for label in self.classes]

    def rows(self, chosen: Sequence[int] | np.ndarray) -> Supports:
        """Return the texts at these places; the classes stay."""
        texts, labels = (tuple(own[row] for row in chosen) for own in (self.texts, self.labels))
        said = {text: self.paraphrases[text] for text in texts if text in self.paraphrases}
        return replace(self, texts=texts, labels=labels, paraphrases=said)

    def place(self, text: str) -> list[int]:
        """Return where a text stands, as written or, if it is nowhere so, but for case, width and spaces.

        Raises:
            DataError: it does not.
        """
        exact = [row for row, own in enumerate(self.texts) if own == text]
        wanted = normalise(checked_text(text, "the text"))
        if found := exact or [row for row, own in enumerate(self.texts) if normalise(own) == wanted]:
            return found
        raise DataError(f"no text {text!r:.80} among the {len(self.texts)} that this classifier was fitted to.")

    def added(
        self, texts: Iterable[str], labels: Iterable[Any], paraphrases: Mapping[str, Iterable[str]] | None = None
    ) -> Supports:
        """Return these and more texts; labels that are new become classes."""
        rows = checked_texts(texts)
        several, values = checked_choices(labels)
        if several != self.several:
            raise DataError(f"labels {'are lists' if several else 'are no lists'}, unlike those there. Use one kind.")
        check_pairs(rows, values)
        new = {label for value in values for label in (value if several else (value,))}
        checked_labels([*self.classes, *new])  # all of one kind
        classes = _sorted({*self.classes, *new})
        texts, values = (*self.texts, *rows), (*self.labels, *values)
        said = {**self.paraphrases, **checked_paraphrases(paraphrases or {}, {*texts})}
        return replace(self, texts=texts, labels=values, classes=classes, paraphrases=said)

    def without(self, texts: Iterable[str]) -> Supports:
        """Return these without some texts; a class goes with its last one, unless it is described."""
        gone = {row for text in checked_texts(texts) for row in self.place(text)}
        return self.rows([row for row in range(len(self.texts)) if row not in gone])._pruned(self)

    def forgotten(self, text: str) -> tuple[Supports, list[str]]:
        """Return these without a text, out of scope or a paraphrase or not, and all that went with it."""
        wanted = normalise(checked_text(text, "the text"))
        everything = (*self.texts, *self.out_of_scope, *(way for own in self.paraphrases.values() for way in own))
        gone = {own for own in everything if normalise(own) == wanted}
        if not gone:
            self.place(text)  # raises
        kept = self.rows([row for row, own in enumerate(self.texts) if own not in gone])._pruned(self)
        outside = tuple(own for own in self.out_of_scope if own not in gone)
        said = {own: tuple(way for way in ways if way not in gone) for own, ways in kept.paraphrases.items()}
        more = {way for own in gone for way in self.paraphrases.get(own, ())}
        return replace(kept, out_of_scope=outside, paraphrases=said), sorted(gone | more)

    def relabelled(self, text: str, label: Any) -> Supports:
        """Return these with another label for a text."""
        places = set(self.place(text))
        kept = self.rows([row for row in range(len(self.texts)) if row not in places])
        moved = kept.added([self.texts[row] for row in sorted(places)], [label] * len(places), self.paraphrases)
        order = np.argsort([*(row for row in range(len(self.texts)) if row not in places), *sorted(places)])
        return moved.rows(order)._pruned(self)

    def renamed(self, names: Mapping[Any, Any]) -> Supports:
        """Return these with other names for some classes; classes of one name become one.

        Raises:
            DataError: an unknown class.
        """
        for label in names:
            self.check_class(label)
        labels = checked_labels([names.get(label, label) for label in self.classes]).tolist()
        return self._mapped(dict(zip(self.classes, labels, strict=True)).__getitem__)

    def without_class(self, label: Any) -> Supports:
        """Return these without a class and the texts that have no other."""
        self.check_class(label)
        kept = [row for row, own in enumerate(self.labels) if own != (frozenset({label}) if self.several else label)]
        rest = self.rows(kept)
        labels = tuple(own - {label} for own in rest.labels) if self.several else rest.labels
        described = {own: words for own, words in self.descriptions.items() if own != label}
        classes = tuple(own for own in self.classes if own != label)
        return replace(rest, labels=labels, classes=classes, descriptions=described)

    def described(self, label: Any, words: str | None) -> Supports:
        """Return these with one more class, or with other words for one that is there."""
        checked_labels([*self.classes, label])
        more = {label: checked_text(words, f"description of {label!r}")} if words else {}
        return replace(self, classes=_sorted({*self.classes, label}), descriptions={**self.descriptions, **more})

    def check_class(self, label: Any) -> None:
        """Raise a DataError where there is no such class."""
        if label not in self.classes:
            raise DataError(f"no class {label!r}. Classes: {', '.join(map(str, self.classes))[:200]}.")

    def _pruned(self, before: Supports) -> Supports:
        """Return these without the classes that lost their last text and are not described."""
        gone = before.used() - self.used() - self.descriptions.keys()
        return replace(self, classes=tuple(own for own in self.classes if own not in gone))

    def _mapped(self, name: Callable[[Any], Any]) -> Supports:
        labels = (frozenset(map(name, own)) if self.several else name(own) for own in self.labels)
        order = sorted(self.descriptions, key=lambda own: name(own) == own)  # a class that keeps its name, its words
        described = {name(own): self.descriptions[own] for own in order}
        return replace(
            self, labels=tuple(labels), classes=_sorted(set(map(name, self.classes))), descriptions=described
        )


def changes(before: Supports, after: Supports) -> int:
    """Return how many texts were added, removed or given another label."""
    old, new = (Counter(zip(own.texts, own.labels, strict=True)) for own in (before, after))
    return max((old - new).total(), (new - old).total())


def _sorted(labels: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(np.unique(np.array(list(labels))).tolist())
