"""Scores per episode: of a learner, and of plain heads on an encoder as it is."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from fewtext.data.collate import Collator
from fewtext.data.sampler import Episode
from fewtext.data.texts import LabeledTexts
from fewtext.learners.base import MetaLearner
from fewtext.metrics.scores import accuracy, macro_f1
from fewtext.nn.encoder import Encoder
from fewtext.nn.matmul import fast_matmul
from fewtext.tensors import ABSENT

PROTOTYPES, REGRESSION = "prototypes", "logistic regression"
NAMES, TRANSDUCTIVE = " + names", " (transductive)"


@dataclass(frozen=True)
class Scores:
    """Scores per episode, `[episodes]` each."""

    accuracy: np.ndarray
    macro_f1: np.ndarray


def score_learner(
    learner: MetaLearner,
    episodes: Sequence[Episode],
    collator: Collator,
    *,
    names: bool = True,
    transductive: bool = False,
    accelerator: Accelerator | None = None,
    batch: int = 8,
    progress: str | None = None,
) -> Scores:
    """Adapt to each episode's support and score its queries; processes share the episodes.

    Each text is encoded once, as far as the learner uses its encoder unadapted.
    A `transductive` score is of answers after learning from all queries of an episode, without their labels.

    Raises:
        LearnerError: `transductive`, and the learner cannot learn so.
    """
    ranks, rank = (accelerator.num_processes, accelerator.process_index) if accelerator else (1, 0)
    mine = range(rank, len(episodes), ranks)
    found: list[tuple[int, float, float]] = []
    bar = tqdm(total=len(mine), unit="episode", desc=progress, disable=progress is None or rank > 0, leave=False)
    fast = fast_matmul(trained=learner.encoder.lora is None)
    with torch.no_grad(), learner.encoder.remembering(), fast, bar:
        for start in range(0, len(mine), batch):
            numbers = mine[start : start + batch]
            episode_batch = collator([episodes[number] for number in numbers], names=names).to(learner.encoder.device)
            state, query = learner.adapt(episode_batch.support), episode_batch.query.tokens
            logits = learner.predict(learner.refine(state, query) if transductive else state, query)
            guesses, truth = logits.argmax(-1).cpu().numpy(), episode_batch.query.labels.cpu().numpy()
            for number, guess, labels in zip(numbers, guesses, truth, strict=True):
                real = labels != ABSENT
                found.append((number, accuracy(guess[real], labels[real]), macro_f1(guess[real], labels[real])))
            bar.update(len(numbers))
    if ranks > 1:
        found = gather_object(found)
    ordered = np.array([scores for _, *scores in sorted(found)]).reshape(-1, 2)
    return Scores(ordered[:, 0], ordered[:, 1])


def score_heads(
    encoder: Encoder,
    episodes: Sequence[Episode],
    sources: Sequence[LabeledTexts],
    *,
    progress: bool = False,
) -> dict[str, Scores]:
    """Score an encoder as it is: cosine prototypes and logistic regression (C=100), with and without names."""
    rows = [
        {int(row) for ep in episodes if ep.source == s for row in (*ep.support, *ep.query)}
        for s in range(len(sources))
    ]
    vectors, words = [], []
    with fast_matmul():
        for texts, used in zip(sources, map(sorted, rows), strict=True):
            table = np.zeros((len(texts), encoder.dimension), dtype=np.float32)
            table[used] = _unit(encoder.encode([texts.texts[row] for row in used], progress=progress))
            vectors.append(table)
            words.append(_unit(encoder.encode([texts.words(label) for label in range(len(texts.classes))])))
    found: dict[str, list[tuple[float, float]]] = {}
    for episode in tqdm(episodes, unit="episode", desc="heads", disable=not progress, leave=False):
        support, query = vectors[episode.source][episode.support], vectors[episode.source][episode.query]
        for suffix in ("", NAMES):
            examples, labels = support, episode.support_labels
            if suffix:  # the name is one more example of its class
                examples = np.concatenate([support, words[episode.source][episode.classes]])
                labels = np.concatenate([labels, np.arange(len(episode.classes))])
            elif len(np.unique(labels)) < len(episode.classes):
                continue  # zero shots: without names there is nothing to learn from
            means = _unit(np.stack([examples[labels == c].mean(0) for c in range(len(episode.classes))]))
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)  # it is few-shot
                regression = LogisticRegression(C=100, max_iter=1000).fit(examples, labels)
            for name, guess in zip(
                (PROTOTYPES, REGRESSION), ((query @ means.T).argmax(1), regression.predict(query)), strict=True
            ):
                scores = (accuracy(guess, episode.query_labels), macro_f1(guess, episode.query_labels))
                found.setdefault(name + suffix, []).append(scores)
    return {name: Scores(*np.array(values).T) for name, values in found.items()}


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
