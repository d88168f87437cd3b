"""Edit a saved classifier: texts and classes come, go and change; the head is fitted again in tenths of a second."""

from __future__ import annotations

import difflib
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from fewtext.artifact.layout import LAYOUT, Style
from fewtext.classifier import FewShotClassifier
from fewtext.classifier.editing import refit_advice
from fewtext.data.load import load_texts
from fewtext.data.texts import readable
from fewtext.errors import DataError
from fewtext.jobs.options import check_artifact_folder

NEAR = 0.8  # likeness from which on a new class may be another misspelt: card_lost and card_stolen are less alike
EDITS = "forget remove relabel remove_class rename_class merge add add_from add_class refit".split()
"""The options that change a classifier."""
logger = logging.getLogger("fewtext")


@dataclass(frozen=True)
class Edit:
    """Edit a saved classifier. It must have been saved with its texts: `fewtext fit … --include-texts`.

    What was measured on the classifier before, results.json, goes; where nothing is edited, all stays as it is. Edits
    are made in the order of the options below.

    Attributes:
        classifier: folder or hub id of a classifier.
        forget: texts to remove, with all that was derived from them.
        remove: texts to remove.
        relabel: pairs of a text and its new label.
        remove_class: classes to remove with their texts.
        rename_class: pairs of a class and its new name.
        merge: classes to make one of; the last one is the name of the whole, be it one of them or new.
        add: pairs of a label and a text to add; a new label becomes a class.
        add_from: a file of labelled texts to add.
        add_class: pairs of a new class and words that describe it, where there are no texts yet.
        separator: what stands between the labels of a text that has several, `;` say.
        refit: refine the encoder again, too, if it was refined.
        ask: texts whose answers before and after are to be compared.
        out: folder to write to; the same one by default.
        dry_run: show what would change, and write nothing.
        json: print the changes as JSON.
    """

    classifier: Annotated[str, tyro.conf.Positional]
    forget: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    relabel: tuple[tuple[str, str], ...] = ()
    remove_class: tuple[str, ...] = ()
    rename_class: tuple[tuple[str, str], ...] = ()
    merge: tuple[str, ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    add_from: str | None = None
    add_class: tuple[tuple[str, str], ...] = ()
    separator: str | None = None
    refit: bool = False
    ask: tuple[str, ...] = ()
    out: Path | None = None
    dry_run: bool = False
    json: bool = False


def edit(options: Edit) -> tuple[dict[str, Any], str]:
    """Edit and save; returns what changed and hints on it, as plain data and in words.

    Raises:
        ArtifactError: no such classifier, or something in the place of the new one that is not to be replaced.
        DataError: saved without its texts, a text or a class that is not there, or no folder to write to.
    """
    folder = options.out or Path(options.classifier)
    if not (options.dry_run or options.out or folder.is_dir()):
        raise DataError(f"{options.classifier}: on the hub nothing is edited. Give --out a folder, and push it then.")
    if options.out and not options.dry_run:
        check_artifact_folder(options.out)
    before = FewShotClassifier.from_pretrained(options.classifier)
    classifier = FewShotClassifier.from_pretrained(options.classifier)
    logger.addFilter(_is_no_advice)
    try:
        _make(classifier, options)
    finally:
        logger.removeFilter(_is_no_advice)
    diff = classifier.diff(before, options.ask)
    elsewhere = not folder.is_dir() or folder.resolve() != Path(options.classifier).resolve()
    if (elsewhere or any(getattr(options, name) for name in EDITS)) and not options.dry_run:
        style: Style = "merged" if (folder / LAYOUT.encoder).is_dir() or options.out else "adapter"
        onnx = None
        if (folder / LAYOUT.onnx).is_dir():
            onnx = "int8" if len(list((folder / LAYOUT.onnx).iterdir())) > 1 else "fp32"
        classifier.save_pretrained(folder, style=style, onnx=onnx, include_texts=True)
    old = {readable(label).casefold(): label for label in classifier.classes_ if label not in diff.classes_added}
    hints = []
    for label in diff.classes_added:
        for near in difflib.get_close_matches(readable(label).casefold(), old, n=1, cutoff=NEAR):
            hints.append(f"new class {label!r}: did you mean {str(old[near])!r}?")
    if classifier.needs_refit_:
        hints.append(refit_advice(classifier.facts_, "--refit"))
    return asdict(diff) | {"hints": hints}, "\n".join([str(diff), *hints])


def _make(classifier: FewShotClassifier, options: Edit) -> None:
    """Make the edits."""
    for text in options.forget:
        classifier.forget(text)
    if options.remove:
        classifier.remove_examples(options.remove)
    for text, label in options.relabel:
        classifier.relabel(text, _label(label, options.separator))
    for label in options.remove_class:
        classifier.remove_class(label)
    for label, name in options.rename_class:
        classifier.rename_class(label, name)
    if options.merge:
        *labels, whole = options.merge
        labels += [whole] * (whole in classifier.classes_.tolist())
        if len(labels) < 2:
            raise DataError(
                f"--merge {' '.join(options.merge)}: fewer than two classes. Give those to make one of, and last the "
                "name of the whole. To give one class another name, use --rename-class."
            )
        classifier.merge_classes(labels, whole)
    added = [(text, label) for label, text in options.add]
    if options.add_from is not None:
        more = load_texts(options.add_from)
        added += zip(more.texts, (more.classes[label] for label in more.labels), strict=True)
    if added:
        texts, labels = zip(*added, strict=True)
        classifier.add_examples(texts, [_label(label, options.separator) for label in labels])
    for label, words in options.add_class:
        classifier.add_class(label, description=words)
    if options.refit:
        classifier.refit()


def _is_no_advice(record: logging.LogRecord) -> bool:
    """Return whether a message may be shown; the advice to refit is said once, with the name of the option."""
    return "refit()" not in record.getMessage()


def _label(label: str, separator: str | None) -> Any:
    return [part.strip() for part in label.split(separator)] if separator else label
