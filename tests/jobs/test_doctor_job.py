"""`fewtext doctor`: from files and cards to a report."""

import json
from dataclasses import asdict

import pytest

from fewtext import DataCard, load_texts
from fewtext.errors import DataError
from fewtext.jobs.doctor import Doctor, doctor

GOOD = "text,label\n" + "".join(f"{word} {n},{word}\n" for word in ("card", "flight") for n in "abcde")


@pytest.fixture
def table(tmp_path):
    def write(text, name="intents.csv"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


def names(diagnosis):
    return [finding.name for finding in diagnosis.findings]


def test_clean_texts_take_one_line(table):
    diagnosis = doctor(Doctor(table(GOOD), fast=True))
    assert str(diagnosis) == "intents.csv: 10 texts of 2 classes\nNothing is wrong with them."
    assert diagnosis.errors == 0


def test_rows_are_those_of_the_file(table):
    diagnosis = doctor(Doctor(table(GOOD + ",card\nsay,oos\ncard a,flight\n"), fast=True, out_of_scope_label="oos"))
    assert diagnosis.errors == 1
    assert (diagnosis.texts, diagnosis.others) == (11, 1)
    conflict, empty = diagnosis.findings
    assert [place.row for place in conflict.examples[0].places] == [0, 12]
    assert (empty.name, empty.examples[0].places[0].row) == ("empty texts", 10)


def test_a_second_file_is_held_out(table):
    held = table("label,text\ncard,card  A\ncard,card z\ncard,\n", "test.csv")
    diagnosis = doctor(Doctor(table(GOOD), test=held, fast=True))
    assert names(diagnosis) == ["one text in several row splits", "empty texts", "classes without held-out texts"]
    assert [(place.part, place.row) for place in diagnosis.findings[0].examples[0].places] == [
        ("train", 0),
        ("test", 0),
    ]
    assert [(place.part, place.row) for place in diagnosis.findings[1].examples[0].places] == [("test", 2)]


def test_a_folder_has_row_splits(table, tmp_path):
    table(GOOD, "data/train.csv")
    table("text,label\ncard a,card\nflight z,flight\n", "data/dev.csv")
    diagnosis = doctor(Doctor(str(tmp_path / "data"), fast=True))
    assert [place.part for place in diagnosis.findings[0].examples[0].places] == ["validation", "train"]
    assert not doctor(Doctor(str(tmp_path / "data"), fast=True, split="train")).findings


def test_a_folder_that_is_held_out_is_so_in_all_its_parts(table, tmp_path):
    table("text,label\ncard a,card\n", "more/train.csv")
    table("text,label\nflight z,flight\n", "more/dev.csv")
    diagnosis = doctor(Doctor(table(GOOD), test=str(tmp_path / "more"), fast=True))
    assert (diagnosis.texts, diagnosis.others, diagnosis.errors) == (10, 2, 1)


def test_a_message_names_the_file(table):
    with pytest.raises(DataError, match=r"^intents\.csv, row 1: the label is missing"):
        doctor(Doctor(table("text,label\na,b\nc,\n"), fast=True))


def test_labels_are_split_at_the_separator(table, tiny_folder):
    rows = [f"{word} {n},{label}\n" for word, label in (("card", "card;lost"), ("flight", "flight")) for n in "abcde"]
    path = table("text,label\n" + "".join(rows))
    diagnosis = doctor(Doctor(path, separator=";", base=str(tiny_folder)))
    assert (diagnosis.texts, diagnosis.classes) == (10, 3)
    assert "texts with several labels" in names(diagnosis)
    assert diagnosis.estimate is not None
    assert diagnosis.estimate.refine is None
    assert "fit with refine=True" not in str(diagnosis)
    assert doctor(Doctor(path, fast=True)).classes == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,card|lost\nb,card\n", r"^intents\.csv: no label has ';' in it\. Correct --separator"),
        ("a,card;lost\nb,card;\n", r"^intents\.csv: a label in 'card;' is missing"),
    ],
)
def test_a_separator_must_separate_labels(rows, message, table):
    with pytest.raises(DataError, match=message):
        doctor(Doctor(table(f"text,label\n{rows}"), fast=True, separator=";"))


@pytest.mark.parametrize("terminal", [False, True])
def test_a_bar_is_for_terminals(terminal, table, tiny_folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    doctor(Doctor(table(GOOD), base=str(tiny_folder)))
    assert ("encode" in capsys.readouterr().err) == terminal


def test_there_must_be_something_to_learn_from(table):
    options = Doctor(table("text,label\nout,oos\n"), fast=True, out_of_scope_label="oos")
    with pytest.raises(DataError, match=r"^intents\.csv: no text to learn from.*one row split\.$"):
        doctor(options)


def test_only_as_many_examples_as_asked_for(table):
    many = GOOD + "".join(f"card {n},card\n" for n in "abcde")
    diagnosis = doctor(Doctor(table(many), fast=True, most=2))
    assert (diagnosis.findings[0].count, len(diagnosis.findings[0].examples)) == (5, 2)
    assert "and 3 more" in str(diagnosis)


def test_shots_are_those_that_fit_draws(data_root):
    options = {"split": "train", "shots": 2, "seed": 3, "data_root": data_root}
    diagnosis = doctor(Doctor("sst5", fast=True, **options))
    assert (diagnosis.texts, diagnosis.classes) == (10, 5)
    assert "classes of fewer than 5 texts" in names(diagnosis)


def test_a_card_is_numbered_by_row_split(data_root):
    diagnosis = doctor(Doctor("clinc150", fast=True, data_root=data_root))
    leak = next(finding for finding in diagnosis.findings if finding.name == "one text in several row splits")
    texts = load_texts("clinc150", data_root=data_root)
    for place in leak.examples[0].places:
        assert texts.part(place.part).texts[place.row] == place.text
    assert diagnosis.others == 8700
    assert diagnosis.errors == 2


def test_with_an_encoder_there_are_costs_and_plain_data(table, tiny_folder, capsys):
    diagnosis = doctor(Doctor(table(GOOD), base=str(tiny_folder)))
    capsys.readouterr()
    plain = json.loads(json.dumps(asdict(diagnosis)))
    assert plain["estimate"]["refine"] > plain["estimate"]["fit"] > 0
    assert "texts with unknown tokens" in [finding["name"] for finding in plain["findings"]]
    assert "fit with refine=True" in str(diagnosis)


@pytest.mark.parametrize("columns", [60, 90, 200])
def test_lines_fit_the_terminal(columns, table, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = [f"{'a very long text ' * 20} {n % 3},{'label' * 12 * (1 + n // 3)}" for n in range(6)]
    text = str(doctor(Doctor(table("\n".join(["text,label", *rows])), fast=True)))
    assert "one text, different labels" in text
    assert max(map(len, text.splitlines())) <= columns
    assert all(len(line) == len(line.rstrip()) for line in text.splitlines())


def test_the_embedded_corpus_has_no_flaw_of_form():
    assert "everyday" in DataCard.names()
    assert str(doctor(Doctor("everyday", fast=True))).endswith("Nothing is wrong with them.")
