"""Edits of a fitted classifier: the head is fitted again on remembered embeddings, which takes tenths of a second.

After an edit the classifier is the one that fitting from scratch on the same encoder would give. A refined encoder
stays as it is until `refit`; `needs_refit_` says when that is worth it.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Self

from fewtext.classifier.diff import Diff
from fewtext.classifier.fitted import Fitted
from fewtext.classifier.supports import Supports
from fewtext.data.checks import checked_texts, column
from fewtext.embedding import forget
from fewtext.errors import DataError

DEPTH = 50  # edits that can be undone
STALE = 0.1  # share of texts changed since refining from which on it is worth doing again
logger = logging.getLogger("fewtext")


class Editable:
    """Gives a classifier edits that are as exact as fitting again, and can be undone."""

    _history: list[Fitted]

    @abstractmethod
    def _state(self) -> Fitted: ...

    @abstractmethod
    def _become(self, state: Fitted) -> None: ...

    @property
    def supports_(self) -> Supports:
        """The labelled texts it is made of.

        Raises:
            DataError: it was saved without them.
        """
        if (supports := self._state().supports) is None:
            raise DataError(
                "this classifier was saved without its texts. Save it with include_texts=True, "
                "`fewtext fit … --include-texts`, to edit or explain it."
            )
        return supports

    @property
    def needs_refit_(self) -> bool:
        """Whether so many texts changed since refining, or since it did not help, that `refit` is worth its time."""
        changed = self._state().facts.get("refined", {}).get("changed_since", 0)
        return changed > 0 and changed >= STALE * len(self.supports_.texts)

    def add_examples(
        self, texts: Iterable[str], labels: Iterable[Any], *, paraphrases: Mapping[str, Iterable[str]] | None = None
    ) -> Self:
        """Learn from more texts, with paraphrases as in `fit`; a label that is new becomes a class.

        Raises:
            DataError: as in `fit`.
        """
        return self._edit(self.supports_.added(texts, labels, paraphrases))

    def remove_examples(self, texts: Iterable[str]) -> Self:
        """Learn from fewer texts; a class goes with its last one, unless it is described.

        Raises:
            DataError: a text that is not there, or fewer than two classes left.
        """
        return self._edit(self.supports_.without(texts))

    def relabel(self, text: str, label: Any) -> Self:
        """Give a text another label; one that is new becomes a class.

        Raises:
            DataError: no such text.
        """
        return self._edit(self.supports_.relabelled(text, label))

    def add_class(self, label: Any, texts: Iterable[str] = (), description: str | None = None) -> Self:
        """Add a class, from texts or from nothing but its name or a description.

        Raises:
            DataError: it is there already, or has neither texts nor words.
        """
        own, rows = self.supports_, list(column(texts))
        if label in own.classes:
            raise DataError(f"class {label!r} is there already. Use add_examples.")
        labels = [[label] if own.several else label] * len(rows)
        return self._edit((own.added(rows, labels) if rows else own).described(label, description))

    def remove_class(self, label: Any) -> Self:
        """Remove a class and its texts.

        Raises:
            DataError: no such class, or fewer than two left.
        """
        return self._edit(self.supports_.without_class(label))

    def rename_class(self, label: Any, name: Any) -> Self:
        """Give a class another name, which becomes its words, too.

        Raises:
            DataError: no such class, or one of the new name is there.
        """
        if name in self.supports_.classes:
            raise DataError(f"class {name!r} is there already. To make one of the two, use merge_classes.")
        return self._edit(self.supports_.renamed({label: name}))

    def merge_classes(self, labels: Iterable[Any], into: Any) -> Self:
        """Make one class of several.

        Raises:
            DataError: no such class, or fewer than two left.
        """
        return self._edit(self.supports_.renamed(dict.fromkeys(labels, into)))

    def undo(self) -> Self:
        """Take back the last edit.

        Raises:
            DataError: there is none.
        """
        if not self._history:
            raise DataError("nothing to undo: no edit since fitting, loading or forgetting.")
        *self._history, before = self._history
        self._become(before)
        return self

    def refit(self) -> Self:
        """Fit again as `fit` did, refining included, on the texts as they are now."""
        return self._remember(self._state().edited(self.supports_, refine=True))

    def forget(self, text: str) -> Self:
        """Remove a text, however it is written, and all that came of it: embeddings, the head, the states before.

        An encoder that was refined on it is refined again without it. Folders that were saved before stay as they
        are.

        Raises:
            DataError: no such text, or fewer than two classes left.
        """
        state, (supports, ways) = self._state(), self.supports_.forgotten(text)
        self._become(state.edited(supports, refine="refined" in state.facts))
        self._history = []
        forget(state.learner.encoder, ways, everywhere=True)
        return self

    def diff(self, other: Any = None, texts: Iterable[str] = ()) -> Diff:
        """Return what changed from another classifier, or from before the last edit, to this one.

        Args:
            other: the earlier classifier.
            texts: to be answered by both.

        Raises:
            DataError: there was no edit, or one of the two was saved without its texts.
        """
        if other is None and not self._history:
            raise DataError("no edit to compare with. Give another classifier.")
        before = self._history[-1] if other is None else other._state()
        supports, rows = self.supports_, list(column(texts))
        if before.supports is None:
            raise DataError(
                "the other classifier was saved without its texts. Save it with include_texts=True (--include-texts)."
            )
        return Diff.between(before, self._state(), before.supports, supports, checked_texts(rows) if rows else [])

    def _edit(self, supports: Supports) -> Self:
        self._remember(self._state().edited(supports))
        if self.needs_refit_:
            logger.info("%s", refit_advice(self._state().facts, "refit()"))
        return self

    def _remember(self, state: Fitted) -> Self:
        self._history = [*self._history, self._state()][-DEPTH:]
        self._become(state)
        return self


def refit_advice(facts: dict[str, Any], how: str) -> str:
    """Return in words why `how`, a call or an option that refits, is worth its time where `needs_refit_`."""
    if facts["refined"].get("kept", True):
        return f"many texts changed since the encoder was refined: {how} refines it again"
    return f"many texts changed since refining did not help: {how} tries whether it does now"
