"""What a run says about itself before it starts."""

import sys
from mmap import mmap
from types import SimpleNamespace

import psutil
import pytest
from accelerate import Accelerator

from fewtext import EpisodeSampler, EpisodeSpec, Prototypical, TrainConfig
from fewtext.jobs.report import describe_run, peak_memory


def test_the_peak_of_memory_does_not_fall_when_memory_is_given_back():
    block = mmap(-1, 64 * 2**20)  # from the system itself: a library may keep what it is given back
    block.write(b"x" * len(block))
    held = psutil.Process().memory_info().rss
    block.close()
    assert psutil.Process().memory_info().rss < held
    assert peak_memory() > 0.99 * held


def test_where_there_is_no_resource_module_psutil_says_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    windows = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=1, peak_wset=2))
    monkeypatch.setattr(psutil, "Process", lambda: windows)
    assert peak_memory() == 2


@pytest.mark.parametrize(("settings", "sizes"), [({}, 1), ({"micro_batch": 2}, 2), ({"micro_batch": 9}, 4)])
def test_a_dry_run_tries_the_batches_of_the_run(toy, tiny, settings, sizes):
    learner, seen = Prototypical(tiny), []
    learner.register_forward_pre_hook(lambda _, batches: seen.append(len(batches[0].query.labels)))
    episodes = EpisodeSampler(toy, EpisodeSpec(ways=4, shots=1, queries=2))
    text = describe_run(learner, episodes, episodes, TrainConfig(meta_batch=4, **settings), Accelerator(cpu=True))
    assert seen == [sizes] * 3
    assert "at its peak" in text
    assert all(weight.grad is None for weight in learner.parameters())
