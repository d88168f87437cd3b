"""`fewtext fit`, as a user types it: classes without texts, calibration, and what is measured and said."""

import csv
import json

import numpy as np
import pytest

from fewtext import FewShotClassifier
from fewtext.artifact import LAYOUT
from fewtext.classifier import fitted
from fewtext.classifier.certainty import certainty
from fewtext.cli import main
from fewtext.jobs import measure as measuring

ROWS = [
    ("where is my card", "card"),
    ("my card has not arrived yet", "card"),
    ("flight is late", "flight"),
    ("cancel the flight", "flight"),
    ("pay the bill", "bill"),
    ("high bill", "bill"),
]
SEVERAL = [
    ("where is my card", "card"),
    ("block the stolen card", "card; loss"),
    ("flight is late", "flight"),
    ("refund the late flight", "flight;refund"),
    ("pay the bill", "bill"),
    ("refund the high bill", "bill;refund"),
]


def written(path, rows, head=("text", "label")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return str(path)


@pytest.fixture
def data(tmp_path):
    return written(tmp_path / "intents.csv", ROWS)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "mine"


@pytest.fixture
def fit(out, tiny_folder, capsys):
    """Run the command; returns its code, the rows it printed by name, and what it said otherwise."""

    def run(*arguments):
        code = main(["fit", *arguments, "--out", str(out), "--base", str(tiny_folder), "--json"])
        printed = capsys.readouterr()
        return code, {row["name"]: row for row in json.loads(printed.out or "[]")}, printed.err

    return run


@pytest.mark.parametrize("name", ["classes.csv", "classes.jsonl"])
def test_classes_without_texts_are_learned_from_a_list_of_all(name, fit, data, out, tmp_path, tiny_folder):
    words = {"card": None, "flight": None, "bill": None, "loan": None, "X1": "slow internet signal"}
    path = tmp_path / name
    if path.suffix == ".csv":
        written(path, words.items(), ("label", "description"))
    else:
        path.write_text("".join(json.dumps({"label": k, "description": v}) + "\n" for k, v in words.items()), "utf-8")
    assert fit(data, "--labels", str(path))[0] == 0
    own = FewShotClassifier.from_pretrained(out)
    expected = FewShotClassifier(str(tiny_folder), classes=list(words), label_descriptions={"X1": words["X1"]})
    expected.fit(*zip(*ROWS, strict=True))
    assert own.classes_.tolist() == sorted(words)
    questions = ["renew the loan", "slow internet", "high bill"]
    np.testing.assert_allclose(own.predict_proba(questions), expected.predict_proba(questions), atol=1e-5)
    assert own.predict(["slow internet signal"]) == ["X1"]


def test_no_texts_are_needed_where_classes_are_listed(fit, data, out, tmp_path):
    listed = written(tmp_path / "classes.csv", [("card",), ("flight",), ("bill",)], ("label",))
    code, rows, _ = fit("--labels", listed, "--shots", "2", "--test", data)
    assert code == 0
    assert rows["classes.csv/fit"]["n"] == 0
    assert rows["intents.csv/accuracy"]["n"] == len(ROWS)
    own = FewShotClassifier.from_pretrained(out)
    assert own.predict(["card", "flight", "bill"]).tolist() == ["card", "flight", "bill"]
    assert own.facts_["data"]["sources"] == ["classes.csv"]


def test_labels_of_several_can_be_listed_too(fit, out, tmp_path):
    listed = [("card", ""), ("loss", "stolen or lost"), ("flight", ""), ("refund", ""), ("bill", ""), ("loan", "")]
    more = ["--labels", written(tmp_path / "classes.csv", listed, ("label", "description")), "--include-texts"]
    assert fit(written(tmp_path / "several.csv", SEVERAL), "--separator", ";", *more)[0] == 0
    own = FewShotClassifier.from_pretrained(out)
    assert own.several_
    assert own.supports_.descriptions == {"loss": "stolen or lost"}
    assert "loan" in own.classes_


def test_calibrating_sets_what_the_texts_for_it_say(fit, data, out, tmp_path, tiny_folder, toy):
    further = [(text, ROWS[label % 6][1]) for text, label in zip(toy.texts, toy.labels, strict=True)]
    given = ["--calibrate", written(tmp_path / "further.csv", further), "--coverage", "0.9"]
    code, rows, _ = fit(data, *given)
    assert code == 0
    expected = FewShotClassifier(str(tiny_folder), coverage=0.9).fit(*zip(*ROWS, strict=True))
    texts, labels = zip(*further, strict=True)
    certainty = expected.calibrate(texts, labels)
    own = FewShotClassifier.from_pretrained(out)
    assert own.certainty_.margin == pytest.approx(certainty.margin, abs=1e-4)
    assert own.certainty_.temperature == pytest.approx(certainty.temperature, abs=1e-4)
    own.predict_set(["where is my card"])
    found = rows["further.csv/held-out accuracy"]
    assert certainty.measured is not None
    assert (found["value"], found["n"]) == (certainty.measured["accuracy"], len(further))
    assert not any("cross-validated" in name for name in rows)


def test_what_fitting_finds_out_is_shown_and_stays_out_of_the_results_of_the_card(fit, data, out):
    _, rows, _ = fit(data)
    own = FewShotClassifier.from_pretrained(out)
    found, measured = own.certainty_, own.facts_["calibration"]
    shown = {
        "accuracy": (measured["accuracy"], "accuracy"),
        "calibration error": (measured["ece"], "share"),
        "Brier score": (measured["brier"], "score"),
        "threshold": (found.threshold, "score"),
    }
    for name, (value, unit) in shown.items():
        row = rows.pop(f"intents.csv/cross-validated {name}")
        assert (row["value"], row["unit"], row["n"]) == (pytest.approx(value), unit, len(ROWS))
    assert [row["name"] for row in own.facts_["results"]] == list(rows)
    assert not any("cross-validated" in name for name in fit(data, "--method", "prototype")[1])


def test_what_is_not_read_is_shown(fit, data, tmp_path):
    long = [("card " * 100, "card"), ("flight", "flight"), ("bill giraffe giraffe", "bill")]
    _, rows, _ = fit(data, "--test", written(tmp_path / "long.csv", long))
    assert (rows["intents.csv/texts cut"]["value"], rows["intents.csv/texts cut"]["n"]) == (0, 6)
    assert rows["intents.csv/unknown tokens"]["value"] == 0
    assert (rows["long.csv/texts cut"]["value"], rows["long.csv/texts cut"]["n"]) == (1, 3)
    assert (rows["long.csv/unknown tokens"]["value"], rows["long.csv/unknown tokens"]["n"]) == (2 / 104, 104)
    _, rows, _ = fit(data, "--test", str(tmp_path / "long.csv"), "--windows")
    assert rows["long.csv/texts cut"]["value"] == 0


def test_test_texts_of_no_class_are_named_once_and_count_as_wrong(fit, data, tmp_path, caplog):
    strange = [("renew the loan", f"loan {number}") for number in (1, 1, 2, 3, 4, 5, 6)]
    _, rows, _ = fit(data, "--test", written(tmp_path / "test.csv", [*ROWS, *strange]))
    named = "'loan 1', 'loan 2', 'loan 3', 'loan 4', 'loan 5', …"
    (said,) = [own.getMessage() for own in caplog.records if "no class" in own.getMessage()]
    assert said.startswith(f"test.csv: 7 of 13 texts have a label that is no class of this classifier ({named}).")
    assert rows["test.csv/accuracy"]["value"] <= 6 / 13
    caplog.clear()
    fit(data, "--test", data)
    assert not caplog.records


def test_of_several_labels_each_counts(fit, out, tmp_path, caplog):
    asked = [*SEVERAL[:5], ("one two three", "flight;loan"), ("refund the money", "refund")]
    given = written(tmp_path / "several.csv", SEVERAL), "--separator", ";"
    code, rows, _ = fit(*given, "--test", written(tmp_path / "test.csv", asked))
    assert code == 0
    assert "1 of 7 texts have a label that is no class of this classifier ('loan')" in caplog.text
    own = FewShotClassifier.from_pretrained(out)
    truth = [{part.strip() for part in label.split(";")} for _, label in asked]
    guesses = [set(labels) for labels in own.predict([text for text, _ in asked])]
    labels = [*own.classes_, "loan"]
    wanted, found = (np.array([[label in row for label in labels] for row in rows]) for rows in (truth, guesses))
    right, decided = (wanted & found).sum(axis=0), wanted.sum(axis=0) + found.sum(axis=0)
    there = wanted.any(axis=0)
    assert rows["test.csv/micro-F1"]["value"] == pytest.approx(2 * right.sum() / decided.sum())
    assert rows["test.csv/macro-F1"]["value"] == pytest.approx((2 * right[there] / decided[there]).mean())
    assert 0 < rows["test.csv/macro-F1"]["value"] != rows["test.csv/micro-F1"]["value"] < 1
    assert rows["test.csv/all labels right"]["value"] == np.mean(
        [a == b for a, b in zip(truth, guesses, strict=True)]
    )


@pytest.mark.parametrize("more", [["--pictures", "{pictures}"], ["--separator", ";"]], ids=["one", "several"])
def test_a_classifier_is_saved_though_no_test_text_is_of_its_classes(more, fit, data, out, tmp_path, caplog):
    strange = written(tmp_path / "strange.csv", [("renew the loan", "loan"), ("room", "room;loan")])
    pictures = tmp_path / "pictures"
    code, rows, _ = fit(data, "--test", strange, *(word.format(pictures=pictures) for word in more))
    assert code == 0
    assert rows[f"strange.csv/{'accuracy' if 'pictures' in more[0] else 'all labels right'}"]["value"] == 0
    assert rows["strange.csv/macro-F1"]["value"] == 0
    assert not {"strange.csv/calibration error", "strange.csv/Brier score"} & rows.keys()
    assert "strange.csv: 2 of 2 texts have a label that is no class" in caplog.text
    assert ("strange.csv: no text has a class of this classifier, so there are no pictures" in caplog.text) == (
        "--pictures" in more
    )
    assert not pictures.exists()
    assert FewShotClassifier.from_pretrained(out).classes_.tolist() == ["bill", "card", "flight"]


def test_pictures_may_lie_in_the_folder_of_the_classifier(fit, data, out):
    for _ in range(2):  # the second classifier replaces the first
        assert fit(data, "--test", data, "--pictures", str(out / "pictures"))[0] == 0
        assert len(list((out / "pictures").glob("*.png"))) == 4
        FewShotClassifier.from_pretrained(out)


@pytest.mark.parametrize("several", [False, True])
def test_exported_files_are_measured_as_the_classifier_is(several, fit, tmp_path):
    name, given = ("all labels right", ["--separator", ";"]) if several else ("accuracy", [])
    texts = written(tmp_path / "texts.csv", SEVERAL if several else ROWS)
    test = written(tmp_path / "test.csv", [*(SEVERAL if several else ROWS), ("one two three", "loan")])
    code, rows, _ = fit(texts, *given, "--test", test, "--onnx", "int8")
    assert code == 0
    found, small = rows[f"test.csv/{name}, ONNX"], rows[f"test.csv/{name}, ONNX in int8"]
    assert 0 < found["value"] == rows[f"test.csv/{name}"]["value"] < 1
    assert small["peer_value"] == found["value"]


@pytest.fixture
def parts(tmp_path):
    """A folder of row splits."""
    (tmp_path / "parts").mkdir()
    for name, rows in {"train": ROWS, "validation": ROWS[:2], "test": ROWS[:1]}.items():
        written(tmp_path / "parts" / f"{name}.csv", rows)
    return str(tmp_path / "parts")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--test test", "parts: without --split its 'test' rows would be fitted to, too. Add --split train, or"),
        ("--calibrate validation", "without --split its 'validation' rows would be fitted to, too"),
        ("--split test --test test", "--split, --calibrate and --test must name different row splits"),
        ("--split train --calibrate train", "must name different row splits"),
        ("--split train --calibrate test --test test", "must name different row splits"),
    ],
)
def test_row_splits_that_are_held_out_are_not_fitted_to(arguments, message, fit, parts, out):
    code, _, said = fit(parts, *arguments.split())
    assert code == 1
    assert message in said.splitlines()[-1]
    assert not out.exists()


