"""Distilling: the student answers like its teachers, is smaller, and is a classifier like any other."""

import csv
import importlib
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import WORDS, changed, save_tiny_encoder
from scipy.special import expit, log_softmax, softmax
from sklearn.exceptions import NotFittedError
from transformers import AlbertConfig, AutoModel, BertConfig, DistilBertConfig, ModernBertConfig, pipeline

from fewtext import Encoder, FewShotClassifier, Lora, distill
from fewtext.artifact.onnx import onnx_labels
from fewtext.cli import main
from fewtext.distillation import Lesson, _certainty
from fewtext.errors import DataError, EncoderError, LearnerError
from fewtext.learners import learner_class
from fewtext.nn.shorten import shortened

FOLDER = Path(__file__).parents[1] / "recipes" / "benchmarks"
SIZES = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64}
OTHERS = {
    "distilbert": DistilBertConfig(dim=16, n_layers=3, n_heads=2, hidden_dim=32, max_position_embeddings=64),
    "modernbert": ModernBertConfig(num_hidden_layers=3, global_attn_every_n_layers=2, **SIZES),
}


def texts(count, seed):
    """Texts of four classes: three of the nine words of one, and one of any."""
    rng, classes = np.random.default_rng(seed), np.arange(count) % 4
    own = [rng.permutation(WORDS[9 * n : 9 * n + 9])[:3].tolist() for n in classes]
    return [" ".join([*words, str(rng.choice(WORDS))]) for words in own], ["abcd"[n] for n in classes]


LABELLED, LABELS = texts(40, 0)
UNLABELLED, NEW = texts(300, 1)[0], texts(200, 2)[0]


@pytest.fixture
def teacher(tiny_folder):
    return FewShotClassifier(str(tiny_folder)).fit(LABELLED, LABELS)


def weights(classifier):
    return {name: weight.detach().clone() for name, weight in classifier._state().learner.named_parameters()}


def apart(student, teacher):
    """How far their probabilities for new texts are apart, in the mean."""
    return np.abs(student.predict_proba(NEW) - teacher.predict_proba(NEW)).mean()


@pytest.mark.parametrize("layers", [0, 1])
def test_the_student_answers_like_its_teacher_and_is_saved_like_any_other(layers, teacher, tmp_path):
    student = distill(teacher, UNLABELLED, layers=layers, steps=60)
    expected = student.predict_proba(NEW)
    assert apart(student, teacher) < 0.95 * apart(distill(teacher, UNLABELLED, layers=layers, steps=1), teacher)
    folder = student.save_pretrained(tmp_path / "student", onnx="fp32")
    assert json.loads((folder / "encoder" / "config.json").read_text())["num_hidden_layers"] == layers
    again = FewShotClassifier.from_pretrained(folder)
    np.testing.assert_allclose(again.predict_proba(NEW), expected, atol=1e-5)
    assert again.certainty_ == student.certainty_
    found = pipeline("text-classification", model=str(folder))(NEW[:5], top_k=None)
    found = [{each["label"]: each["score"] for each in row} for row in found]
    np.testing.assert_allclose([[row[name] for name in "abcd"] for row in found], expected[:5], atol=1e-5)
    assert again.classes_[onnx_labels(folder, NEW)].tolist() == student.predict(NEW).tolist()
    np.testing.assert_allclose(pickle.loads(pickle.dumps(student)).predict_proba(NEW), expected, atol=1e-6)
    with pytest.raises(DataError, match="without its texts"):
        student.add_examples(["pay it"], ["a"])


