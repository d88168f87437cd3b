"""Meta-testing: right numbers, paired differences, the frozen encoder on the same episodes."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from fewtext import Collator, Encoder, EpisodeSampler, EpisodeSpec, Lora, Prototypical, meta_test
from fewtext.errors import LearnerError
from fewtext.learners.siamese import Siamese
from fewtext.scoring import score_heads, score_learner

SPEC = EpisodeSpec(ways=4, shots=2, queries=3)


def test_scores_equal_those_of_one_episode_at_a_time(toy, tiny_lora):
    learner = Prototypical(tiny_lora)
    sampler = EpisodeSampler(toy, SPEC)
    episodes = [sampler[n] for n in range(11)]
    collator = Collator([toy], tiny_lora.tokenize)
    together = score_learner(learner, episodes, collator, batch=4).accuracy
    for number, episode in enumerate(episodes):
        batch = collator([episode])
        with torch.no_grad():
            guesses = learner.predict(learner.adapt(batch.support), batch.query.tokens).argmax(-1)
        assert together[number] == pytest.approx((guesses == batch.query.labels).float().mean().item())


def test_transductive_scores_are_those_after_all_queries_of_an_episode_were_seen(toy, tiny):
    learner, sampler, collator = Prototypical(tiny), EpisodeSampler(toy, SPEC), Collator([toy], tiny.tokenize)
    episodes = [sampler[n] for n in range(11)]
    together = score_learner(learner, episodes, collator, batch=4, transductive=True).accuracy
    for number, episode in enumerate(episodes):
        support, query, *_ = collator([episode])
        with torch.no_grad():
            state = learner.refine(learner.adapt(support), query.tokens)
            guesses = learner.predict(state, query.tokens).argmax(-1)
        assert together[number] == pytest.approx((guesses == query.labels).float().mean().item())
    assert (together != score_learner(learner, episodes, collator).accuracy).any()


def test_a_learner_that_cannot_learn_from_queries_is_not_scored_as_if_it_could(toy, tiny):
    sampler = EpisodeSampler(toy, SPEC)
    with pytest.raises(LearnerError, match="siamese cannot learn from the texts that are asked"):
        score_learner(Siamese(tiny), [sampler[0]], Collator([toy], tiny.tokenize), transductive=True)


def test_the_frozen_encoder_is_scored_as_an_independent_computation_does(toy, tiny):
    sampler = EpisodeSampler(toy, SPEC)
    episodes = [sampler[n] for n in range(5)]
    scores = score_heads(tiny, episodes, [toy])
    for number, episode in enumerate(episodes):
        support = tiny.encode([toy.texts[row] for row in episode.support])
        query = tiny.encode([toy.texts[row] for row in episode.query])
        support, query = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (support, query))
        model = LogisticRegression(C=100, max_iter=1000).fit(support, episode.support_labels)
        expected = model.score(query, episode.query_labels)
        assert scores["logistic regression"].accuracy[number] == pytest.approx(expected)
        means = np.stack([support[episode.support_labels == c].mean(0) for c in range(4)])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        expected = ((query @ means.T).argmax(1) == episode.query_labels).mean()
        assert scores["prototypes"].accuracy[number] == pytest.approx(expected)


def test_an_untrained_learner_equals_the_frozen_encoder(toy, tiny_folder):
    learner = Prototypical(Encoder.from_pretrained(tiny_folder, lora=Lora(rank=2)))
    rows = meta_test(learner, toy, SPEC, frozen=Encoder.from_pretrained(tiny_folder), episodes=20, progress=False)
    for suffix in ("", " + names"):
        (row,) = [
            row for row in rows if row.name.endswith(f"4-way-2-shot/prototypical{suffix} − frozen prototypes{suffix}")
        ]
        assert row.value == 0
        assert row.unit == "points"


def test_rows_cover_episodes_and_all_classes_with_intervals(toy, tiny):
    rows = meta_test(Prototypical(tiny), toy, SPEC, frozen=tiny, episodes=12, all_way=3, progress=False)
    names = [row.name for row in rows if row.unit == "accuracy"]
    methods = ["prototypical", "prototypical (transductive)", "prototypical, logistic regression"]
    methods += ["frozen prototypes", "frozen logistic regression"]
    methods = [method + suffix for method in methods for suffix in ("", " + names")]
    assert sorted(names) == sorted(f"toy/{w}-2-shot/{m}" for w in ("4-way", "8-way (all)") for m in methods)
    assert {row.n for row in rows} == {12, 3}
    assert all(row.ci95 is not None for row in rows)


def test_without_examples_only_names_are_measured(toy, tiny):
    spec = EpisodeSpec(ways=4, shots=0, queries=3)
    rows = meta_test(Prototypical(tiny), toy, spec, frozen=tiny, episodes=5, all_way=0, progress=False)
    assert all("names" in row.name for row in rows)
