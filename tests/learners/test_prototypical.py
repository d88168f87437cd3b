"""The prototypical learner against numpy, and what class names do."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fewtext import Collator, EpisodeSampler, EpisodeSpec, Prototypical, class_disjoint, load_texts
from fewtext.learners.prototypical import PrototypicalConfig
from fewtext.metrics.scores import mean_ci
from fewtext.scoring import score_learner
from fewtext.tensors import ABSENT


def batch_of(toy, tiny, spec, names=True, numbers=range(2)):
    sampler = EpisodeSampler(toy, spec, seed=3)
    episodes = [sampler[n] for n in numbers]
    return episodes, Collator([toy], tiny.tokenize)(episodes, names=names)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("names", [True, False])
def test_logits_equal_those_of_numpy(toy, tiny, distance, names):
    episodes, batch = batch_of(toy, tiny, EpisodeSpec(ways=4, shots=3, queries=2), names)
    learner = Prototypical(tiny, PrototypicalConfig(distance=distance, scale=7.0, name_weight=2.0))
    with torch.no_grad():
        got = learner.predict(learner.adapt(batch.support), batch.query.tokens).numpy()
    for task, episode in enumerate(episodes):
        vectors = unit(tiny.encode([toy.texts[row] for row in episode.support]).astype(np.float64))
        queries = unit(tiny.encode([toy.texts[row] for row in episode.query]).astype(np.float64))
        words = unit(tiny.encode([toy.words(label) for label in episode.classes]).astype(np.float64))
        sums = np.stack([vectors[episode.support_labels == c].sum(0) for c in range(4)])
        prototypes = (sums + 2 * words) / 5 if names else sums / 3
        if distance == "cosine":
            expected = 7 * queries @ unit(prototypes).T
        else:
            expected = -7 * ((queries[:, None] - prototypes[None]) ** 2).sum(-1)
        np.testing.assert_allclose(got[task], expected, atol=2e-5)


def test_names_alone_classify_where_there_are_no_examples(toy, tiny):
    _, batch = batch_of(toy, tiny, EpisodeSpec(ways=4, shots=0, queries=2))
    learner = Prototypical(tiny)
    state = learner.adapt(batch.support)
    names = torch.nn.functional.normalize(tiny(batch.support.names), dim=-1)
    torch.testing.assert_close(state["prototypes"], names)
    assert learner(batch).loss.isfinite()


def test_a_name_fades_as_examples_grow(toy, tiny):
    moved = []
    for shots in (1, 6):
        spec = EpisodeSpec(ways=4, shots=shots, queries=2)
        with_names = Prototypical(tiny).adapt(batch_of(toy, tiny, spec)[1].support)["prototypes"]
        without = Prototypical(tiny).adapt(batch_of(toy, tiny, spec, names=False)[1].support)["prototypes"]
        moved.append((with_names - without).norm(dim=-1).mean().item())
    assert moved[1] < moved[0] / 2


def test_the_loss_is_the_mean_of_examples_alone_and_names_alone(toy, tiny):
    _, batch = batch_of(toy, tiny, EpisodeSpec(ways=4, shots=2, queries=2))
    both, examples, names = (
        Prototypical(tiny, PrototypicalConfig(name_loss=share))(batch).loss for share in (0.5, 0.0, 1.0)
    )
    torch.testing.assert_close(both, (examples + names) / 2)
    assert not torch.isclose(examples, names)


def test_the_temperature_is_learned(toy, tiny):
    _, batch = batch_of(toy, tiny, EpisodeSpec(ways=4, shots=2, queries=2))
    learner = Prototypical(tiny)
    learner(batch).loss.backward()
    assert learner.log_scale.grad.abs() > 0


UNEVEN = EpisodeSpec(ways=range(3, 6), shots=range(1, 5), queries=range(2, 4))


def uneven(toy, tiny, names, **config):
    """A learner in float64, and a batch whose tasks and classes differ in size."""
    _, batch = batch_of(toy, tiny, UNEVEN, names, numbers=range(4))
    labels = batch.support.labels.clone()
    labels[:, 0] = ABSENT
    learner = Prototypical(tiny.double(), PrototypicalConfig(scale=60.0, name_weight=0.7, **config)).double()
    return learner, batch._replace(support=batch.support._replace(labels=labels))


def vectors_of(encoder, tokens, task):
    with torch.no_grad():
        return unit(encoder(tokens)[task].numpy()[tokens.lengths[task].numpy() > 0])


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def alike(distance, text, prototypes):
    if distance == "euclidean":
        return -((prototypes - text) ** 2).sum(-1)
    return prototypes @ text / np.maximum(np.linalg.norm(prototypes, axis=-1), 1e-300)


def task_of(learner, batch, task, names):
    """Return one task without absent rows: texts, labels, names and their weight, queries; and the scale."""
    ways, real = int(batch.support.class_mask[task].sum()), batch.support.labels[task].numpy() != ABSENT
    with torch.no_grad():
        texts = unit(learner.encoder(batch.support.tokens)[task].numpy()[real])
    words = vectors_of(learner.encoder, batch.support.names, task) if names else np.zeros((ways, 16))
    queries = vectors_of(learner.encoder, batch.query.tokens, task)
    return (
        texts,
        batch.support.labels[task].numpy()[real],
        words,
        0.7 if names else 0.0,
        queries,
        learner.log_scale.exp().item(),
    )


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("names", [True, False])
def test_refining_is_soft_k_means_of_numpy(toy, tiny, distance, names):
    learner, batch = uneven(toy, tiny, names, distance=distance, rounds=4)
    with torch.no_grad():
        got = learner.refine(learner.adapt(batch.support), batch.query.tokens)
    for task in range(4):
        texts, labels, words, weight, queries, scale = task_of(learner, batch, task, names)
        ways = len(words)
        chances = np.zeros((len(queries), ways))
        for _ in range(5):
            prototypes = np.zeros((ways, 16))
            for label in range(ways):
                rows = [*texts[labels == label], *queries, words[label]]
                weights = [*np.ones((labels == label).sum()), *chances[:, label], weight]
                prototypes[label] = sum(w * row for w, row in zip(weights, rows, strict=True))
                prototypes[label] /= max(sum(weights), 1e-300)
            chances = softmax(np.stack([scale * alike(distance, query, prototypes) for query in queries]))
        np.testing.assert_allclose(got["prototypes"][task, :ways], prototypes, rtol=0, atol=1e-12)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("names", [True, False])
def test_doubted_labels_are_those_of_numpy_leaving_out_one_text_after_the_other(toy, tiny, distance, names):
    learner, batch = uneven(toy, tiny, names, distance=distance, rounds=2, label_noise=0.2)
    with torch.no_grad():
        got = learner.adapt(batch.support)
    moved = 0.0
    for task in range(4):
        texts, labels, words, weight, _, scale = task_of(learner, batch, task, names)
        ways, own = len(words), np.eye(len(words))[labels]
        weights = own
        for _ in range(2):
            found = own.copy()
            for row, text in enumerate(texts):
                if (labels == labels[row]).sum() == 1:
                    continue
                others, counts = np.delete(texts, row, 0), np.delete(weights, row, 0)
                prototypes = counts.T @ others + weight * words
                prototypes /= np.maximum(counts.sum(0) + weight, 1e-300)[:, None]
                prior = np.where(own[row] > 0, 0.8, 0.2 / (ways - 1))
                found[row] = softmax(scale * alike(distance, text, prototypes) + np.log(prior))
            weights = found
        moved = max(moved, abs(weights - own).max())
        totals = weights.sum(0) + weight
        expected = (weights.T @ texts + weight * words) / np.maximum(totals, 1e-300)[:, None]
        np.testing.assert_allclose(got["prototypes"][task, :ways], expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(got["counts"][task, :ways], totals, rtol=0, atol=1e-12)
    assert moved > 0.3


def test_the_only_example_of_a_class_is_not_doubted(toy, tiny):
    _, batch = batch_of(toy, tiny, EpisodeSpec(ways=4, shots=1, queries=2))
    plain = Prototypical(tiny).adapt(batch.support)
    doubting = Prototypical(tiny, PrototypicalConfig(label_noise=0.3)).adapt(batch.support)
    assert torch.equal(doubting["prototypes"], plain["prototypes"])


def test_wrong_labels_do_less_harm_where_they_are_expected(minilm):
    texts = class_disjoint(load_texts("everyday"))["validation"]
    sampler = EpisodeSampler(texts, EpisodeSpec(ways=5, shots=5, queries=10))
    clean, wrong = [sampler[n] for n in range(100)], []
    for episode in clean:
        support = episode.support.reshape(5, 5).copy()
        support[:, 0] = np.roll(support[:, 0], 1)  # one text of each class is said to be of another
        wrong.append(replace(episode, support=support.reshape(-1)))
    plain, robust = Prototypical(minilm), Prototypical(minilm, PrototypicalConfig(label_noise=0.05))
    collator = Collator([texts], minilm.tokenize)
    with minilm.remembering():
        gains = [
            100 * (score_learner(robust, some, collator).accuracy - score_learner(plain, some, collator).accuracy)
            for some in (clean, wrong)
        ]
    (cost, _), (gain, half) = map(mean_ci, gains)
    assert gain - half > 0
    assert cost > -0.5