def test_a_row_split_is_fitted_to_and_others_are_held_out(fit, parts):
    code, rows, _ = fit(parts, *"--split train --calibrate validation --test test --coverage 0.5".split())
    assert code == 0
    counts = [rows[f"parts/{name}"]["n"] for name in ("fit", "held-out accuracy", "accuracy")]
    assert counts == [6, 2, 1]


def test_texts_that_were_saved_are_not_lost(fit, data, out, monkeypatch):
    assert fit(data, "--include-texts")[0] == 0
    before = (out / LAYOUT.texts).read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(FewShotClassifier, "fit", None)  # it is said before anything is fitted
        code, _, said = fit(data)
    assert code == 1
    assert "mine holds texts that would be lost. Add --include-texts, or choose another --out." in said
    assert (out / LAYOUT.texts).read_bytes() == before
    assert fit(data, "--include-texts", "--shots", "1")[0] == 0
    assert (out / LAYOUT.texts).read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "neither texts nor classes to fit to"),
        ("{data} --pictures p", "--pictures show what is found on --test"),
        ("--labels {listed} --test {data} --pictures p", "beside the texts fitted to. Name both."),
        ("{data} --test {data} --separator ; --pictures p", "cannot stand with --separator"),
        ("{data} --labels {few}", "label 'flight' is none of the classes"),
        ("{data} --labels {twice}", "twice.csv, row 1: label 'card' is there twice"),
        ("{data} --labels {hole}", "hole.csv, row 1: the label is missing"),
        ("{data} --labels {named}", "named.csv: no column 'label'; the columns are ['name']"),
        ("{data} --labels missing.csv", "missing.csv: no such file"),
        ("{data} --test missing.csv", "missing.csv: no such file"),
        ("{data} --calibrate {data}", "6 texts cannot guarantee coverage=0.95"),
        ("{data} --calibrate {strange}", "label 'loan' is no class of what is fitted"),
        ("{data} --separator ; --calibrate {data}", "--calibrate is for texts with one label each"),
        ("{data} --onnx fp32 --style adapter", "--onnx exports all weights, so it cannot stand with --style adapter"),
        ("{data} --style adapter", "names its base, and this one is a folder that no hub knows"),
        ("{data} --test {strange} --out-of-scope-label loan", "strange.csv: all texts are out of scope"),
        ("{strange} --out-of-scope-label loan --shots 2", "no texts"),
        ("{data} --shots -1", "intents.csv: -1 texts of each class cannot be drawn"),
        ("{data} --test {data} --pictures {few}", "few.csv: a file is there, and a folder is needed"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(arguments, message, fit, data, out, tmp_path):
    files = {
        "listed": written(tmp_path / "listed.csv", [("card",), ("flight",)], ("label",)),
        "few": written(tmp_path / "few.csv", [("card",), ("bill",)], ("label",)),
        "twice": written(tmp_path / "twice.csv", [("card",), ("card",)], ("label",)),
        "hole": written(tmp_path / "hole.csv", [("card", ""), ("", "a loan")], ("label", "description")),
        "named": written(tmp_path / "named.csv", [("card",), ("flight",)], ("name",)),
        "strange": written(tmp_path / "strange.csv", [("renew the loan", "loan")]),
    }
    code, _, said = fit(*arguments.format(data=data, **files).split())
    assert code == 1
    assert message in said.splitlines()[-1]
    assert not out.exists()


def test_an_extra_that_is_missing_is_asked_for_before_anything_is_fitted(fit, data, monkeypatch):
    monkeypatch.setattr("fewtext.jobs.fit_checks.find_spec", lambda name: None)
    monkeypatch.setattr(FewShotClassifier, "fit", None)
    for given, extra in ((["--onnx", "fp32"], "onnx"), (["--test", data, "--pictures", "p"], "plots")):
        code, _, said = fit(data, *given)
        assert (code, f"pip install 'fewtext[{extra}]'" in said) == (1, True)


def test_what_is_known_of_certainty_is_not_timed_as_answering(tiny, toy, monkeypatch):
    classifier, done = FewShotClassifier(tiny).fit(toy.texts, [toy.classes[n] for n in toy.labels]), []
    clock = measuring.time.perf_counter
    monkeypatch.setattr(fitted, "certainty", lambda *given: done.append("certain") or certainty(*given))
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: done.append("clock") or clock())
    measuring.measure(classifier, toy)
    assert done.index("certain") < done.index("clock")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("intents.csv", "intents.csv: a file is there, and a folder is needed. Choose another --out."),
        ("intents.csv/mine", "intents.csv: a file is there, and a folder is needed. Choose another --out."),
        ("", "not empty and not a fewtext artifact. Choose another folder."),
        ("here", "the folder you are in cannot be replaced. Change to another one first."),
    ],
)
def test_where_nothing_can_be_saved_nothing_is_fitted(
    place, message, data, tmp_path, tiny_folder, capsys, monkeypatch
):
    monkeypatch.setattr(FewShotClassifier, "fit", None)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = sorted(tmp_path.iterdir())
    assert main(["fit", data, "--out", str(tmp_path / place), "--base", str(tiny_folder)]) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert sorted(tmp_path.iterdir()) == before
