"""A saved classifier holds its texts only if they are wanted; with them it can do all that the other could."""

import json

import numpy as np
import pytest
from transformers import pipeline

from fewtext import FewShotClassifier
from fewtext.artifact import LAYOUT
from fewtext.artifact.verify import sign
from fewtext.errors import ArtifactError, DataError
from fewtext.files import write_json

TEXTS = ["where is my card", "my card has not arrived", "flight is late", "cancel the flight", "pay the bill",
         "high bill to pay", "block the stolen card", "late flight to seven", "renew the loan bill"]  # fmt: skip
LABELS = ["card", "card", "flight", "flight", "bill", "bill", "card", "flight", "bill"]
SETS = [["card"], ["card", "late"], ["flight", "late"], ["flight"], ["bill"], ["bill"], ["card"], ["late"], []]
OUTSIDE = ["no signal at all", "slow internet"]
WORDS = "whatever has to be paid"
QUERIES = [*TEXTS, "one two three", "my lost card", "cancel the bill"]
GIVEN = {"label_descriptions": {"bill": WORDS}, "about": "what one asks", "coverage": 0.8, "hierarchy": "/",
         "windows": True}  # fmt: skip


@pytest.fixture(params=[False, True], ids=["one label", "several labels"])
def classifier(request, tiny):
    labels = SETS if request.param else LABELS
    return FewShotClassifier(tiny, **GIVEN).fit(TEXTS, labels, out_of_scope=OUTSIDE)


