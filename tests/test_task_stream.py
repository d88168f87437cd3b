"""The stream of tasks: nothing comes twice, and the arithmetic of what a memory adds."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fewtext import Encoder, LabeledTexts, Lora
from fewtext.learners.memory import Memory

FOLDER = Path(__file__).parents[1] / "recipes" / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module("task_stream")
    sys.modules.pop("task_stream", None)


@pytest.fixture
def texts():
    """Twelve classes of twenty texts."""
    labels = np.repeat(np.arange(12), 20)
    return LabeledTexts.of([f"text {n} card" for n in range(240)], [f"c{label:02}" for label in labels])


@pytest.mark.parametrize(("once", "tasks"), [(False, 4), (True, 2)])
def test_no_text_comes_twice_and_classes_only_where_they_may(benchmark, texts, once, tasks):
    drawn = list(benchmark.stream(texts, 2, 6, 0, once=once))
    assert len(drawn) == tasks
    rows = np.concatenate([np.concatenate([task.support, task.query]) for task in drawn])
    assert len(set(rows.tolist())) == len(rows) == tasks * 5 * 7
    classes = np.concatenate([task.classes for task in drawn])
    assert (len(set(classes.tolist())) == len(classes)) == once
    for task in drawn:
        assert (texts.labels[task.query] == task.classes[task.query_labels]).all()


def test_the_memory_is_empty_at_first_and_then_matters(benchmark, texts, tiny_folder):
    learner = Memory(Encoder.from_pretrained(tiny_folder, lora=Lora(rank=2)))
    tasks = list(benchmark.stream(texts, 2, 3, 0, once=False))
    found = benchmark.scores(learner, texts, tasks)
    assert found.shape == (3, 4)
    assert found[0, 0] == found[0, 1]  # the first task starts afresh either way
    assert found[0, 2] == found[0, 3]
    assert int(learner.counts.sum()) == 3
    assert torch.equal(learner.counts > 0, torch.arange(16) < 3)


def test_gains_are_paired_over_later_tasks(benchmark):
    found = np.zeros((3, 8, 4))
    found[:, 2:, 1] = [[0.1], [0.2], [0.3]]  # the memory's start, from the third task on
    found[:, :2, 1] = 9.0  # the first quarter does not count
    rows = {row.name: row for row in benchmark.rows_of("toy", found)}
    gain = rows["toy/start − fresh start"]
    assert (round(gain.value, 6), gain.unit, gain.n) == (20.0, "points", 3)
    assert rows["toy/end − fresh end"].value == 0