def test_teaching_leaves_the_teacher_as_it_is_and_depends_on_the_seed_alone(teacher):
    before, answers = weights(teacher), teacher.predict_proba(NEW)
    students = [distill(teacher, UNLABELLED, layers=1, steps=3, seed=seed).predict_proba(NEW) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(students[0], students[1])
    assert not np.allclose(students[0], students[2], atol=1e-6)
    assert all(torch.equal(weight, before[name]) for name, weight in weights(teacher).items())
    np.testing.assert_array_equal(teacher.predict_proba(NEW), answers)


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("lora", [None, Lora(rank=2), Lora(rank=2, from_layer=1)])
def test_before_teaching_the_student_is_the_lower_part_of_its_teacher(lora, layers, tiny_folder):
    encoder = changed(Encoder.from_pretrained(tiny_folder, lora=lora))
    own = shortened(encoder, layers)
    for text in NEW[:5]:
        ids = torch.tensor([encoder.tokenize([text])[0]])
        with torch.no_grad():
            hidden = encoder.backbone(input_ids=ids, output_hidden_states=True).hidden_states[layers]
        np.testing.assert_allclose(own.encode([text]), hidden.mean(dim=1), atol=1e-5)
    assert all(weight.requires_grad for weight in own.backbone.parameters())


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_loss_is_the_cross_entropy_at_the_temperature(several, temperature):
    rng = np.random.default_rng(0)
    taught, own = rng.normal(size=(6, 4)), rng.normal(size=(2, 4))
    targets = expit(taught / temperature) if several else softmax(taught / temperature, axis=1)
    lesson = Lesson([""] * 6, *[torch.tensor(targets)] * 2, torch.ones(6), temperature, several)
    found = lesson.loss(torch.tensor(own), np.array([4, 1]))
    likely = targets[[4, 1]] * (
        np.log(expit(own / temperature)) if several else log_softmax(own / temperature, axis=1)
    )
    if several:
        likely += (1 - targets[[4, 1]]) * np.log(1 - expit(own / temperature))
    assert found.item() == pytest.approx(-(temperature**2) * likely.sum(axis=1).mean(), rel=1e-12)


def test_the_probabilities_of_several_teachers_are_averaged(teacher, tiny_folder):
    other = FewShotClassifier(str(tiny_folder), C=0.1).fit(LABELLED[:20], LABELS[:20])
    lesson = Lesson.of([teacher._state(), other._state()], NEW, 2.0)
    found = [each.predict_proba(NEW) for each in (teacher, other)]
    np.testing.assert_allclose(lesson.chances, np.mean(found, axis=0), atol=1e-6)
    roots = [chances**0.5 / (chances**0.5).sum(axis=1, keepdims=True) for chances in found]  # the temperature is 2
    np.testing.assert_allclose(lesson.targets, np.mean(roots, axis=0), atol=1e-6)
    known = [[answer.reason == "known" for answer in each.classify(NEW)] for each in (teacher, other)]
    np.testing.assert_allclose(lesson.known, np.mean(known, axis=0))
    student = distill([teacher, other], UNLABELLED, steps=3)
    assert student.facts_["distilled"]["other_teachers"] == [other.facts_]


def test_the_student_is_as_certain_as_it_may_be_and_rejects_as_many_as_its_teacher(teacher):
    teacher.calibrate(LABELLED, LABELS, coverage=0.6)
    lesson = Lesson.of([teacher._state()], NEW, 1.0)
    share = np.mean([answer.label is not None for answer in teacher.classify(NEW)])
    encoder = shortened(teacher._state().learner.encoder, 0)
    rng = torch.Generator().manual_seed(0)
    head = {"weight": 30 * torch.randn(4, 16, generator=rng), "bias": torch.zeros(4), "means": torch.zeros(4, 16)}
    found = _certainty(encoder, head, lesson, 0)  # of a student that knows nothing, but is very sure
    assert found.temperature > 5 * teacher.certainty_.temperature
    assert found.measured is not None
    assert found.measured["ece"] < found.measured["ece_before"]
    vectors = torch.nn.functional.normalize(torch.from_numpy(encoder.encode(NEW)), dim=1)
    scores = (vectors @ head["weight"].T).max(dim=1).values / found.temperature
    assert 0.3 < share < 0.9
    assert (scores >= found.threshold).float().mean().item() == pytest.approx(share, abs=0.02)


def test_drawn_labels_come_as_often_as_the_probabilities_say():
    chances = torch.tensor([[0.7, 0.2, 0.1]]).repeat(4000, 1)
    single, several = (Lesson([], chances, chances, chances[:, 0], 1.0, each).drawn(0) for each in (False, True))
    np.testing.assert_allclose(np.bincount(single) / 4000, chances[0], atol=0.03)
    np.testing.assert_allclose(several.float().mean(dim=0), chances[0], atol=0.03)


def test_texts_with_several_labels_can_be_taught(tiny_folder, tmp_path):
    labels = [[label, "vowel"] if label == "a" else [label] for label in LABELS]
    teacher = FewShotClassifier(str(tiny_folder)).fit(LABELLED, labels)
    student = distill(teacher, UNLABELLED, steps=60)
    assert student.several_
    assert apart(student, teacher) < 0.95 * apart(distill(teacher, UNLABELLED, steps=1), teacher)
    again = FewShotClassifier.from_pretrained(student.save_pretrained(tmp_path / "student"))
    assert again.predict(NEW).tolist() == student.predict(NEW).tolist()


@pytest.mark.parametrize("kind", ["refined", "prototype", "fomaml"])
def test_every_kind_of_classifier_can_teach(kind, tiny_folder, tmp_path):
    given = {"refined": {"refine": True}, "prototype": {"method": "prototype"}, "fomaml": {"method": "prototype"}}
    name = "fomaml" if kind == "fomaml" else "prototypical"
    base = learner_class(name)(changed(Encoder.from_pretrained(tiny_folder, lora=Lora(rank=2))))
    teacher = FewShotClassifier(base, hierarchy="/", coverage=0.9, **given[kind]).fit(LABELLED[:8], LABELS[:8])
    student = distill(teacher, UNLABELLED, layers=1, steps=20)
    assert np.mean(student.predict(NEW) == teacher.predict(NEW)) > 0.45
    assert (student.hierarchy, student.coverage, student.method) == ("/", 0.9, "linear")
    assert "refined" not in student.facts_
    again = FewShotClassifier.from_pretrained(student.save_pretrained(tmp_path / "student"))
    np.testing.assert_allclose(again.predict_proba(NEW), student.predict_proba(NEW), atol=1e-5)


@pytest.mark.parametrize("kind", OTHERS)
def test_other_encoders_are_shortened_too(kind, tmp_path):
    teacher = FewShotClassifier(str(save_tiny_encoder(tmp_path / kind, OTHERS[kind]))).fit(LABELLED, LABELS)
    student = distill(teacher, UNLABELLED, layers=1, steps=2)
    folder = student.save_pretrained(tmp_path / "student")
    assert AutoModel.from_pretrained(folder / "encoder").config.num_hidden_layers == 1
    again = FewShotClassifier.from_pretrained(folder)
    np.testing.assert_allclose(again.predict_proba(NEW), student.predict_proba(NEW), atol=1e-5)


def test_what_needs_a_layer_keeps_one(tmp_path):
    folder = save_tiny_encoder(tmp_path / "cls", BertConfig(num_hidden_layers=2, **SIZES))
    modules = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling")]
    listed = [{"name": n, "path": path, "type": f"sentence_transformers.models.{kind}"} for n, path, kind in modules]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    for base in (folder, save_tiny_encoder(tmp_path / "modernbert", OTHERS["modernbert"])):
        with pytest.raises(EncoderError, match="Keep one"):
            distill(FewShotClassifier(str(base)).fit(LABELLED, LABELS), UNLABELLED)
    shared = save_tiny_encoder(tmp_path / "albert", AlbertConfig(embedding_size=16, num_hidden_layers=3, **SIZES))
    with pytest.raises(EncoderError, match="no list of 3 layers"):
        distill(FewShotClassifier(str(shared)).fit(LABELLED, LABELS), UNLABELLED)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layers": 3}, "0 to 2"),
        ({"layers": -1}, "0 to 2"),
        ({"layers": 0.5}, "0 to 2"),
        ({"temperature": 0}, "above 0"),
        ({"temperature": float("nan")}, "above 0"),
        ({"steps": 0}, "at least 1"),
    ],
)
def test_a_parameter_that_cannot_be_is_refused(given, message, teacher):
    with pytest.raises((EncoderError, LearnerError), match=message):
        distill(teacher, UNLABELLED, **given)


