"""The matching learner against numpy, and what full-context embeddings start as."""

import numpy as np
import pytest
import torch

from fewtext import Collator, EpisodeSampler, EpisodeSpec
from fewtext.learners.matching import Matching, MatchingConfig
from fewtext.tensors import ABSENT

UNEVEN = EpisodeSpec(ways=range(3, 6), shots=range(1, 4), queries=range(2, 4))


def batch_of(toy, tiny, spec, names=True, tasks=3):
    sampler = EpisodeSampler(toy, spec, seed=3)
    return Collator([toy], tiny.tokenize)([sampler[n] for n in range(tasks)], names=names)


def in_doubles(encoder, *, moved, **config):
    """A learner in float64; `moved` has the weights of its networks anywhere but where they start."""
    torch.manual_seed(2)
    learner = Matching(encoder.double(), MatchingConfig(name_weight=0.6, width=5, **config)).double()
    if moved:
        with torch.no_grad():
            for network in (learner.context, learner.reader):
                for weight in network.parameters():
                    weight.add_(0.5 * torch.randn_like(weight))
    return learner


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def attention(scores, counts):
    powers = counts * np.exp(scores)
    return powers / powers.sum(-1, keepdims=True)


def expected_logits(learner, support, query, task, reads):
    """Matching networks for one task, one query at a time."""
    weights = {name: value.detach().numpy() for name, value in learner.own_parameters().items()}
    scale, width, size = np.exp(weights["log_scale"]), 5, learner.encoder.dimension
    with torch.no_grad():
        rows, labels, counts = [], [], []
        for vector, label in zip(learner.encoder(support.tokens)[task].numpy(), support.labels[task], strict=True):
            if label != ABSENT:
                rows, labels, counts = [*rows, vector], [*labels, int(label)], [*counts, 1.0]
        for label, vector in enumerate(learner.encoder(support.names)[task].numpy()):
            if support.names.lengths[task, label]:
                rows, labels, counts = [*rows, vector], [*labels, label], [*counts, 0.6]
        queries = unit(learner.encoder(query.tokens)[task].numpy()[query.tokens.lengths[task] > 0])
    rows, counts = unit(np.stack(rows)), np.array(counts)
    projected = rows @ weights["project.weight"].T + weights["project.bias"]
    asked, keys, contents = projected[:, :width], projected[:, width : 2 * width], projected[:, 2 * width :]
    found = attention(asked @ keys.T / np.sqrt(width), counts) @ contents
    rows = unit(rows + found @ weights["context.weight"].T + weights["context.bias"])
    logits = np.full((len(queries), int(support.class_mask[task].sum())), -np.inf)
    for number, query in enumerate(queries):
        read, memory = query, np.zeros(size)
        for _ in range(reads):
            seen = attention(scale * rows @ unit(read), counts) @ rows
            gates = weights["reader.weight_ih"] @ np.concatenate([query, seen]) + weights["reader.bias_ih"]
            gates = gates + weights["reader.weight_hh"] @ read + weights["reader.bias_hh"]
            enter, keep, new, out = gates.reshape(4, size)
            memory = sigmoid(keep) * memory + sigmoid(enter) * np.tanh(new)
            read = query + sigmoid(out) * np.tanh(memory)
        powers = counts * np.exp(scale * rows @ unit(read))
        for label in set(labels):
            logits[number, label] = np.log(powers[np.array(labels) == label].sum())
    return logits


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize("reads", [0, 2])
def test_logits_equal_those_of_numpy(toy, tiny, names, reads):
    learner, batch = in_doubles(tiny, moved=True, reads=reads), batch_of(toy, tiny, UNEVEN, names)
    with torch.no_grad():
        got = learner.predict(learner.adapt(batch.support), batch.query.tokens).numpy()
    for task in range(3):
        expected = expected_logits(learner, batch.support, batch.query, task, reads)
        queries, ways = expected.shape
        np.testing.assert_allclose(got[task, :queries, :ways], expected, rtol=0, atol=1e-12)
        assert (got[task, :, ways:] == -np.inf).all()


def test_untrained_it_is_plain_attention(toy, tiny):
    learner, batch = in_doubles(tiny, moved=False, reads=3), batch_of(toy, tiny, UNEVEN, names=False)
    with torch.no_grad():
        state = learner.adapt(batch.support)
        keys, queries = (torch.nn.functional.normalize(tiny(part.tokens), dim=-1) for part in batch[:2])
        chances = learner.predict(state, batch.query.tokens).softmax(-1)
    torch.testing.assert_close(state["keys"][:, : keys.shape[1]], keys)
    scores = learner.log_scale.exp() * queries @ keys.mT
    shares = scores.masked_fill(batch.support.labels[:, None] == ABSENT, float("-inf")).softmax(-1)
    for label in range(chances.shape[-1]):
        own = shares * (batch.support.labels[:, None] == label)
        torch.testing.assert_close(chances[..., label], own.sum(-1), rtol=1e-10, atol=1e-12)


def test_the_networks_that_start_at_nothing_learn(toy, tiny):
    learner, batch = in_doubles(tiny, moved=False), batch_of(toy, tiny, UNEVEN)
    learner(batch).loss.backward()
    size = learner.encoder.dimension
    assert learner.context.weight.grad.norm() > 0
    assert learner.reader.weight_ih.grad[2 * size : 3 * size].norm() > 0


def test_the_loss_is_the_mean_of_examples_alone_and_names_alone(toy, tiny):
    batch = batch_of(toy, tiny, UNEVEN)
    both, examples, names = (in_doubles(tiny, moved=True, name_loss=share)(batch).loss for share in (0.5, 0.0, 1.0))
    torch.testing.assert_close(both, (examples + names) / 2)
    assert not torch.isclose(examples, names)
    without = in_doubles(tiny, moved=True)(batch_of(toy, tiny, UNEVEN, names=False)).loss
    torch.testing.assert_close(without, examples)


def test_names_alone_classify_where_there_are_no_examples(toy, tiny):
    learner, batch = in_doubles(tiny, moved=True), batch_of(toy, tiny, EpisodeSpec(ways=4, shots=0, queries=2))
    output = learner(batch)
    assert output.loss.isfinite()
    assert output.logits.isfinite().all()


def test_a_class_of_which_nothing_is_known_is_not_the_answer(toy, tiny):
    batch = batch_of(toy, tiny, EpisodeSpec(ways=4, shots=2, queries=2), names=False)
    labels = batch.support.labels.masked_fill(batch.support.labels == 1, ABSENT)
    batch = batch._replace(support=batch.support._replace(labels=labels))
    output = in_doubles(tiny, moved=True)(batch)
    assert (output.logits.argmax(-1) != 1).all()
    assert output.loss.isfinite()
