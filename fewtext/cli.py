"""The `fewtext` command: train, test, fit, predict, push, info."""

from __future__ import annotations

import difflib
import json
import logging
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Annotated, Any

import datasets
import tyro
from accelerate import PartialState
from sklearn.exceptions import NotFittedError
from transformers.utils.logging import disable_progress_bar

from fewtext.artifact import describe
from fewtext.data.card import DataCard
from fewtext.errors import FewtextError
from fewtext.jobs.fit import Fit, fit
from fewtext.jobs.launch import started_processes
from fewtext.jobs.predict import Predict, predict
from fewtext.jobs.push import Push, push
from fewtext.jobs.test import Test, test
from fewtext.jobs.train import Train, train
from fewtext.learners import LEARNERS, learner_class
from fewtext.results import PACKAGES, table

FLAT = (tyro.conf.OmitArgPrefixes,)


@dataclass(frozen=True)
class Info:
    """Describe an artifact without loading its weights; without one, what is installed.

    Attributes:
        artifact: folder or hub id of a meta-trained learner or a classifier, or the name of a data card.
    """

    artifact: Annotated[str | None, tyro.conf.Positional] = None


def _train(arguments: Sequence[str]) -> None:
    def command(name: str) -> Callable[..., None]:
        kind = LEARNERS[name]

        def run(learner: Any, options: Train) -> None:
            if started_processes():
                return
            out, history = train(name, learner, options)
            if options.dry_run:
                return
            best = max((value for _, value, _ in history.validations), default=float("nan"))
            if PartialState().is_main_process:
                _print(f"saved {out} (best validation accuracy {100 * best:.1f} % at step {history.best_step})")

        run.__annotations__ = {"learner": kind.Config, "options": Train, "return": None}
        run.__doc__ = f"{(kind.__doc__ or '').splitlines()[0]}"
        return run

    commands = {name: command(name) for name in sorted(LEARNERS)}
    if arguments and not arguments[0].startswith("-") and arguments[0] not in commands:
        learner_class(arguments[0])  # raises the error that knows the closest name
    tyro.extras.subcommand_cli_from_dict(
        commands,
        prog="fewtext train",
        description=Train.__doc__,
        args=arguments,
        config=FLAT,
        sort_subcommands=True,
    )


def _test(arguments: Sequence[str]) -> None:
    options = _parse(Test, "test", arguments)
    if not started_processes():
        rows = test(options)
        if PartialState().is_main_process:
            _print(table(rows))


def _fit(arguments: Sequence[str]) -> None:
    options = _parse(Fit, "fit", arguments)
    classifier, rows = fit(options)
    _print(f"saved {options.out}: {len(classifier.classes_)} classes\n\n{table(rows)}")


def _predict(arguments: Sequence[str]) -> None:
    options = _parse(Predict, "predict", arguments)
    if started_processes():
        return
    try:
        message = predict(options)
    except BrokenPipeError:  # whoever reads the answers has seen enough; Python must not try to write the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    if message is not None:
        _print(message)


def _push(arguments: Sequence[str]) -> None:
    options = _parse(Push, "push", arguments)
    _print(f"pushed {options.repo_id} at {push(options)}")


def _info(arguments: Sequence[str]) -> None:
    options = _parse(Info, "info", arguments)
    if options.artifact is None:
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
        _print(f"{versions}, Python {platform.python_version()}")
        _print(f"learners: {', '.join(sorted(LEARNERS))}")
        _print(f"data cards: {', '.join(DataCard.names())}")
    elif options.artifact in DataCard.names():
        _print(json.dumps(vars(DataCard.read(options.artifact)), indent=1, ensure_ascii=False))
    else:
        _print(json.dumps(describe(options.artifact), indent=1, ensure_ascii=False))


COMMANDS: dict[str, tuple[Callable[[Sequence[str]], None], str]] = {
    "train": (_train, "meta-train a learner on episodes"),
    "test": (_test, "measure a learner on unseen classes, beside the frozen encoder"),
    "fit": (_fit, "fit a classifier to a few labelled texts"),
    "predict": (_predict, "classify texts with a saved classifier"),
    "push": (_push, "push a learner or a classifier to the hub"),
    "info": (_info, "describe an artifact, a data card, or this installation"),
}

HELP = """usage: fewtext COMMAND [OPTIONS]

Few-shot text classification that learns to learn.

{commands}

examples:
  fewtext fit intents.csv --out my-intents
  fewtext predict my-intents "where is my card?"
  fewtext train prototypical --card everyday --out runs/everyday
  fewtext test runs/everyday --card everyday
  fewtext fit intents.csv --base runs/everyday --out my-intents
  fewtext push my-intents me/my-intents --private

`fewtext COMMAND --help` lists a command's options."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, 1 after an error that fewtext explains, 2 for a wrong command line."""
    datasets.disable_progress_bars()  # reading a file is no event; jobs show bars of their own
    disable_progress_bar()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("fewtext").setLevel(logging.INFO)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        _print(HELP.format(commands="\n".join(f"  {name:<9}{text}" for name, (_, text) in COMMANDS.items())))
        return 0 if arguments else 2
    if arguments[0] == "--version":
        _print(f"fewtext {metadata.version('fewtext')}")
        return 0
    if arguments[0] not in COMMANDS:
        close = difflib.get_close_matches(arguments[0], COMMANDS, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        sys.stderr.write(f"fewtext: no command {arguments[0]!r}.{hint} Commands: {', '.join(COMMANDS)}.\n")
        return 2
    try:
        COMMANDS[arguments[0]][0](arguments[1:])
    except (FewtextError, NotFittedError) as error:
        sys.stderr.write(f"fewtext: {error}\n")
        return 1
    return 0


def _parse(kind: type, name: str, arguments: Sequence[str]) -> Any:
    return tyro.cli(kind, prog=f"fewtext {name}", args=arguments, config=FLAT)


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
