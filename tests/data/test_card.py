"""Data cards: what is written is complete and right, and the data are found where they lie."""

import json

import datasets
import pytest
import yaml
from conftest import SHARED
from huggingface_hub import metadata_load

from fewtext.data.card import DataCard, cards_folder
from fewtext.data.load import load_texts
from fewtext.data.texts import class_disjoint
from fewtext.errors import DataError

pytestmark = pytest.mark.usefixtures("own_cache")

NAMES = DataCard.names()
SPLIT = [name for name in NAMES if DataCard.read(name).class_splits["count"] and not DataCard.read(name).embedded]
FRONT_MATTER = metadata_load(cards_folder() / "massive.md")
ROWS = {"text": list("abcdef"), "label": list("xyzxyz"), "split": ["train"] * 3 + ["test"] * 3, "fold": [1, 2, 3] * 2}
GROUPS = {"train": ["x"], "validation": ["y"], "test": ["z"]}


@pytest.fixture
def root(tmp_path):
    """A data root with the data set `toy` and its class split 1."""
    folder = tmp_path / "root" / "toy"
    (folder / "splits").mkdir(parents=True)
    datasets.Dataset.from_dict(ROWS).to_parquet(folder / "data.parquet")
    (folder / "splits" / "1.json").write_text(json.dumps(GROUPS), "utf-8")
    return tmp_path / "root"


def write_card(folder, **changes):
    """Write the card of a data set `toy`: MASSIVE's front matter with some entries changed, or left out if ..."""
    entries = FRONT_MATTER | {"name": "toy"} | changes
    path = folder / "toy.md"
    path.write_text(f"---\n{yaml.safe_dump({key: entries[key] for key in entries if entries[key] is not ...})}---\n")
    return path


@pytest.fixture
def toy_card(tmp_path):
    return DataCard.read(write_card(tmp_path))


def here(*names):
    """Run a test on the texts of those cards whose data are here; `data_root` says so where none are."""
    found = [name for name in names if (SHARED / name).is_dir() or not SHARED.is_dir()]
    return pytest.mark.parametrize("texts", found, indirect=True)


@pytest.fixture
def texts(request, data_root):
    return load_texts(request.param, data_root=data_root)


@pytest.mark.parametrize("name", NAMES)
def test_every_card_is_complete(name):
    card = DataCard.read(name)
    assert card.task in ("intent", "topic", "sentiment")
    assert set(card.hub) == {"id", "config", "revision", "unverified", "text_column", "label_column", "splits"}
    assert set(card.hub["splits"]) == {"train", "validation", "test"}
    assert set(card.class_splits) == {"source", "count"}
    assert card.language
    assert min(map(len, card.language)) >= 2
    assert card.about.endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_a_card_with_a_hub_data_set_names_its_columns_and_row_splits(name):
    hub = DataCard.read(name).hub
    assert hub["id"] is None or (hub["text_column"] and hub["label_column"] and any(hub["splits"].values()))


@pytest.mark.parametrize("name", NAMES)
def test_only_a_card_with_folds_has_a_test_fold(name):
    card = DataCard.read(name)
    assert (card.test_fold is not None) == (card.row_split == "fold")


@pytest.mark.parametrize("name", NAMES)
def test_models_are_published_only_where_the_licence_is_known(name):
    card = DataCard.read(name)
    assert not (card.publish_models and (card.licence == "unknown" or not card.commercial_use))


def test_overlaps_are_mutual():
    pairs = {(name, other) for name in NAMES for other in DataCard.read(name).overlaps}
    assert pairs == {(other, name) for name, other in pairs}


def test_a_card_may_be_any_markdown_file(tmp_path):
    card = DataCard.read(write_card(tmp_path, title="Mine", overlaps=["sst5"]))
    assert (card.name, card.title, card.language, card.overlaps) == ("toy", "Mine", ("en",), ("sst5",))


def test_a_card_of_before_need_not_say_what_its_texts_are_about(tmp_path):
    assert DataCard.read(write_card(tmp_path, about=...)).about == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licence": ...}, "'licence' is missing"),
        ({"license": "MIT"}, "'license' is not known"),
        ({"row_split": "maybe"}, "row_split must be official, fold or none"),
        ({"name": "other"}, "name is 'other', which is not the file's name"),
        ({"task": "cooking"}, "task"),
        ({"language": "en"}, "language"),
        ({"overlaps": None}, "overlaps"),
        ({"about": None}, "about must be a sentence"),
        ({"hub": {"id": "owner/name"}}, "hub"),
        ({"class_splits": None}, "class_splits"),
    ],
    ids=str,
)
def test_wrong_entries_are_refused_by_name(changes, message, tmp_path):
    with pytest.raises(DataError, match=f"card toy.md: .*{message}"):
        DataCard.read(write_card(tmp_path, **changes))


