"""Refining on the supports: the base stays as it is, and what is kept is what helps."""

import numpy as np
import pytest
import torch

from fewtext import Encoder, FewShotClassifier
from fewtext.data.training_set import TrainingSet
from fewtext.errors import LearnerError
from fewtext.learners.prototypical import Prototypical
from fewtext.refine import ENOUGH, RefineConfig, held_out_answers, refine, refined


def supports(toy, shots, words=("",) * 8):
    few = toy.at_most(shots)
    return TrainingSet(list(few.texts), np.array(few.labels), words)


def weights(encoder):
    return {name: weight.detach().clone() for name, weight in encoder.named_parameters()}


@pytest.mark.parametrize("base", ["tiny", "tiny_lora"])
@pytest.mark.parametrize("words", [["where", "card", "refund", "flight", "room", "loan", "bill", "two"], [""] * 8])
def test_the_base_stays_as_it_is(base, words, toy, request):
    learner = Prototypical(request.getfixturevalue(base))
    before, trained = weights(learner.encoder), [weight.requires_grad for weight in learner.encoder.parameters()]
    given = supports(toy, 3, words)
    own = refined(learner, given, RefineConfig(steps=3))
    assert all(torch.equal(weight, before[name]) for name, weight in learner.encoder.named_parameters())
    assert [weight.requires_grad for weight in learner.encoder.parameters()] == trained
    assert not np.allclose(own.encoder.encode(given.texts), learner.encoder.encode(given.texts))
    again = refined(learner, given, RefineConfig(steps=3))
    np.testing.assert_array_equal(own.encoder.encode(given.texts), again.encoder.encode(given.texts))


def test_weights_below_the_adapters_are_shared(tiny, toy):
    own = refined(Prototypical(tiny), supports(toy, 2), RefineConfig(steps=1))
    shared = own.encoder.backbone.get_base_model().embeddings.word_embeddings.weight
    assert shared.data_ptr() == tiny.backbone.embeddings.word_embeddings.weight.data_ptr()


def test_the_loss_falls(tiny, toy):
    given = supports(toy, 5)
    own = refined(Prototypical(tiny), given, RefineConfig(steps=40, lr=1e-2))

    def spread(encoder):
        vectors = encoder.encode(given.texts)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        alike = given.labels[:, None] == given.labels
        return (vectors @ vectors.T)[alike].mean() - (vectors @ vectors.T)[~alike].mean()

    assert spread(own.encoder) > spread(tiny) + 0.1


@pytest.mark.parametrize(
    ("shots", "ways", "queries", "others"),
    [(1, 24, 1, 0), (2, 24, 1, 1), (5, 24, 2, 3), (5, 8, 1, 1), (5, 4, 1, 1), (10, 24, 3, 3), (10, 16, 2, 2)],
)
def test_few_classes_are_asked_about_more_of_their_texts(shots, ways, queries, others, tiny, toy, monkeypatch):
    seen, forward = [], Prototypical.forward
    monkeypatch.setattr(Prototypical, "forward", lambda self, batch: seen.append(batch) or forward(self, batch))
    given = supports(toy, shots, ["where", "card", "refund", "flight", "room", "loan", "bill", "two"])
    refined(Prototypical(tiny), given, RefineConfig(steps=3, ways=ways))
    classes = min(ways, 8)
    for batch in seen:
        for labels, count in ((batch.query.labels, queries), (batch.support.labels, others)):
            assert torch.bincount(labels[0], minlength=classes).tolist() == [count] * classes
        asked, known = (
            {tuple(own.tolist()) for own in part.tokens.ids.split(part.tokens.lengths[0].tolist())}
            for part in (batch.query, batch.support)
        )
        assert not asked & known, "no text is asked about by itself"


def test_one_text_without_a_name_teaches_nothing(tiny, toy):
    given = supports(toy, 1)
    own = refined(Prototypical(tiny), given)
    np.testing.assert_allclose(own.encoder.encode(given.texts), tiny.encode(given.texts), atol=1e-6)


@pytest.mark.parametrize("shots", [2, ENOUGH])
def test_a_check_needs_enough_texts(tiny, toy, shots):
    learner = Prototypical(tiny)
    own, facts = refine(learner, supports(toy, shots), 100.0, check=True)
    if shots < ENOUGH:
        assert facts == {"refined": {"steps": 20}}
    else:
        found = facts["refined"]
        assert found["held_out"] == 8
        assert found["kept"] == (found["refined"] > found["frozen"]) == (own is not learner)


def test_a_check_reads_long_texts_as_the_head_will(tiny, toy, monkeypatch):
    seen = []

    def watched(*given, windows):
        seen.append(windows)
        return held_out_answers(*given, windows=windows)

    monkeypatch.setattr("fewtext.refine.refined", lambda learner, *_: learner)
    monkeypatch.setattr("fewtext.refine.held_out_answers", watched)
    few = toy.at_most(ENOUGH)
    FewShotClassifier(tiny, refine="auto", windows=True).fit(few.texts, few.labels)
    assert seen == [True, True]


@pytest.mark.parametrize("mode", [True, "auto"])
def test_a_refined_classifier_is_saved_and_can_be_adapted_again(mode, tiny_folder, toy, tmp_path):
    few = toy.at_most(3)
    texts = list(few.texts)
    classifier = FewShotClassifier(str(tiny_folder), refine=mode).fit(texts, few.labels)
    assert "refined" in classifier.facts_
    again = FewShotClassifier.from_pretrained(classifier.save_pretrained(tmp_path / "c"))
    np.testing.assert_allclose(again.predict_proba(texts), classifier.predict_proba(texts), atol=1e-5)
    assert again.get_params()["refine"] == mode


@pytest.mark.parametrize("given", [{"refine": "yes"}, {"refine": True, "method": "prototype"}])
def test_a_wrong_refine_is_refused(given, tiny_folder):
    with pytest.raises(LearnerError, match="must be True, False or 'auto'"):
        FewShotClassifier(str(tiny_folder), **given).fit(["a card", "a flight"], ["card", "flight"])


def test_the_seed_is_that_of_the_adapters(tiny_folder, toy):
    learner = Prototypical(Encoder.from_pretrained(tiny_folder))
    first, second = (refined(learner, supports(toy, 3), RefineConfig(steps=1, seed=seed)).encoder for seed in (0, 1))
    assert not np.allclose(first.encode(["where is my card"]), second.encode(["where is my card"]))
