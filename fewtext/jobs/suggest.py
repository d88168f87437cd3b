"""Say which unlabelled texts to label next."""

from __future__ import annotations

import csv
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fewtext.classifier import FewShotClassifier
from fewtext.classifier.suggesting import Candidate
from fewtext.data.stream import stream_texts
from fewtext.files import whole_or_absent
from fewtext.jobs.options import check_file
from fewtext.suggest import Strategy

logger = logging.getLogger("fewtext")


@dataclass(frozen=True)
class Suggest:
    """Say which unlabelled texts to label next: typical of much that the classifier does not know yet.

    Attributes:
        classifier: folder or hub id of a classifier; best one that was saved with its texts.
        file: the unlabelled texts: a csv, tsv, json, jsonl, parquet or plain text file (one text a line).
        count: how many.
        strategy: `mixed` weighs texts by the classifier's doubt, `coverage` all alike, `margin` takes only the most
            doubtful, `unknown` looks for classes that are not there yet.
        text_column: column of the texts in a table.
        seed: of the random choice from more than 8,192 texts.
        out: a csv file to write, with the columns text, label (the best guess, to be corrected, several
            with `;`), reason and row.
        json: print as JSON.
    """

    classifier: Annotated[str, tyro.conf.Positional]
    file: Annotated[str, tyro.conf.Positional]
    count: int = 10
    strategy: Strategy = "mixed"
    text_column: str | None = None
    seed: int = 0
    out: Path | None = None
    json: bool = False


def suggest(options: Suggest) -> list[Candidate]:
    """Return the texts to label, and write them if there is a file to write.

    Raises:
        ArtifactError: no such classifier.
        DataError: texts that cannot be read or used, or a file to write that cannot be, or is the one read.
    """
    if options.out is not None:
        check_file(options.out, options.file)
    classifier = FewShotClassifier.from_pretrained(options.classifier)
    if classifier._state().supports is None:
        logger.warning(
            "%s was saved without its texts, so texts that it was fitted to may be among the suggestions. "
            "Save it with `fewtext fit … --include-texts`.",
            options.classifier,
        )
    texts = list(stream_texts(options.file, text_column=options.text_column))
    found = classifier.suggest(texts, options.count, strategy=options.strategy, seed=options.seed)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with whole_or_absent(options.out) as staging, staging.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label", "reason", "row"])
            guesses = classifier.predict([own.text for own in found]).tolist() if found else []
            labels = (";".join(map(str, own)) for own in guesses) if classifier.several_ else guesses
            writer.writerows([own.text, label, own.reason, own.row] for own, label in zip(found, labels, strict=True))
    return found
