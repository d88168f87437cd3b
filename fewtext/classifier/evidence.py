"""Why a text gets its answer: which supports speak for it, by how much, and what the answer would be without them.

A converged regularised linear head is a weighted sum of its supports (the representer theorem,
https://doi.org/10.1007/3-540-44581-1_27), so the share of each in a decision is exact, not estimated.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import torch

from fewtext.classifier.fitted import Fitted
from fewtext.classifier.supports import Supports
from fewtext.data.checks import checked_text
from fewtext.errors import DataError, LearnerError
from fewtext.heads import fit_linear, shares


@dataclass(frozen=True)
class Evidence:
    """One support's part in a decision.

    Attributes:
        text: the support; the words of its class where `named`.
        label: its label.
        share: what it adds to the logit of the answer minus that of the runner-up; below 0 it speaks against it.
        cosine: its similarity to the text.
        named: whether it is the words of a class instead of a text.
        without: the answer without it; None where that was not asked.
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
        label: the most probable label.
        runner_up: the second best.
        lead: logit of the answer minus that of the runner-up; the shares of all supports and the bias add up to it.
        evidence: the supports with the largest shares, for or against, the largest first.
        others: what all other supports add.
        bias: what the answer has before the runner-up whatever the text.
    """

    text: str
    label: Any
    runner_up: Any
    lead: float
    evidence: list[Evidence]
    others: float
    bias: float

    def __str__(self) -> str:
        lines = [f"{self.text}", f"  {self.label}, not {self.runner_up}, by {self.lead:.2f}"]
        for own in self.evidence:
            name = f"(the name of {own.label})" if own.named else f"{own.text}  [{own.label}]"
            lines.append(f"  {own.share:+6.2f}  {name}")
            if own.without not in (None, self.label):
                lines.append(f"          without it: {own.without}")
        return "\n".join([*lines, f"  {self.others:+6.2f}  all others", f"  {self.bias:+6.2f}  whatever the text"])


class Explaining:
    """Gives a classifier `explain`."""

    @abstractmethod
    def _state(self) -> Fitted: ...

    @property
    @abstractmethod
    def supports_(self) -> Supports:
        """The labelled texts it is made of."""

    def explain(self, text: str, *, most: int = 5, without: int = 3) -> Explanation:
        """Return which supports decide the answer to a text, and whether it would be another without them.

        Args:
            text: the text.
            most: supports to name.
            without: leave out so many of those that speak most for the answer, one at a time, and fit again.

        Raises:
            DataError: no text, a classifier saved without its texts, or one of texts with several labels.
            LearnerError: `method="prototype"`.
        """
        state, supports = self._state(), self.supports_
        if "weight" not in state.head:
            raise LearnerError("the head of method='prototype' is no sum of its supports. Use method='linear'.")
        if state.several:
            raise DataError("only answers of one label can be explained.")
        examples = state.examples(supports)
        parts, rows = shares(examples, state.head, state.settings.C)
        vector = state.embedded([checked_text(text, "the text")])[0].double()
        cosines, biases = rows[:, :-1] @ vector, parts.T @ rows[:, -1]
        weight, intercept = (state.head[name].cpu().double() for name in ("weight", "bias"))
        logits = weight @ vector + intercept
        best = int(logits.argmax())
        second = int(logits.index_fill(0, torch.tensor(best), -torch.inf).argmax())
        own, bias = cosines * (parts[:, best] - parts[:, second]), (biases[best] - biases[second]).item()
        words = supports.words(state.settings.names)
        texts = [*supports.texts, *filter(None, words)]
        labels = [*supports.labels, *itertools.compress(supports.classes, words)]
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
            head = fit_linear(examples.rows(kept), state.settings.C)
            answer = head["weight"].double() @ vector + head["bias"]
            found[place] = replace(found[place], without=supports.classes[int(answer.argmax())])
        lead, shown = (logits[best] - logits[second]).item(), sum(part.share for part in found)
        first, other = supports.classes[best], supports.classes[second]
        return Explanation(text, first, other, lead, found, lead - bias - shown, bias)
