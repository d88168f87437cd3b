"""`fewtext edit` and `fewtext explain`, as a user types them."""

import csv
import json

import numpy as np
import pytest

from fewtext import FewShotClassifier
from fewtext.artifact import LAYOUT
from fewtext.cli import main

ROWS = [
    ("where is my card", "card"),
    ("my card has not arrived yet", "card"),
    ("flight is late", "flight"),
    ("cancel the flight", "flight"),
    ("pay the bill", "bill"),
    ("high bill", "bill"),
]
QUERIES = [*(text for text, _ in ROWS), "one two three", "renew the loan"]


def written(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return str(path)


@pytest.fixture
def saved(tmp_path, tiny_folder, capsys):
    """A classifier's folder, fitted and saved with its texts by the command."""
    out, data = tmp_path / "mine", written(tmp_path / "intents.csv", ROWS)
    assert main(["fit", data, "--out", str(out), "--base", str(tiny_folder), "--include-texts"]) == 0
    capsys.readouterr()
    return out


def doubtful(folder):
    """Let a saved classifier reject most texts; returns it."""
    classifier = FewShotClassifier.from_pretrained(folder)
    classifier.calibrate(*zip(*ROWS, strict=True), coverage=0.1)
    classifier.save_pretrained(folder, include_texts=True)
    return classifier


def renamed(before, after):
    return [(text, after if label == before else label) for text, label in ROWS]


EDITS = {
    "add": (["--add", "loan", "renew the loan", "fee", "pay the fee"],
            [*ROWS, ("renew the loan", "loan"), ("pay the fee", "fee")]),
    "remove": (["--remove", "high bill", "Flight is LATE"], [*ROWS[:2], *ROWS[3:5]]),
    "forget": (["--forget", "high bill"], ROWS[:5]),
    "relabel": (["--relabel", "high bill", "card", "pay the bill", "loan"],
                [*ROWS[:4], ("pay the bill", "loan"), ("high bill", "card")]),
    "remove a class": (["--remove-class", "flight"], [*ROWS[:2], *ROWS[4:]]),
    "rename": (["--rename-class", "flight", "late_flight"], renamed("flight", "late_flight")),
    "merge": (["--merge", "flight", "bill"], renamed("flight", "bill")),
    "merge under a new name": (["--merge", "flight", "bill", "trip"],
                               [*ROWS[:2], *((text, "trip") for text, _ in ROWS[2:])]),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_folder_is_what_fitting_gives(saved, tiny, name, capsys):
    arguments, rows = EDITS[name]
    assert main(["edit", str(saved), *arguments]) == 0
    assert capsys.readouterr().out.strip() != "no difference"
    expected = FewShotClassifier(tiny).fit(*zip(*rows, strict=True))
    own = FewShotClassifier.from_pretrained(saved)
    assert own.classes_.tolist() == expected.classes_.tolist()
    np.testing.assert_allclose(own.predict_proba(QUERIES), expected.predict_proba(QUERIES), atol=1e-6)
    assert list(zip(own.supports_.texts, own.supports_.labels, strict=True)) == rows


def test_a_file_of_texts_and_a_described_class_are_added(saved, tmp_path):
    more = written(tmp_path / "more.csv", [("renew the loan", "loan"), ("no card", "card")])
    assert main(["edit", str(saved), "--add-from", more, "--add-class", "fee", "something to pay"]) == 0
    own = FewShotClassifier.from_pretrained(saved)
    assert own.classes_.tolist() == ["bill", "card", "fee", "flight", "loan"]
    assert own.supports_.descriptions == {"fee": "something to pay"}
    assert own.supports_.texts[6:] == ("renew the loan", "no card")


def test_what_changes_is_shown_and_a_dry_run_changes_nothing(saved, tmp_path, capsys):
    files = {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()}
    job = ["edit", str(saved), "--relabel", "high bill", "loan", "--remove-class", "flight", "--dry-run", "--ask"]
    assert main([*job, "cancel the flight", "high bill"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"+ class loan", "- class flight", "- flight: flight is late", "  bill -> loan: high bill"} <= set(lines)
    assert any(line.startswith("  answer flight -> ") and line.endswith(": cancel the flight") for line in lines)
    assert {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()} == files
    assert main([*job, "high bill", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["relabelled"] == [["high bill", "bill", "loan"]]
    assert (found["classes_added"], found["classes_removed"]) == (["loan"], ["flight"])
    assert main(["edit", str(saved)]) == 0
    assert capsys.readouterr().out == "no difference\n"


@pytest.mark.parametrize(
    ("arguments", "added", "hints"),
    [
        (["--relabel", "high bill", "Flihgt"], "Flihgt", ["new class 'Flihgt': did you mean 'flight'?"]),
        (["--add", "loan", "a loan", "bills", "the bills"], "bills", ["new class 'bills': did you mean 'bill'?"]),
        (["--rename-class", "flight", "flights"], "flights", []),
    ],
)
def test_a_new_class_that_is_nearly_another_is_made_with_a_hint(saved, capsys, arguments, added, hints):
    assert main(["edit", str(saved), *arguments, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["hints"] == hints
    assert main(["edit", str(saved), *arguments]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if "did you mean" in line] == hints
    assert added in FewShotClassifier.from_pretrained(saved).classes_


def test_an_asked_text_that_is_rejected_is_shown_as_such(saved, capsys):
    doubtful(saved)
    before, after = FewShotClassifier.from_pretrained(saved), FewShotClassifier.from_pretrained(saved)
    after.remove_class("flight")
    first, second = ([answer.label for answer in own.classify(QUERIES)] for own in (before, after))
    expected = [[text, a, b] for text, a, b in zip(QUERIES, first, second, strict=True) if a != b]
    job = ["edit", str(saved), "--remove-class", "flight", "--dry-run", "--ask", *QUERIES]
    assert main([*job, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answers"] == expected
    assert main(job) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {f"  answer {a or '?'} -> {b or '?'}: {text}" for text, a, b in expected} <= set(lines)
    assert any(None in row for row in expected)


def test_another_folder_is_written_and_the_first_one_stays(saved, tmp_path):
    before = (saved / LAYOUT.texts).read_bytes()
    assert main(["edit", str(saved), "--remove", "high bill", "--out", str(tmp_path / "other")]) == 0
    assert (saved / LAYOUT.texts).read_bytes() == before
    assert len(FewShotClassifier.from_pretrained(tmp_path / "other").supports_.texts) == 5


def test_what_others_keep_in_the_folder_stays_and_what_was_measured_goes(saved):
    (saved / ".git").mkdir()
    (saved / ".git" / "config").write_text("mine")
    (saved / "notes.txt").write_text("mine, too")
    assert (saved / "results.json").is_file()
    assert main(["edit", str(saved), "--add", "loan", "renew the loan"]) == 0
    assert (saved / ".git" / "config").read_text() == "mine"
    assert (saved / "notes.txt").read_text() == "mine, too"
    assert not (saved / "results.json").exists()
    assert "loan" in FewShotClassifier.from_pretrained(saved).classes_


def test_without_an_edit_only_another_folder_is_written(saved, tmp_path):
    files = {path: path.stat().st_mtime_ns for path in saved.rglob("*")}
    other = tmp_path / "other"
    assert main(["edit", str(saved), "--ask", "high bill"]) == 0
    assert main(["edit", str(saved), "--out", str(saved / ".." / saved.name)]) == 0
    assert {path: path.stat().st_mtime_ns for path in saved.rglob("*")} == files
    assert main(["edit", str(saved), "--ask", "high bill", "--out", str(other)]) == 0
    assert len(FewShotClassifier.from_pretrained(other).supports_.texts) == 6


def test_the_folder_one_is_in_is_edited_from_elsewhere(saved, monkeypatch, capsys):
    before = (saved / LAYOUT.texts).read_bytes()
    monkeypatch.chdir(saved)
    assert main(["edit", ".", "--remove", "high bill"]) == 1
    assert "the folder you are in cannot be replaced" in capsys.readouterr().err
    assert (saved / LAYOUT.texts).read_bytes() == before


@pytest.mark.parametrize("linked", [False, True])
def test_a_forgotten_text_is_in_no_file_any_more(saved, linked):
    def holding():
        files = (path for path in saved.rglob("*") if path.is_file())
        return [path.name for path in files if b"high bill" in path.read_bytes().lower()]

    assert holding() == [LAYOUT.texts]
    if linked:
        saved.with_name("link").symlink_to(saved)
    assert main(["edit", str(saved.with_name("link") if linked else saved), "--forget", "High Bill"]) == 0
    assert not holding()


@pytest.mark.parametrize("arguments", [["--forget", "high bill"], ["--remove", "high bill", "--refit"]])
def test_a_refined_encoder_is_refined_again_from_its_base(tiny_folder, tmp_path, monkeypatch, arguments):
    monkeypatch.setattr("fewtext.refine.SHORT", 2)
    folder, base = tmp_path / "mine", str(tiny_folder)
    FewShotClassifier(base, refine=True).fit(*zip(*ROWS, strict=True)).save_pretrained(folder, include_texts=True)
    assert main(["edit", str(folder), *arguments]) == 0
    expected = FewShotClassifier(base, refine=True).fit(*zip(*ROWS[:5], strict=True)).predict_proba(QUERIES)
    found = FewShotClassifier.from_pretrained(folder).predict_proba(QUERIES)
    np.testing.assert_allclose(found, expected, atol=2e-3)  # rounding, times training


def test_refining_again_is_advised_once_when_much_has_changed(tiny_folder, tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.setattr("fewtext.refine.SHORT", 2)
    folder = tmp_path / "mine"
    classifier = FewShotClassifier(str(tiny_folder), refine=True).fit(*zip(*ROWS, strict=True))
    classifier.save_pretrained(folder, include_texts=True)
    assert main(["edit", str(folder), "--remove", "high bill", "--relabel", "pay the bill", "loan"]) == 0
    assert capsys.readouterr().out.count("--refit refines it again") == 1
    assert main(["edit", str(folder), "--dry-run", "--json"]) == 0
    advice = "many texts changed since the encoder was refined: --refit refines it again"
    assert json.loads(capsys.readouterr().out)["hints"] == [advice]
    assert "refit()" not in caplog.text
    FewShotClassifier.from_pretrained(folder).remove_examples(["flight is late"])
    assert "refit()" in caplog.text
    assert main(["edit", str(folder), "--refit"]) == 0
    assert "--refit" not in capsys.readouterr().out


def test_labels_in_lists_are_shown_as_lists(tiny_folder, tmp_path, capsys):
    texts, labels = [text for text, _ in ROWS], [["a", "b"], ["a"], ["b"], [], ["b"], ["a"]]
    folder = (
        FewShotClassifier(str(tiny_folder)).fit(texts, labels).save_pretrained(tmp_path / "c", include_texts=True)
    )
    assert main(["edit", str(folder), "--remove", "where is my card", "--json", "--ask", *texts]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["removed"] == [["where is my card", ["a", "b"]]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--remove", "never seen"], "no text 'never seen'"),
        (["--remove-class", "loan"], "no class 'loan'"),
        (["--rename-class", "bill", "card"], "use merge_classes"),
        (["--add-class", "card", "words"], "class 'card' is there already"),
        (["--merge", "bill", "card", "flight"], "only one class"),
        (["--merge", "bill", "loan"], "--merge bill loan: fewer than two classes"),
        (["--merge", "bill", "fee", "loan"], "no class 'fee'"),
        (["--add-from", "nothing.csv"], "nothing.csv"),
        (["--forget", "high bill", "high bill"], "no text"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line_and_nothing_is_written(saved, capsys, arguments, message):
    before = (saved / LAYOUT.texts).read_bytes()
    assert main(["edit", str(saved), "--relabel", "pay the bill", "bill", *arguments]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("fewtext: ")
    assert message in error
    assert (saved / LAYOUT.texts).read_bytes() == before


@pytest.mark.parametrize("command", [["edit"], ["edit", "--remove", "high bill"], ["explain", "high bill"]])
def test_a_classifier_without_texts_is_refused(tiny_folder, tmp_path, capsys, command):
    folder = FewShotClassifier(str(tiny_folder)).fit(*zip(*ROWS, strict=True)).save_pretrained(tmp_path / "c")
    assert main([command[0], str(folder), *command[1:]]) == 1
    error = capsys.readouterr().err
    assert "this classifier was saved without its texts" in error
    assert "fewtext fit … --include-texts" in error


def test_what_is_on_the_hub_is_not_edited_in_place(capsys):
    assert main(["edit", "me/mine", "--remove", "x"]) == 1
    assert "on the hub nothing is edited. Give --out a folder" in capsys.readouterr().err


def test_explanations_are_printed_and_given_as_json(saved, capsys):
    own = FewShotClassifier.from_pretrained(saved)
    texts = ["block my card", "late bill"]
    assert main(["explain", str(saved), *texts, "--most", "3"]) == 0
    expected = [own.explain(text, most=3) for text in texts]
    assert capsys.readouterr().out == "\n\n".join(map(str, expected)) + "\n"
    assert main(["explain", str(saved), *texts, "--json", "--without", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["text"], one["label"], one["runner_up"]) for one in found] == [
        (one.text, one.label, one.runner_up) for one in expected
    ]
    for one in found:
        assert len(one["evidence"]) == 5
        assert sum(part["without"] is not None for part in one["evidence"]) == 1
        shares = sum(part["share"] for part in one["evidence"])
        assert shares + one["others"] + one["bias"] == pytest.approx(one["lead"])


def test_that_an_explained_text_would_be_rejected_is_said(saved, capsys):
    answers = dict(zip(QUERIES, doubtful(saved).classify(QUERIES), strict=True))
    assert main(["explain", str(saved), *QUERIES, "--json"]) == 0
    for one in json.loads(capsys.readouterr().out):
        own = answers[one["text"]]
        assert (one["answer"]["label"], one["answer"]["reason"]) == (own.label, own.reason)
    rejected = [text for text, answer in answers.items() if answer.label is None]
    assert rejected
    assert main(["explain", str(saved), *rejected]) == 0
    assert capsys.readouterr().out.count("\n  I don't know: ") == len(rejected)


def test_nothing_to_explain_is_an_error(saved, capsys):
    assert main(["explain", str(saved)]) == 1
    assert "no text. Give at least one" in capsys.readouterr().err


def test_each_label_of_a_text_is_explained(tiny_folder, tmp_path, capsys):
    texts, labels = [text for text, _ in ROWS], [["a", "b"], ["a"], ["b"], [], ["b"], ["a"]]
    classifier = FewShotClassifier(str(tiny_folder), names=False, C=1e4).fit(texts, labels)
    folder = classifier.save_pretrained(tmp_path / "c", include_texts=True)
    assert main(["explain", str(folder), *texts[:4], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["text"], one["answer"]) for one in found] == [
        *[(texts[0], ["a", "b"])] * 2, (texts[1], ["a"]), (texts[2], ["b"]), (texts[3], [])
    ]  # fmt: skip
    assert [one["label"] for one in found[:4]] == ["a", "b", "a", "b"]
    assert found[0]["runner_up"] is None
