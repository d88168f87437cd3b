"""The hypernetwork against numpy; it writes in forward passes alone, and what it writes is what answers."""

from dataclasses import replace
from math import erf, sqrt

import numpy as np
import pytest
import torch
from conftest import WORDS, changed
from test_contract import (  # noqa: F401  (what every learner promises, of weights that are not zero at first)
    batch,
    logits_of,
    test_a_class_that_is_not_there_is_never_the_answer,
    test_one_task_s_state_survives_a_file,
    test_renumbering_the_classes_renumbers_the_answers,
    test_tasks_do_not_see_each_other,
    test_the_order_of_the_support_and_absent_rows_do_not_matter,
)
from torch.nn import functional as F

from fewtext import Collator, Encoder, EpisodeSampler, EpisodeSpec, Lora, Prototypical
from fewtext.errors import LearnerError
from fewtext.learners.hypernetwork import Hypernetwork, HypernetworkConfig


@pytest.fixture
def toy(toy):
    """The classes have names that the tiny tokenizer knows."""
    return replace(toy, descriptions=dict(zip(toy.classes, WORDS, strict=False)))


@pytest.fixture
def learner(tiny_lora):
    return changed(Hypernetwork(tiny_lora))


def batch_of(toy, encoder, *, shots=2, names=True):
    sampler = EpisodeSampler(toy, EpisodeSpec(ways=4, shots=shots, queries=2), seed=3)
    drawn = [sampler[0], sampler[1]]
    return drawn, Collator([toy], encoder.tokenize)(drawn, names=names)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def apply(layer, rows):
    """A layer in numpy."""
    if isinstance(layer, torch.nn.GELU):
        return rows * (1 + np.vectorize(erf)(rows / sqrt(2))) / 2
    if isinstance(layer, torch.nn.LayerNorm):
        return (rows - rows.mean(-1, keepdims=True)) / np.sqrt(rows.var(-1, keepdims=True) + 1e-5)
    if isinstance(layer, torch.nn.Sequential):
        for part in layer:
            rows = apply(part, rows)
        return rows
    if isinstance(layer, torch.nn.Tanh):
        return np.tanh(rows)
    bias = 0 if layer.bias is None else layer.bias.detach().numpy()
    return rows @ layer.weight.detach().numpy().T + bias


def reference(learner, toy, episode, names):
    """One episode's logits and adapters: the adapters are put into the encoder, as if they were its own."""
    encoder, config = learner.encoder, learner.config

    def class_means():
        def embedded(texts):
            return unit(encoder(Collator([], encoder.tokenize).tokens([texts]))[0].detach().numpy())

        means, totals = [], []
        for position, label in enumerate(episode.classes):
            own = episode.support[episode.support_labels == position]
            rows = [*(embedded([toy.texts[row]])[0] for row in own)]
            weights = [1.0] * len(rows)
            if names:
                rows, weights = [*rows, embedded([toy.words(label)])[0]], [*weights, config.name_weight]
            means.append(np.average(rows, axis=0, weights=weights))
            totals.append(sum(weights))
        return np.array(means), np.array(totals), embedded([toy.texts[row] for row in episode.query])

    features = apply(learner.read, class_means()[0])
    scores = np.exp(apply(learner.attend, features))
    pooled = [features.T @ (head / head.sum()) for head in scores.T]
    task = apply(learner.summarise, np.concatenate(pooled))
    own = {name: encoder.backbone.get_parameter(name).detach().clone() for name in learner.written}
    adapters = {}
    mixtures = apply(learner.mix, task).reshape(len(learner.written), -1)
    for name, mixture, directions in zip(learner.written, mixtures, learner.directions, strict=True):
        written = sum(share * way for share, way in zip(mixture, directions.detach().numpy(), strict=True))
        adapters[name] = own[name].numpy() + written
    try:
        for name, value in adapters.items():
            encoder.backbone.get_parameter(name).data.copy_(torch.from_numpy(value))
        means, totals, queries = class_means()
    finally:
        for name, value in own.items():
            encoder.backbone.get_parameter(name).data.copy_(value)
    context = np.concatenate([apply(learner.spread, means), np.tile(task, (len(means), 1))], axis=1)
    head = unit(means + apply(learner.move, context) / totals[:, None])
    return learner.log_scale.exp().item() * queries @ head.T, adapters


