"""The conditional neural process against numpy, and what each thing that it reads changes."""

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

from fewtext import Collator, EpisodeSampler, EpisodeSpec, Prototypical, TrainConfig, meta_train
from fewtext.learners.neural_process import NeuralProcess, NeuralProcessConfig
from fewtext.metrics.scores import mean_ci
from fewtext.scoring import score_learner

ABOUT = ["one two three", ""]


@pytest.fixture
def toy(toy):
    """The classes have names that the tiny tokenizer knows."""
    return replace(toy, descriptions=dict(zip(toy.classes, WORDS, strict=False)))


@pytest.fixture
def learner(tiny_lora):
    return changed(NeuralProcess(tiny_lora))


def batch_of(toy, encoder, *, ways=4, shots=2, abouts=("",), names=True):
    """One episode per description, each from a source that has it."""
    sources = [replace(toy, about=about) for about in abouts]
    spec = EpisodeSpec(ways=ways, shots=shots, queries=2)
    drawn = [replace(EpisodeSampler(toy, spec, seed=3)[n], source=n) for n in range(len(abouts))]
    return drawn, Collator(sources, encoder.tokenize)(drawn, names=names)


def linear(layer, rows):
    bias = 0 if layer.bias is None else layer.bias.detach().numpy()
    return rows @ layer.weight.detach().numpy().T + bias


def gelu(rows):
    return rows * (1 + np.vectorize(erf)(rows / sqrt(2))) / 2


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def spread(rows):
    return (rows - rows.mean(-1, keepdims=True)) / np.sqrt(rows.var(-1, keepdims=True) + 1e-5)


def reference(learner, toy, episode, about, names):
    """One episode's logits, class by class and query by query."""
    encoder, config = learner.encoder, learner.config

    def embedded(texts):
        return unit(encoder(Collator([], encoder.tokenize).tokens([texts]))[0].detach().numpy())

    def read(row):
        return linear(learner.read[3], gelu(linear(learner.read[1], spread(row))))

    classes = []
    support = embedded([toy.texts[row] for row in episode.support])
    for position, label in enumerate(episode.classes):
        rows = list(support[episode.support_labels == position])
        weights = [1.0] * len(rows)
        if names:
            rows, weights = [*rows, *embedded([toy.words(label)])], [*weights, config.name_weight]
        reading = np.average([read(row) for row in rows], axis=0, weights=weights)
        classes.append((np.average(rows, axis=0, weights=weights), reading, sum(weights)))
    task = np.mean([reading for _, reading, _ in classes], axis=0)
    if about:
        task = task + linear(learner.read_about[1], spread(embedded([about])[0]))
    logits = []
    for query in embedded([toy.texts[row] for row in episode.query]):
        of_query, query_factor = np.split(linear(learner.query_features[1], spread(query)), 2)
        logits.append([])
        for mean, reading, total in classes:
            move = linear(learner.move[2], gelu(linear(learner.move[0], np.concatenate([mean, reading, task]))))
            prototype = unit(mean + move / total)
            of_class, class_factor = np.split(linear(learner.class_features[1], spread(prototype)), 2)
            hidden = gelu(of_query + of_class + query_factor * class_factor + task)
            similarity = learner.log_scale.exp().item() * query @ prototype
            logits[-1].append(similarity + linear(learner.decide, hidden)[0])
    return np.array(logits)


@pytest.mark.parametrize(("shots", "names"), [(2, True), (2, False), (0, True)])
def test_logits_equal_those_of_numpy(toy, learner, shots, names):
    learner = learner.double()
    learner.config = replace(learner.config, name_weight=2.0)
    episodes, drawn = batch_of(toy, learner.encoder, shots=shots, abouts=ABOUT, names=names)
    expected = np.stack(
        [reference(learner, toy, own, about, names) for own, about in zip(episodes, ABOUT, strict=True)]
    )
    np.testing.assert_allclose(logits_of(learner, drawn).numpy(), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("shots", "names"), [(2, True), (2, False), (0, True)])
def test_untrained_it_is_the_prototypical_learner(toy, tiny_lora, shots, names):
    _, drawn = batch_of(toy, tiny_lora, shots=shots, abouts=ABOUT, names=names)
    expected = logits_of(Prototypical(tiny_lora), drawn)
    torch.testing.assert_close(logits_of(NeuralProcess(tiny_lora), drawn), expected, atol=1e-5, rtol=0)


def test_what_is_trained_on_three_classes_solves_tasks_of_two_and_of_eight(toy, tiny_lora):
    torch.manual_seed(0)
    learner = NeuralProcess(tiny_lora)
    meta_train(learner, EpisodeSampler(toy, EpisodeSpec(3, 2, 2)), TrainConfig(steps=20), progress=False)
    collator = Collator([toy], learner.encoder.tokenize)
    for ways in (2, 8):
        sampler = EpisodeSampler(toy, EpisodeSpec(ways, 2, 2), seed=9)
        right = score_learner(learner, [sampler[number] for number in range(20)], collator).accuracy
        mean, half = mean_ci(right)
        assert mean - half > 1 / ways


def test_a_description_is_read_and_another_task_s_is_not(toy, learner):
    told, untold, other = (
        logits_of(learner, batch_of(toy, learner.encoder, abouts=abouts)[1])
        for abouts in (ABOUT, ["", ""], ["flight", ""])
    )
    assert (told[0] - untold[0]).abs().max() > 1e-3
    assert (told[0] - other[0]).abs().max() > 1e-3
    torch.testing.assert_close(told[1], untold[1], atol=1e-5, rtol=0)


def test_classes_change_what_is_said_of_others(toy, learner):
    """The task stands behind every class, so a class more is not only a column more."""
    _, drawn = batch_of(toy, learner.encoder)
    mask = drawn.support.class_mask.clone()
    mask[:, 3] = False
    less = drawn._replace(support=drawn.support._replace(class_mask=mask))
    assert (logits_of(learner, less)[..., :3] - logits_of(learner, drawn)[..., :3]).abs().max() > 1e-3


def test_the_loss_is_the_mean_of_examples_and_names_alone_with_a_description_and_without(toy, tiny_lora):
    _, drawn = batch_of(toy, tiny_lora, abouts=ABOUT[:1])
    torch.manual_seed(0)
    weights = changed(NeuralProcess(tiny_lora)).state_dict()

    def loss(name_loss, plain_loss):
        learner = NeuralProcess(tiny_lora, NeuralProcessConfig(name_loss=name_loss, plain_loss=plain_loss))
        learner.load_state_dict(weights)
        return learner(drawn).loss

    parts = [loss(name, plain) for name in (0.0, 1.0) for plain in (0.0, 1.0)]
    assert len({part.item() for part in parts}) == 4
    torch.testing.assert_close(loss(0.5, 0.5), torch.stack(parts).mean())


def test_training_draws_no_random_numbers(toy, learner):
    _, drawn = batch_of(toy, learner.encoder, abouts=ABOUT)
    before = torch.get_rng_state()
    first, second = learner(drawn).loss, learner(drawn).loss
    assert first == second
    assert torch.equal(torch.get_rng_state(), before)