def test_teachers_and_texts_that_cannot_be_are_refused(teacher, tiny_folder):
    for nobody in ([], "teacher", [teacher, tiny_folder]):
        with pytest.raises(LearnerError, match="no teacher"):
            distill(nobody, UNLABELLED)
    with pytest.raises(NotFittedError):
        distill(FewShotClassifier(), UNLABELLED)
    others = [
        FewShotClassifier(str(tiny_folder)).fit(LABELLED, labels) for labels in (LABELS[::-1], [[n] for n in LABELS])
    ]
    others[0].rename_class("a", "e")
    for other in others:
        with pytest.raises(DataError, match="teacher 1 has other classes"):
            distill([teacher, other], UNLABELLED)
    with pytest.raises(DataError, match="1 different text"):
        distill(teacher, UNLABELLED[:1] * 50)
    with pytest.raises(DataError, match="no texts"):
        distill(teacher, [])
    with pytest.raises(DataError, match="text 1 is empty"):
        distill(teacher, ["a card", " "])
    assert distill(teacher, UNLABELLED[:10] * 2, steps=1).facts_["distilled"]["texts"] == 10
    assert distill(teacher, UNLABELLED, steps=2).facts_["distilled"]["texts"] == 128


def test_the_command_distils_saves_and_measures(teacher, tmp_path, capsys, caplog):
    folder, texts_file, test = (
        teacher.save_pretrained(tmp_path / "mine"),
        tmp_path / "texts.txt",
        tmp_path / "test.csv",
    )
    texts_file.write_text("\n".join(UNLABELLED))
    truth = [*LABELS[:-1], "loan"]  # one that is no class
    with test.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(LABELLED, truth, strict=True)])
    out = tmp_path / "small"
    job = ["distill", str(folder), str(texts_file), "--out", str(out), "--also", str(folder), "--test", str(test)]
    assert main([*job, "--steps", "20", "--layers", "1", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert caplog.text.count("1 of 40 texts have a label that is no class") == 1
    assert rows["test.csv/accuracy"]["peer_value"] == pytest.approx(teacher.score(LABELLED, truth))
    student = FewShotClassifier.from_pretrained(out)
    assert rows["test.csv/accuracy"]["value"] == pytest.approx(student.score(LABELLED, truth))
    assert student.facts_["distilled"]["layers"] == 1
    assert json.loads((out / "results.json").read_text("utf-8"))["rows"] == list(rows.values())


@pytest.fixture
def job(tmp_path):
    """The command, but for its teacher's folder and what is wanted of it."""
    (tmp_path / "texts.txt").write_text("\n".join(UNLABELLED))
    return ["distill", str(tmp_path / "mine"), str(tmp_path / "texts.txt"), "--steps", "2", "--json"]


@pytest.mark.parametrize("labels", [["e"] * 40, list(range(4)) * 10], ids=["no class", "numbers"])
def test_the_command_measures_whatever_the_labels_are(labels, job, teacher, tiny_folder, tmp_path, capsys, caplog):
    numbers = labels[0] == 0
    own = FewShotClassifier(str(tiny_folder)).fit(LABELLED, labels) if numbers else teacher
    own.save_pretrained(tmp_path / "mine")
    with (tmp_path / "test.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(LABELLED, labels, strict=True)])
    assert main([*job, "--out", str(tmp_path / "small"), "--test", str(tmp_path / "test.csv")]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["test.csv/accuracy"]["peer_value"] == own.score(LABELLED, labels)
    assert ("test.csv/Brier score" in rows) == numbers
    assert ("40 of 40 texts have a label that is no class" in caplog.text) == (not numbers)
    assert FewShotClassifier.from_pretrained(tmp_path / "small").classes_.tolist() == own.classes_.tolist()


def test_the_command_says_what_goes_wrong_before_it_teaches(job, teacher, tmp_path, capsys, monkeypatch):
    teacher.save_pretrained(tmp_path / "mine")
    teacher.save_pretrained(tmp_path / "other", include_texts=True)
    monkeypatch.setattr("fewtext.jobs.distill.distilled", None)
    for given, message in (
        (["--out", str(tmp_path / "texts.txt")], "texts.txt: a file is there, and a folder is needed"),
        (["--out", str(tmp_path)], "not empty and not a fewtext artifact"),
        (["--out", str(tmp_path / "other")], "other holds texts that would be lost"),
        (["--out", str(tmp_path / "small"), "--test", "missing.csv"], "missing.csv: no such file"),
    ):
        assert main([*job, *given]) == 1
        assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.fixture
def benchmark(monkeypatch):
    """The benchmark, imported as a program is."""
    monkeypatch.syspath_prepend(FOLDER)
    before = set(sys.modules)
    yield importlib.import_module("distill")
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent == FOLDER:
            del sys.modules[name]


def test_the_benchmark_runs_and_goes_on_where_it_was(benchmark, tiny_folder, tmp_path, monkeypatch, capsys):
    runs, small = tmp_path / "runs.jsonl", {"name": "everyday", "base": str(tiny_folder), "shots": 2, "steps": 2}
    benchmark.main(**small, seeds=1, kinds=("plain",), layers=(0,), runs=runs)
    assert "student − teacher" in capsys.readouterr().out
    (run,) = benchmark.read(runs)
    made = []
    monkeypatch.setattr(benchmark, "measure", lambda *given: made.append(given[3]) or run)
    benchmark.main(**small, seeds=1, kinds=("plain",), layers=(0, 1), runs=runs)
    assert made == [1]
    rows = {row["name"].split("/")[-1]: row for row in json.loads((tmp_path / "distill.json").read_text())["rows"]}
    assert rows["student − teacher"]["value"] == 100 * (run["student_accuracy"] - run["teacher_accuracy"])
    assert (rows["predict"]["value"], rows["predict"]["ratio"]) == (run["student_texts_per_s"], run["ratio"])
