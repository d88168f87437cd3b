"""The prototypical learner against numpy, and what class names do."""

import numpy as np
import pytest
import torch

from fewtext import Collator, EpisodeSampler, EpisodeSpec, Prototypical
from fewtext.learners.prototypical import PrototypicalConfig


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
