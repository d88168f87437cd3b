"""Turn whatever a user has into `LabeledTexts`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import datasets
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from huggingface_hub.errors import HfHubHTTPError

from fewtext.data.card import DataCard
from fewtext.data.tables import TABLES, read_table
from fewtext.data.texts import LabeledTexts
from fewtext.errors import DataError

Source: TypeAlias = (
    str | Path | LabeledTexts | DataCard | datasets.Dataset | datasets.DatasetDict | tuple[Sequence, Sequence]
)

TEXT_COLUMNS = ("text", "utterance", "utt", "sentence", "query", "question", "content", "title")
LABEL_COLUMNS = ("label_text", "intent", "label", "category", "class", "topic", "label_name")
ROW_SPLITS = {"valid": "validation", "val": "validation", "dev": "validation"}
SUFFIXES = (*TABLES, ".json", ".jsonl", ".parquet")


def load_texts(
    source: Source,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    paraphrase_columns: Sequence[str] = (),
    split: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    out_of_scope_label: str | None = None,
    descriptions: Mapping[str, str] | None = None,
    data_root: str | Path | None = None,
) -> LabeledTexts:
    """Load labelled texts from nearly anything.

    A card names its own columns, out-of-scope label and revision: those arguments have no effect on it.

    Args:
        source: a card's name, a csv/tsv/json/jsonl/parquet file or a folder of them, a hub id, a
            `datasets.Dataset` or `DatasetDict`, or a pair `(texts, labels)`.
        text_column: column of the texts; guessed from `TEXT_COLUMNS` by default.
        label_column: column of the labels (ClassLabel, string or integer); guessed from `LABEL_COLUMNS`.
        paraphrase_columns: columns of other ways to say the text, one in a cell, or a list; it may be empty.
        split: only this row split; by default all, each text remembering its own.
        config: configuration of a hub data set.
        revision: commit, branch or tag of a hub data set.
        out_of_scope_label: label of texts that belong to no class.
        descriptions: words for a class that say more than its name.
        data_root: folder in which cards find their data before they ask the hub.

    Raises:
        DataError: nothing of that name, a missing column, texts or labels that cannot be used, no network.
    """
    if isinstance(source, LabeledTexts):
        source = source if descriptions is None else replace(source, descriptions=dict(descriptions))
        return source if split is None else source.part(split)
    if isinstance(source, tuple):
        return LabeledTexts.of(*source, out_of_scope_label=out_of_scope_label, descriptions=descriptions)
    if isinstance(source, DataCard) or (isinstance(source, str) and source in DataCard.names()):
        texts = card_texts(source if isinstance(source, DataCard) else DataCard.read(source), data_root)
        texts = texts if descriptions is None else replace(texts, descriptions=dict(descriptions))
        return texts if split is None else texts.part(split)
    if isinstance(source, datasets.Dataset | datasets.DatasetDict):
        rows, name = source, "dataset"
    else:
        rows, name = read_rows(str(source), config, revision), Path(str(source)).name
    if isinstance(rows, datasets.Dataset):
        rows = datasets.DatasetDict({"all": rows})
    parts = [(ROW_SPLITS.get(str(key), str(key)), part) for key, part in rows.items()]
    names = {key for key, _ in parts}
    if split is not None and split not in names:
        raise DataError(f"{name}: no {split!r} rows; the row splits are {sorted(names)}.")
    texts, labels, partition = [], [], []
    paraphrases: dict[str, tuple[str, ...]] = {}
    for key, part in [(key, part) for key, part in parts if split in (None, key)]:
        new_texts, new_labels = _columns(part, text_column, label_column, name)
        texts += new_texts
        labels += new_labels
        partition += [key] * len(new_texts)
        for column in paraphrase_columns:
            cells = part[choose_column(part.column_names, "paraphrase", column, name)][:]
            for text, cell in zip(new_texts, cells, strict=True):
                paraphrases[text] = (*paraphrases.get(text, ()), *_ways(cell, f"{name}, column {column!r}"))
    loaded = LabeledTexts.of(
        texts,
        labels,
        name=name,
        out_of_scope_label=out_of_scope_label,
        partition=partition if len(names) > 1 and split is None else None,
        descriptions=descriptions,
    )
    return replace(loaded, paraphrases={text: ways for text, ways in paraphrases.items() if ways})


def card_texts(card: DataCard, data_root: str | Path | None = None) -> LabeledTexts:
    """Load the texts a card describes: from the data root, from the card's own folder, or from the hub.

    Raises:
        DataError: the data are not in the data root and cannot be had from the hub.
    """
    file = card.data_file(data_root)
    if file is None:
        if card.hub["id"] is None:
            raise DataError(
                f"card {card.name}: no public hub data set is known to equal it. Put the data in "
                f"<data root>/{card.name}/data.parquet and give --data-root or FEWTEXT_DATA_ROOT."
            )
        named = {hub: official for official, hub in card.hub["splits"].items() if hub}
        rows = read_rows(card.hub["id"], card.hub["config"], card.hub["revision"])
        rows = datasets.DatasetDict({named[key]: part for key, part in rows.items() if key in named})
        columns = {"text_column": card.hub["text_column"], "label_column": card.hub["label_column"]}
        loaded = load_texts(rows, out_of_scope_label=card.out_of_scope_label, **columns)
        return replace(loaded, name=card.name, about=card.about)
    rows = read_rows(str(file))["train"]
    partition = None
    if card.row_split == "official":
        partition = list(rows["split"][:])
    elif card.row_split == "fold":
        partition = ["test" if fold == card.test_fold else "train" for fold in rows["fold"][:]]
    loaded = LabeledTexts.of(
        rows["text"][:],
        rows["label"][:],
        name=card.name,
        out_of_scope_label=card.out_of_scope_label,
        partition=partition,
    )
    return replace(loaded, about=card.about)


def read_rows(source: str, config: str | None = None, revision: str | None = None) -> datasets.DatasetDict:
    """Read the rows of a file, a folder or a hub data set, by row split.

    Raises:
        DataError: nothing of that name, or not to be read.
    """
    path = Path(source)
    try:
        if path.is_file():
            return datasets.DatasetDict({"train": _read_file(path)})
        if path.is_dir():
            return _read_folder(path)
        if source.count("/") != 1 or path.suffix in SUFFIXES:
            close = difflib.get_close_matches(source, DataCard.names(), n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise DataError(
                f"{source}: no such file, folder or card.{hint} Cards: {', '.join(DataCard.names())}; "
                "a hub data set is written owner/name."
            )
        try:
            return datasets.load_dataset(source, config, revision=revision)
        except RuntimeError as error:
            if "scripts are no longer supported" not in str(error):
                raise
            # The hub keeps a Parquet copy of most data sets that only had a loading script.
            return datasets.load_dataset(source, config, revision="refs/convert/parquet")
    except (
        OSError,
        ValueError,
        StopIteration,
        HfHubHTTPError,
        DatasetNotFoundError,
        DatasetGenerationError,
    ) as error:
        if isinstance(error, DataError):
            raise
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if path.exists():
            raise DataError(f"{source}: cannot be read ({reason}). Is it what its name says?") from error
        raise DataError(
            f"{source}: cannot be loaded from the hub ({reason}). "
            "Check the name and the network, or give a local file."
        ) from error


def _read_folder(path: Path) -> datasets.DatasetDict:
    """Read the files of a folder, each a row split of its own but for the shards `name-00000-of-00002` of one."""
    files: dict[str, list[Path]] = {}
    for file in sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES):
        files.setdefault(re.sub(r"-\d+-of-\d+$", "", file.stem), []).append(file)
    if not files:
        raise DataError(f"{path.name}: no file in this folder ends in one of {', '.join(SUFFIXES)}.")
    for parts in files.values():
        if len({file.suffix for file in parts}) > 1 or len({file.stem for file in parts}) < len(parts):
            names = " and ".join(file.name for file in parts)
            raise DataError(f"{path.name}: {names} would be the same row split. Keep one of them.")
    return datasets.DatasetDict(
        {name: datasets.concatenate_datasets([_read_file(file) for file in parts]) for name, parts in files.items()}
    )


def _read_file(path: Path) -> datasets.Dataset:
    if path.suffix in TABLES:
        return datasets.Dataset.from_pandas(next(read_table(path)), preserve_index=False)
    if path.suffix in SUFFIXES:
        kind = "parquet" if path.suffix == ".parquet" else "json"
        return datasets.load_dataset(kind, data_files=str(path), split="train")
    raise DataError(
        f"{path.name}: cannot read {path.suffix or 'a file without suffix'}; known: {', '.join(SUFFIXES)}."
    )


def _columns(rows: datasets.Dataset, text: str | None, label: str | None, name: str) -> tuple[list, list]:
    names = rows.column_names
    text, label = choose_column(names, "text", text, name), choose_column(names, "label", label, name)
    texts, labels, feature = rows[text][:], rows[label][:], rows.features[label]
    if isinstance(feature, datasets.ClassLabel):
        labels = [None if value is None or value < 0 else feature.int2str(value) for value in labels]
    return list(texts), list(labels)


def _ways(cell: Any, where: str) -> list[str]:
    """Return the paraphrases in a cell."""
    ways = [] if cell is None else cell if isinstance(cell, list) else [cell]
    if wrong := [way for way in ways if not isinstance(way, str)]:
        raise DataError(f"{where}: a paraphrase must be a string, got {type(wrong[0]).__name__}.")
    return [way for way in ways if way.strip()]


def choose_column(
    names: Sequence[str], role: Literal["text", "label", "paraphrase"], wanted: str | None, where: str
) -> str:
    """Return the column that is wanted, or else the first of the usual ones that is there.

    Raises:
        DataError: there is none.
    """
    usual = TEXT_COLUMNS if role == "text" else LABEL_COLUMNS
    found = wanted if wanted is not None else next((column for column in usual if column in names), None)
    if found is None or found not in names:
        argument = f"{role}_columns" if role == "paraphrase" else f"{role}_column"
        raise DataError(
            f"{where}: no {role} column{f' {wanted!r}' if wanted else ''}; the columns are {list(names)}. "
            f"Name it with {argument}, --{argument.replace('_', '-')} on the command line."
        )
    return found