def holding(folder, text):
    """The files that hold a text, plain or as JSON writes it."""
    return [path.name for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_texts_are_saved_only_if_they_are_wanted(classifier, tmp_path):
    own = [*TEXTS, *OUTSIDE, WORDS]
    without = classifier.save_pretrained(tmp_path / "without")
    assert not any(holding(without, text) for text in own)
    assert not (without / LAYOUT.texts).exists()
    with_texts = classifier.save_pretrained(tmp_path / "with", include_texts=True)
    assert {name for text in own for name in holding(with_texts, text)} == {LAYOUT.texts}
    classifier.save_pretrained(with_texts)  # in the same place, and the texts are gone
    assert not (with_texts / LAYOUT.texts).exists()


@pytest.mark.parametrize("include_texts", [False, True])
def test_what_is_known_about_certainty_comes_back(classifier, tmp_path, include_texts):
    loaded = FewShotClassifier.from_pretrained(
        classifier.save_pretrained(tmp_path / "c", include_texts=include_texts)
    )
    assert loaded.certainty_ == classifier.certainty_
    assert loaded.certainty_.temperature != 1
    assert loaded.several_ == classifier.several_
    np.testing.assert_allclose(loaded.predict_proba(QUERIES), classifier.predict_proba(QUERIES), atol=1e-6)
    assert loaded.predict(QUERIES).tolist() == classifier.predict(QUERIES).tolist()
    assert loaded.facts_["calibration"] == classifier.certainty_.measured
    for name in ("about", "coverage", "hierarchy", "windows"):
        assert loaded.get_params()[name] == GIVEN[name]
    if not classifier.several_:
        assert [answer.reason for answer in loaded.classify(QUERIES)] == [
            answer.reason for answer in classifier.classify(QUERIES)
        ]


def test_what_calibrate_set_comes_back(tiny, tmp_path):
    classifier = FewShotClassifier(tiny).fit(TEXTS, LABELS)
    classifier.calibrate(TEXTS, LABELS, coverage=0.7)
    loaded = FewShotClassifier.from_pretrained(classifier.save_pretrained(tmp_path / "c"))
    assert loaded.certainty_ == classifier.certainty_
    assert loaded.predict_set(QUERIES) == classifier.predict_set(QUERIES)


def test_the_card_says_what_calibrate_was_asked_for(tiny, tmp_path):
    own = FewShotClassifier(tiny).fit(TEXTS, LABELS)
    own.facts_["results"] = [{"name": "ECE before calibrate", "value": 0.1}]
    own.calibrate(TEXTS, LABELS, coverage=np.float32(0.5))
    facts = FewShotClassifier.from_pretrained(own.save_pretrained(tmp_path / "c")).facts_
    assert facts["rejection"]["coverage"] == 0.5
    assert "results" not in facts


def test_transformers_gives_the_same_calibrated_probabilities(classifier, tmp_path):
    folder = str(classifier.save_pretrained(tmp_path / "c"))
    answers = pipeline("text-classification", model=folder)(QUERIES, top_k=None)
    found = [{part["label"]: part["score"] for part in answer} for answer in answers]
    rows = [[own[label] for label in classifier.classes_] for own in found]
    np.testing.assert_allclose(rows, classifier.predict_proba(QUERIES), atol=1e-5)
    kind = "multi_label_classification" if classifier.several_ else "single_label_classification"
    assert json.loads((tmp_path / "c" / "config.json").read_text())["problem_type"] == kind


def test_with_its_texts_it_is_edited_and_explained_as_before(classifier, tmp_path):
    loaded = FewShotClassifier.from_pretrained(classifier.save_pretrained(tmp_path / "c", include_texts=True))
    one, other = loaded.supports_, classifier.supports_
    assert (one.texts, one.labels, one.classes, one.out_of_scope) == (
        other.texts,
        other.labels,
        other.classes,
        other.out_of_scope,
    )
    assert one.descriptions == {"bill": WORDS}
    if not classifier.several_:
        mine, its = loaded.explain("card"), classifier.explain("card")
        assert [part.text for part in mine.evidence] == [part.text for part in its.evidence]
        assert mine.lead == pytest.approx(its.lead, abs=1e-4)
    for own in (classifier, loaded):
        own.relabel("high bill to pay", ["card"] if own.several_ else "card").remove_examples(["flight is late"])
    np.testing.assert_allclose(loaded.predict_proba(QUERIES), classifier.predict_proba(QUERIES), atol=1e-6)
    assert loaded.certainty_.temperature == pytest.approx(classifier.certainty_.temperature, rel=1e-4)
    assert loaded.undo().undo().certainty_ == FewShotClassifier.from_pretrained(tmp_path / "c").certainty_
    again = FewShotClassifier.from_pretrained(loaded.save_pretrained(tmp_path / "d", include_texts=True))
    assert again.supports_.texts == tuple(TEXTS)


def test_without_its_texts_it_answers_but_is_neither_edited_nor_explained(classifier, tmp_path):
    loaded = FewShotClassifier.from_pretrained(classifier.save_pretrained(tmp_path / "c"))
    before = loaded.predict_proba(QUERIES)
    for ask in (
        lambda: loaded.explain("card"),
        lambda: loaded.add_examples(["one more"], ["card"]),
        lambda: loaded.remove_class("card"),
        lambda: loaded.forget(TEXTS[0]),
        lambda: loaded.refit(),
        lambda: loaded.diff(classifier),
        lambda: classifier.diff(loaded),
        lambda: loaded.supports_,
        lambda: loaded.save_pretrained(tmp_path / "d", include_texts=True),
    ):
        with pytest.raises(DataError, match=r"saved without its texts\. Save it with include_texts=True"):
            ask()
    np.testing.assert_array_equal(loaded.predict_proba(QUERIES), before)
    assert not (tmp_path / "d").exists()


def test_without_its_texts_it_can_be_calibrated(tiny, tmp_path):
    folder = FewShotClassifier(tiny).fit(TEXTS, LABELS).save_pretrained(tmp_path / "c")
    loaded = FewShotClassifier.from_pretrained(folder)
    loaded.calibrate(TEXTS, LABELS, coverage=0.5)
    again = FewShotClassifier.from_pretrained(loaded.save_pretrained(tmp_path / "d"))
    assert again.predict_set(QUERIES) == loaded.predict_set(QUERIES)


@pytest.mark.parametrize("names", [True, False])
def test_labels_and_classes_without_texts_come_back(tiny, tmp_path, names):
    spoken = {3: "a stolen card", 5: "a late flight"}
    classifier = FewShotClassifier(tiny, classes=[5, 3, 4], label_descriptions=spoken, names=names)
    classifier.fit(["pay the bill", "high bill"], [4, 4])
    loaded = FewShotClassifier.from_pretrained(classifier.save_pretrained(tmp_path / "c", include_texts=True))
    assert loaded.supports_.classes == (3, 4, 5)
    assert loaded.supports_.descriptions == spoken
    np.testing.assert_allclose(loaded.predict_proba(QUERIES), classifier.predict_proba(QUERIES), atol=1e-6)
    loaded.add_class(6, ["no signal"])
    assert loaded.classes_.tolist() == [3, 4, 5, 6]


def test_a_prototype_is_edited_after_loading(tiny, tmp_path):
    classifier = FewShotClassifier(tiny, method="prototype").fit(TEXTS, LABELS)
    loaded = FewShotClassifier.from_pretrained(classifier.save_pretrained(tmp_path / "c", include_texts=True))
    for own in (classifier, loaded):
        own.relabel("high bill to pay", "card")
    np.testing.assert_allclose(loaded.predict_proba(QUERIES), classifier.predict_proba(QUERIES), atol=1e-6)


@pytest.mark.parametrize(
    "damage",
    [
        {"texts": ["only one"]},
        {"labels": [0] * 9},
        {"labels": [7] * 9},
        {"labels": ["card"] * 9},
        {"descriptions": [[9, "words"]]},
        {"descriptions": {"bill": WORDS}},
        {"out_of_scope": [" "]},
        {"more": 1},
    ],
)
def test_damaged_texts_are_refused(tiny, tmp_path, damage):
    folder = FewShotClassifier(tiny).fit(TEXTS, LABELS).save_pretrained(tmp_path / "c", include_texts=True)
    found = json.loads((folder / LAYOUT.texts).read_text("utf-8"))
    write_json(folder / LAYOUT.texts, found | damage)
    with pytest.raises(ArtifactError, match="is damaged"):
        FewShotClassifier.from_pretrained(folder)
    write_json(folder / LAYOUT.manifest, sign(folder))
    if damage != {"labels": [0] * 9}:  # another label for a text is no damage that can be seen
        with pytest.raises(ArtifactError):
            FewShotClassifier.from_pretrained(folder)
