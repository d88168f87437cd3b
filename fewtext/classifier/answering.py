"""Answers beyond the best label: the best few, "I don't know", sets that are right as often as wanted, branches."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewtext.classifier.answer import Answer
from fewtext.classifier.certainty import (
    Certainty,
    conformal_margin,
    fitted_temperature,
    knowing,
    lower_bound,
    measured,
)
from fewtext.classifier.fitted import Fitted
from fewtext.data.checks import batches, check_pairs, checked_labels, checked_texts
from fewtext.errors import DataError, LearnerError
from fewtext.heads import CHUNK
from fewtext.nn.logistic import probabilities

CERTAIN = 0.5  # probability from which on a branch is named although its leaf is not known


class Answering:
    """Gives a classifier `predict_top`, `stream`, `classify`, `calibrate`, `predict_set` and `predict_branch`."""

    hierarchy: str | None
    coverage: float

    @abstractmethod
    def _state(self) -> Fitted: ...

    @abstractmethod
    def _become(self, state: Fitted) -> None: ...

    @property
    def certainty_(self) -> Certainty:
        """Temperature, threshold, and how well they fit; measured by cross-validation when first asked for."""
        return self._state().certainty

    def predict_top(self, texts: Iterable[str], k: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Return the `k` most probable labels of each text and their probabilities, `[n, k]` each, best first.

        With fewer than `k` classes it is all of them. However many there are, `[n, N]` is never held.

        Raises:
            DataError: texts that are not strings, or empty.
            LearnerError: `k` below 1.
        """
        return self._top(checked_texts(texts), k)

    def stream(self, texts: Iterable[str]) -> Iterator[tuple[Any, float]]:
        """Yield the most probable label of each text and its probability, in order, in constant memory.

        Texts are taken from any iterable, some thousands at a time.

        Raises:
            DataError: a text that is not a string, or empty; all before its batch have been answered.
        """
        for start, rows in batches(texts, CHUNK):
            labels, chances = self._top(checked_texts(rows, first=start), 1)
            yield from zip(labels[:, 0].tolist(), chances[:, 0].tolist(), strict=True)

    def classify(self, texts: Iterable[str], top: int = 2) -> list[Answer]:
        """Return an answer to each text; its label is None where the classifier does not know.

        Args:
            texts: n texts.
            top: how many of the best classes an answer names, two at least.

        Raises:
            DataError: texts that are not strings or empty, or a classifier of texts with several labels.
            LearnerError: `top` below 1.
        """
        return list(self._classified(checked_texts(texts), top))

    def classify_stream(self, texts: Iterable[str], top: int = 2) -> Iterator[Answer]:
        """Yield what `classify` returns, in order, in constant memory.

        Raises:
            DataError: as `classify`; all before its batch have been answered.
        """
        for start, rows in batches(texts, CHUNK):
            yield from self._classified(checked_texts(rows, first=start), top)

    def confidence(self, texts: Iterable[str]) -> np.ndarray:
        """Return how sure it is that it knows each text, `[n]`; `classify` rejects below `certainty_.threshold`.

        Raises:
            DataError: texts that are not strings or empty, or a classifier of texts with several labels.
        """
        state, rows = self._state(), checked_texts(texts)
        self._needs_one_label(state)
        temperature = state.certainty.temperature
        return state.ask(rows, lambda logits, own: (knowing(logits / temperature, state.cosines(logits, own)),))[0]

    def calibrate(self, texts: Iterable[str], labels: Iterable[Any], coverage: float | None = None) -> Certainty:
        """Set temperature, thresholds and prediction sets by labelled texts that the classifier was not fitted to.

        `classify` then accepts a share `coverage` of these texts, and the sets of `predict_set` hold the right label
        of a further text with probability `coverage` or more. An edit takes back what was set.

        Args:
            texts: n texts.
            labels: the label of each.
            coverage: the parameter of the same name by default.

        Raises:
            DataError: a label that is no class, or too few texts for that coverage.
            LearnerError: a coverage that cannot be.
        """
        state, rows, values = self._state(), checked_texts(texts), checked_labels(labels).tolist()
        self._needs_one_label(state)
        coverage = self.coverage if coverage is None else coverage
        replace(state.settings, coverage=coverage).check()
        number = {label: place for place, label in enumerate(state.classes.tolist())}
        if unknown := [label for label in values if label not in number]:
            raise DataError(f"label {unknown[0]!r} is no class of this classifier. Leave its texts out.")
        check_pairs(rows, values)
        found = state.held_out(rows, np.array([number[label] for label in values], dtype=np.int64))
        temperature = fitted_temperature(found)
        given = Certainty(
            temperature,
            lower_bound(found.scores(temperature), coverage),
            lower_bound(found.cosines, coverage),
            conformal_margin(found, coverage) / temperature,
            measured(found, temperature) | {"coverage": float(coverage)},
        )
        facts = {name: fact for name, fact in state.facts.items() if name != "results"}  # of the temperature before
        self._become(replace(state, given=given, facts=facts))
        return given

    def predict_set(self, texts: Iterable[str]) -> list[list[Any]]:
        """Return for each text the labels that may be right, the most probable one first.

        `calibrate` says how often the right one is among them.

        Raises:
            DataError: texts that are not strings or empty, or a classifier that was not calibrated.
        """
        state, rows = self._state(), checked_texts(texts)
        margin, temperature = state.certainty.margin, state.certainty.temperature
        if margin is None:
            raise DataError("sets of labels need calibrate(texts, labels) first, with texts that were not fitted to.")

        def of(logits: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor]:
            order = logits.argsort(dim=1, descending=True, stable=True)
            below = logits.max(dim=1, keepdim=True).values - logits
            return order, ((below / temperature) <= margin).sum(dim=1)

        return [state.classes[order[:count]].tolist() for order, count in zip(*state.ask(rows, of), strict=True)]

    def predict_branch(self, texts: Iterable[str], level: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Return the most probable branch of each text and its probability: the first `level` parts of labels.

        A branch is as probable as all of its labels together.

        Raises:
            LearnerError: no `hierarchy` is set, or a level below 1.
            DataError: texts that are not strings or empty, or a classifier of texts with several labels.
        """
        state, rows = self._state(), checked_texts(texts)
        self._needs_one_label(state)
        self._needs_some("level", level)
        names, member = self._branches(state, level)
        temperature = state.certainty.temperature

        def of(logits: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor]:
            chances = probabilities(logits / temperature, several=False) @ member.to(logits.device)
            best = chances.max(dim=1)
            return best.indices, best.values

        best, chance = state.ask(rows, of)
        return np.array(names)[best], chance

    def _branches(self, state: Fitted, level: int) -> tuple[list[str], Tensor]:
        """Return the names of the B branches, and which labels belong to each, `[N, B]`."""
        if not self.hierarchy:
            raise LearnerError(
                "branches need labels such as 'card/lost' and hierarchy='/', or what separates levels."
            )
        own = [self.hierarchy.join(str(label).split(self.hierarchy)[:level]) for label in state.classes.tolist()]
        names, numbers = np.unique(own, return_inverse=True)
        return names.tolist(), torch.nn.functional.one_hot(torch.from_numpy(numbers), len(names)).float()

    def _classified(self, rows: list[str], top: int) -> Iterator[Answer]:
        state = self._state()
        self._needs_one_label(state)
        self._needs_some("top", top)
        own, names, member = state.certainty, [None], None
        if self.hierarchy:
            names, member = self._branches(state, 1)

        def of(logits: Tensor, vectors: Tensor | None) -> tuple[Tensor, ...]:
            logits, cosines = logits / own.temperature, state.cosines(logits, vectors)
            chances = probabilities(logits, several=False)
            # Of equal logits `argmax` gives the first, as in `predict`; `topk` gives any.
            first = logits.argmax(dim=1, keepdim=True)
            others = logits.scatter(1, first, -torch.inf).topk(min(max(top, 2), logits.shape[1]) - 1, dim=1).indices
            best = torch.cat([first, others], dim=1)
            branch = (chances[:, :1] * 0 if member is None else chances @ member.to(logits.device)).max(dim=1)
            known = knowing(logits, cosines) >= (-torch.inf if own.threshold is None else own.threshold)
            return best, chances.gather(1, best), known, cosines, branch.indices, branch.values

        best, chances, *rest = state.ask(rows, of)
        columns = (state.classes[best].tolist(), chances.tolist(), *(column.tolist() for column in rest))
        for labels, shares, known, cosine, branch, likely in zip(*columns, strict=True):
            answer = Answer(labels[0], shares[0], tuple(zip(labels, shares, strict=True)))
            if not known and cosine < own.unfamiliar:
                answer = replace(answer, label=None, reason="unfamiliar")
            elif not known:
                parent = None if likely < CERTAIN else names[branch]
                answer = replace(answer, label=None, reason="ambiguous", parent=parent)
            yield answer

    def _top(self, rows: list[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        state = self._state()
        self._needs_some("k", k)
        k, temperature = min(k, len(state.classes)), state.certainty.temperature

        def best(logits: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor]:
            # Of equal logits `max` gives the first, as `argmax` in `predict` does; `topk` gives any.
            logits = logits / temperature
            values, places = logits.max(dim=1, keepdim=True) if k == 1 else logits.topk(k, dim=1)
            chances = values.sigmoid() if state.several else (values - logits.logsumexp(dim=1, keepdim=True)).exp()
            return places, chances

        places, chances = state.ask(rows, best)
        return state.classes[places], chances

    @staticmethod
    def _needs_one_label(state: Fitted) -> None:
        if state.several:
            raise DataError("texts of this classifier may have several labels, or none: ask predict for them.")

    @staticmethod
    def _needs_some(name: str, value: int) -> None:
        if value < 1:
            raise LearnerError(f"{name}={value}: it must be at least 1.")
