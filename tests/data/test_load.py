"""Whatever a user has becomes labelled texts, or an error that says what to change."""

import csv
import json
from types import SimpleNamespace

import datasets
import pytest

from fewtext.data.card import DataCard
from fewtext.data.load import load_texts
from fewtext.data.stream import stream_texts
from fewtext.data.texts import LabeledTexts, class_disjoint
from fewtext.errors import DataError

pytestmark = pytest.mark.usefixtures("own_cache")

ROWS = {"text": ["007", "it's, um,\nlost", 'say "no"', "late"], "label": ["NA", "lost", "no", "12"]}
CSV = 'text,label\n007,NA\n"it\'s, um,\nlost",lost\n"say ""no""",no\nlate,12\n'


@pytest.fixture
def hub(monkeypatch):
    """A hub whose `answer` to a revision a test may change, and which remembers what it was `asked`."""
    state = SimpleNamespace(answer=lambda revision: datasets.DatasetDict(train=dataset()), asked=[])

    def load_dataset(name, config=None, *, revision=None):
        state.asked.append((name, config, revision))
        return state.answer(revision)

    monkeypatch.setattr("fewtext.data.load.datasets.load_dataset", load_dataset)
    return state


def pairs(texts):
    return [(text, texts.classes[label]) for text, label in zip(texts.texts, texts.labels, strict=True)]


