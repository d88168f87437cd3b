"""What is different between two classifiers: their texts, their classes, their answers."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from fewtext.classifier.certainty import knowing
from fewtext.classifier.fitted import Fitted
from fewtext.classifier.supports import Supports


@dataclass(frozen=True)
class Diff:
    """What is different between two classifiers.

    Attributes:
        added: texts with their labels that only the later one has.
        removed: texts with their labels that only the earlier one has.
        relabelled: texts with their labels before and after.
        classes_added: labels that only the later one has.
        classes_removed: labels that only the earlier one has.
        answers: of the texts asked, those with another answer, with the answers before and after, None for one that
            was rejected.
    """

    added: list[tuple[str, Any]]
    removed: list[tuple[str, Any]]
    relabelled: list[tuple[str, Any, Any]]
    classes_added: list[Any]
    classes_removed: list[Any]
    answers: list[tuple[str, Any, Any]]

    def __str__(self) -> str:
        lines = [f"+ class {label}" for label in self.classes_added]
        lines += [f"- class {label}" for label in self.classes_removed]
        lines += [f"+ {label}: {text}" for text, label in self.added]
        lines += [f"- {label}: {text}" for text, label in self.removed]
        lines += [f"  {before} -> {after}: {text}" for text, before, after in self.relabelled]
        said = [(text, *("?" if own is None else own for own in both)) for text, *both in self.answers]
        lines += [f"  answer {before} -> {after}: {text}" for text, before, after in said]
        return "\n".join(lines) or "no difference"

    @classmethod
    def between(cls, before: Fitted, after: Fitted, old: Supports, new: Supports, asked: list[str]) -> Diff:
        """Compare two classifiers, their supports, and their answers to the texts asked."""
        added, removed, relabelled = _moved(old, new)
        answers = []
        if asked:
            both = (_answered(own, asked) for own in (before, after))
            answers = [(text, a, b) for text, a, b in zip(asked, *both, strict=True) if a != b]
        first, second = (own.classes.tolist() for own in (before, after))
        return cls(
            added,
            removed,
            relabelled,
            [label for label in second if label not in first],
            [label for label in first if label not in second],
            answers,
        )


def _moved(
    old: Supports, new: Supports
) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]], list[tuple[str, Any, Any]]]:
    """Return what was added, removed and given another label; a text may be there more than once."""
    first, second = (Counter(zip(own.texts, map(_plain, own.labels), strict=True)) for own in (old, new))
    come: dict[str, list[Any]] = defaultdict(list)
    for text, label in (second - first).elements():
        come[text].append(label)
    removed, relabelled = [], []
    for text, label in (first - second).elements():
        if come[text]:
            relabelled.append((text, label, come[text].pop(0)))
        else:
            removed.append((text, label))
    return [(text, label) for text, labels in come.items() for label in labels], removed, relabelled


def _answered(state: Fitted, texts: list[str]) -> list[Any]:
    """Return the label of each text, None where `classify` rejects it; where texts may have several, a tuple."""
    own, labels = state.certainty, state.predicted(texts).tolist()
    if own.threshold is None:  # so it is with several labels, too
        return labels
    (scores,) = state.ask(
        texts, lambda logits, rows: (knowing(logits / own.temperature, state.cosines(logits, rows)),)
    )
    return [label if score >= own.threshold else None for label, score in zip(labels, scores, strict=True)]


def _plain(label: Any) -> Any:
    """Return a set of labels as `predict` does, a label as it is."""
    return tuple(sorted(label)) if isinstance(label, frozenset) else label
