"""What is wrong with the options of `fewtext fit`, said before any work is done."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fewtext.artifact import LAYOUT
from fewtext.data.texts import LabeledTexts
from fewtext.errors import DataError
from fewtext.jobs.options import check_artifact_folder, check_folder

if TYPE_CHECKING:
    from fewtext.jobs.fit import Fit

ROW_SPLITS = ("train", "validation", "test")  # that can be held out


def check_fit(options: Fit) -> str:
    """Return what there is to fit to: the texts, or else the list of classes.

    Raises:
        ArtifactError: something in the place of the classifier that is not to be replaced.
        DataError: neither, options that do not go together, an extra that is missing, or no folder to write to.
    """
    check_artifact_folder(options.out)
    if options.pictures is not None:
        check_folder(options.pictures, "--pictures")
    _check_splits(options)
    source = options.data if options.data is not None else options.labels
    if source is None:
        raise DataError("neither texts nor classes to fit to. Name a file with texts, or list classes with --labels.")
    if options.pictures is not None and None in (options.data, options.test):
        raise DataError("--pictures show what is found on --test, beside the texts fitted to. Name both.")
    for name, given in (("--pictures", options.pictures), ("--calibrate", options.calibrate)):
        if given is not None and options.separator:
            raise DataError(
                f"{name} is for texts with one label each, so it cannot stand with --separator. Drop one."
            )
    if options.onnx is not None and options.style == "adapter":
        raise DataError("--onnx exports all weights, so it cannot stand with --style adapter. Drop one.")
    for wanted, package, extra in ((options.onnx, "onnx", "onnx"), (options.pictures, "matplotlib", "plots")):
        if wanted is not None and find_spec(package) is None:
            raise DataError(f"the package {package} is missing. Run `pip install 'fewtext[{extra}]'`.")
    if not options.include_texts and (options.out / LAYOUT.texts).exists():
        raise DataError(
            f"{options.out} holds texts that would be lost. Add --include-texts, or choose another --out."
        )
    return source


def check_known(texts: LabeledTexts, classes: Iterable[str]) -> None:
    """Raise a DataError where texts to calibrate by have a label that is none of the classes."""
    if unknown := sorted(set(texts.classes) - set(classes)):
        raise DataError(f"{texts.name}: label {unknown[0]!r} is no class of what is fitted. Leave its texts out.")


def _check_splits(options: Fit) -> None:
    """Raise where rows of the data that are held out would be fitted to, or be both calibrated and measured on."""
    held_out = (options.calibrate, options.test) if options.data is not None else ()
    named = [name for name in held_out if name in ROW_SPLITS]
    if named and options.split is None:
        raise DataError(
            f"{options.data}: without --split its {named[0]!r} rows would be fitted to, too. "
            "Add --split train, or what else to fit to."
        )
    if len({options.split, *named}) <= len(named):
        raise DataError("--split, --calibrate and --test must name different row splits. Change one of them.")
