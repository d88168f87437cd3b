"""Texts to classify come from any file, row by row, and what is wrong with one is said with its place."""

import csv
import json
import tracemalloc
from types import SimpleNamespace

import datasets
import pyarrow
import pytest

from fewtext.data.load import load_texts
from fewtext.data.stream import stream_texts
from fewtext.errors import DataError

TEXTS = ["007", "it's, um, lost", "NA", 'say "no"', "2024-01-01"]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def written(path, texts, column="text"):
    if path.suffix == ".parquet":
        datasets.Dataset.from_dict({"id": list(range(len(texts))), column: texts}).to_parquet(path)
    elif path.suffix == ".jsonl":
        lines = [json.dumps({"id": row, column: text}) for row, text in enumerate(texts)]
        path.write_text("\n".join(lines) + "\n\n", "utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps([{column: text} for text in texts]), "utf-8")
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            csv.writer(file, delimiter="," if path.suffix == ".csv" else "\t").writerows(
                [("id", column), *enumerate(texts)]
            )
    else:
        path.write_text("\ufeff" + "\n\n".join(texts) + "\n", "utf-8")
    return path


NAMES = ["new.csv", "new.tsv", "new.jsonl", "new.json", "new.parquet", "new.txt", "new"]


@pytest.mark.parametrize("name", NAMES)
def test_every_format_gives_the_texts_as_they_are_and_in_order(tmp_path, name):
    assert list(stream_texts(written(tmp_path / name, TEXTS))) == TEXTS


@pytest.mark.parametrize("name", NAMES[:5])
def test_the_column_is_chosen_or_named(tmp_path, name):
    path = written(tmp_path / name, TEXTS, column="body")
    assert list(stream_texts(path, text_column="body")) == TEXTS
    with pytest.raises(DataError, match=r"no text column; the columns are .*'body'"):
        next(stream_texts(path))
    with pytest.raises(DataError, match="no text column 'words'"):
        next(stream_texts(path, text_column="words"))


def test_a_folder_is_read_file_by_file(tmp_path):
    for name in ("b.csv", "a.jsonl", "c.parquet"):
        written(tmp_path / name, [f"{name} 1", f"{name} 2"])
    (tmp_path / "README.md").write_text("no data")
    assert list(stream_texts(tmp_path)) == [
        f"{name} {n}" for name in ("a.jsonl", "b.csv", "c.parquet") for n in (1, 2)
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no file in this folder"):
        next(stream_texts(tmp_path / "empty"))


def test_a_data_set_of_the_hub_is_read_split_by_split(monkeypatch):
    parts = {
        name: datasets.Dataset.from_dict({"utt": [f"{name} {n}" for n in range(3)]}) for name in ("train", "test")
    }
    monkeypatch.setattr(
        "fewtext.data.load.datasets.load_dataset", lambda name, config, revision: datasets.DatasetDict(parts)
    )
    assert list(stream_texts("owner/name")) == [f"{name} {n}" for name in ("train", "test") for n in range(3)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", b"fine\n\xff\xfe", "cannot be read .*utf-8"),
        ("x.jsonl", b'{"text": "a"}\n{"text": \n', "x.jsonl, line 2: no JSON"),
        ("x.jsonl", b'{"text": "a"}\n\n["b"]\n', "x.jsonl, line 3: an object is needed, got list"),
        ("x.jsonl", b'{"text": "a"}\n{"tex": "b"}\n', "x.jsonl, line 2: no text column 'text'"),
        ("x.jsonl", b'{"text": "a"}\n{"text": null}\n', "x.jsonl, row 1: the text: a text must be a string"),
        ("x.csv", b"text,label\na,1\n,2\n", "x.csv, row 1: the text is empty"),
        ("x.csv", b"text\na,1\nb,2\n", "more fields than the header"),
        ("x.csv", b"text,label\na,1\nb,2,3\n", "cannot be read .*line 3.*in quotes"),
        ("x.csv", b"text,label\nvoil\xe0,1\n", "x.csv: cannot be read .*Save it as UTF-8"),
        ("x.csv", b"", "cannot be read"),
        ("x.parquet", b"PAR1 not really", "cannot be read"),
        ("x.xlsx", b"", "cannot read .xlsx"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(stream_texts(tmp_path / name))


def test_what_is_not_there_is_said(tmp_path):
    for name in ("no/such.txt", "such.csv", "nothing"):
        with pytest.raises(DataError, match="no such file"):
            next(stream_texts(name))


@pytest.mark.parametrize("name", ["big.csv", "big.jsonl", "big.txt", "big.parquet"])
def test_a_large_file_is_never_held(tmp_path, name):
    path = written(tmp_path / name, [f"{row} " + 300 * "long " for row in range(20_000)])  # 30 MB
    stream = stream_texts(path)
    next(stream)
    before = pyarrow.total_allocated_bytes()
    tracemalloc.start()
    seen = SimpleNamespace(count=1, arrow=0)
    for _ in stream:
        seen.count += 1
        seen.arrow = max(seen.arrow, pyarrow.total_allocated_bytes() - before)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen.count == 20_000
    assert peak < 20e6
    assert seen.arrow < 20e6


def test_texts_are_those_that_load_texts_reads(tmp_path):
    path = tmp_path / "both.csv"
    path.write_text('text,label\n"a, b",x\nNA,y\n')
    assert tuple(stream_texts(path)) == load_texts(path).texts
