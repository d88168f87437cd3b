"""What a classifier says about texts, in the forms a user asks for."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TextIO, TypeAlias

from fewtext.classifier import FewShotClassifier
from fewtext.errors import PredictionError
from fewtext.files import whole_or_absent

Form: TypeAlias = Literal["table", "jsonl", "csv", "parquet"]

FORMS: dict[str, Form] = {".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet", ".txt": "table"}


def form_of(out: Path | None, form: Form | None) -> Form:
    """Return the form that was asked for, or that of the file's name; a table where there is neither.

    Raises:
        PredictionError: a file's name that does not say its form, or Parquet without a file.
    """
    if out is None and form == "parquet":
        raise PredictionError("parquet is not written to standard output. Give --out.")
    if form is None and out is not None and out.suffix not in FORMS:
        raise PredictionError(f"{out}: the name must end in {', '.join(FORMS)}, or give --format.")
    return form or ("table" if out is None else FORMS[out.suffix])


UNKNOWN = "? "  # stands before the best label of a text that was rejected, in a table


class Answers:
    """Writes answers: the label of each text, or that it is unknown, and the `top` most probable labels.

    Args:
        classifier: who answers.
        form: how they are written.
        top: labels per text.
        reject: whether texts that the classifier does not know are rejected.
    """

    def __init__(self, classifier: FewShotClassifier, form: Form, top: int, *, reject: bool = True) -> None:
        self.classifier, self.top, self.reject = classifier, top, reject
        self.form: Form = form
        self.width = max(len(str(label)) for label in classifier.classes_.tolist()) + len(UNKNOWN) * reject

    def write(self, file: TextIO, texts: Sequence[str], *, first: bool) -> None:
        """Classify texts and write the answers; the `first` ones have the heading over them."""
        if self.form == "csv":
            writer = csv.writer(file)
            if first:
                writer.writerow(["text", "label", "probability", "best", "reason"])
            for row in self._rows(texts):
                label, reason = row["label"], row["reason"]
                decided = " ".join(map(str, label)) if isinstance(label, list) else label
                for best in row["top"]:
                    writer.writerow([row["text"], decided, best["probability"], best["label"], reason])
        elif self.form == "jsonl":
            for row in self._rows(texts):
                file.write(json.dumps(self._flat(row), ensure_ascii=False) + "\n")
        else:
            for row in self._rows(texts):
                mark = UNKNOWN if row["label"] is None else ""
                for text, best in zip([row["text"], *[""] * self.top], row["top"], strict=False):
                    file.write(f"{mark + str(best['label']):<{self.width}}  {best['probability']:.3f}  {text}\n")

    def save(self, path: Path, texts: Sequence[str], *, first: bool) -> None:
        """Classify texts and write the answers to a file, which is there completely or not at all."""
        with whole_or_absent(path) as staging:
            if self.form == "parquet":
                import pyarrow
                from pyarrow import parquet

                rows = [self._flat(row) for row in self._rows(texts)]
                # Left to itself a shard without a known text has labels of another type than the others have.
                label = pyarrow.array(self.classifier.classes_.tolist()).type
                kinds: dict[str, Any] = {"label": pyarrow.list_(label) if self.classifier.several_ else label}
                kinds |= {"probability": pyarrow.float64(), "best": label}
                kinds["top"] = pyarrow.list_(pyarrow.struct({"label": label, "probability": pyarrow.float64()}))
                schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in rows[0]])
                parquet.write_table(pyarrow.Table.from_pylist(rows, schema), staging)
            else:
                with staging.open("w", encoding="utf-8", newline="") as file:
                    self.write(file, texts, first=first)

    def _rows(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        if self.reject and not self.classifier.several_:
            found = self.classifier.classify(texts, self.top)
            decided = [(answer.label, answer.reason, answer.parent) for answer in found]
            tops = [answer.top[: self.top] for answer in found]
        else:
            labels, chances = self.classifier.predict_top(texts, self.top)
            tops = [tuple(zip(*row, strict=True)) for row in zip(labels.tolist(), chances.tolist(), strict=True)]
            chosen = self.classifier.predict(texts).tolist() if self.classifier.several_ else labels[:, 0].tolist()
            decided = [(list(own) if isinstance(own, tuple) else own, "known", None) for own in chosen]
        return [
            {"text": text, "label": label, "reason": reason, "parent": parent}
            | {"top": [{"label": name, "probability": round(chance, 4)} for name, chance in top]}
            for text, (label, reason, parent), top in zip(texts, decided, tops, strict=True)
        ]

    def _flat(self, row: dict[str, Any]) -> dict[str, Any]:
        best = row["top"][0]
        flat = {"text": row["text"], "label": row["label"], "probability": best["probability"]}
        flat |= {"best": best["label"], "reason": row["reason"]}
        flat |= {"parent": row["parent"]} if self.classifier.hierarchy else {}
        return flat | ({"top": row["top"]} if self.top > 1 else {})


def join(parts: Sequence[Path], out: Path, form: Form) -> None:
    """Put files of answers one after the other into one, which is there completely or not at all."""
    with whole_or_absent(out) as staging:
        if form == "parquet":
            from pyarrow import parquet

            with parquet.ParquetWriter(staging, parquet.read_schema(parts[0])) as writer:
                for part in parts:
                    writer.write_table(parquet.read_table(part))
        else:
            with staging.open("wb") as whole:
                for part in parts:
                    with part.open("rb") as file:
                        shutil.copyfileobj(file, whole)
