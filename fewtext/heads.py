"""The heads of a classifier: fitted to the texts and label names of its classes, and asked in bounded memory.

A linear head is `weight` `[N, D]` and `bias` `[N]`, its logits x·Wᵀ + b for unit embeddings x; any other is what the
learner's `adapt` returns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fewtext.data.collate import labels_of, ragged
from fewtext.learners.base import MetaLearner
from fewtext.nn.encoder import Encoder
from fewtext.nn.matmul import fast_matmul
from fewtext.tensors import Support, TaskState

logger = logging.getLogger("fewtext")

MOST_CLASSES = 1000  # of logistic regression, whose time grows with classes × texts
SCALE = 20.0  # of the cosine similarities above that, as of the prototypical learner's before it is trained
CHUNK = 4096  # texts encoded at a time: enough of each length to go together
OWN_CHUNK = 256  # texts per pass of a learner's own head
LOGITS = 2**22  # held at a time


def fit_linear(
    learner: MetaLearner, texts: Sequence[str], labels: np.ndarray, words: Sequence[str], C: float
) -> tuple[TaskState, Tensor]:
    """Return a linear head on the learner's encoder, and the direction of each class's mean embedding `[N, D]`.

    Args:
        learner: the base.
        texts: n texts.
        labels: `[n]`, class numbers; every class occurs.
        words: one more text for each of the N classes, "" for none.
        C: inverse regularisation strength of logistic regression.
    """
    named = [number for number, word in enumerate(words) if word]
    rows = [*texts, *(words[number] for number in named)]
    numbers = torch.from_numpy(np.concatenate([labels, named]).astype(np.int64))
    if len(words) > MOST_CLASSES:
        logger.info("%d classes are more than %d: class means, not logistic regression", len(words), MOST_CLASSES)
        means = _directions(learner.encoder, rows, numbers, len(words)).cpu()
        weight, bias = SCALE * means, torch.zeros(len(words))
    else:
        vectors = _unit(learner.encoder, rows).cpu()
        means = F.normalize(torch.zeros(len(words), vectors.shape[1]).index_add_(0, numbers, vectors), dim=1)
        weight, bias = _regression(vectors, numbers, C)
    return {"weight": weight.to(learner.encoder.device), "bias": bias.to(learner.encoder.device)}, means


def most_alike(means: Tensor, pairs: int) -> list[tuple[int, int, float]]:
    """Return the classes that are most easily confused, by the cosine similarity of their means `[N, D]`."""
    if len(means) > MOST_CLASSES:
        return []
    first, second = torch.triu_indices(len(means), len(means), offset=1)
    cosines = (means @ means.T)[first, second]
    values, places = cosines.topk(min(pairs, len(cosines)))
    chosen = zip(first[places].tolist(), second[places].tolist(), values.tolist(), strict=True)
    return [(a, b, round(value, 3)) for a, b, value in chosen]


def fit_own(learner: MetaLearner, texts: Sequence[str], labels: np.ndarray, words: Sequence[str]) -> TaskState:
    """Return the learner's own head; arguments as those of `fit_linear`."""
    tokenize = learner.encoder.tokenize
    names = [tokenize([word])[0] if word else [] for word in words]
    mask = torch.ones(1, len(words), dtype=torch.bool)
    support = Support(ragged([tokenize(texts)]), labels_of([labels]), ragged([names]), mask)
    with torch.no_grad():
        return learner.adapt(support.to(learner.encoder.device))


def answers(
    learner: MetaLearner, head: TaskState, texts: Sequence[str], of: Callable[[Tensor], tuple[Tensor, ...]]
) -> tuple[np.ndarray, ...]:
    """Return `of(logits)` for n texts, `[n, …]` each.

    `of` is given the logits `[·, N]` of so few texts at a time that they can be held however large n and N are.
    """
    found: list[tuple[Tensor, ...]] = []
    linear = "weight" in head
    chunk = CHUNK if linear else OWN_CHUNK
    with torch.no_grad(), fast_matmul():
        for start in range(0, len(texts), chunk):
            rows = texts[start : start + chunk]
            if linear:
                for vectors in _unit(learner.encoder, rows).split(max(1, LOGITS // len(head["weight"]))):
                    found.append(of(F.linear(vectors, head["weight"], head["bias"])))
            else:
                query = ragged([learner.encoder.tokenize(rows)]).to(learner.encoder.device)
                found.append(of(learner.predict(head, query)[0]))
    return tuple(torch.cat([part.cpu() for part in parts]).numpy() for parts in zip(*found, strict=True))


def _regression(vectors: Tensor, labels: Tensor, C: float) -> tuple[Tensor, Tensor]:
    """Return weight and bias of logistic regression on vectors `[n, D]` with labels `[n]`."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=C, max_iter=2000).fit(vectors.numpy(), labels.numpy())
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:  # two classes: the softmax of (0, z) is the sigmoid of z
        weight, bias = np.vstack([0 * weight, weight]), np.array([0.0, bias[0]])
    return torch.from_numpy(weight).float(), torch.from_numpy(bias).float()


def _directions(encoder: Encoder, texts: Sequence[str], labels: Tensor, classes: int) -> Tensor:
    """Return the class means of unit embeddings, made unit vectors again, `[N, D]`; some texts at a time."""
    sums = torch.zeros(classes, encoder.dimension, device=encoder.device)
    for start in range(0, len(texts), CHUNK):
        part = slice(start, start + CHUNK)
        sums.index_add_(0, labels[part].to(encoder.device), _unit(encoder, texts[part]))
    return F.normalize(sums, dim=1)


def _unit(encoder: Encoder, texts: Sequence[str]) -> Tensor:
    """Return the embeddings of texts, `[n, D]`, each of length 1."""
    return F.normalize(torch.from_numpy(encoder.encode(texts)).to(encoder.device), dim=1)
