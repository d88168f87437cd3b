"""Why a text gets its answer: which supports speak for it, by how much, and what the answer would be without them.

A converged regularised linear head is a weighted sum of its supports (the representer theorem,
https://doi.org/10.1007/3-540-44581-1_27), so the share of each in a decision is exact, not estimated.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fewtext.classifier.answer import Answer
from fewtext.classifier.fitted import Fitted
from fewtext.classifier.supports import Supports
from fewtext.data.checks import checked_text
from fewtext.errors import LearnerError
from fewtext.heads import fit_linear, shares
from fewtext.tensors import TaskState


@dataclass(frozen=True)
class Evidence:
    """One support's part in a decision.

    Attributes:
        text: the support; the words of its class where `named`.
        label: its label, or a tuple of them where it may have several.
        share: what it adds to the lead; below 0 it speaks against the label.
        cosine: its similarity to the text.
        named: whether it is the words of a class instead of a text.
        without: the most probable label without it, or a tuple of all labels; None where that was not asked.
    """

    text: str
    label: Any
    share: float
    cosine: float
    named: bool = False
    without: Any = None


@dataclass(frozen=True)
class Explanation:
    """Why a text gets its answer.

    Attributes:
        text: the text.
        answer: what `classify` says, which may be that it does not know; where a text may have several labels, all
            that it is given.
        label: the label that is explained, the most probable one unless another was asked for.
        runner_up: the best of the others; None where a text may have several labels, which do not compete.
        lead: logit of the label minus that of the runner-up; the shares of all supports and the bias add up to it.
        evidence: the supports with the largest shares, for or against, the largest first.
        others: what all other supports add.
        bias: what the lead is whatever the text.
    """

    text: str
    answer: Answer | tuple[Any, ...]
    label: Any
    runner_up: Any
    lead: float
    evidence: list[Evidence]
    others: float
    bias: float

    def __str__(self) -> str:
        if isinstance(self.answer, Answer):
            given, denied, lead = self.answer.best, self.answer.label is None, f"{self.label}, not {self.runner_up}"
        else:
            given, denied, lead = self.answer, self.label not in self.answer, f"{self.label}"
        lines = [self.text, *[f"  {_words(self.answer)}"] * denied, f"  {lead}, by {self.lead:.2f}"]
        for own in self.evidence:
            name = f"(the name of {own.label})" if own.named else f"{own.text}  [{_words(own.label)}]"
            lines.append(f"  {own.share:+6.2f}  {name}")
            if own.without is not None:
                same = own.without == given
                lines.append(f"          {'the same without it' if same else f'without it: {_words(own.without)}'}")
        return "\n".join([*lines, f"  {self.others:+6.2f}  all others", f"  {self.bias:+6.2f}  whatever the text"])


class Explaining:
    """Gives a classifier `explain`."""

    @abstractmethod
    def _state(self) -> Fitted: ...

    @property
    @abstractmethod
    def supports_(self) -> Supports:
        """The labelled texts it is made of."""

    @abstractmethod
    def classify(self, texts: Iterable[str], top: int = 2) -> list[Answer]:
        """Return an answer to each text; its label is None where the classifier does not know."""

    def explain(self, text: str, *, label: Any = None, most: int = 5, without: int = 3) -> Explanation:
        """Return which supports decide the answer to a text, and whether it would be another without them.

        Args:
            text: the text.
            label: the label to explain, one of several say; the most probable one by default.
            most: supports to name.
            without: leave out so many of those that speak most for the answer, one at a time, and fit again.

        Raises:
            DataError: no text, no such label, or a classifier saved without its texts.
            LearnerError: `method="prototype"`.
        """
        state, supports = self._state(), self.supports_
        if "weight" not in state.head:
            raise LearnerError("the head of method='prototype' is no sum of its supports. Use method='linear'.")
        if label is not None:
            supports.check_class(label)
        examples, classes = state.examples(supports), supports.classes
        parts, rows = shares(examples, state.head, state.settings.C)
        vector = state.embedded([checked_text(text, "the text")])[0].double()
        logits = _logits(state.head, vector)
        best = int(logits.argmax()) if label is None else classes.index(label)
        second = int(logits.index_fill(0, torch.tensor(best), -torch.inf).argmax())
        sign = torch.zeros_like(logits)
        sign[best] = 1
        if not state.several:
            sign[second] = -1
        cosines, parts, lead = rows[:, :-1] @ vector, parts @ sign, (logits @ sign).item()
        own, bias = cosines * parts, (parts @ rows[:, -1]).item()
        words = supports.words(state.settings.names)
        texts = [*supports.texts, *filter(None, words)]
        kinds = [tuple(sorted(kind)) for kind in supports.labels] if state.several else supports.labels
        labels = [*kinds, *itertools.compress(classes, words)]
        count = len(supports.texts)
        found = [
            Evidence(texts[row], labels[row], own[row].item(), cosines[row].item(), row >= count)
            for row in own.abs().argsort(descending=True, stable=True)[:most].tolist()
        ]
        asked = [place for place, part in enumerate(found) if part.share > 0 and not part.named][:without]
        order = own.abs().argsort(descending=True, stable=True).tolist()
        for place in asked:
            kept = torch.ones(count, dtype=torch.bool)
            kept[order[place]] = False
            other = _logits(fit_linear(examples.rows(kept), state.settings.C), vector)
            left = _given(other, classes) if state.several else classes[int(other.argmax())]
            found[place] = replace(found[place], without=left)
        answer = _given(logits, classes) if state.several else self.classify([text])[0]
        others = lead - bias - sum(part.share for part in found)
        runner_up = None if state.several else classes[second]
        return Explanation(text, answer, classes[best], runner_up, lead, found, others, bias)


def _logits(head: TaskState, vector: Tensor) -> Tensor:
    return head["weight"].cpu().double() @ vector + head["bias"].cpu().double()


def _given(logits: Tensor, classes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the labels that a text is given where it may have several."""
    return tuple(itertools.compress(classes, (logits > 0).tolist()))


def _words(answer: Any) -> str:
    """Return an answer in words: a label, several of them, or that there is none."""
    return (", ".join(map(str, answer)) or "no label") if isinstance(answer, tuple) else str(answer)
