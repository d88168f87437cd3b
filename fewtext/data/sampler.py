"""Episodes: N-way K-shot tasks, each a pure function of (sources, spec, seed, number).

Nothing depends on how many processes draw episodes or in which order, so resuming, sharding and replaying are
all the same operation: ask for episode i.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from torch.utils.data import Dataset

from fewtext.data.texts import LabeledTexts, normalise
from fewtext.errors import EpisodeError

Count: TypeAlias = int | range | Literal["all"]
"""A number, a range to draw from (Python's, end excluded), or all there are."""


def parse_count(text: str) -> Count:
    """Read `5`, `5-10` (both included) or `all`, as written on a command line.

    Raises:
        EpisodeError: anything else.
    """
    if text == "all":
        return "all"
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if not match or int(match[2] or match[1]) < int(match[1]):
        raise EpisodeError(f"{text!r} is not a count. Write a number (5), a range (5-10) or all.")
    return range(int(match[1]), int(match[2]) + 1) if match[2] else int(match[1])


def format_count(count: Count) -> str:
    """Write a count so that `parse_count` reads it back."""
    return f"{count[0]}-{count[-1]}" if isinstance(count, range) else str(count)


def bounds(count: Count, available: int | None = None) -> tuple[int, int]:
    """Return the smallest and largest number that a count stands for.

    "all" stands for what is `available`, and for at least 1 while that is not known.
    """
    if count == "all":
        return (1, 1) if available is None else (available, available)
    return (count[0], count[-1]) if isinstance(count, range) else (count, count)


@dataclass(frozen=True)
class EpisodeSpec:
    """What an episode consists of.

    Attributes:
        ways: classes per episode.
        shots: support texts per class; 0 leaves only the class names.
        queries: query texts per class.
    """

    ways: Count = 5
    shots: Count = 5
    queries: Count = 15

    def __post_init__(self) -> None:
        for count in (self.ways, self.shots, self.queries):
            if isinstance(count, range) and (count.step != 1 or not count):
                raise EpisodeError(
                    f"{count} is not a range of counts. Give a first and a larger last number, no step."
                )
        if bounds(self.shots)[0] < 0:
            raise EpisodeError(f"shots={format_count(self.shots)}: there are no fewer than 0 support texts.")
        if self.shots == "all" and self.queries == "all":
            raise EpisodeError("shots and queries are both all: no text is left for one of them. Fix one.")
        if bounds(self.ways, 2)[0] < 2:
            raise EpisodeError(f"ways={format_count(self.ways)}: there is nothing to decide below 2 classes.")
        if bounds(self.queries)[0] < 1:
            raise EpisodeError(f"queries={format_count(self.queries)}: an episode needs at least 1 per class.")

    def __str__(self) -> str:
        ways, shots, queries = map(format_count, (self.ways, self.shots, self.queries))
        return f"{ways}-way {shots}-shot, {queries} queries"


@dataclass(frozen=True, eq=False)
class Episode:
    """One task: rows of one source. Labels are positions in `classes`.

    Attributes:
        source: number of the source.
        classes: `[N]`, class numbers of the source, in the episode's order.
        support: `[S]` rows and `support_labels` `[S]`.
        query: `[Q]` rows and `query_labels` `[Q]`.
    """

    source: int
    classes: np.ndarray
    support: np.ndarray
    support_labels: np.ndarray
    query: np.ndarray
    query_labels: np.ndarray


class EpisodeSampler(Dataset[Episode]):
    """All episodes of some sources; `sampler[i]` is always the same episode.

    Args:
        sources: labelled texts; an episode draws from one of them.
        spec: what an episode consists of.
        seed: another seed, other episodes.
        weights: how often each source is drawn; by default in proportion to its usable classes.
        exclude: texts that must not appear (validation and test texts, say), compared after `normalise`.

    Attributes:
        chances: how often an episode draws from each source.
        excluded: how many texts were left out, by reason: `duplicate` in one source, `two labels` in one
            source, `other source` (kept in the first), `excluded`.

    Raises:
        EpisodeError: a source cannot supply such episodes; the message says which number to lower.
    """

    def __init__(
        self,
        sources: LabeledTexts | Sequence[LabeledTexts],
        spec: EpisodeSpec | None = None,
        *,
        seed: int = 0,
        weights: Sequence[float] | None = None,
        exclude: Iterable[LabeledTexts] = (),
    ) -> None:
        self.sources = [sources] if isinstance(sources, LabeledTexts) else list(sources)
        self.spec = spec or EpisodeSpec()
        self.seed = seed
        self.excluded: Counter[str] = Counter()
        taken = {normalise(text) for texts in exclude for text in texts.texts}
        reason = dict.fromkeys(taken, "excluded")
        self._rows = [self._usable(texts, reason) for texts in self.sources]
        sizes = np.array([len(rows) for rows in self._rows], dtype=float)
        chances = sizes if weights is None else np.asarray(weights, dtype=float)
        if len(chances) != len(self.sources) or (chances < 0).any() or not chances.sum() > 0:
            raise EpisodeError(f"weights: {len(self.sources)} numbers ≥ 0 are needed, got {weights}.")
        self.chances = chances / chances.sum()

    def __getitem__(self, number: int) -> Episode:
        if number < 0:
            raise IndexError(f"episodes are numbered from 0, got {number}")
        rng = np.random.default_rng((self.seed, number))
        source = int(rng.choice(len(self.sources), p=self.chances))
        rows = self._rows[source]
        ways = _draw(self.spec.ways, len(rows), rng)
        classes = rng.choice(np.array(sorted(rows)), size=ways, replace=False)
        fewest = min(len(rows[label]) for label in classes)
        shots = None if self.spec.shots == "all" else _draw(self.spec.shots, fewest, rng)
        queries = None if self.spec.queries == "all" else _draw(self.spec.queries, fewest - (shots or 0), rng)
        support, query = [], []
        for label in classes:
            drawn = rng.permutation(rows[label])
            cut = len(drawn) - (queries or 0) if shots is None else shots
            support.append(drawn[:cut])
            query.append(drawn[cut:] if queries is None else drawn[cut : cut + queries])
        return Episode(
            source=source,
            classes=classes,
            support=np.concatenate(support),
            support_labels=np.repeat(np.arange(ways), [len(part) for part in support]),
            query=np.concatenate(query),
            query_labels=np.repeat(np.arange(ways), [len(part) for part in query]),
        )

    def classes(self, source: int = 0) -> list[str]:
        """Return the names of the classes of a source that episodes are drawn from."""
        return [self.sources[source].classes[label] for label in sorted(self._rows[source])]

    def _usable(self, texts: LabeledTexts, reason: dict[str, str]) -> dict[int, np.ndarray]:
        """Return the rows of each class that can supply an episode, marking its texts as taken."""
        keys = [normalise(text) for text in texts.texts]
        labels_of: dict[str, set[int]] = {}
        for key, label in zip(keys, texts.labels, strict=True):
            labels_of.setdefault(key, set()).add(int(label))
        rows: dict[int, list[int]] = {}
        own: set[str] = set()
        for row, (key, label) in enumerate(zip(keys, texts.labels, strict=True)):
            why = "duplicate" if key in own else "two labels" if len(labels_of[key]) > 1 else reason.get(key)
            if why:
                self.excluded[why] += 1
                continue
            own.add(key)
            rows.setdefault(int(label), []).append(row)
        reason.update(dict.fromkeys(own, "other source"))
        need = bounds(self.spec.shots)[1] + bounds(self.spec.queries)[1]
        usable = {label: np.array(own_rows) for label, own_rows in rows.items() if len(own_rows) >= need}
        if len(usable) < bounds(self.spec.ways, 2)[0]:
            raise EpisodeError(self._too_few(texts, sorted(map(len, rows.values())), len(usable), need))
        return usable

    def _too_few(self, texts: LabeledTexts, sizes: list[int], usable: int, need: int) -> str:
        ways, shots = bounds(self.spec.ways, 2)[0], format_count(self.spec.shots)
        advice = [f"ways to {usable}"] if usable >= 2 else []
        if len(sizes) >= ways:  # the most texts per class that enough classes still have
            spare = sizes[-ways] - bounds(self.spec.shots)[1]
            advice += [f"queries to {spare}"] if spare >= 1 else ["shots + queries to " + str(sizes[-ways])]
        return (
            f"{texts.name}: {usable} of {len(sizes)} classes have the {need} different texts that shots={shots} + "
            f"queries={format_count(self.spec.queries)} need; ways={format_count(self.spec.ways)} is impossible. "
            + (f"Lower {', or '.join(advice)}." if advice else "Give more classes or more texts.")
        )


def _draw(count: Count, available: int, rng: np.random.Generator) -> int:
    low, high = bounds(count, available)
    return int(rng.integers(low, min(high, available) + 1))
