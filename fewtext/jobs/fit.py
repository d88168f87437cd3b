"""Fit a classifier to a few labelled texts, save it, and measure it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from fewtext.classifier import FewShotClassifier
from fewtext.data.load import load_texts
from fewtext.data.texts import LabeledTexts
from fewtext.jobs.pictures import draw_pictures
from fewtext.jobs.push import data_facts, result_facts
from fewtext.metrics.scores import accuracy, brier_score, calibration_error, macro_f1
from fewtext.results import Row, write_results


@dataclass(frozen=True)
class Fit:
    """Fit a classifier to a few labelled texts and save it.

    Attributes:
        data: a csv, tsv, json, jsonl or parquet file, a folder, a hub id, or the name of a data card.
        out: folder for the classifier.
        base: folder of a meta-trained learner, folder or hub id of an encoder; by default the best one here.
        shots: use only so many texts of each class, drawn at random; all by default.
        seed: of that draw.
        method: `linear`, or `prototype` for the base learner's own head.
        refine: adapt the encoder to the texts with LoRA first: `on`, `off`, or `auto`, which keeps it if it helps
            held-out texts.
        names: let each label, read as words, count as one more text of its class.
        text_column: column of the texts; without effect on a data card, which names its own.
        label_column: column of the labels, likewise.
        paraphrase_columns: columns of other ways to say the text, likewise; they count as one text with it.
        out_of_scope_label: label of texts that belong to no class, likewise; they say what to reject.
        separator: what stands between the labels of a text that has several, `;` say.
        about: what the texts are about, in a sentence, for a learner's own head that reads it; a data card says it.
        hierarchy: what separates the levels of labels such as `card/lost`, `/` say.
        coverage: share of the texts of known classes that are to be accepted.
        windows: read long texts in several windows, instead of cutting them.
        split: fit to this row split (train, say) where the data have several.
        test: a second file, or a row split of the same data, to measure accuracy on.
        data_root: folder in which data cards find their data.
        style: `merged` stands alone and is a transformers model, too; `adapter` is small and names its base.
        onnx: also export to ONNX, in full precision or with a smaller copy in int8; with `test` it is measured, too.
        push_to_hub: push the classifier to this repository (owner/name).
        private: make a new repository private.
        include_texts: save the texts, too, so that the classifier can be edited and explained.
        pictures: folder for pictures of what is found on `test`; needs the extra `plots`.
        json: print results as JSON.
    """

    data: Annotated[str, tyro.conf.Positional]
    out: Path
    base: str | None = None
    shots: int | None = None
    seed: int = 0
    method: Literal["linear", "prototype"] = "linear"
    refine: Literal["on", "off", "auto"] = "off"
    names: bool = True
    text_column: str | None = None
    label_column: str | None = None
    paraphrase_columns: tuple[str, ...] = ()
    out_of_scope_label: str | None = None
    separator: str | None = None
    about: str | None = None
    hierarchy: str | None = None
    coverage: float = 0.95
    windows: bool = False
    split: str | None = None
    test: str | None = None
    data_root: Path | None = None
    style: Literal["merged", "adapter"] = "merged"
    onnx: Literal["fp32", "int8"] | None = None
    push_to_hub: str | None = None
    private: bool = False
    include_texts: bool = False
    pictures: Path | None = None
    json: bool = False


def fit(options: Fit) -> tuple[FewShotClassifier, list[Row]]:
    """Fit and save a classifier; returns it with what was measured."""
    reading: dict[str, Any] = {
        "text_column": options.text_column,
        "label_column": options.label_column,
        "out_of_scope_label": options.out_of_scope_label,
        "data_root": options.data_root,
    }
    texts = load_texts(options.data, split=options.split, paraphrase_columns=options.paraphrase_columns, **reading)
    if options.shots is not None:
        texts = texts.at_most(options.shots, seed=options.seed)
    classifier = FewShotClassifier(
        options.base,
        method=options.method,
        names=options.names,
        refine=options.refine if options.refine == "auto" else options.refine == "on",
        label_descriptions=_descriptions(texts, options.separator),
        about=options.about or texts.about or None,
        hierarchy=options.hierarchy,
        coverage=options.coverage,
        windows=options.windows,
    )
    start = time.perf_counter()
    said = {text: texts.paraphrases[text] for text in texts.texts if text in texts.paraphrases}
    classifier.fit(texts.texts, _labels(texts, options.separator), out_of_scope=texts.out_of_scope, paraphrases=said)
    rows = [Row(f"{texts.name}/fit", time.perf_counter() - start, "s", n=len(texts))]
    tried = classifier.facts_.get("refined", {})
    if "kept" in tried:
        name = f"{texts.name}/held-out texts, refined ({'kept' if tried['kept'] else 'not kept'})"
        beside = {"peer": "not refined", "peer_value": tried["frozen"]}
        rows.append(Row(name, tried["refined"], "accuracy", n=tried["held_out"], **beside))
    if options.test is not None:
        inside = options.test in ("train", "validation", "test")
        held_out = load_texts(
            options.data if inside else options.test, split=options.test if inside else None, **reading
        )
        rows += measure(classifier, held_out, options.separator)
        if options.pictures is not None and not classifier.several_:
            draw_pictures(classifier, held_out, options.pictures)
    known = data_facts([options.data])
    classifier.facts_.update(data=known, results=result_facts(rows))
    saving = {"style": options.style, "onnx": options.onnx, "include_texts": options.include_texts}
    classifier.save_pretrained(options.out, **saving)
    if options.onnx is not None and options.test is not None:
        rows += _measure_onnx(options.out, held_out, int8=options.onnx == "int8")
    write_results(options.out / "results.json", rows)
    if options.push_to_hub is not None:
        classifier.push_to_hub(options.push_to_hub, private=options.private or None, **saving)
    return classifier, rows


def measure(classifier: FewShotClassifier, texts: LabeledTexts, separator: str | None = None) -> list[Row]:
    """Return accuracy, calibration, what is rejected, and speed on texts with their labels.

    Args:
        classifier: who answers.
        texts: held-out texts; those out of scope are to be rejected.
        separator: what stands between several labels of a text.
    """
    truth, count = _labels(texts, separator), len(texts)
    start = time.perf_counter()
    chances = classifier.predict_proba(texts.texts)
    seconds, name = time.perf_counter() - start, texts.name
    rows = [Row(f"{name}/predict", count / seconds, "texts/s", n=count)]
    if classifier.several_:
        return [Row(f"{name}/all labels right", classifier.score(texts.texts, truth), "accuracy", n=count), *rows]
    guesses = classifier.classes_[chances.argmax(axis=1)]
    number = {label: place for place, label in enumerate(classifier.classes_.tolist())}
    inside = np.array([label in number for label in truth])
    known = np.array([number[label] for label in truth if label in number])
    accepted = [answer.label is not None for answer in classifier.classify([*texts.texts, *texts.out_of_scope])]
    shares = np.array(accepted)
    found = [
        Row(f"{name}/accuracy", accuracy(guesses, np.array(truth)), "accuracy", n=count),
        Row(f"{name}/macro-F1", macro_f1(guesses, np.array(truth)), "macro-F1", n=count),
        Row(f"{name}/calibration error", calibration_error(chances[inside], known), "share", n=len(known)),
        Row(f"{name}/Brier score", brier_score(chances[inside], known), "score", n=len(known)),
        Row(f"{name}/accepted", shares[:count].mean(), "share", n=count),
    ]
    if texts.out_of_scope:
        recall = 1 - shares[count:].mean()
        found.append(Row(f"{name}/out of scope, rejected", recall, "share", n=len(texts.out_of_scope)))
    return found + rows


def _descriptions(texts: LabeledTexts, separator: str | None) -> dict[str, str] | None:
    """Return the data's descriptions of the classes that have texts; lists of labels have none."""
    return None if separator else {own: words for own, words in texts.descriptions.items() if own in texts.classes}


def _labels(texts: LabeledTexts, separator: str | None) -> list[Any]:
    """Return the label of each text, or the list of its labels where there is a separator."""
    labels = [texts.classes[label] for label in texts.labels]
    return [[part.strip() for part in label.split(separator)] for label in labels] if separator else labels


def _measure_onnx(folder: Path, texts: LabeledTexts, *, int8: bool) -> list[Row]:
    """Return the accuracy of the exported files: of the smaller one beside the other, since it costs some."""
    from fewtext.artifact.onnx import onnx_labels

    truth = texts.labels
    names = {label: number for number, label in enumerate(texts.classes)}
    classes = np.array(
        [names.get(label, -1) for label in FewShotClassifier.from_pretrained(folder).classes_.tolist()]
    )
    full = accuracy(classes[onnx_labels(folder, texts.texts)], truth)
    rows = [Row(f"{texts.name}/accuracy, ONNX", full, "accuracy", n=len(texts))]
    if int8:
        small = accuracy(classes[onnx_labels(folder, texts.texts, int8=True)], truth)
        name = f"{texts.name}/accuracy, ONNX in int8"
        rows.append(Row(name, small, "accuracy", n=len(texts), peer="full precision", peer_value=full))
    return rows
