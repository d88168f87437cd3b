"""Meta-testing: accuracy on episodes of unseen classes, always beside the frozen encoder on the same episodes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from fewtext.data.collate import Collator
from fewtext.data.sampler import Episode, EpisodeSampler, EpisodeSpec
from fewtext.data.texts import LabeledTexts
from fewtext.learners.base import MetaLearner
from fewtext.metrics.scores import accuracy, macro_f1, mean_ci
from fewtext.nn.encoder import Encoder
from fewtext.nn.matmul import fast_matmul
from fewtext.results import Row
from fewtext.tensors import ABSENT

FROZEN = ("frozen prototypes", "frozen logistic regression")
NAMES = " + names"


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
    accelerator: Accelerator | None = None,
    batch: int = 8,
    progress: str | None = None,
) -> Scores:
    """Adapt to each episode's support and score its queries; processes share the episodes.

    Each text is encoded once, as far as the learner uses its encoder unadapted.
    """
    ranks, rank = (accelerator.num_processes, accelerator.process_index) if accelerator else (1, 0)
    mine = range(rank, len(episodes), ranks)
    found: list[tuple[int, float, float]] = []
    bar = tqdm(total=len(mine), unit="episode", desc=progress, disable=progress is None or rank > 0, leave=False)
    with torch.no_grad(), learner.encoder.remembering(), fast_matmul(), bar:
        for start in range(0, len(mine), batch):
            numbers = mine[start : start + batch]
            episode_batch = collator([episodes[number] for number in numbers]).to(learner.encoder.device)
            logits = learner.predict(learner.adapt(episode_batch.support), episode_batch.query.tokens)
            guesses, truth = logits.argmax(-1).cpu().numpy(), episode_batch.query.labels.cpu().numpy()
            for number, guess, labels in zip(numbers, guesses, truth, strict=True):
                real = labels != ABSENT
                found.append((number, accuracy(guess[real], labels[real]), macro_f1(guess[real], labels[real])))
            bar.update(len(numbers))
    if ranks > 1:
        found = gather_object(found)
    ordered = np.array([scores for _, *scores in sorted(found)]).reshape(-1, 2)
    return Scores(ordered[:, 0], ordered[:, 1])


def score_frozen(
    encoder: Encoder,
    episodes: Sequence[Episode],
    sources: Sequence[LabeledTexts],
    *,
    progress: str | None = None,
) -> dict[str, Scores]:
    """Score the untrained encoder: cosine prototypes and logistic regression (C=100), with and without names."""
    rows = [
        {int(row) for ep in episodes if ep.source == s for row in (*ep.support, *ep.query)}
        for s in range(len(sources))
    ]
    vectors, words = [], []
    with fast_matmul():
        for texts, used in zip(sources, map(sorted, rows), strict=True):
            table = np.zeros((len(texts), encoder.dimension), dtype=np.float32)
            table[used] = _unit(encoder.encode([texts.texts[row] for row in used], progress=progress is not None))
            vectors.append(table)
            words.append(_unit(encoder.encode([texts.words(label) for label in range(len(texts.classes))])))
    found: dict[str, list[tuple[float, float]]] = {}
    for episode in tqdm(episodes, unit="episode", desc=progress, disable=progress is None, leave=False):
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
            for name, guess in zip(FROZEN, ((query @ means.T).argmax(1), regression.predict(query)), strict=True):
                scores = (accuracy(guess, episode.query_labels), macro_f1(guess, episode.query_labels))
                found.setdefault(name + suffix, []).append(scores)
    return {name: Scores(*np.array(values).T) for name, values in found.items()}


def meta_test(
    learner: MetaLearner,
    texts: LabeledTexts | Sequence[LabeledTexts],
    spec: EpisodeSpec | None = None,
    *,
    frozen: Encoder,
    episodes: int | Sequence[Episode] = 600,
    seed: int = 0,
    all_way: int = 10,
    accelerator: Accelerator | None = None,
    progress: bool = True,
) -> list[Row]:
    """Measure a learner on fixed episodes of unseen classes.

    Args:
        learner: what to measure.
        texts: texts of classes not seen in meta-training.
        spec: what an episode consists of; 5-way 1-shot with 5 queries per class by default.
        frozen: the encoder as it was before meta-training.
        episodes: how many, or episodes read from a file.
        seed: of the episodes.
        all_way: further episodes with all classes at once; 0 for none.
        accelerator: shares the learner's episodes among processes.
        progress: show progress bars.

    Returns:
        Accuracy and macro-F1 of the learner and of the frozen encoder, with and without class names, and the
        paired differences between them in points, each with its 95 % confidence interval.

    Raises:
        EpisodeError: the texts cannot supply such episodes.
    """
    sampler = EpisodeSampler(texts, spec or EpisodeSpec(shots=1, queries=5), seed=seed)
    chosen = [sampler[number] for number in range(episodes)] if isinstance(episodes, int) else list(episodes)
    place = "+".join(source.name for source in sampler.sources)
    spec = sampler.spec
    rows = _rows(
        learner, frozen, sampler, chosen, f"{place}/{spec.ways}-way-{spec.shots}-shot", accelerator, progress
    )
    if all_way and spec.ways != "all":
        wide = EpisodeSampler(texts, replace(spec, ways="all"), seed=seed)
        chosen = [wide[number] for number in range(all_way)]
        ways = f"{len(chosen[0].classes)}-way (all)" if len(wide.sources) == 1 else "all-way"
        rows += _rows(learner, frozen, wide, chosen, f"{place}/{ways}-{spec.shots}-shot", accelerator, progress)
    return rows


def _rows(
    learner: MetaLearner,
    frozen: Encoder,
    sampler: EpisodeSampler,
    episodes: Sequence[Episode],
    place: str,
    accelerator: Accelerator | None,
    progress: bool,
) -> list[Row]:
    """Return the result rows of one set of episodes."""
    own: dict[str, Scores] = {}
    for suffix in ("", NAMES):
        if not suffix and not all(len(episode.support) for episode in episodes):
            continue
        collator = Collator(sampler.sources, learner.encoder.tokenize, names=bool(suffix))
        label = f"{learner.name}{suffix}" if progress else None
        own[suffix] = score_learner(learner, episodes, collator, accelerator=accelerator, progress=label)
    beside = score_frozen(frozen, episodes, sampler.sources, progress="frozen" if progress else None)
    rows = []
    for name, scores in ({learner.name + suffix: s for suffix, s in own.items()} | beside).items():
        for unit, values in (("accuracy", scores.accuracy), ("macro-F1", scores.macro_f1)):
            mean, half = mean_ci(values)
            rows.append(Row(f"{place}/{name}", mean, unit, half, len(values)))
    order = {f"{place}/{name}": n for n, name in enumerate([learner.name, learner.name + NAMES, *beside])}
    rows.sort(key=lambda row: (row.unit, order[row.name]))
    for suffix, scores in own.items():
        for peer in (name + suffix for name in FROZEN):
            mean, half = mean_ci(100 * (scores.accuracy - beside[peer].accuracy))
            name = f"{place}/{learner.name}{suffix} − {peer}"
            rows.append(Row(name, mean, "points", half, len(episodes)))
    return rows


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