@pytest.mark.parametrize(("shots", "names"), [(2, True), (2, False), (0, True)])
def test_adapters_and_logits_equal_those_of_numpy(toy, learner, shots, names):
    learner = learner.double()
    learner.config = replace(learner.config, name_weight=2.0)
    episodes, drawn = batch_of(toy, learner.encoder, shots=shots, names=names)
    with torch.no_grad():
        state = learner.adapt(drawn.support)
    logits = logits_of(learner, drawn)
    for task, episode in enumerate(episodes):
        expected, adapters = reference(learner, toy, episode, names)
        np.testing.assert_allclose(logits[task].numpy(), expected, rtol=0, atol=1e-9)
        for name, value in adapters.items():
            np.testing.assert_allclose(state[name][task].numpy(), value, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("shots", "names"), [(2, True), (2, False), (0, True)])
def test_untrained_it_is_the_prototypical_learner(toy, tiny_lora, shots, names):
    _, drawn = batch_of(toy, tiny_lora, shots=shots, names=names)
    expected = logits_of(Prototypical(tiny_lora), drawn)
    torch.testing.assert_close(logits_of(Hypernetwork(tiny_lora), drawn), expected, atol=1e-4, rtol=1e-4)


def test_adapting_takes_no_gradient(toy, learner, monkeypatch):
    _, drawn = batch_of(toy, learner.encoder)

    def refuse(*_, **__):
        raise AssertionError("a gradient was taken")

    monkeypatch.setattr(torch.autograd, "grad", refuse)
    monkeypatch.setattr(torch.Tensor, "backward", refuse)
    with torch.inference_mode():
        logits = learner.predict(learner.adapt(drawn.support), drawn.query.tokens)
    torch.testing.assert_close(logits, logits_of(learner, drawn), atol=1e-5, rtol=0)


def test_each_task_has_adapters_of_its_own_and_they_matter(toy, learner):
    _, drawn = batch_of(toy, learner.encoder)
    with torch.no_grad():
        state = learner.adapt(drawn.support)
        mean = state | {name: state[name].mean(0).expand_as(state[name]) for name in learner.written}
        own, other = (learner.predict(each, drawn.query.tokens) for each in (state, mean))
    assert all((state[name][0] - state[name][1]).abs().max() > 1e-3 for name in learner.written)
    assert (own - other).abs().max() > 1e-2


def test_training_reaches_every_weight(toy, learner):
    learner(batch_of(toy, learner.encoder)[1]).loss.backward()
    weights = {name: weight for name, weight in learner.named_parameters() if weight.requires_grad}
    assert {name for name, weight in weights.items() if weight.grad is None or not weight.grad.any()} == set()


def test_the_written_head_is_linear_on_the_encoder_with_the_written_adapters(toy, learner):
    _, drawn = batch_of(toy, learner.encoder)
    with torch.no_grad():
        state = {name: value[:1] for name, value in learner.adapt(drawn.support).items()}
        expected = logits_of(learner, drawn)[0]
        adapters, weight, bias = learner.linear(state)
        for name, value in adapters.items():
            learner.encoder.backbone.get_parameter(name).copy_(value)
        vectors = F.normalize(learner.encoder(drawn.query.tokens)[0], dim=-1)
    torch.testing.assert_close(F.linear(vectors, weight, bias), expected, atol=1e-4, rtol=1e-4)


def test_the_loss_is_the_mean_of_examples_alone_and_names_alone(toy, tiny_lora):
    _, drawn = batch_of(toy, tiny_lora)
    weights = changed(Hypernetwork(tiny_lora)).state_dict()

    def loss(name_loss):
        learner = Hypernetwork(tiny_lora, HypernetworkConfig(name_loss=name_loss))
        learner.load_state_dict(weights)
        return learner(drawn).loss

    torch.testing.assert_close(loss(0.5), (loss(0.0) + loss(1.0)) / 2)
    assert not torch.isclose(loss(0.0), loss(1.0))


def test_an_encoder_without_adapters_is_refused(tiny):
    with pytest.raises(LearnerError, match=r"the encoder has none\. Give it lora=Lora\(\)"):
        Hypernetwork(tiny)


def test_it_is_small_beside_its_encoder():
    encoder = Encoder.from_pretrained("sentence-transformers/all-MiniLM-L6-v2", lora=Lora())
    own = sum(value.numel() for value in Hypernetwork(encoder).own_parameters().values())
    assert own < sum(weight.numel() for weight in encoder.parameters()) / 20
