"""A memory of tasks: the planted one is found, what is written is bounded and saved, and adapting writes nothing."""

from dataclasses import replace

import pytest
import torch

from fewtext import Collator, Encoder, EpisodeSampler, EpisodeSpec, Lora, TrainConfig, load_texts, meta_train
from fewtext.artifact import Artifact
from fewtext.errors import LearnerError
from fewtext.learners.gradient import FirstOrderMAML, GradientConfig
from fewtext.learners.memory import Memory, MemoryConfig
from fewtext.nn.pretrained import MINILM

SPEC = EpisodeSpec(ways=3, shots=2, queries=2)


@pytest.fixture
def memory(tiny_lora):
    return Memory(tiny_lora, MemoryConfig(capacity=4, nearest=2, inner_lr=0.001))


@pytest.fixture
def batch(toy, tiny):
    sampler = EpisodeSampler(toy, SPEC, seed=4)
    return Collator([toy], tiny.tokenize)([sampler[n] for n in range(4)])


def moved(state, amount):
    return {name: value + amount if "lora" in name else value for name, value in state.items()}


def adapted(learner, support):
    with torch.no_grad():
        return learner.adapt(support)


def logits(learner, batch):
    return learner.predict(adapted(learner, batch.support), batch.query.tokens)


def test_an_empty_memory_is_first_order_maml(memory, batch):
    config = GradientConfig(inner_lr=0.001)
    plain = FirstOrderMAML(memory.encoder, config)
    assert torch.equal(logits(memory, batch), logits(plain, batch))


def test_a_planted_neighbour_is_found():
    """Of eight tasks that were written, the one of the same classes, by texts that were not."""
    memory = Memory(
        Encoder.from_pretrained(MINILM, lora=Lora(rank=1, from_layer=5)), MemoryConfig(capacity=8, nearest=3)
    )
    everyday = load_texts("everyday")
    sampler = EpisodeSampler(everyday, SPEC, seed=4)
    drawn = [sampler[number] for number in range(8)]
    collator = Collator([everyday], memory.encoder.tokenize)
    for place, episode in enumerate(drawn):
        support = collator([episode]).support
        memory.write(support, moved(memory._body(support), place))
    for place, episode in enumerate(drawn):
        others = collator([replace(episode, support=episode.query, support_labels=episode.query_labels)]).support
        places, shares = memory.recall(others)
        assert places[0, 0] == place
        assert shares[0, 0] > shares[0, 1] > shares[0, 2] > 0
        torch.testing.assert_close(shares.sum(1), torch.ones(1))


def test_meta_training_ends_with_tasks_that_it_has_seen(memory, toy, tmp_path):
    sampler = EpisodeSampler(toy, SPEC, seed=4)
    for _ in range(2):  # training again does not add to them
        meta_train(memory, sampler, TrainConfig(steps=1, meta_batch=1), progress=False)
    Artifact("learner", memory).save_pretrained(tmp_path / "saved")
    again = Artifact.from_pretrained(tmp_path / "saved").learner
    assert again.counts.tolist() == [1, 1, 1, 1]
    keys = Collator([toy], memory.encoder.tokenize)([sampler[number] for number in range(4)]).support
    torch.testing.assert_close(again.keys, memory.key(keys), rtol=1e-4, atol=1e-4)


def test_a_task_starts_from_what_its_neighbours_ended_with(memory, batch):
    before = memory._start(batch.support)
    state = adapted(memory, batch.support)
    memory.write(batch.support, state)
    places, shares = memory.recall(batch.support)
    start = memory._start(batch.support)
    for name in memory.fast:
        ends = (state[name] - before[name])[places]
        wanted = before[name] + (shares[..., None, None] * ends).sum(1)
        torch.testing.assert_close(start[name], wanted)
    assert any(not torch.equal(start[name], before[name]) for name in memory.fast)
    assert not torch.allclose(start["head"], before["head"])  # prototypes of the encoder it starts with


def test_with_one_entry_and_no_steps_it_goes_on_where_that_task_ended(tiny_lora, batch):
    memory = Memory(tiny_lora, MemoryConfig(nearest=1, inner_steps=0))
    one = batch._replace(support=batch.support)
    state = moved(adapted(memory, one.support), 0.3)
    single = Memory(tiny_lora, MemoryConfig(nearest=1, inner_steps=0, capacity=8))
    single.write(one.support, state)
    again = adapted(single, one.support)
    for name in memory.fast:
        torch.testing.assert_close(again[name], state[name])


def test_the_store_is_bounded_and_keeps_the_mean_of_what_it_merges(memory, batch):
    states = adapted(memory, batch.support)
    memory.write(batch.support, moved(states, 1.0))
    keys, total = memory.keys.clone(), memory.counts.sum()
    memory.write(batch.support, moved(states, 3.0))  # the same four tasks again: each merges with its twin
    assert memory.keys.shape == keys.shape
    assert memory.counts.sum() == 2 * total
    torch.testing.assert_close(memory.keys.norm(dim=1), torch.ones(4))
    own = dict(memory.encoder.backbone.named_parameters())
    name = memory.fast[0]
    kept = memory.get_buffer("moved " + name.replace(".", "/"))
    weighted = (kept * (memory.counts / memory.counts.sum())[:, None, None]).sum(0)
    torch.testing.assert_close(weighted, (states[name] - own[name]).mean(0) + 2.0, rtol=1e-4, atol=1e-4)


def test_the_memory_is_saved_with_the_artifact(memory, batch, tmp_path):
    memory.write(batch.support, moved(adapted(memory, batch.support), 0.1))
    Artifact("learner", memory).save_pretrained(tmp_path / "saved")
    again = Artifact.from_pretrained(tmp_path / "saved").learner
    assert torch.equal(again.counts, memory.counts)
    torch.testing.assert_close(logits(again, batch), logits(memory, batch), rtol=1e-4, atol=1e-4)


def test_without_adapters_it_says_what_to_do(tiny):
    with pytest.raises(LearnerError, match="lora_rank"):
        Memory(tiny)


@pytest.mark.parametrize("setting", ["capacity", "nearest"])
def test_an_impossible_size_is_refused(tiny_folder, setting):
    with pytest.raises(LearnerError, match=setting):
        Memory(Encoder.from_pretrained(tiny_folder, lora=Lora(rank=2)), MemoryConfig(**{setting: 0}))