def written(folder, suffix):
    path = folder / f"mine{suffix}"
    records = [dict(zip(ROWS, row, strict=True)) for row in zip(*ROWS.values(), strict=True)]
    if suffix == ".parquet":
        datasets.Dataset.from_dict(ROWS).to_parquet(path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    elif suffix == ".json":
        path.write_text(json.dumps(records, indent=1), "utf-8")
    else:
        path.write_text(CSV if suffix == ".csv" else CSV.replace("um,", "um;").replace(",", "\t"), "utf-8")
    return path


def split_files(folder, **contents):
    for split, content in contents.items():
        (folder / f"{split}.csv").write_text("text,label\n" + content, "utf-8")
    return folder


def dataset(texts=("a", "b", "c"), labels=("x", "y", "x"), feature=None):
    rows = datasets.Dataset.from_dict({"text": list(texts), "label": list(labels)})
    return rows.cast_column("label", feature) if feature else rows


def toy_card(splits, **changes):
    entries = dict(vars(DataCard.read("massive")), name="toy", **changes)
    columns = {"text_column": "utt", "label_column": "intent", "splits": splits}
    return DataCard(**entries | {"hub": {"id": "me/toy", "config": "en", "revision": "abc", **columns}})


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl", ".parquet"])
def test_a_file_is_read_with_every_text_and_label_as_it_is_written(suffix, tmp_path):
    assert pairs(load_texts(written(tmp_path, suffix))) == list(zip(*ROWS.values(), strict=True))


def test_a_tsv_is_a_csv_with_tabs(tmp_path):
    expected = [
        (text.replace("um,", "um;").replace(",", "\t"), label) for text, label in zip(*ROWS.values(), strict=True)
    ]
    assert pairs(load_texts(written(tmp_path, ".tsv"))) == expected


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_csv_of_a_spreadsheet_is_read_whatever_it_puts_between_columns(mark, tmp_path):
    rows = [("a, b", "x"), ('c "d"', "y")]
    with (tmp_path / "sheet.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=mark).writerows([("text", "label"), *rows])
    assert pairs(load_texts(tmp_path / "sheet.csv")) == rows
    assert list(stream_texts(tmp_path / "sheet.csv")) == [text for text, _ in rows]


def test_a_csv_of_numbers_is_a_csv_of_texts(tmp_path):
    (tmp_path / "codes.csv").write_text("text,label\n007,01\n1e3,02\n", "utf-8")
    assert pairs(load_texts(tmp_path / "codes.csv")) == [("007", "01"), ("1e3", "02")]


def test_a_file_is_named_after_itself_without_its_folder(tmp_path):
    assert load_texts(str(written(tmp_path, ".jsonl"))).name == "mine.jsonl"


def test_a_folder_gives_its_row_splits(tmp_path):
    texts = load_texts(split_files(tmp_path, train="a,x\nb,y\n", dev="c,x\n", test="d,y\n"))
    assert sorted(zip(texts.texts, texts.partition, strict=True)) == [
        ("a", "train"),
        ("b", "train"),
        ("c", "validation"),
        ("d", "test"),
    ]


def test_a_folder_with_two_files_for_one_row_split_is_refused(tmp_path):
    split_files(tmp_path, train="a,x\n")
    (tmp_path / "train.jsonl").write_text('{"text": "b", "label": "y"}\n', "utf-8")
    with pytest.raises(DataError, match="train"):
        load_texts(tmp_path)


def test_a_csv_in_a_folder_is_read_like_a_csv(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text(CSV, "utf-8")
    assert pairs(load_texts(tmp_path / "data")) == list(zip(*ROWS.values(), strict=True))


def test_numbers_in_a_csv_in_a_folder_are_texts(tmp_path):
    assert load_texts(split_files(tmp_path, train="007,01\n008,02\n")).texts == ("007", "008")


def test_a_pair_of_lists_is_taken_as_it_is():
    texts = load_texts((["a", "b", "c"], ["x", 3, "oos"]), out_of_scope_label="oos")
    assert (pairs(texts), texts.out_of_scope) == ([("a", "x"), ("b", "3")], ("c",))


def test_labelled_texts_are_passed_on(toy):
    assert load_texts(toy) is toy


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        (dataset(), "xyx"),
        (dataset(labels=[4, 5, 4]), "454"),
        (dataset(labels=[1, 0, 1], feature=datasets.ClassLabel(names=["q", "p"])), "pqp"),
    ],
    ids=["string", "integer", "ClassLabel"],
)
def test_a_dataset_may_have_labels_of_any_kind(rows, names):
    assert pairs(load_texts(rows)) == list(zip("abc", names, strict=True))


def test_a_hidden_class_label_is_a_missing_one():
    rows = dataset(labels=[0, -1, 0], feature=datasets.ClassLabel(names=["x"]))
    with pytest.raises(DataError, match="row 1: the label is missing"):
        load_texts(rows)


@pytest.mark.parametrize("validation", ["validation", "valid", "val", "dev"])
def test_a_dataset_dict_gives_its_row_splits_whatever_it_calls_validation(validation):
    rows = {"train": dataset("ab", "xy"), validation: dataset("c", "x"), "test": dataset("d", "y")}
    texts = load_texts(datasets.DatasetDict(rows))
    assert texts.partition == ("train", "train", "validation", "test")
    assert pairs(texts.part("validation")) == [("c", "x")]


def test_two_row_splits_that_both_mean_validation_keep_all_their_texts():
    texts = load_texts(
        datasets.DatasetDict(dev=dataset("ab", "xy"), validation=dataset("c", "x"), test=dataset("d", "y"))
    )
    assert sorted(texts.texts) == ["a", "b", "c", "d"]


def test_a_dataset_dict_of_one_has_no_row_splits():
    assert load_texts(datasets.DatasetDict(train=dataset())).partition is None


def test_only_the_row_split_asked_for_is_loaded():
    texts = load_texts(datasets.DatasetDict(train=dataset("ab", "xy"), test=dataset("cd", "xy")), split="test")
    assert (texts.texts, texts.partition) == (("c", "d"), None)


def test_an_unknown_row_split_is_refused_with_the_known_ones():
    with pytest.raises(DataError, match=r"no 'dev' rows; the row splits are \['test', 'train'\]"):
        load_texts(datasets.DatasetDict(train=dataset(), test=dataset()), split="dev")


def test_a_card_is_loaded_by_name_or_as_itself():
    by_name, itself = load_texts("everyday"), load_texts(DataCard.read("everyday"))
    assert by_name.fingerprint() == itself.fingerprint()
    assert (by_name.name, len(by_name.out_of_scope) > 0) == ("everyday", True)


def test_what_the_texts_of_a_card_are_about_stays_with_every_part_of_them():
    card = DataCard.read("everyday")
    texts = load_texts(card)
    parts = [texts, texts.at_most(2), *class_disjoint(texts, card.class_groups(1)).values()]
    assert {own.about for own in parts} == {card.about} != {""}


@pytest.mark.parametrize(
    ("columns", "guessed"),
    [
        (["utt", "intent"], ["utt", "intent"]),
        (["title", "category"], ["title", "category"]),
        (["title", "text", "label", "label_text"], ["text", "label_text"]),
    ],
)
def test_usual_columns_are_guessed_and_names_win_over_numbers(columns, guessed):
    rows = datasets.Dataset.from_dict({column: [f"{column} {row}" for row in range(2)] for column in columns})
    assert pairs(load_texts(rows)) == [tuple(f"{column} {row}" for column in guessed) for row in range(2)]


def test_columns_may_be_named():
    rows = dataset().add_column("body", ["A", "B", "C"]).add_column("kind", ["p", "q", "r"])
    assert pairs(load_texts(rows, text_column="body", label_column="kind")) == [("A", "p"), ("B", "q"), ("C", "r")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"no text column; the columns are \['body', 'kind'\]. Name it with text_column, --text-column on"),
        (
            {"text_column": "body"},
            r"no label column; the columns are \['body', 'kind'\]. Name it with label_column, --label-column on",
        ),
        ({"text_column": "boddy"}, r"no text column 'boddy'; the columns are \['body', 'kind'\]"),
    ],
)
def test_a_missing_column_is_refused_with_the_columns_there_are(options, message):
    with pytest.raises(DataError, match=message):
        load_texts(datasets.Dataset.from_dict({"body": ["a"], "kind": ["x"]}), **options)


