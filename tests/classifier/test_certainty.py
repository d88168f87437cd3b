"""Temperatures, thresholds and prediction sets keep what they promise on texts that they were not made from."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fewtext import FewShotClassifier, load_texts
from fewtext.classifier.certainty import (
    Certainty,
    HeldOut,
    certainty,
    conformal_margin,
    cross_validated,
    fitted_temperature,
    knowing,
    measured,
)
from fewtext.errors import DataError, LearnerError
from fewtext.heads import Examples, fit_linear, nearest


def drawn(count, *, scale=1.0, ways=6, seed=0, several=False):
    """Held-out texts whose logits, divided by `scale`, give the probabilities that their labels were drawn from."""
    generator = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(count, ways, generator=generator)
    if several:
        labels = torch.rand(count, ways, generator=generator) < logits.sigmoid()
    else:
        labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    return HeldOut(scale * logits, torch.rand(count, generator=generator), labels)


def part(held_out, rows):
    return HeldOut(held_out.logits[rows], held_out.cosines[rows], held_out.labels[rows])


def nll(held_out, temperature):
    logits = held_out.logits / temperature
    if held_out.labels.dim() == 2:
        return F.binary_cross_entropy_with_logits(logits, held_out.labels.float()).item()
    return F.cross_entropy(logits, held_out.labels).item()


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("scale", [0.4, 1.0, 4.0])
def test_the_temperature_is_found_again(scale, several):
    texts = drawn(4000, scale=scale, several=several)
    assert fitted_temperature(texts) == pytest.approx(scale, rel=0.1)
    own, others = part(texts, slice(1000)), part(texts, slice(1000, None))
    found = fitted_temperature(own)
    if scale != 1.0:
        assert nll(others, found) < nll(others, 1.0) - 0.02
    assert nll(others, found) < nll(others, scale) + 0.005


def test_a_few_texts_do_not_move_the_temperature_far():
    right = HeldOut(torch.eye(3), torch.ones(3), torch.arange(3))  # likelihood alone would make it zero
    assert 0.4 < fitted_temperature(right) < 1
    assert fitted_temperature(part(right, slice(0))) == pytest.approx(1, abs=1e-3)


def test_what_was_measured_says_with_the_temperature_and_without():
    texts = drawn(3000, scale=3.0)
    found = measured(texts, 3.0)
    assert found["texts"] == 3000
    assert found["accuracy"] == pytest.approx((texts.logits.argmax(dim=1) == texts.labels).double().mean())
    assert found["ece"] < 0.04 < 0.1 < found["ece_before"]
    assert found["brier"] < found["brier_before"]


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_hold_the_right_label_as_often_as_promised(coverage):
    """Over many splits of exchangeable texts; marginal coverage lies between 1 - α and 1 - α + 1 / (n + 1)."""
    splits, count, others, rates = 300, 60, 100, []
    for seed in range(splits):
        texts = drawn(count + others, seed=seed, scale=2.5)
        margin = conformal_margin(part(texts, slice(count)), coverage)
        rest = part(texts, slice(count, None))
        own = rest.logits.gather(1, rest.labels[:, None])[:, 0]
        rates.append((rest.logits.max(dim=1).values - own <= margin).double().mean().item())
    error = 3 * np.std(rates) / math.sqrt(splits)
    assert coverage - error < np.mean(rates) < coverage + 1 / (count + 1) + error
    assert error < 0.015


@pytest.mark.parametrize(("coverage", "need"), [(0.9, 9), (0.95, 19), (0.99, 99), (0.5, 1), (0.8, 4)])
def test_a_guarantee_needs_so_many_texts(coverage, need):
    texts = drawn(need)
    conformal_margin(texts, coverage)
    with pytest.raises(DataError, match=rf"{need - 1} texts cannot .* coverage={coverage}\. Give {need} or more"):
        conformal_margin(part(texts, slice(need - 1)), coverage)
    with pytest.raises(DataError, match="must be below 1"):
        conformal_margin(texts, 1)


def test_the_threshold_accepts_the_share_that_was_asked_for():
    texts = drawn(2000)
    for coverage in (0.5, 0.9, 0.95, 1.0):
        own = certainty(texts, coverage)
        accepted = (texts.scores(own.temperature) >= own.threshold).double().mean()
        assert accepted == pytest.approx(coverage, abs=1e-3)
        assert (texts.cosines >= own.unfamiliar).double().mean() == pytest.approx(coverage, abs=1e-3)
        fresh = drawn(2000, seed=1)
        assert (fresh.scores(own.temperature) >= own.threshold).double().mean() == pytest.approx(coverage, abs=0.025)


def test_texts_of_no_class_move_the_threshold_between_them_and_the_others():
    inside, outside = drawn(500), drawn(500, seed=1)
    inside, outside = replace(inside, cosines=inside.cosines + 2), replace(outside, cosines=outside.cosines - 2)
    own = certainty(inside, 0.5, outside)
    assert (inside.scores(own.temperature) >= own.threshold).all()
    assert (outside.scores(own.temperature) < own.threshold).all()
    assert own.temperature == certainty(inside, 0.5).temperature
    overlapping = certainty(inside, 0.5, replace(outside, cosines=outside.cosines + 3.5))
    assert own.threshold < overlapping.threshold


def test_without_held_out_texts_nothing_is_known():
    assert certainty(None, 0.95) == Certainty(temperature=1.0, threshold=None)
    several = certainty(drawn(100, several=True), 0.95)
    assert several.threshold is None
    assert several.measured == {"texts": 100, "temperature": several.temperature}


def test_scores_are_the_best_logit_and_the_nearest_mean():
    vectors, means = F.normalize(torch.randn(5, 4), dim=1), F.normalize(torch.randn(3, 4), dim=1)
    cosines = nearest(vectors, means)
    torch.testing.assert_close(cosines, torch.stack([(means @ own).max() for own in vectors]))
    logits = torch.randn(5, 3)
    assert torch.equal(knowing(logits, cosines).argsort(), (logits.max(dim=1).values + 8 * cosines).argsort())
    assert (knowing(logits, cosines) < knowing(logits, cosines + 0.1)).all()


def examples(shots=5, *, ways=4, named=True, seed=0):
    """Clouds of unit vectors, and one more for each class's name."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(ways, 8, generator=generator)
    labels = torch.arange(ways).repeat_interleave(shots)
    labels = torch.cat([labels, torch.arange(ways)]) if named else labels
    vectors = F.normalize(centres[labels] + 0.7 * torch.randn(len(labels), 8, generator=generator), dim=1)
    return Examples(vectors, labels, ways * named, ways)


