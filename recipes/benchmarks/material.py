"""What the benchmarks are run on: one encoder, and labelled texts with a test part."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fewtext import DataCard, LabeledTexts, load_texts
from fewtext.nn.pretrained import MINILM, locate

SHOTS = 5


@dataclass(frozen=True)
class Material:
    """Encoder and texts.

    Attributes:
        base: folder of the encoder.
        train: texts to learn from, to draw supports and episodes from, and to encode.
        test: further texts of the same classes.
        quick: whether this is a trial run on a few texts.
    """

    base: Path
    train: LabeledTexts
    test: LabeledTexts
    quick: bool = False

    @property
    def supports(self) -> tuple[list[str], list[str]]:
        """Five texts of each class, always the same ones, and their labels."""
        return _columns(self.train.at_most(SHOTS, seed=0))

    def write(self, folder: Path, **more: Any) -> None:
        """Write what both sides of a benchmark read: plain texts and numbers, so that a peer needs no fewtext."""
        parts = {"train": _columns(self.train), "test": _columns(self.test), "supports": self.supports}
        columns = {part: {"texts": texts, "labels": labels} for part, (texts, labels) in parts.items()}
        inputs = {"base": str(self.base), **columns, **more}
        (folder / "inputs.json").write_text(json.dumps(inputs), "utf-8")


def _columns(rows: LabeledTexts) -> tuple[list[str], list[str]]:
    return list(rows.texts), [rows.classes[label] for label in rows.labels]


def load_material(card: str, data_root: Path | None, base: str = MINILM, *, quick: bool = False) -> Material:
    """Return the official rows of a card, or, where its data are not here, the embedded corpus dealt in two."""
    if DataCard.read(card).data_file(data_root) is None:
        print(
            f"{card} is not here (--data-root, FEWTEXT_DATA_ROOT): measuring on `everyday` instead", file=sys.stderr
        )
        card = "everyday"
    texts = load_texts(card, data_root=data_root)
    if texts.partition is None:
        train = texts.at_most(20, seed=0)
        taken = set(train.texts)
        test = texts.rows([row for row, text in enumerate(texts.texts) if text not in taken])
    else:
        train, test = texts.part("train"), texts.part("test")
    if quick:
        few = train.classes[:8]
        train, test = (part.only(few).at_most(number) for part, number in ((train, 30), (test, 10)))
    return Material(locate(base).folder, replace(train, name=card), replace(test, name=card), quick)
