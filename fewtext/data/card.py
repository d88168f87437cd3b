"""Data cards: one Markdown file per data set, whose YAML front matter is the only description."""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import metadata_load

from fewtext.errors import DataError

TASKS = ("intent", "topic", "sentiment")
HUB_KEYS = ("id", "config", "revision", "unverified", "text_column", "label_column", "splits")
DATA_FILES = ("data.parquet", "data.jsonl")


@cache
def cards_folder() -> Path:
    """Return the folder of the cards: inside an installed package, beside it in an editable install."""
    package = Path(__file__).parents[1]
    return next(path for path in (package / "data_cards", package.parent / "data_cards") if path.is_dir())


@dataclass(frozen=True)
class DataCard:
    """What is known about a data set; the fields are the keys of the front matter.

    Attributes:
        name: name of the card and of its folder under a data root.
        title: the data set's own name.
        task: `intent`, `topic` or `sentiment`.
        language: codes of the languages of the texts.
        licence: SPDX id, or `unknown`.
        commercial_use: whether commercial use is allowed; None where that is not established.
        publish_models: whether a model trained on the texts may be pushed to a public hub.
        citation: what to cite.
        hub: `id`, `config`, `revision` (a checked commit or None), `unverified`, `text_column`,
            `label_column`, `splits` of the hub data set.
        row_split: `official` (a `split` column), `fold` (a `fold` column) or `none`.
        test_fold: with `row_split: fold`, the fold that serves as test.
        out_of_scope_label: label of texts that belong to no class.
        class_splits: `source` and `count` of the published class splits.
        label_noise: what is known about wrong labels.
        overlaps: cards that share texts with this one.
        embedded: whether the data lie beside the card, in the package.
        about: what the texts are about, in a sentence; older cards need not say.
    """

    name: str
    title: str
    task: str
    language: tuple[str, ...]
    licence: str
    commercial_use: bool | None
    publish_models: bool
    citation: str
    hub: dict[str, Any]
    row_split: str
    test_fold: int | None
    out_of_scope_label: str | None
    class_splits: dict[str, Any]
    label_noise: str | None
    overlaps: tuple[str, ...]
    embedded: bool
    about: str = ""

    @staticmethod
    def names() -> list[str]:
        """Return the names of all cards."""
        return sorted(path.stem for path in cards_folder().glob("*.md") if path.stem != "README")

    @classmethod
    def read(cls, card: str | Path) -> DataCard:
        """Read a card by its name, or any Markdown file in the same form.

        Raises:
            DataError: an unknown card, or front matter with missing, unknown or wrong entries.
        """
        path = Path(card) if str(card).endswith(".md") else cards_folder() / f"{card}.md"
        if not path.is_file():
            close = difflib.get_close_matches(str(card), cls.names(), n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise DataError(f"no card {str(card)!r}.{hint} Cards: {', '.join(cls.names())}.")
        try:
            entries: dict[str, Any] = {"about": ""} | (metadata_load(path) or {})
        except (ValueError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"card {path.name}: its front matter cannot be read ({reason}).") from error
        known = [field.name for field in fields(cls)]
        if wrong := sorted(set(known) ^ set(entries)):
            state = "is missing" if wrong[0] in known else "is not known"
            raise DataError(f"card {path.name}: {wrong[0]!r} {state}. The front matter has the keys {known}.")
        if entries["row_split"] not in ("official", "fold", "none"):
            raise DataError(f"card {path.name}: row_split must be official, fold or none.")
        if entries["name"] != path.stem:
            raise DataError(f"card {path.name}: name is {entries['name']!r}, which is not the file's name.")
        if entries["task"] not in TASKS:
            raise DataError(f"card {path.name}: task is {entries['task']!r}; it must be one of {', '.join(TASKS)}.")
        for key, keys in (("hub", HUB_KEYS), ("class_splits", ("source", "count"))):
            if not isinstance(entries[key], dict) or set(entries[key]) != set(keys):
                raise DataError(f"card {path.name}: {key} must have exactly the keys {', '.join(keys)}.")
        if not isinstance(entries["about"], str):
            raise DataError(f"card {path.name}: about must be a sentence, got {entries['about']!r}.")
        for key in ("language", "overlaps"):
            if not isinstance(entries[key], list):
                raise DataError(f"card {path.name}: {key} must be a list, got {entries[key]!r}.")
            entries[key] = tuple(entries[key])
        return cls(**entries)

    def folder(self, data_root: str | Path | None = None) -> Path | None:
        """Return where the data lie: below `data_root`, below FEWTEXT_DATA_ROOT, or beside an embedded card."""
        root = data_root or os.environ.get("FEWTEXT_DATA_ROOT")
        candidates = ([Path(root) / self.name] if root else []) + [cards_folder() / self.name]
        return next((path for path in candidates if path.is_dir()), None)

    def data_file(self, data_root: str | Path | None = None) -> Path | None:
        """Return the local data file, or None where the hub must be asked."""
        folder = self.folder(data_root)
        return next((folder / name for name in DATA_FILES if (folder / name).is_file()), None) if folder else None

    def class_groups(self, split: int, data_root: str | Path | None = None) -> dict[str, list[str]]:
        """Return the class names of published class split number `split`: train, validation and test.

        Raises:
            DataError: no such class split, or its file is not to be found.
        """
        folder = self.folder(data_root)
        file = folder / "splits" / f"{split}.json" if folder else None
        if file is None or not file.is_file():
            raise DataError(
                f"card {self.name}: no file for class split {split}. "
                f"It lies in <data root>/{self.name}/splits/; published: {self.class_splits['count']}."
            )
        return json.loads(file.read_text("utf-8"))
