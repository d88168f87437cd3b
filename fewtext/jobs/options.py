"""Options that several jobs share, and checks of where they write, before any work is done."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from fewtext.artifact.writing import check_place
from fewtext.data.card import DataCard
from fewtext.data.load import load_texts
from fewtext.data.sampler import EpisodeSpec, parse_count
from fewtext.data.texts import LabeledTexts, class_disjoint
from fewtext.errors import DataError


@dataclass(frozen=True)
class Data:
    """Where texts come from.

    Attributes:
        card: data cards, files, folders or hub ids; several are mixed, an episode draws from one of them.
        split: number of the published class split; sources without one are dealt at random by this number.
        data_root: folder of `<card>/data.parquet` and `<card>/splits/<k>.json` (or FEWTEXT_DATA_ROOT).
        text_column: column of the texts in files and hub data sets; without effect on cards, which name their own.
        label_column: column of the labels, likewise.
    """

    card: tuple[str, ...] = ("everyday",)
    split: int = 1
    data_root: Path | None = None
    text_column: str | None = None
    label_column: str | None = None

    def load(self, source: str) -> LabeledTexts:
        """Return all texts of one source."""
        return load_texts(
            source, text_column=self.text_column, label_column=self.label_column, data_root=self.data_root
        )

    def parts(self) -> dict[str, list[LabeledTexts]]:
        """Return class-disjoint train, validation and test texts of every source."""
        found: dict[str, list[LabeledTexts]] = {"train": [], "validation": [], "test": []}
        for source in self.card:
            published = source in DataCard.names() and DataCard.read(source).class_splits["count"]
            groups = DataCard.read(source).class_groups(self.split, self.data_root) if published else None
            for part, texts in class_disjoint(self.load(source), groups, seed=self.split).items():
                found[part].append(texts)
        return found


@dataclass(frozen=True)
class Episodes:
    """What an episode consists of; each is a number (5), a range (5-10) or all.

    Attributes:
        ways: classes per episode.
        shots: support texts per class.
        queries: query texts per class.
    """

    ways: str = "5"
    shots: str = "1"
    queries: str = "5"

    def spec(self) -> EpisodeSpec:
        """Return them as a specification."""
        return EpisodeSpec(parse_count(self.ways), parse_count(self.shots), parse_count(self.queries))


def check_folder(folder: Path, option: str = "--out") -> None:
    """Raise a DataError where a folder cannot be written to, or made."""
    there = _existing(folder, option)
    try:
        with tempfile.TemporaryDirectory(dir=there):
            pass
    except OSError as error:
        raise DataError(f"{there}: cannot be written to ({error.strerror}). Choose another {option}.") from error


def check_artifact_folder(folder: Path) -> None:
    """Raise where an artifact cannot be saved, before any work.

    Raises:
        ArtifactError: what is there is not to be replaced.
        DataError: a file is in the way, or nothing can be written.
    """
    _existing(folder, "--out")
    check_place(folder)
    check_folder(folder.resolve().parent)  # written beside its place, and renamed


def check_file(out: Path, source: str | None) -> None:
    """Raise a DataError where a file cannot be written, or would be, or lie in, the `source` that is read."""
    check_folder(out.parent)
    if out.is_dir():
        raise DataError(f"{out}: a folder is there. Give --out the name of a file.")
    if out.exists() and not out.is_file():
        raise DataError(f"{out}: no ordinary file, and would be replaced by one. Choose another --out.")
    if source is not None and out.resolve().is_relative_to(Path(source).resolve()):
        raise DataError(f"{out}: this would change what is read from {source}. Choose another --out.")


def _existing(folder: Path, option: str) -> Path:
    """Return the folder, or the nearest one above it that is there; raises a DataError where it is a file."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir():
        raise DataError(f"{there}: a file is there, and a folder is needed. Choose another {option}.")
    return there
