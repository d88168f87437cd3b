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
) -> TaskState:
    """Return a linear head on the learner's encoder.

    Args:
        learner: the base.
        texts: n texts.
        labels: `[n]`, class numbers; every class occurs.
        words: one more text for each of the N classes, "" for none.
        C: inverse regularisation strength of logistic regression.
    """
    named = [number for number, word in enumerate(words) if word]
    vectors = _unit(learner.encoder, [*texts, *(words[number] for number in named)])
    numbers = np.concatenate([labels, named]).astype(np.int64)
    if len(words) > MOST_CLASSES:
        logger.info("%d classes are more than %d: class means, not logistic regression", len(words), MOST_CLASSES)
        sums = torch.zeros(len(words), vectors.shape[1], device=vectors.device)
        sums.index_add_(0, torch.from_numpy(numbers).to(vectors.device), vectors)
        return {"weight": SCALE * F.normalize(sums, dim=1), "bias": torch.zeros(len(words), device=vectors.device)}
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=C, max_iter=2000).fit(vectors.cpu().numpy(), numbers)
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:  # two classes: the softmax of (0, z) is the sigmoid of z
        weight, bias = np.vstack([0 * weight, weight]), np.array([0.0, bias[0]])
    return {
        "weight": torch.from_numpy(weight).float().to(vectors.device),
        "bias": torch.from_numpy(bias).float().to(vectors.device),
    }


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


def _unit(encoder: Encoder, texts: Sequence[str]) -> Tensor:
    """Return the embeddings of texts, `[n, D]`, each of length 1."""
    return F.normalize(torch.from_numpy(encoder.encode(texts)).to(encoder.device), dim=1)