@pytest.mark.parametrize("named", [True, False])
def test_each_text_is_answered_by_a_head_that_did_not_see_it(named, monkeypatch):
    own, seen = examples(named=named), []

    def watched(known, C, **given):
        seen.append(known)
        return fit_linear(known, C, **given)

    monkeypatch.setattr("fewtext.classifier.certainty.fit_linear", watched)
    found = cross_validated(own, 100.0)
    assert len(found.labels) == 20
    assert found.labels.bincount().tolist() == [5] * 4
    assert len(seen) == 5
    known = {tuple(row.tolist()) for row in seen[0].vectors}
    texts = {tuple(row.tolist()) for row in own.vectors[:20]}
    assert all(len(own.vectors) - len(fold.vectors) == 4 for fold in seen)
    assert all(fold.labels.bincount().tolist() == [4 + named] * 4 for fold in seen)  # one text of each class is out
    head = fit_linear(seen[0], 100.0)
    left = torch.stack([row for row in own.vectors[:20] if tuple(row.tolist()) in texts - known])
    torch.testing.assert_close(found.logits[:4], F.linear(left, head["weight"], head["bias"]), atol=0.05, rtol=0.02)


def test_the_order_of_the_texts_decides_nothing():
    own, order = examples(), torch.randperm(20, generator=torch.Generator().manual_seed(1))
    order = torch.cat([order, torch.arange(20, 24)])
    other = replace(own, vectors=own.vectors[order], labels=own.labels[order])
    first, second = (certainty(cross_validated(one, 100.0), 0.95) for one in (own, other))
    assert first.temperature == pytest.approx(second.temperature, rel=1e-3)
    assert first.threshold == pytest.approx(second.threshold, abs=1e-2)


def test_one_text_per_class_is_enough_with_names_and_too_few_without():
    assert len(cross_validated(examples(1), 100.0).labels) == 4
    assert cross_validated(examples(1, named=False), 100.0) is None
    assert cross_validated(examples(0), 100.0) is None
    two = examples(2, named=False)
    lone = replace(two, vectors=two.vectors[:-1], labels=two.labels[:-1])  # one class of one text: it is not asked
    assert cross_validated(lone, 100.0).labels.bincount(minlength=4).tolist() == [2, 2, 2, 0]


def test_only_some_of_very_many_texts_are_asked(monkeypatch):
    monkeypatch.setattr("fewtext.classifier.certainty.MOST", 10)
    assert len(cross_validated(examples(), 100.0).labels) == 10
    monkeypatch.setattr("fewtext.classifier.certainty.LOGITS", 4 * 7)
    assert len(cross_validated(examples(), 100.0).labels) == 7


def test_class_means_know_what_they_do_not_know_too(tiny, monkeypatch):
    monkeypatch.setattr("fewtext.heads.MOST_CLASSES", 2)
    own = FewShotClassifier(tiny).fit(TEXTS, LABELS).certainty_
    assert own.threshold is not None
    assert own.measured["texts"] == len(TEXTS)


TEXTS = ["where is my card", "block the card", "stolen card", "flight is late", "cancel the flight", "late flight",
         "pay the bill", "high bill", "pay the high bill"]  # fmt: skip
LABELS = ["card"] * 3 + ["flight"] * 3 + ["bill"] * 3


