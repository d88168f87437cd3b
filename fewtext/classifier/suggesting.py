"""Which texts to label next."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fewtext.classifier.fitted import Fitted
from fewtext.data.checks import checked_texts
from fewtext.errors import LearnerError
from fewtext.nn.logistic import probabilities
from fewtext.suggest import Strategy, suggest


@dataclass(frozen=True)
class Candidate:
    """A text that is worth a label.

    Attributes:
        text: the text.
        row: its place among the unlabelled texts.
        reason: `margin`, the classifier cannot decide; `coverage`, it is typical of texts that are like no labelled
            one; `unknown`, it is perhaps of a class that is not there yet.
        between: the two most probable labels; where texts may have several, the most doubtful one.
        score: the share of the unlabelled texts that stand out less by that reason.
    """

    text: str
    row: int
    reason: str
    between: tuple[Any, ...]
    score: float

    def __str__(self) -> str:
        between = f": {' or '.join(map(str, self.between))}?" if self.reason == "margin" else ""
        return f"{self.text}  [{self.reason}{between}]"


class Suggesting:
    """Gives a classifier `suggest`."""

    @abstractmethod
    def _state(self) -> Fitted: ...

    def suggest(
        self, texts: Iterable[str], count: int = 10, *, strategy: Strategy = "mixed", seed: int = 0
    ) -> list[Candidate]:
        """Return the unlabelled texts whose labels would help most, the most useful first.

        Args:
            texts: n unlabelled texts.
            count: how many to return; fewer where the others are duplicates.
            strategy: see `fewtext.suggest.suggest`.
            seed: of the random choice from more than 8,192 texts.

        Raises:
            DataError: texts that are not strings, or empty.
            LearnerError: an unknown strategy, `count` below 1, or `method="prototype"`.
        """
        state, rows = self._state(), checked_texts(texts)
        if "means" not in state.head:
            raise LearnerError("suggest needs method='linear', whose embeddings it compares.")
        temperature = state.certainty.temperature
        chances, vectors = state.ask(
            rows, lambda logits, vectors: (probabilities(logits / temperature, state.several), vectors)
        )
        # Without its texts a classifier still knows where its classes are.
        known = state.head["means"].cpu() if state.supports is None else state.examples(state.supports).vectors
        chosen = suggest(vectors, chances, known.numpy(), count, strategy=strategy, seed=seed, several=state.several)
        labels = state.classes.tolist()
        return [
            Candidate(rows[own.row], own.row, own.reason, tuple(labels[n] for n in own.between or ()), own.score)
            for own in chosen
        ]
