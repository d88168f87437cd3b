"""A memory on a stream of unseen tasks: do later tasks start better than a fresh start?

    python recipes/benchmarks/task_stream.py --data-root data

A memory is meta-trained on the training classes of a set. Then tasks come one after another, on classes that it has
never seen: each is adapted from where the memory lets it start, asked, and written back. No task and no text comes
twice; in the second kind of stream no class does, so that there is only the domain to learn. Beside it the same
learner with a memory that stays empty, on the same tasks. Before their own first step, tasks are scored by their
prototypes over the encoder that they start with.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import tyro
from tqdm import tqdm

from fewtext import (
    Collator,
    Encoder,
    EpisodeSampler,
    EpisodeSpec,
    LabeledTexts,
    Lora,
    Row,
    TrainConfig,
    meta_train,
    write_results,
)
from fewtext.data.sampler import Episode
from fewtext.jobs.options import Data
from fewtext.learners.memory import Memory
from fewtext.metrics.scores import mean_ci
from fewtext.nn.matmul import fast_matmul
from fewtext.nn.pretrained import MINILM
from fewtext.results import table
from fewtext.tensors import EpisodeBatch, TaskState

RESULTS = Path(__file__).parent / "results" / "task_stream.json"
WAYS, QUERIES = 5, 5
KINDS = {"classes recur": False, "no class twice": True}
MEASURES = ("fresh start", "start", "fresh end", "end")  # accuracy of a task before and after its own inner steps


def main(
    *,
    sets: tuple[str, ...] = ("hwu64", "banking77", "clinc150"),
    shots: int = 2,
    tasks: int = 24,
    streams: int = 20,
    steps: int = 60,
    part: str = "test",
    data_root: Path | None = None,
    base: str = MINILM,
    out: Path = RESULTS,
) -> None:
    """Measure and write the results.

    Args:
        sets: data cards; split 1 of their classes.
        shots: texts per class and task.
        tasks: of a stream; fewer where classes run out.
        streams: of each kind.
        steps: of meta-training, four 12-way 1-shot episodes each.
        part: classes of the streams.
        data_root: folder in which data cards find their data.
        base: hub id or folder of the encoder.
        out: file of the results.
    """
    torch.set_num_threads(1)
    rows: list[Row] = []
    for card in sets:
        parts = Data(card=(card,), data_root=data_root).parts()
        learner = Memory(Encoder.from_pretrained(base, lora=Lora(rank=8, alpha=16, from_layer=3)))
        episodes = EpisodeSampler(parts["train"], EpisodeSpec(ways=12, shots=1, queries=3), exclude=parts[part])
        meta_train(learner, episodes, TrainConfig(steps=steps))
        (texts,) = parts[part]
        for kind, once in KINDS.items():
            drawn = [list(stream(texts, shots, tasks, seed, once=once)) for seed in range(streams)]
            found = np.array([scores(learner, texts, own) for own in tqdm(drawn, desc=f"{card}, {kind}")])
            rows += rows_of(f"{card}/{kind}", found)
        write_results(out, rows)
    print(table(rows))


def stream(texts: LabeledTexts, shots: int, tasks: int, seed: int, *, once: bool) -> Iterator[Episode]:
    """Yield tasks of five classes that share no text, and `once` no class."""
    generator = np.random.default_rng(seed)
    left = {
        label: list(generator.permutation(np.flatnonzero(texts.labels == label)))
        for label in range(len(texts.classes))
    }
    labels = np.repeat(np.arange(WAYS), shots), np.repeat(np.arange(WAYS), QUERIES)
    for _ in range(tasks):
        there = [label for label, rows in left.items() if len(rows) >= shots + QUERIES]
        if len(there) < WAYS:
            return
        classes = generator.choice(there, WAYS, replace=False)
        support, query = (
            [left[label].pop() for label in classes for _ in range(count)] for count in (shots, QUERIES)
        )
        yield Episode(0, classes, np.array(support), labels[0], np.array(query), labels[1])
        for label in classes if once else ():
            del left[label]


def scores(learner: Memory, texts: LabeledTexts, tasks: list[Episode]) -> np.ndarray:
    """Return the accuracies `[tasks, 4]`, as in `MEASURES`; the memory is empty before the first task."""
    collator, found = Collator([texts], learner.encoder.tokenize), []
    batches = [collator([task]) for task in tasks]
    with torch.no_grad(), fast_matmul():
        for writes in (False, True):
            learner.clear()
            for batch in batches:
                states = learner.states(batch.support)
                found.append([right(learner, states[place], batch) for place in (0, -1)])
                if writes:
                    learner.write(batch.support, states[-1])
    fresh, own = np.array(found).reshape(2, len(tasks), 2)
    return np.stack([fresh, own], axis=-1).reshape(len(tasks), 4)


def right(learner: Memory, state: TaskState, batch: EpisodeBatch) -> float:
    """Return the share of queries that are answered rightly."""
    return float((learner.predict(state, batch.query.tokens).argmax(-1) == batch.query.labels).float().mean())


def rows_of(place: str, found: np.ndarray) -> list[Row]:
    """Return means over later tasks, and what the memory adds, with the interval over streams.

    Args:
        place: what the rows are called.
        found: `[streams, tasks, 4]` accuracies, as in `MEASURES`.
    """
    later = found[:, max(1, found.shape[1] // 4) :].mean(1)  # after the first quarter of the stream
    count = len(found)
    rows = []
    for name, values in zip(MEASURES, later.T, strict=True):
        mean, half = mean_ci(values)
        rows.append(Row(f"{place}/{name}", mean, "accuracy", half, count))
    for name, number in (("start", 1), ("end", 3)):
        mean, half = mean_ci(100 * (later[:, number] - later[:, number - 1]))
        rows.append(Row(f"{place}/{name} − fresh {name}", mean, "points", half, count))
    return rows


if __name__ == "__main__":
    tyro.cli(main)