@pytest.mark.parametrize("text", ["# no front matter", "---\ntitle: [SST\n---\n", "---\n- a\n- list\n---\n"])
def test_a_file_without_proper_front_matter_is_refused(text, tmp_path):
    (tmp_path / "toy.md").write_text(text, "utf-8")
    with pytest.raises(DataError, match=r"toy\.md"):
        DataCard.read(tmp_path / "toy.md")


def test_an_unknown_card_is_refused_with_a_close_one():
    with pytest.raises(DataError, match=r"no card 'bankng77'\. Did you mean banking77\? Cards: banking77, clinc150"):
        DataCard.read("bankng77")


def test_an_unknown_card_like_no_other_is_refused_with_the_cards_there_are():
    with pytest.raises(DataError, match=r"no card 'qqqq'\. Cards: banking77"):
        DataCard.read("qqqq")


def test_class_splits_are_read_from_the_data_root(toy_card, root):
    assert toy_card.class_groups(1, root) == GROUPS


def test_the_data_root_may_be_in_the_environment(toy_card, root, monkeypatch):
    monkeypatch.setenv("FEWTEXT_DATA_ROOT", str(root))
    assert toy_card.class_groups(1) == GROUPS
    assert load_texts(toy_card).texts == tuple("abcdef")


def test_a_given_data_root_wins_over_the_environment(toy_card, root, monkeypatch, tmp_path):
    (tmp_path / "other" / "toy").mkdir(parents=True)
    monkeypatch.setenv("FEWTEXT_DATA_ROOT", str(root))
    assert toy_card.data_file(tmp_path / "other") is None
    assert toy_card.data_file() == root / "toy" / "data.parquet"


def test_data_may_be_lines_of_json(toy_card, tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "data.jsonl").write_text('{"text": "a", "label": "x", "split": "train"}\n', "utf-8")
    assert load_texts(toy_card, data_root=tmp_path).texts == ("a",)


def test_a_missing_class_split_is_refused_with_the_place_it_should_have(toy_card, root):
    with pytest.raises(DataError, match=r"card toy: no file for class split 2\. It lies in <data root>/toy/splits/"):
        toy_card.class_groups(2, root)


def test_class_splits_without_a_data_root_are_refused(toy_card):
    with pytest.raises(DataError, match="no file for class split 1"):
        toy_card.class_groups(1)


def test_official_row_splits_are_the_split_column(tmp_path, root):
    texts = load_texts(DataCard.read(write_card(tmp_path, row_split="official")), data_root=root)
    assert texts.part("test").texts == ("d", "e", "f")


def test_the_test_fold_is_the_test_part(tmp_path, root):
    texts = load_texts(DataCard.read(write_card(tmp_path, row_split="fold", test_fold=2)), data_root=root)
    assert texts.part("test").texts == ("b", "e")
    assert texts.part("train").texts == ("a", "c", "d", "f")


def test_a_card_without_row_splits_ignores_the_columns(tmp_path, root):
    assert load_texts(DataCard.read(write_card(tmp_path, row_split="none")), data_root=root).partition is None


def test_the_out_of_scope_label_of_a_card_is_no_class(tmp_path, root):
    texts = load_texts(DataCard.read(write_card(tmp_path, out_of_scope_label="y")), data_root=root)
    assert (texts.name, texts.classes, texts.out_of_scope) == ("toy", ("x", "z"), ("b", "e"))
    assert texts.part("test").out_of_scope == ("e",)


@here(*SPLIT)
def test_a_real_data_set_loads_and_its_first_class_split_is_disjoint(texts, data_root):
    groups = DataCard.read(texts.name).class_groups(1, data_root)
    parts = class_disjoint(texts, groups)
    assert len({label for part in parts.values() for label in part.classes}) == sum(map(len, groups.values()))
    assert sum(map(len, parts.values())) <= len(texts)


@here("banking77")
def test_banking77_has_its_official_numbers(texts):
    assert (len(texts), len(texts.classes)) == (13083, 77)
    assert (len(texts.part("train")), len(texts.part("test"))) == (10003, 3080)


@here("clinc150")
def test_out_of_scope_texts_of_clinc150_are_kept_apart(texts):
    assert (len(texts.classes), "oos" in texts.classes, len(texts)) == (150, False, 22500)
    assert (len(texts.out_of_scope), len(texts.part("test").out_of_scope)) == (1200, 1000)


@here("hwu64")
def test_the_test_rows_of_hwu64_are_fold_one(texts, data_root):
    rows = datasets.load_dataset("parquet", data_files=str(data_root / "hwu64" / "data.parquet"))["train"]
    assert texts.part("test").texts == tuple(
        text for text, fold in zip(rows["text"], rows["fold"], strict=True) if fold == 1
    )
    assert len(texts.part("test")) == 1076