@pytest.mark.parametrize(
    ("given", "texts", "labels"),
    [({"names": False}, TEXTS[::3], LABELS[::3]), ({"classes": ["card", "bill"]}, [], [])],
    ids=["one shot", "no shot"],
)
def test_where_nothing_is_known_everything_is_accepted(tiny, given, texts, labels):
    classifier = FewShotClassifier(tiny, **given).fit(texts, labels)
    assert classifier.certainty_ == Certainty()
    assert all(answer.reason == "known" for answer in classifier.classify([*TEXTS, "no signal"]))


def test_one_shot_with_names_has_a_threshold(tiny):
    own = FewShotClassifier(tiny).fit(TEXTS[::3], LABELS[::3]).certainty_
    assert own.threshold is not None
    assert own.measured["texts"] == 3


def test_probabilities_are_tempered_and_answers_are_not(tiny):
    classifier = FewShotClassifier(tiny).fit(TEXTS, LABELS)
    logits = classifier._state().ask(TEXTS, lambda logits, _: (logits,))[0]
    temperature = classifier.certainty_.temperature
    assert abs(temperature - 1) > 0.01
    expected = torch.tensor(logits / temperature).softmax(dim=1)
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), expected, atol=1e-6)


def test_calibrating_needs_texts_of_the_classes(tiny):
    classifier = FewShotClassifier(tiny).fit(TEXTS, LABELS)
    before = classifier.certainty_
    with pytest.raises(DataError, match="label 'loan' is no class"):
        classifier.calibrate(["renew the loan"], ["loan"])
    with pytest.raises(DataError, match="1 texts but 2 labels"):
        classifier.calibrate(["card"], ["card", "card"])
    with pytest.raises(DataError, match=r"9 texts cannot guarantee coverage=0\.95\. Give 19 or more"):
        classifier.calibrate(TEXTS, LABELS)
    for coverage in (0, 1.5):
        with pytest.raises(LearnerError, match="coverage="):
            classifier.calibrate(TEXTS, LABELS, coverage=coverage)
    assert classifier.certainty_ == before
    own = classifier.calibrate(TEXTS, LABELS, coverage=0.9)
    assert own == classifier.certainty_ != before
    assert own.measured["coverage"] == 0.9


@pytest.fixture(scope="module")
def banking(data_root, minilm):
    """Five texts of each of 77 classes, fitted, and official test texts."""
    texts = load_texts("banking77", data_root=data_root)
    train, held_out = texts.part("train").at_most(5), texts.part("test").at_most(8, seed=1)
    classifier = FewShotClassifier(minilm).fit(train.texts, np.array(train.classes)[train.labels])
    return classifier, list(held_out.texts), np.array(held_out.classes)[held_out.labels]


def test_banking77_is_calibrated_and_accepts_what_it_was_asked_to(banking):
    classifier, texts, labels = banking
    own, numbers = classifier.certainty_, np.searchsorted(classifier.classes_, labels)
    logits = torch.from_numpy(classifier._state().ask(texts, lambda logits, _: (logits,))[0])
    held_out = HeldOut(logits, torch.zeros(len(texts)), torch.from_numpy(numbers))
    assert nll(held_out, own.temperature) < nll(held_out, 1.0)
    found = measured(held_out, own.temperature)
    assert found["ece"] < 0.08
    assert found["ece"] < found["ece_before"]
    accepted = np.mean([answer.label is not None for answer in classifier.classify(texts)])
    assert 0.90 < accepted < 0.99


def test_sets_of_banking77_hold_the_right_label_as_often_as_promised(banking):
    """Calibrated on half of the test texts, asked on the other half, in ten splits."""
    classifier, texts, labels = banking
    held_out = classifier._state().held_out(texts, np.searchsorted(classifier.classes_, labels))
    rates = {0.9: [], 0.95: []}
    for seed in range(50):
        order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed))
        own, rest = (part(held_out, rows) for rows in order.chunk(2))
        right = rest.logits.gather(1, rest.labels[:, None])[:, 0]
        below = rest.logits.max(dim=1).values - right
        for coverage, found in rates.items():
            found.append((below <= conformal_margin(own, coverage)).double().mean().item())
    for coverage, found in rates.items():
        assert np.mean(found) == pytest.approx(coverage, abs=3 * math.sqrt(coverage * (1 - coverage) / len(texts)))
    half = len(texts) // 2
    order = np.random.default_rng(0).permutation(len(texts))
    own, rest = order[:half], order[half:]
    classifier.calibrate([texts[row] for row in own], labels[own], coverage=0.9)
    sets = classifier.predict_set([texts[row] for row in rest])
    covered = np.mean([label in found for label, found in zip(labels[rest], sets, strict=True)])
    assert covered > 0.9 - 3 * math.sqrt(0.9 * 0.1 * (1 / half + 1 / len(rest)))
    assert 1 < np.mean([len(found) for found in sets]) < 4
