"""Push a saved learner or classifier to the hub, and the facts about data and results that its card states."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from fewtext.artifact import Artifact
from fewtext.data.card import DataCard
from fewtext.errors import DataError
from fewtext.results import Row

logger = logging.getLogger("fewtext")


@dataclass(frozen=True)
class Push:
    """Push a saved learner or classifier to the hub, as one commit that is checked before and after.

    Attributes:
        artifact: folder of a meta-trained learner, its run, or a classifier.
        repo_id: owner/name on the hub; the owner is you or an organisation.
        style: `adapter` is small and names its base, `merged` stands alone; by default adapter for a learner where
            that is possible, merged for a classifier.
        onnx: also export a merged classifier to ONNX, in full precision or with a smaller copy in int8.
        include_texts: push the texts that a classifier was saved with, too; by default they stay at home.
        branch: push there, and make it if need be.
        private: make a new repository private.
        tag: give the commit this tag.
        message: of the commit.
        results: results of `fewtext test` (JSON) for the card.
        licence: licence of the model, for the card.
        allow_data: push even if the card of the data says that models trained on them may not be published.
    """

    artifact: Annotated[str, tyro.conf.Positional]
    repo_id: Annotated[str, tyro.conf.Positional]
    style: Literal["adapter", "merged"] | None = None
    onnx: Literal["fp32", "int8"] | None = None
    include_texts: bool = False
    branch: str | None = None
    private: bool = False
    tag: str | None = None
    message: str = "Push a fewtext model"
    results: tuple[Path, ...] = ()
    licence: str | None = None
    allow_data: bool = False


def push(options: Push) -> str:
    """Push, and return the commit.

    Raises:
        ArtifactError: nothing to push, or not allowed; HubError where the hub is the reason.
        DataError: results that are no results.
    """
    artifact = Artifact.from_pretrained(options.artifact)
    facts = dict(artifact.facts)
    for file in options.results:
        facts["results"] = [*facts.get("results", []), *_read_results(file)]
    if options.licence is not None:
        facts["licence"] = options.licence
    texts = artifact.texts if options.include_texts else None
    if texts is not artifact.texts:
        logger.info("%s: its texts stay at home. --include-texts pushes them, too.", options.artifact)
    return replace(artifact, facts=facts, texts=texts).push_to_hub(
        options.repo_id,
        style=options.style,
        onnx=options.onnx,
        allow_data=options.allow_data,
        branch=options.branch,
        private=options.private or None,
        tag=options.tag,
        message=options.message,
    )


def data_facts(names: Iterable[str], split: int | None = None) -> dict[str, Any]:
    """Return what a model card says about data, given as names of data cards or files."""
    known, names = DataCard.names(), [Path(name).name for name in names]
    cards = [DataCard.read(name) for name in names if name in known]
    entries = ("name", "title", "licence", "publish_models", "commercial_use", "citation")
    return {
        "sources": names,
        "split": split,
        "cards": [
            {key: getattr(card, key) for key in entries} | {"language": list(card.language), "hub": card.hub["id"]}
            for card in cards
        ],
    }


def result_facts(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return measured numbers as a model card shows them."""
    return [{"name": r.name, "value": r.value, "half": r.ci95, "unit": r.unit, "n": r.n} for r in rows]


def _read_results(file: Path) -> list[dict[str, Any]]:
    try:
        rows = [Row(**row) for row in json.loads(file.read_text("utf-8"))["rows"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{file.name}: these are no results of fewtext ({type(error).__name__}).") from error
    return result_facts(rows)
