"""FewShotClassifier: right answers, scikit-learn's manners, and the same probabilities after a file."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import changed
from safetensors.torch import load_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from fewtext import (
    Artifact,
    Collator,
    Episode,
    EpisodeSampler,
    EpisodeSpec,
    FewShotClassifier,
    LabeledTexts,
    Prototypical,
)
from fewtext.artifact import LAYOUT
from fewtext.bases import load_base
from fewtext.errors import ArtifactError, DataError, EncoderError, LearnerError
from fewtext.learners import learner_class

TEXTS = [
    "where is my card",
    "my card has not arrived yet",
    "flight is late",
    "cancel the flight",
    "pay the bill",
    "high bill",
]
LABELS = ["card", "card", "flight", "flight", "bill", "bill"]
METHODS = ["linear", "prototype"]


@pytest.fixture(params=METHODS)
def classifier(request, tiny_folder):
    return FewShotClassifier(str(tiny_folder), method=request.param).fit(TEXTS, LABELS)


def test_it_knows_what_it_was_shown(tiny_folder):
    classifier = FewShotClassifier(str(tiny_folder), names=False, C=1e6).fit(TEXTS, LABELS)
    assert classifier.predict(TEXTS).tolist() == LABELS
    assert classifier.score(TEXTS, LABELS) == 1.0
    assert classifier.classes_.tolist() == ["bill", "card", "flight"]


def test_probabilities_sum_to_one_and_agree_with_predictions(classifier):
    texts = [*TEXTS, "one two three", "room"]
    probabilities = classifier.predict_proba(texts)
    assert probabilities.shape == (8, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert (classifier.classes_[probabilities.argmax(axis=1)] == classifier.predict(texts)).all()


def test_a_text_s_answer_does_not_depend_on_its_neighbours(classifier):
    together = classifier.predict_proba(TEXTS)
    alone = np.concatenate([classifier.predict_proba([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("labels", [[5, 5, 3, 3, 9, 9], [True, True, False, False, True, False]], ids=["int", "bool"])
def test_labels_keep_their_type(tiny_folder, tmp_path, labels):
    classifier = FewShotClassifier(str(tiny_folder), C=1e6).fit(TEXTS, labels)
    assert classifier.predict(TEXTS).tolist() == labels
    loaded = FewShotClassifier.from_pretrained(classifier.save_pretrained(tmp_path / "c"))
    assert loaded.predict(TEXTS).tolist() == labels
    assert loaded.classes_.dtype == classifier.classes_.dtype


@pytest.mark.parametrize("count", [4, 6], ids=["two classes", "three classes"])
def test_the_head_is_that_of_scikit_learn(tiny, count):
    from sklearn.linear_model import LogisticRegression

    texts, labels = [*TEXTS[:count], "one more about the card"], [*LABELS[:count], "card"]
    classifier = FewShotClassifier(tiny, names=False).fit(texts, labels)
    vectors = tiny.encode([*texts, "room"])
    rows = np.hstack([vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.ones((len(vectors), 1))])
    C = 100 if count > 4 else 200  # of two classes scikit-learn has one row of weights, whose norm counts twice
    reference = LogisticRegression(C=C, class_weight="balanced", fit_intercept=False, max_iter=5000, tol=1e-8)
    logits = reference.fit(rows[:-1], labels).decision_function(rows) / classifier.certainty_.temperature
    logits = np.stack([0 * logits, logits], axis=1) if count == 4 else logits
    expected = torch.tensor(logits).softmax(dim=1).numpy()
    np.testing.assert_allclose(classifier.predict_proba([*texts, "room"]), expected, atol=1e-4)


def test_the_same_data_give_the_same_classifier_whatever_their_order(classifier):
    again = clone(classifier).fit(TEXTS[::-1], LABELS[::-1])
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), again.predict_proba(TEXTS), atol=1e-5)


def test_names_and_descriptions_are_one_more_text(tiny_folder):
    spoken = {"card": "lost or stolen card", "bill": "high bill", "flight": "late flight"}

    def head(texts, labels, **parameters):
        return FewShotClassifier(str(tiny_folder), **parameters).fit(texts, labels)._state().head["weight"]

    described = head(TEXTS, LABELS, label_descriptions=spoken)
    more = [spoken[label] for label in ("bill", "card", "flight")]
    by_hand = head([*TEXTS, *more], [*LABELS, "bill", "card", "flight"], names=False)
    torch.testing.assert_close(described, by_hand, atol=1e-5, rtol=0)
    assert (described - head(TEXTS, LABELS, names=False)).abs().max() > 1e-2


def test_the_own_head_is_the_learner_s(tiny_folder, toy):
    learner = Prototypical(load_base(str(tiny_folder)).encoder)
    episode = EpisodeSampler(toy, EpisodeSpec(ways="all", shots=3, queries=2))[0]
    texts = [toy.texts[row] for row in episode.support]
    classifier = FewShotClassifier(learner, method="prototype").fit(texts, toy.labels[episode.support])
    vectors = learner.encoder.encode(texts)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = toy.labels[episode.support]
    means = np.stack([vectors[labels == label].mean(0) for label in range(8)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    queries = learner.encoder.encode([toy.texts[row] for row in episode.query])
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    expected = torch.tensor(20 * queries @ means.T).softmax(-1).numpy()
    got = classifier.predict_proba([toy.texts[row] for row in episode.query])
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_what_the_texts_are_about_reaches_the_learner_s_own_head(tiny):
    learner = changed(learner_class("cnp")(tiny))
    toy = LabeledTexts.of(TEXTS, LABELS)
    everything, rows = np.arange(3), np.arange(6)
    episode = Episode(0, everything, rows, toy.labels, rows, toy.labels)

    def expected(about):
        batch = Collator([replace(toy, about=about)], tiny.tokenize)([episode])
        with torch.no_grad():
            return learner.predict(learner.adapt(batch.support), batch.query.tokens)[0].softmax(-1).numpy()

    for about in ("one two three", None):
        classifier = FewShotClassifier(learner, method="prototype", about=about).fit(TEXTS, LABELS)
        np.testing.assert_allclose(classifier.predict_proba(TEXTS), expected(about or ""), atol=1e-5)
    assert abs(expected("one two three") - expected("")).max() > 1e-3


def test_a_loaded_classifier_gives_the_probabilities_it_gave_when_saved(classifier, tmp_path):
    expected = classifier.predict_proba(TEXTS)
    loaded = FewShotClassifier.from_pretrained(classifier.save_pretrained(tmp_path / "c"))
    np.testing.assert_allclose(loaded.predict_proba(TEXTS), expected, atol=1e-6)
    assert loaded.get_params()["method"] == classifier.method


@pytest.mark.parametrize("encoder", ["tiny", "tiny_lora"])
def test_weights_adapted_to_the_task_are_saved_with_it(encoder, tmp_path, request):
    learner = learner_class("fomaml")(request.getfixturevalue(encoder))
    classifier = FewShotClassifier(learner, method="prototype").fit(TEXTS, LABELS)
    folder = classifier.save_pretrained(tmp_path / "c")
    adapted, own = load_file(folder / LAYOUT.head), dict(learner.encoder.backbone.named_parameters())
    assert any(not torch.equal(adapted[name][0], own[name]) for name in learner.fast)
    loaded = FewShotClassifier.from_pretrained(folder)
    np.testing.assert_allclose(loaded.predict_proba(TEXTS), classifier.predict_proba(TEXTS), atol=1e-5)


def test_no_training_text_is_saved(classifier, tmp_path):
    folder = classifier.save_pretrained(tmp_path / "c")
    for path in folder.rglob("*"):
        if path.is_file():
            assert not any(text.encode() in path.read_bytes() for text in TEXTS if len(text) > 12), path


@pytest.mark.parametrize("method", METHODS)
def test_a_meta_trained_base_serves_and_travels_with_the_classifier(tiny_lora, tmp_path, method):
    base = Artifact("learner", Prototypical(tiny_lora)).save_pretrained(tmp_path / "base")
    classifier = FewShotClassifier(base, method=method).fit(TEXTS, LABELS)
    direct = FewShotClassifier(tiny_lora, method=method).fit(TEXTS, LABELS)
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), direct.predict_proba(TEXTS), atol=1e-6)
    loaded = FewShotClassifier.from_pretrained(classifier.save_pretrained(tmp_path / "c"))
    np.testing.assert_allclose(loaded.predict_proba(TEXTS), classifier.predict_proba(TEXTS), atol=1e-6)


def test_a_base_named_by_a_string_is_loaded_once(tiny_folder):
    assert load_base(str(tiny_folder)) is load_base(str(tiny_folder))


def test_a_base_that_has_changed_is_loaded_again(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "base")
    first = load_base(folder)
    assert load_base(folder) is first
    os.utime(folder / "config.json", ns=(0, 2**62))
    assert load_base(folder) is not first


def test_without_a_base_it_says_which_one_it_uses(caplog):
    load_base.__globals__["_loaded"].clear()
    with caplog.at_level("INFO", logger="fewtext"):
        classifier = FewShotClassifier().fit(TEXTS, LABELS)
    assert "all-MiniLM-L6-v2" in caplog.text
    assert classifier.predict(["my parcel with the debit card never came"]).tolist() == ["card"]


def test_a_failed_fit_leaves_the_classifier_as_it_was(classifier):
    before = classifier.predict_proba(TEXTS)
    with pytest.raises(DataError):
        classifier.fit(["only one class", "really only one"], ["a", "a"])
    assert np.array_equal(classifier.predict_proba(TEXTS), before)


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        ([], [], "no texts"),
        ("one string", ["a"], "one string where several texts are expected"),
        (["good", "  "], ["a", "b"], "text 1 is empty"),
        (["good", None], ["a", "b"], "text 1: a text must be a string, got NoneType"),
        (["good", b"bytes"], ["a", "b"], "got bytes"),
        (["good", "fine"], ["a"], "2 texts but 1 labels"),
        (["good", "fine"], ["a", None], "label 1 is missing"),
        (["good", "fine"], ["a", float("nan")], "label 1 is missing"),
        (["good", "fine"], ["a", 1], "labels of several types"),
        (["good", "fine"], ["a", "a"], "only one class, 'a'|only one class, np.str_"),
    ],
)
def test_bad_input_is_explained_in_one_sentence(tiny_folder, texts, labels, message):
    with pytest.raises(DataError, match=message):
        FewShotClassifier(str(tiny_folder)).fit(texts, labels)


@pytest.mark.parametrize("texts", [[], ["fine", ""], [3], "one string"])
def test_bad_queries_are_explained(classifier, texts):
    with pytest.raises(DataError):
        classifier.predict(texts)


def test_what_cannot_be_is_said_at_once(tiny_folder, tmp_path, classifier):
    with pytest.raises(NotFittedError, match="Call fit"):
        FewShotClassifier(str(tiny_folder)).predict(TEXTS)
    with pytest.raises(LearnerError, match="about=3: it must be a sentence"):
        FewShotClassifier(str(tiny_folder), about=3).fit(TEXTS, LABELS)
    for hierarchy in ("", "a long separator"):
        with pytest.raises(LearnerError, match=f"hierarchy={hierarchy!r}: it must be a short string"):
            FewShotClassifier(str(tiny_folder), hierarchy=hierarchy).fit(TEXTS, LABELS)
    with pytest.raises(LearnerError, match="C=True"):
        FewShotClassifier(str(tiny_folder), C=True).fit(TEXTS, LABELS)
    with pytest.raises(LearnerError, match="device='cuda:77': it must be"):
        FewShotClassifier(str(tiny_folder), device="cuda:77").fit(TEXTS, LABELS)
    with pytest.raises(LearnerError, match="method='magic'"):
        FewShotClassifier(str(tiny_folder), method="magic").fit(TEXTS, LABELS)
    with pytest.raises(DataError, match="no class 'boat'"):
        FewShotClassifier(str(tiny_folder), label_descriptions={"boat": "ship"}).fit(TEXTS, LABELS)
    with pytest.raises(EncoderError, match="nobody/nothing"):
        FewShotClassifier("nobody/nothing").fit(TEXTS, LABELS)
    learner = Artifact("learner", load_base(str(tiny_folder))).save_pretrained(tmp_path / "learner")
    with pytest.raises(ArtifactError, match="not a classifier"):
        FewShotClassifier.from_pretrained(learner)


def test_a_damaged_head_is_refused(classifier, tmp_path):
    folder = classifier.save_pretrained(tmp_path / "c")
    content = bytearray((folder / "head.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "head.safetensors").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"head\.safetensors is damaged"):
        FewShotClassifier.from_pretrained(folder)


def test_the_saved_description_is_plain_json(classifier, tmp_path):
    folder = classifier.save_pretrained(tmp_path / "c")
    description = json.loads((folder / "fewtext.json").read_text("utf-8"))
    assert description["labels"] == ["bill", "card", "flight"]
    assert description["kind"] == "classifier"
    assert str(tmp_path) not in json.dumps(description)


def test_many_classes_get_their_mean_directions(tiny, tmp_path, caplog):
    digits = "one two three four five six seven eight nine ten".split()
    labels = [f"{a} {b} {c} {d}" for a in digits for b in digits for c in digits for d in ("room", "book")]
    labels = [label for label in labels if label != "two two two book"][:1001]
    texts = [f"{label} {word}" for label in labels for word in ("fee", "loan")]
    with caplog.at_level("INFO", logger="fewtext"):
        classifier = FewShotClassifier(tiny).fit(texts, np.repeat(labels, 2))
    assert "1001 classes are more than 1000: class means" in caplog.text
    vectors = tiny.encode([*texts, *labels])  # the name is one more text
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    means = vectors[:-1001].reshape(1001, 2, -1).sum(axis=1) + vectors[-1001:]
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    asked = [*texts[:300], "where is my card"]
    queries = tiny.encode(asked)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    order = np.argsort(labels)
    logits = torch.tensor(20 * queries @ means[order].T)
    expected = (logits / classifier.certainty_.temperature).softmax(dim=1).numpy()
    got = classifier.predict_proba(asked)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert (classifier.classes_[got.argmax(axis=1)] == classifier.predict(asked)).all()
    loaded = FewShotClassifier.from_pretrained(classifier.save_pretrained(tmp_path / "c"))
    np.testing.assert_allclose(loaded.predict_proba(asked), got, atol=1e-6)


def test_the_most_probable_labels_come_with_their_probabilities(classifier):
    texts = [*TEXTS, "one two three"]
    every = classifier.predict_proba(texts)
    order = np.argsort(-every, axis=1)
    for k in (1, 2, 3, 9):
        labels, probabilities = classifier.predict_top(texts, k)
        assert labels.tolist() == classifier.classes_[order[:, :k]].tolist()
        np.testing.assert_allclose(probabilities, np.take_along_axis(every, order[:, :k], axis=1), atol=1e-6)
    with pytest.raises(LearnerError, match="k=0"):
        classifier.predict_top(texts, 0)


def test_equal_classes_are_told_apart_alike_everywhere(tiny):
    classifier = FewShotClassifier(tiny, method="prototype", names=False).fit(
        [*TEXTS, *TEXTS], [*"abcdef", *"ghijkl"]
    )
    assert classifier.predict(TEXTS).tolist() == list("abcdef")
    assert classifier.predict_top(TEXTS)[0][:, 0].tolist() == list("abcdef")


def test_no_more_logits_than_can_be_held(classifier, monkeypatch):
    texts, seen = [*TEXTS, "one two three"] * 3, []
    expected = classifier.predict(texts).tolist(), classifier.predict_proba(texts)
    monkeypatch.setattr("fewtext.heads.CHUNK", 5)
    monkeypatch.setattr("fewtext.heads.OWN_CHUNK", 2)
    monkeypatch.setattr("fewtext.heads.LOGITS", 7)
    argmax = torch.Tensor.argmax
    monkeypatch.setattr(torch.Tensor, "argmax", lambda own, **given: seen.append(own.numel()) or argmax(own, **given))
    assert classifier.predict(texts).tolist() == expected[0]
    assert max(seen) <= 7
    np.testing.assert_allclose(classifier.predict_proba(texts), expected[1], atol=1e-5)


def test_a_stream_is_read_as_it_is_answered(classifier, monkeypatch):
    monkeypatch.setattr("fewtext.classifier.answering.CHUNK", 4)
    texts, taken = [*TEXTS, "one two three", *TEXTS], []
    answers = classifier.stream(taken.append(text) or text for text in texts)
    assert not taken
    first = next(answers)
    assert taken == texts[:4]
    labels, probabilities = zip(first, *answers, strict=True)
    assert list(labels) == classifier.predict(texts).tolist()
    np.testing.assert_allclose(probabilities, classifier.predict_proba(texts).max(axis=1), atol=1e-5)
    assert list(classifier.stream([])) == []


@pytest.mark.parametrize(
    ("texts", "message"), [("one string", "one string"), ([*TEXTS, ""], "text 6 is empty"), ([1], "got int")]
)
def test_bad_streams_are_explained(classifier, monkeypatch, texts, message):
    monkeypatch.setattr("fewtext.classifier.answering.CHUNK", 4)
    with pytest.raises(DataError, match=message):
        list(classifier.stream(texts))


def test_banking77_five_shot(data_root, minilm):
    from fewtext import load_texts

    texts = load_texts("banking77", data_root=data_root)
    train, held_out = texts.part("train").at_most(5), texts.part("test")
    classifier = FewShotClassifier(minilm).fit(train.texts, np.array(train.classes)[train.labels])
    held_out = held_out.at_most(8)  # all of it is measured in the benchmark; this guards against a fall
    assert classifier.score(held_out.texts, np.array(held_out.classes)[held_out.labels]) > 0.78
