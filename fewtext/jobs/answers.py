"""What a classifier says about texts, in the forms a user asks for."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO, TypeAlias

from fewtext.classifier import FewShotClassifier
from fewtext.data.checks import checked_texts
from fewtext.errors import PredictionError
from fewtext.files import whole_or_absent
from fewtext.nn.tokens import TokenReport

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
NO_LABEL = "–"  # stands where a text may have several labels and has none, in a table


class Answers:
    """Writes answers: the label of each text, or that it is unknown, and the `top` most probable labels.

    Where texts may have several labels, it is all that were decided, beside the probability of the likeliest label.

    Args:
        classifier: who answers.
        form: how they are written.
        top: labels per text.
        reject: whether texts that the classifier does not know are rejected.
        sets: whether the labels that may be right are written, too; see `predict_set`.

    Attributes:
        reading: how the texts that were answered so far were read; None before the first ones.

    Raises:
        DataError: sets of a classifier that was not calibrated.
    """

    def __init__(
        self, classifier: FewShotClassifier, form: Form, top: int, *, reject: bool = True, sets: bool = False
    ) -> None:
        if sets:
            classifier.predict_set(["any text"])  # says now, before anything is written, that there are no sets
        self.classifier, self.top, self.reject, self.sets = classifier, top, reject, sets
        self.form: Form = form
        self.reading: TokenReport | None = None
        self.width = max(len(str(label)) for label in classifier.classes_.tolist()) + len(UNKNOWN) * reject

    def write(self, file: TextIO, texts: Sequence[str], *, first: bool) -> None:
        """Classify texts and write the answers; the `first` ones have the heading over them."""
        if self.form == "csv":
            writer = csv.writer(file)
            if first:
                writer.writerow(["text", "label", "probability", "best", "reason", *["set"] * self.sets])
            for row in self._rows(texts):
                label = row["label"]
                decided = ";".join(map(str, label)) if isinstance(label, list) else label
                rest = [row["reason"], *([";".join(map(str, row["set"]))] if self.sets else [])]
                for best in row["top"]:
                    writer.writerow([row["text"], decided, best["probability"], best["label"], *rest])
        elif self.form == "jsonl":
            for row in self._rows(texts):
                file.write(json.dumps(self._flat(row), ensure_ascii=False) + "\n")
        else:
            lines = [line for row in self._rows(texts) for line in self._lines(row)]
            width = max([self.width, *(len(label) for label, _, _ in lines)])
            for label, probability, text in lines:
                file.write(f"{label:<{width}}  {probability:.3f}  {text}\n")

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
                kinds["runner_up"] = pyarrow.struct({"label": label, "probability": pyarrow.float64()})
                kinds |= {"set": pyarrow.list_(label), "top": pyarrow.list_(kinds["runner_up"])}
                schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in rows[0]])
                parquet.write_table(pyarrow.Table.from_pylist(rows, schema), staging)
            else:
                with staging.open("w", encoding="utf-8", newline="") as file:
                    self.write(file, texts, first=first)

    def _rows(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        several, texts = self.classifier.several_, checked_texts(texts)
        with self.classifier._state().holding(texts):
            if several:
                labels, chances = self.classifier.predict_top(texts, self.top)
                tops = [tuple(zip(*row, strict=True)) for row in zip(labels.tolist(), chances.tolist(), strict=True)]
                decided = [(list(own), "known", None) for own in self.classifier.predict(texts)]
            else:
                found = self.classifier.classify(texts, self.top)
                tops = [own.top for own in found]
                decided = [(own.label, own.reason, own.parent) for own in found]
                if not self.reject:
                    decided = [(own.best, "known", None) for own in found]
            sets = [{"set": own} for own in self.classifier.predict_set(texts)] if self.sets else [{}] * len(texts)
        self._count(texts)
        rows = []
        for text, (label, reason, parent), top, own in zip(texts, decided, tops, sets, strict=True):
            named = [{"label": name, "probability": round(chance, 4)} for name, chance in top]
            second = None if several or len(named) < 2 else named[1]
            row = {"text": text, "label": label, "runner_up": second, "reason": reason, "parent": parent}
            rows.append(row | own | {"top": named[: self.top]})
        return rows

    def _lines(self, row: dict[str, Any]) -> Iterator[tuple[str, float, str]]:
        """Yield label, probability and text of each line that a table has for a text, the text in the first one."""
        mark, label = UNKNOWN if row["label"] is None else "", row["label"]
        lines = [(mark + str(best["label"]), best["probability"]) for best in row["top"]]
        if isinstance(label, list):
            below = [(f"  {name}", chance) for name, chance in lines] if self.top > 1 else []
            lines = [("; ".join(map(str, label)) or NO_LABEL, lines[0][1]), *below]
        text = f"{row['text']}  [{'; '.join(map(str, row['set']))}]" if self.sets else row["text"]
        for (name, chance), words in zip(lines, [text, *[""] * len(lines)], strict=False):
            yield name, chance, words

    def _count(self, texts: Sequence[str]) -> None:
        # The texts are tokenised once more for this: a seventieth of the time that a small encoder takes on a CPU.
        state = self.classifier._state()
        report = state.learner.encoder.report(texts, windows=state.settings.windows)
        self.reading = report if self.reading is None else self.reading + report

    def _flat(self, row: dict[str, Any]) -> dict[str, Any]:
        best = row["top"][0]
        flat = {"text": row["text"], "label": row["label"], "probability": best["probability"]}
        flat |= {"best": best["label"], "runner_up": row["runner_up"], "reason": row["reason"]}
        flat |= {"parent": row["parent"]} if self.classifier.hierarchy else {}
        flat |= {"set": row["set"]} if self.sets else {}
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
