"""The siamese learner against numpy, pair by pair."""

import numpy as np
import pytest
import torch

from fewtext import Collator, EpisodeSampler, EpisodeSpec
from fewtext.learners.siamese import Siamese, SiameseConfig, pair_loss
from fewtext.tensors import ABSENT

UNEVEN = EpisodeSpec(ways=range(3, 6), shots=range(1, 4), queries=range(2, 4))


def batch_of(toy, tiny, spec, names=True, tasks=3):
    sampler = EpisodeSampler(toy, spec, seed=3)
    return Collator([toy], tiny.tokenize)([sampler[n] for n in range(tasks)], names=names)


def in_doubles(encoder):
    """A learner in float64 whose weights differ."""
    learner = Siamese(encoder.double(), SiameseConfig(name_weight=0.6)).double()
    with torch.no_grad():
        learner.log_weights.add_(torch.randn(16, generator=torch.Generator().manual_seed(0)))
        learner.bias.add_(0.3)
    return learner


def log_odds(learner, one, other):
    weights, bias = learner.log_weights.detach().exp().numpy(), learner.bias.item()
    return bias - sum(w * (a - b) ** 2 for w, a, b in zip(weights, one, other, strict=True))


def texts_of(learner, batch, task):
    """Return the unit embeddings and labels of one task's examples, names and queries."""
    support, query = batch.support, batch.query
    labels = (support.labels[task], torch.arange(support.names.lengths.shape[1]), query.labels[task])
    found = []
    for tokens, own in zip((support.tokens, support.names, query.tokens), labels, strict=True):
        with torch.no_grad():
            vectors = learner.encoder(tokens)[task].numpy()
        real = tokens.lengths[task].numpy() > 0
        vectors = vectors[real]
        found.append((vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), own.numpy()[real]))
    return found


@pytest.mark.parametrize("names", [True, False])
def test_logits_equal_those_of_numpy(toy, tiny, names):
    learner, batch = in_doubles(tiny), batch_of(toy, tiny, UNEVEN, names)
    with torch.no_grad():
        got = learner.predict(learner.adapt(batch.support), batch.query.tokens).numpy()
    for task in range(3):
        (examples, labels), (words, _), (queries, _) = texts_of(learner, batch, task)
        for number, query in enumerate(queries):
            for label in range(int(batch.support.class_mask[task].sum())):
                odds = [np.exp(log_odds(learner, query, text)) for text in examples[labels == label]]
                counts = [1.0] * len(odds)
                if names:
                    odds, counts = [*odds, np.exp(log_odds(learner, query, words[label]))], [*counts, 0.6]
                expected = np.log(np.average(odds, weights=counts))
                np.testing.assert_allclose(got[task, number, label], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("names", [True, False])
def test_the_loss_is_that_of_numpy_over_all_pairs(toy, tiny, names):
    learner, batch = in_doubles(tiny), batch_of(toy, tiny, UNEVEN, names)
    losses = []
    for task in range(3):
        parts = texts_of(learner, batch, task)
        vectors, labels = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
        found = {True: [], False: []}
        for one in range(len(labels)):
            for other in range(one):
                chance = 1 / (1 + np.exp(-log_odds(learner, vectors[one], vectors[other])))
                same = labels[one] == labels[other]
                found[bool(same)].append(-np.log(chance if same else 1 - chance))
        losses.append((np.mean(found[True]) + np.mean(found[False])) / 2)
    assert learner(batch).loss.item() == pytest.approx(np.mean(losses), rel=1e-12)


def test_untrained_it_is_a_scaled_cosine(toy, tiny):
    learner = Siamese(tiny.double(), SiameseConfig(scale=8.0)).double()
    batch = batch_of(toy, tiny, EpisodeSpec(ways=4, shots=1, queries=2), names=False)
    with torch.no_grad():
        got = learner.predict(learner.adapt(batch.support), batch.query.tokens)
        support, queries = (torch.nn.functional.normalize(tiny(part.tokens), dim=-1) for part in batch[:2])
    torch.testing.assert_close(got, 8 * queries @ support.mT - 4)


def test_pairs_of_both_kinds_count_one_half_and_absent_rows_none():
    odds = torch.tensor([[1.0, 2.0, -3.0, 50.0]] * 4)[None]
    labels = torch.tensor([[0, 0, 1, ABSENT]])
    same, different = np.log1p(np.exp(-2.0)), np.log1p(np.exp(-3.0))
    assert pair_loss(odds, labels).item() == pytest.approx((same + different) / 2)


def test_the_weights_of_the_numbers_are_learned(toy, tiny):
    learner, batch = Siamese(tiny), batch_of(toy, tiny, EpisodeSpec(ways=4, shots=2, queries=2))
    first = learner(batch).loss
    first.backward()
    with torch.no_grad():
        learner.log_weights.sub_(0.1 * learner.log_weights.grad / learner.log_weights.grad.norm())
    assert learner(batch).loss < first


def test_without_examples_names_are_paired_and_without_both_nothing_breaks(toy, tiny):
    spec = EpisodeSpec(ways=4, shots=0, queries=2)
    for names in (True, False):
        output = in_doubles(tiny)(batch_of(toy, tiny, spec, names))
        assert output.loss.isfinite()
        assert output.logits.isfinite().all()
