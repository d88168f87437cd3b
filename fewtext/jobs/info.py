"""Describe what is there, and say which source of episodes is worth meta-training on."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import tyro

from fewtext.artifact import describe, is_artifact
from fewtext.bases import load_base
from fewtext.classifier import FewShotClassifier
from fewtext.data.card import DataCard
from fewtext.data.texts import LabeledTexts
from fewtext.errors import DataError
from fewtext.jobs.options import Data
from fewtext.learners import LEARNERS
from fewtext.nn.pretrained import best_local_base
from fewtext.results import PACKAGES
from fewtext.similarity import SPREAD, Similarity, similarities


@dataclass(frozen=True)
class Info:
    """Describe an artifact without loading its weights, or a data card; without one, what is installed.

    With `similarity`: compare labelled texts with sources of episodes, and say whether meta-training on the training
    classes of these is worth trying.

    Attributes:
        artifact: folder or hub id of a meta-trained learner or a classifier, or the name of a data card; with
            `similarity`, the labelled texts: a file, a folder, a hub id, a data card, or a classifier that was saved
            with its texts.
        similarity: data cards, files, folders or hub ids that could be meta-trained on; none stand for all data
            cards whose data are on this machine.
        base: folder of a meta-trained learner, folder or hub id of an encoder; by default the best one here.
        split: number of the sources' class split.
        text_column: column of the texts in files and hub data sets.
        label_column: column of the labels, likewise.
        data_root: folder in which data cards find their data.
        json: print the comparison as JSON.
    """

    artifact: Annotated[str | None, tyro.conf.Positional] = None
    similarity: tuple[str, ...] | None = None
    base: str | None = None
    split: int = 1
    text_column: str | None = None
    label_column: str | None = None
    data_root: Path | None = None
    json: bool = False


def info(options: Info) -> str | Any:
    """Return text, or what is to be printed as JSON.

    Raises:
        ArtifactError: no such artifact.
        DataError: texts that cannot be read, or a classifier that was saved without them.
        EncoderError: no usable base.
    """
    if options.similarity is not None:
        return _similarity(options)
    if options.artifact is None:
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
        return (
            f"{versions}, Python {platform.python_version()}\n"
            f"learners: {', '.join(sorted(LEARNERS))}\n"
            f"data cards: {', '.join(DataCard.names())}"
        )
    if options.artifact in DataCard.names():
        return vars(DataCard.read(options.artifact))
    description = describe(options.artifact)
    return {"heads": _heads(description)} | description


def _similarity(options: Info) -> str | Any:
    if options.artifact is None:
        raise DataError("--similarity compares labelled texts with sources. Name the texts first: a file or a card.")
    names = options.similarity or _at_hand(options)
    data = Data(names, options.split, options.data_root, options.text_column, options.label_column)
    learner = load_base(options.base or best_local_base())
    target = _texts_of(options.artifact) if is_artifact(options.artifact) else data.load(options.artifact)
    found = similarities(target, data.parts()["train"], learner.encoder)
    if options.json:
        more = ("expected_gain", "verdict")
        return [
            asdict(source) | {name: getattr(source, name) for name in more} | {"spread": SPREAD} for source in found
        ]
    return f"{target.name}: {len(target)} texts of {len(target.classes)} classes\n\n{_table(found)}"


def _texts_of(folder: str) -> LabeledTexts:
    """Return the texts that a classifier was fitted to."""
    own = FewShotClassifier.from_pretrained(folder).supports_
    return LabeledTexts.of(own.texts, own.labels, name=Path(folder).name, descriptions=own.descriptions)


def _at_hand(options: Info) -> tuple[str, ...]:
    """Return the other data cards whose data are here, and have classes enough to be split."""
    cards = [DataCard.read(name) for name in DataCard.names() if name != options.artifact]
    return tuple(card.name for card in cards if card.class_splits["count"] and card.data_file(options.data_root))


def _table(found: Sequence[Similarity]) -> str:
    lines = ["| meta-train on | classes | nearness | shared | expected gain, points | |", "|---|--:|--:|--:|--:|---|"]
    lines += [
        f"| {own.source} | {own.classes} | {own.nearness:.2f} | {own.shared:.2f} "
        f"| {own.expected_gain:+.1f} ± {SPREAD:.1f} | {own.verdict} |"
        for own in found
    ]
    return "\n".join(lines)


def _heads(description: Mapping[str, Any]) -> dict[str, str]:
    """Return the heads by `method`: those that a base brings, or the one that a classifier has."""
    learner, settings = (description.get(key) for key in ("learner", "settings"))  # a stranger's may be anything
    name = str(learner.get("name")) if isinstance(learner, dict) else ""
    own = (LEARNERS[name].__doc__ or "").split("State:")[0].strip() if name in LEARNERS else "unknown to this fewtext"
    heads = {"linear": "logistic regression on its embeddings", "prototype": f"that of the learner {name}: {own}"}
    method = settings.get("method") if isinstance(settings, dict) else None
    return {method: heads[method]} if method in ("linear", "prototype") else heads
