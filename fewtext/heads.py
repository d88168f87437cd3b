"""The heads of a classifier: fitted to the texts and label names of its classes, and asked in bounded memory.

A linear head is `weight` `[N, D]` and `bias` `[N]`, its logits x·Wᵀ + b for unit embeddings x, and `means` `[N, D]`,
the directions of the classes' mean embeddings; any other is what the learner's `adapt` returns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from fewtext.data.collate import ragged
from fewtext.data.training_set import TrainingSet
from fewtext.embedding import remembered
from fewtext.learners.base import MetaLearner
from fewtext.nn.encoder import Encoder
from fewtext.nn.logistic import TOLERANCE, fit_logistic, probabilities
from fewtext.nn.matmul import fast_matmul
from fewtext.tensors import TaskState

logger = logging.getLogger("fewtext")

MOST_CLASSES = 1000  # of logistic regression, whose time grows with classes × texts
SCALE = 20.0  # of the cosine similarities above that, as of the prototypical learner's before it is trained
CHUNK = 4096  # texts encoded at a time: enough of each length to go together
OWN_CHUNK = 256  # texts per pass of a learner's own head
LOGITS = 2**22  # held at a time


@dataclass(frozen=True)
class Examples:
    """What a linear head is fitted to: texts, and after them the words of classes, one more text each.

    Attributes:
        vectors: `[n, D]`, unit embeddings.
        labels: `[n]`, class numbers; or `[n, N]`, whether a text has a class, where it may have several.
        named: how many of the last ones are words.
        ways: N.
    """

    vectors: Tensor
    labels: Tensor
    named: int
    ways: int

    @classmethod
    def of(cls, encoder: Encoder, own: TrainingSet, *, windows: bool = False) -> Examples:
        """Embed texts, the mean direction of each and its paraphrases, and words."""
        (said, owners), named, ways = own.ways(), own.named, len(own.words)
        words = [own.words[number] for number in named]
        vectors = remembered(encoder, [*said, *words], windows=windows).cpu()
        if len(said) > len(own.texts):
            owners = np.concatenate([owners, len(own.texts) + np.arange(len(words))])
            sums = torch.zeros(len(own.texts) + len(words), vectors.shape[1])
            vectors = F.normalize(sums.index_add_(0, torch.from_numpy(owners), vectors), dim=1)
        classes = np.eye(ways, dtype=bool)[named] if own.labels.ndim == 2 else np.array(named, dtype=np.int64)
        return cls(vectors, torch.from_numpy(np.concatenate([own.labels, classes])), len(words), ways)

    @property
    def several(self) -> bool:
        """Whether a text may have several classes."""
        return self.labels.dim() == 2

    def rows(self, kept: Tensor) -> Examples:
        """Return the texts that are `kept` `[n − named]`, and all words."""
        kept = torch.cat([kept, torch.ones(self.named, dtype=torch.bool)])
        return Examples(self.vectors[kept], self.labels[kept], self.named, self.ways)

    def means(self) -> Tensor:
        """Return the directions of the classes' mean embeddings `[N, D]`; zero for a class without texts."""
        if self.several:
            return F.normalize(self.labels.T.to(self.vectors.dtype) @ self.vectors, dim=1)
        sums = torch.zeros(self.ways, self.vectors.shape[1])
        return F.normalize(sums.index_add_(0, self.labels, self.vectors), dim=1)

    def problem(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return rows `[n, D + 1]`, targets `[n, N]` and weights `[n, 1 or N]` of logistic regression.

        The last entry of a row is 1, so that the bias is regularised and a weighted sum of the rows, too. Every
        class weighs the same, however many texts it has. Where texts may have several classes, a class weighs as
        much as its absence, and words are evidence for their own class, but not against the others.
        """
        rows = torch.cat([self.vectors, torch.ones(len(self.vectors), 1)], dim=1)
        if not self.several:
            counts = torch.bincount(self.labels, minlength=self.ways)
            weights = len(rows) / (self.ways * counts.double())[self.labels, None]
            return rows, F.one_hot(self.labels, self.ways), weights
        present = self.labels.double().sum(dim=0).clamp(min=1)
        absent = (len(rows) - present).clamp(min=1)
        weights = len(rows) / 2 * torch.where(self.labels, 1 / present, 1 / absent)
        if self.named:
            weights[-self.named :] *= self.labels[-self.named :]
        return rows, self.labels, weights


def fit_linear(examples: Examples, C: float, *, tolerance: float = TOLERANCE) -> TaskState:
    """Return a linear head: weakly regularised logistic regression, and class means where that takes too long.

    Args:
        examples: what to learn from.
        C: inverse regularisation strength of logistic regression.
        tolerance: as in `fit_logistic`.
    """
    means = examples.means()
    if examples.ways > MOST_CLASSES and not examples.several:
        logger.info("%d classes are more than %d: class means, not logistic regression", examples.ways, MOST_CLASSES)
        return {"weight": SCALE * means, "bias": torch.zeros(examples.ways), "means": means}
    rows, targets, weights = examples.problem()
    solution = fit_logistic(rows, targets, C, weights=weights, several=examples.several, tolerance=tolerance).float()
    return {"weight": solution[:, :-1].contiguous(), "bias": solution[:, -1].contiguous(), "means": means}


def shares(examples: Examples, head: TaskState, C: float) -> tuple[Tensor, Tensor]:
    """Return what each example adds to a linear head: A `[n, N]` and rows `[n, D + 1]`.

    Aᵀ · rows is (weight, bias), exactly, since a converged head is a weighted sum of its examples.
    """
    weight, bias = head["weight"].cpu().double(), head["bias"].cpu().double()
    if examples.ways > MOST_CLASSES and not examples.several:
        member = F.one_hot(examples.labels, examples.ways).double()
        lengths = (member.T @ examples.vectors.double()).norm(dim=1)
        return SCALE * member / lengths, F.pad(examples.vectors, (0, 1)).double()
    rows, targets, weights = examples.problem()
    logits = rows.double() @ torch.cat([weight, bias[:, None]], dim=1).T
    return C * weights * (targets.double() - probabilities(logits, examples.several)), rows.double()


def nearest(vectors: Tensor, means: Tensor) -> Tensor:
    """Return the cosine similarity of unit embeddings `[n, D]` to the nearest class mean, `[n]`."""
    return (vectors @ means.T).max(dim=1).values


def most_alike(means: Tensor, pairs: int) -> list[tuple[int, int, float]]:
    """Return the classes that are most easily confused, by the cosine similarity of their means `[N, D]`."""
    if len(means) > MOST_CLASSES:
        return []
    first, second = torch.triu_indices(len(means), len(means), offset=1)
    cosines = (means @ means.T)[first, second]
    values, places = cosines.topk(min(pairs, len(cosines)))
    chosen = zip(first[places].tolist(), second[places].tolist(), values.tolist(), strict=True)
    return [(a, b, round(value, 3)) for a, b, value in chosen]


def fit_own(learner: MetaLearner, own: TrainingSet, about: str | None = None) -> TaskState:
    """Return the learner's own head; `about` says in a sentence what the texts are about."""
    with torch.no_grad():
        return learner.adapt(own.support(learner.encoder.tokenize, about).to(learner.encoder.device))


def answers(
    learner: MetaLearner,
    head: TaskState,
    texts: Sequence[str],
    of: Callable[[Tensor, Tensor | None], tuple[Tensor, ...]],
    *,
    windows: bool = False,
) -> tuple[np.ndarray, ...]:
    """Return `of(logits, vectors)` for n texts, `[n, …]` each.

    `of` is given the logits `[·, N]` and, where the head is linear, the unit embeddings `[·, D]` of so few texts at a
    time that they can be held however large n and N are.
    """
    found: list[tuple[Tensor, ...]] = []
    linear = "weight" in head
    chunk = CHUNK if linear else OWN_CHUNK
    hidden = None if len(texts) > CHUNK else True  # on a terminal, where it takes long
    bar = tqdm(total=len(texts), unit="text", desc="classify", disable=hidden, leave=False)
    with torch.no_grad(), fast_matmul(), bar:
        for start in range(0, len(texts), chunk):
            rows = texts[start : start + chunk]
            if linear:
                parts = remembered(learner.encoder, rows, windows=windows, keep=False)
                parts = parts.split(max(1, LOGITS // len(head["weight"])))
                found += [of(F.linear(vectors, head["weight"], head["bias"]), vectors) for vectors in parts]
            else:
                query = ragged([learner.encoder.tokenize(rows)]).to(learner.encoder.device)
                found.append(of(learner.predict(head, query)[0], None))
            bar.update(len(rows))
    return tuple(torch.cat([part.cpu() for part in parts]).numpy() for parts in zip(*found, strict=True))
