"""What a classifier says about one text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Reason = Literal["known", "unfamiliar", "ambiguous"]


@dataclass(frozen=True)
class Answer:
    """The answer to one text.

    Attributes:
        label: the class, None when the text was rejected.
        score: probability of the best class, rejected or not.
        top: the best classes and their probabilities, best first, two or more.
        reason: `known`; or why it was rejected: `unfamiliar`, unlike the texts of every class, or `ambiguous`,
            between classes.
        parent: of hierarchical labels, the branch of a text that was rejected as ambiguous, where that is certain.
    """

    label: Any
    score: float
    top: tuple[tuple[Any, float], ...]
    reason: Reason = "known"
    parent: str | None = None

    @property
    def best(self) -> Any:
        """The most probable class, rejected or not."""
        return self.top[0][0]

    @property
    def runner_up(self) -> Any:
        """The second most probable class."""
        return self.top[1][0]

    def __str__(self) -> str:
        best, second = (f"{label} ({chance:.2f})" for label, chance in self.top[:2])
        if self.reason == "known":
            return best
        within = f"; it is one of {self.parent}" if self.parent else ""
        why = f"between {best} and {second}" if self.reason == "ambiguous" else f"unlike every class, nearest {best}"
        return f"I don't know: {why}{within}"