@pytest.mark.parametrize("source", [(["a"], ["x"]), dataset("a", "x"), LabeledTexts.of(["a"], ["x"])], ids=type)
def test_descriptions_stand_for_their_classes(source):
    assert load_texts(source, descriptions={"x": "what it means"}).words(0) == "what it means"


def test_descriptions_stand_for_the_classes_of_a_card():
    texts = load_texts("everyday", descriptions={"late_fee": "brought back too late"})
    assert texts.words(texts.classes.index("late_fee")) == "brought back too late"


def test_an_unknown_name_is_refused_with_the_cards_there_are():
    with pytest.raises(DataError, match=r"qqqq: no such file, folder or card.*banking77, clinc150.*owner/name"):
        load_texts("qqqq")


def test_a_misspelt_card_is_refused_with_a_close_one():
    with pytest.raises(DataError, match=r"bankng77: no such file, folder or card.*Did you mean banking77\?"):
        load_texts("bankng77")


@pytest.mark.parametrize("name", ["missing.csv", "some/missing.jsonl", "/some/where/missing.parquet"])
def test_a_missing_file_is_refused_by_name(name):
    with pytest.raises(DataError, match=f"{name}: no such file, folder or card"):
        load_texts(name)


@pytest.mark.parametrize("name", ["notes.txt", "notes"])
def test_a_file_of_unknown_form_is_refused_with_the_known_ones(name, tmp_path):
    (tmp_path / name).write_text("hello", "utf-8")
    with pytest.raises(DataError, match=rf"{name}: cannot read .*known: .*\.csv.*\.tsv.*\.parquet"):
        load_texts(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bad.json", b'{"text": '),
        ("bad.jsonl", b'{"text": "a", "label": "x"}\n{"text": '),
        ("bad.parquet", b"no parquet"),
        ("ragged.csv", b"text,label\na,x\nb,y,z\n"),
        ("unquoted.csv", b"text,label\nhello, world,x\nbye, all,y\n"),
        ("latin1.csv", b"text,label\nvoil\xe0,x\n"),
        ("empty.csv", b""),
        ("empty.jsonl", b""),
        ("header.csv", b"text,label\n"),
    ],
)
def test_a_broken_or_empty_file_is_a_data_error(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        load_texts(tmp_path / name)


def test_an_empty_folder_is_a_data_error(tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="nothing: "):
        load_texts(tmp_path / "nothing")


def test_a_hub_data_set_without_a_network_is_a_data_error():
    with pytest.raises(DataError, match=r"owner/name: cannot be loaded from the hub.*Check the name and the network"):
        load_texts("owner/name")


def test_a_card_of_the_hub_without_a_network_is_a_data_error():
    with pytest.raises(DataError, match="mteb/banking77: cannot be loaded from the hub"):
        load_texts("banking77")


def test_a_card_without_a_hub_data_set_asks_for_a_data_root(tmp_path):
    with pytest.raises(DataError, match=r"card huffpost: no public hub data set.*--data-root or FEWTEXT_DATA_ROOT"):
        load_texts("huffpost", data_root=tmp_path)


def test_a_hub_data_set_is_asked_for_by_id_config_and_revision(hub):
    assert pairs(load_texts("owner/name", config="small", revision="abc")) == [("a", "x"), ("b", "y"), ("c", "x")]
    assert hub.asked == [("owner/name", "small", "abc")]


def test_an_unknown_configuration_is_a_data_error(hub):
    def refuse(_):
        raise ValueError("BuilderConfig 'smal' not found. Available: ['small']")

    hub.answer = refuse
    with pytest.raises(DataError, match=r"owner/name.*'smal' not found"):
        load_texts("owner/name", config="smal")


def test_a_data_set_with_a_loading_script_is_read_from_its_parquet_copy(hub):
    def answer(revision):
        if revision != "refs/convert/parquet":
            raise RuntimeError("Dataset scripts are no longer supported, but found name.py")
        return datasets.DatasetDict(train=dataset())

    hub.answer = answer
    assert pairs(load_texts("owner/name", config="plus")) == [("a", "x"), ("b", "y"), ("c", "x")]
    assert hub.asked == [("owner/name", "plus", None), ("owner/name", "plus", "refs/convert/parquet")]


def test_other_failures_of_the_hub_are_not_taken_for_loading_scripts(hub):
    def fail(_):
        raise RuntimeError("something else")

    hub.answer = fail
    with pytest.raises(RuntimeError, match="something else"):
        load_texts("owner/name")
    assert len(hub.asked) == 1


def test_a_card_maps_the_columns_and_row_splits_of_its_hub_data_set(hub):
    def part(*rows):
        return datasets.Dataset.from_dict({"text": ["wrong"] * len(rows), "utt": list(rows), "intent": ["x", "oos"]})

    parts = datasets.DatasetDict(tr=part("a", "b"), te=part("c", "d"), junk=part("e", "f"))
    hub.answer = lambda revision: parts
    card = toy_card({"train": "tr", "validation": None, "test": "te"}, out_of_scope_label="oos")
    texts = load_texts(card)
    assert (texts.name, pairs(texts), texts.out_of_scope) == ("toy", [("a", "x"), ("c", "x")], ("b", "d"))
    assert (texts.partition, texts.part("test").out_of_scope) == (("train", "test"), ("d",))
    assert texts.about == card.about != ""
    assert hub.asked == [("me/toy", "en", "abc")]


def test_a_row_split_of_a_card_can_be_asked_for(hub):
    parts = {name: datasets.Dataset.from_dict({"utt": [name], "intent": ["x"]}) for name in ("tr", "te")}
    hub.answer = lambda revision: datasets.DatasetDict(parts)
    assert load_texts(toy_card({"train": "tr", "test": "te"}), split="test").texts == ("te",)
