"""Fit a classifier to a few labelled texts, save it, and measure it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from fewtext.artifact.writing import check_style
from fewtext.bases import load_base
from fewtext.classifier import FewShotClassifier
from fewtext.data.checks import checked_label
from fewtext.data.load import load_texts, read_rows
from fewtext.data.texts import LabeledTexts
from fewtext.errors import DataError
from fewtext.jobs.fit_checks import ROW_SPLITS, check_fit, check_known
from fewtext.jobs.measure import certainty_rows, labels_of, measure, measure_onnx, reading_rows
from fewtext.jobs.pictures import draw_pictures
from fewtext.jobs.push import data_facts, result_facts
from fewtext.nn.pretrained import best_local_base
from fewtext.nn.tokens import TokenReport
from fewtext.results import Row, write_results


@dataclass(frozen=True)
class Fit:
    """Fit a classifier to a few labelled texts and save it.

    Attributes:
        out: folder for the classifier.
        data: a csv, tsv, json, jsonl or parquet file, a folder, a hub id, or the name of a data card; none is needed
            where there are `labels`.
        labels: a file of the same kinds that lists all classes in a column `label`; words in a column `description`
            say more than the label does. Classes without texts are learned from these words.
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
        split: fit to this row split (train, say) where the data have several; needed where `calibrate` or `test` name
            another one, which would be fitted to, too.
        calibrate: a second file, or a row split of the same data, to set by it how sure answers are.
        test: another one, to measure accuracy on.
        data_root: folder in which data cards find their data.
        style: `merged` stands alone and is a transformers model, too; `adapter` is small and names its base.
        onnx: also export to ONNX, in full precision or with a smaller copy in int8; with `test` it is measured, too.
        push_to_hub: push the classifier to this repository (owner/name).
        private: make a new repository private.
        include_texts: save, and push, the texts, too, so that the classifier can be edited and explained.
        pictures: folder for pictures of what is found on `test`; needs the extra `plots`.
        json: print results as JSON.
    """

    out: Path
    data: Annotated[str | None, tyro.conf.Positional] = None
    labels: str | None = None
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
    calibrate: str | None = None
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
    """Fit and save a classifier; returns it with what was measured.

    Raises:
        ArtifactError: something in the place of the classifier that is not to be replaced.
        DataError: options that do not go together, or texts or labels that cannot be read or used.
        EncoderError: no usable base.
        LearnerError: a parameter that cannot be.
    """
    source = check_fit(options)
    reading: dict[str, Any] = {
        "text_column": options.text_column,
        "label_column": options.label_column,
        "out_of_scope_label": options.out_of_scope_label,
        "data_root": options.data_root,
    }
    texts = _texts(options, source, reading)
    names = options.calibrate, options.test
    further, held_out = (None if name is None else _held_out(options, name, reading) for name in names)
    listed = None if options.labels is None else _listed(options.labels)
    if further is not None:
        check_known(further, texts.classes if listed is None else listed)
    classifier = FewShotClassifier(
        options.base,
        method=options.method,
        names=options.names,
        refine=options.refine if options.refine == "auto" else options.refine == "on",
        classes=None if listed is None else list(listed),
        label_descriptions=_descriptions(texts, listed, options.separator),
        about=options.about or texts.about or None,
        hierarchy=options.hierarchy,
        coverage=options.coverage,
        windows=options.windows,
    )
    if options.style == "adapter":
        check_style(load_base(options.base or best_local_base()).encoder, options.style)
    start = time.perf_counter()
    said = {text: texts.paraphrases[text] for text in texts.texts if text in texts.paraphrases}
    labels = labels_of(texts, options.separator, several=bool(options.separator))
    classifier.fit(texts.texts, labels, out_of_scope=texts.out_of_scope, paraphrases=said)
    rows = [Row(f"{texts.name}/fit", time.perf_counter() - start, "s", n=len(texts))]
    rows += reading_rows(texts.name, TokenReport(**classifier.facts_["reading"]))
    tried = classifier.facts_.get("refined", {})
    if "kept" in tried:
        name = f"{texts.name}/held-out texts, refined ({'kept' if tried['kept'] else 'not kept'})"
        beside = {"peer": "not refined", "peer_value": tried["frozen"]}
        rows.append(Row(name, tried["refined"], "accuracy", n=tried["held_out"], **beside))
    place, how = texts.name, "cross-validated"
    if further is not None:
        place, how = further.name, "held-out"
        classifier.calibrate(further.texts, [further.classes[label] for label in further.labels])
    if held_out is not None:
        rows += measure(classifier, held_out, options.separator)
    classifier.facts_.update(data=data_facts([source]), results=result_facts(rows))
    # The card states these as its calibration; they are no results of texts that were not fitted to.
    rows += certainty_rows(place, classifier.certainty_, how)
    saving = {"style": options.style, "onnx": options.onnx, "include_texts": options.include_texts}
    classifier.save_pretrained(options.out, **saving)
    if options.onnx is not None and held_out is not None:
        rows += measure_onnx(options.out, held_out, options.separator, int8=options.onnx == "int8")
    write_results(options.out / "results.json", rows)
    if options.pictures is not None and held_out is not None:
        draw_pictures(classifier, held_out, options.pictures)
    if options.push_to_hub is not None:
        classifier.push_to_hub(options.push_to_hub, private=options.private or None, **saving)
    return classifier, rows


def _texts(options: Fit, source: str, reading: dict[str, Any]) -> LabeledTexts:
    """Return the texts to fit to; none where only classes are given."""
    if options.data is None:
        return LabeledTexts(Path(source).name, (), np.empty(0, dtype=np.int64), ())
    texts = load_texts(source, split=options.split, paraphrase_columns=options.paraphrase_columns, **reading)
    return texts if options.shots is None else texts.at_most(options.shots, seed=options.seed)


def _held_out(options: Fit, name: str, reading: dict[str, Any]) -> LabeledTexts:
    """Return the texts of a second file, or of a row split of the data.

    Raises:
        DataError: they cannot be read, or none has a class.
    """
    own = options.data if name in ROW_SPLITS else None
    found = load_texts(name, **reading) if own is None else load_texts(own, split=name, **reading)
    if not len(found):
        raise DataError(f"{found.name}: all texts are out of scope. Add some that have a class.")
    return found


def _listed(source: str) -> dict[str, str]:
    """Return all classes that a file lists, with the words of each, "" for none.

    Raises:
        DataError: it cannot be read, has no column `label`, or a label is missing or there twice.
    """
    found: dict[str, str] = {}
    name = Path(source).name
    for rows in read_rows(source).values():
        if "label" not in rows.column_names:
            raise DataError(
                f"{name}: no column 'label'; the columns are {rows.column_names}. Call that of classes so."
            )
        words = rows["description"][:] if "description" in rows.column_names else [""] * len(rows)
        for row, (given, own) in enumerate(zip(rows["label"][:], words, strict=True)):
            label = str(checked_label(given, f"{name}, row {row}: the label"))
            if label in found:
                raise DataError(f"{name}, row {row}: label {label!r} is there twice. Keep one of the rows.")
            found[label] = own if own and str(own).strip() else ""
    return found


def _descriptions(texts: LabeledTexts, listed: dict[str, str] | None, separator: str | None) -> dict[str, str]:
    """Return the words of classes that are described: by the list of all classes, or else by the data."""
    # What the data call classes are lists of labels where there is a separator.
    known = listed if listed is not None else () if separator else texts.classes
    own = {label: words for label, words in texts.descriptions.items() if label in known}
    return own | {label: words for label, words in (listed or {}).items() if words}
