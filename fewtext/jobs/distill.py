"""Teach a saved classifier's answers to a smaller one, save it, and measure it beside its teacher."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fewtext.artifact import LAYOUT
from fewtext.classifier import FewShotClassifier
from fewtext.data.load import load_texts
from fewtext.data.stream import stream_texts
from fewtext.distillation import distill as distilled
from fewtext.errors import DataError
from fewtext.jobs.measure import measure
from fewtext.jobs.options import check_artifact_folder
from fewtext.jobs.push import result_facts
from fewtext.results import Row, write_results


@dataclass(frozen=True)
class Distill:
    """Teach a saved classifier's answers to a smaller and faster one, on unlabelled texts.

    Attributes:
        classifier: folder or hub id of the teacher.
        file: the unlabelled texts: a csv, tsv, json, jsonl, parquet or plain text file (one text a line).
        out: folder for the student.
        also: further teachers of the same classes; their probabilities are averaged.
        layers: how many of the encoder's layers to keep; 0 for the mean of token embeddings.
        temperature: what logits are divided by in teaching.
        steps: gradient steps, of 64 texts each.
        seed: of the order of the texts.
        text_column: column of the texts in a table.
        test: a file with labels, to measure the student on beside its teacher.
        separator: what stands between the labels of a text that has several there, `;` say.
        onnx: also export to ONNX, in full precision or with a smaller copy in int8.
        json: print results as JSON.
    """

    classifier: Annotated[str, tyro.conf.Positional]
    file: Annotated[str, tyro.conf.Positional]
    out: Path
    also: tuple[str, ...] = ()
    layers: int = 0
    temperature: float = 1.0
    steps: int = 600
    seed: int = 0
    text_column: str | None = None
    test: str | None = None
    separator: str | None = None
    onnx: Literal["fp32", "int8"] | None = None
    json: bool = False


def distill(options: Distill) -> tuple[FewShotClassifier, list[Row]]:
    """Distil and save a classifier; returns it with what was measured.

    Raises:
        ArtifactError: no such classifier, or something in the place of the new one that is not to be replaced.
        DataError: texts that cannot be read or used, teachers of different classes, or no folder to write to.
        LearnerError: a parameter that cannot be.
    """
    check_artifact_folder(options.out)
    if (options.out / LAYOUT.texts).exists():
        raise DataError(f"{options.out} holds texts that would be lost. Choose another --out.")
    held_out = None if options.test is None else load_texts(options.test)
    teachers = [FewShotClassifier.from_pretrained(name) for name in (options.classifier, *options.also)]
    texts = stream_texts(options.file, text_column=options.text_column)
    how = {"layers": options.layers, "temperature": options.temperature, "steps": options.steps, "seed": options.seed}
    student = distilled(teachers, texts, **how)
    rows = [Row(f"{Path(options.file).name}/distill", student.facts_["distilled"]["seconds"], "s")]
    if held_out is not None:
        found = [measure(own, held_out, options.separator, warn=own is student) for own in (student, teachers[0])]
        rows += [replace(a, peer="teacher", peer_value=b.value) for a, b in zip(*found, strict=True)]
    student.facts_["results"] = result_facts(rows)
    student.save_pretrained(options.out, onnx=options.onnx)
    write_results(options.out / "results.json", rows)
    return student, rows
