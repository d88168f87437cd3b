"""The `fewtext` command."""

from __future__ import annotations

import difflib
import inspect
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from importlib import metadata
from typing import Any

import datasets
import tyro
from accelerate import PartialState
from sklearn.exceptions import NotFittedError
from transformers.utils.logging import disable_progress_bar

from fewtext.errors import FewtextError
from fewtext.jobs.distill import Distill, distill
from fewtext.jobs.doctor import Doctor, doctor
from fewtext.jobs.edit import Edit, edit
from fewtext.jobs.explain import Explain, explain
from fewtext.jobs.fit import Fit, fit
from fewtext.jobs.info import Info, info
from fewtext.jobs.launch import started_processes
from fewtext.jobs.predict import Predict, predict
from fewtext.jobs.push import Push, push
from fewtext.jobs.suggest import Suggest, suggest
from fewtext.jobs.test import Test, test
from fewtext.jobs.train import Train, train
from fewtext.learners import LEARNERS, learner_class
from fewtext.results import table

FLAT = (tyro.conf.OmitArgPrefixes,)


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
        description=_description(Train, "train"),
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


def _fit(kind: type, job: Callable[[Any], Any], arguments: Sequence[str]) -> None:
    options = _parse(kind, job.__name__, arguments)
    classifier, rows = job(options)
    words = f"saved {options.out}: {len(classifier.classes_)} classes\n\n{table(rows)}"
    _show(words, [row.entries() for row in rows], as_json=options.json)


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


def _explain(arguments: Sequence[str]) -> None:
    options = _parse(Explain, "explain", arguments)
    found = explain(options)
    _show("\n\n".join(map(str, found)), list(map(asdict, found)), as_json=options.json)


def _edit(arguments: Sequence[str]) -> None:
    options = _parse(Edit, "edit", arguments)
    data, words = edit(options)
    _show(words, data, as_json=options.json)


def _suggest(arguments: Sequence[str]) -> None:
    options = _parse(Suggest, "suggest", arguments)
    found = suggest(options)
    _show("\n".join(map(str, found)), list(map(asdict, found)), as_json=options.json)


def _doctor(arguments: Sequence[str]) -> int:
    options = _parse(Doctor, "doctor", arguments)
    found = doctor(options)
    _show(str(found), asdict(found), as_json=options.json)
    return 1 if options.strict and found.errors else 0


def _push(arguments: Sequence[str]) -> None:
    options = _parse(Push, "push", arguments)
    _print(f"pushed {options.repo_id} at {push(options)}")


def _info(arguments: Sequence[str]) -> None:
    found = info(_parse(Info, "info", arguments))
    if isinstance(found, str):
        _print(found)
    else:
        _print_json(found)


COMMANDS: dict[str, tuple[Callable[[Sequence[str]], int | None], str]] = {
    "fit": (partial(_fit, Fit, fit), "fit a classifier to a few labelled texts"),
    "predict": (_predict, "classify texts with a saved classifier"),
    "doctor": (_doctor, "examine labelled texts before learning from them"),
    "explain": (_explain, "say which texts decide an answer"),
    "edit": (_edit, "add, remove and change texts and classes of a saved classifier"),
    "suggest": (_suggest, "say which unlabelled texts to label next"),
    "distill": (partial(_fit, Distill, distill), "teach a classifier's answers to a smaller one"),
    "train": (_train, "meta-train a learner on episodes"),
    "test": (_test, "measure a learner on unseen classes, beside the frozen encoder"),
    "push": (_push, "push a learner or a classifier to the hub"),
    "info": (_info, "describe an artifact, a data card, or this installation; say what to meta-train on"),
}

# A command's own help has all of its examples, that of `fewtext` the first one of each.
EXAMPLES = """
fewtext fit intents.csv --out my-intents --include-texts
fewtext fit intents.csv --out my-intents --test held-out.csv --refine auto
fewtext fit intents.csv --out my-intents --base runs/everyday
fewtext predict my-intents "where is my card?"
fewtext predict my-intents --file questions.csv --out answers.csv
fewtext doctor intents.csv
fewtext doctor intents.csv --test held-out.csv --strict
fewtext doctor tickets.csv --separator ";"
fewtext explain my-intents "where is my card?"
fewtext explain my-intents "where is my card?" --most 3 --json
fewtext edit my-intents --add refund "they owe me 5 euros" --dry-run
fewtext edit my-intents --rename-class refund money_back --ask "I want my money back"
fewtext suggest my-intents unlabelled.csv --count 20 --out to-label.csv
fewtext suggest my-intents unlabelled.csv --strategy unknown
fewtext distill my-intents unlabelled.csv --out small
fewtext distill my-intents unlabelled.csv --out small --layers 2 --test held-out.csv
fewtext train prototypical --card everyday --out runs/everyday
fewtext train maml --card everyday --shots 1-5 --dry-run
fewtext test runs/everyday --card everyday
fewtext test runs/everyday --card everyday --shots 5 --part validation
fewtext push my-intents me/my-intents --private
fewtext push runs/everyday me/everyday --licence apache-2.0 --tag v1
fewtext info my-intents
fewtext info intents.csv --similarity everyday
""".strip().splitlines()

HELP = """usage: fewtext COMMAND [OPTIONS]

Few-shot text classification that learns to learn.

{commands}

examples:
{examples}

`fewtext COMMAND --help` lists a command's options, with more examples."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, 1 after an error that fewtext explains, 2 for a wrong command line."""
    datasets.disable_progress_bars()  # reading a file is no event; jobs show bars of their own
    disable_progress_bar()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("fewtext").setLevel(logging.INFO)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        commands = "\n".join(f"  {name:<9}{text}" for name, (_, text) in COMMANDS.items())
        examples = "\n".join(f"  {_examples(name)[0]}" for name in COMMANDS)
        _print(HELP.format(commands=commands, examples=examples))
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
        return COMMANDS[arguments[0]][0](arguments[1:]) or 0
    except (FewtextError, NotFittedError) as error:
        sys.stderr.write(f"fewtext: {error}\n")
        return 1


def _parse(kind: type, name: str, arguments: Sequence[str]) -> Any:
    flags = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
    if repeated := [flag for flag in flags if flags.count(flag) > 1]:  # only the last one would count
        sys.stderr.write(f"fewtext: {repeated[0]} is there twice. Give it once, with all values.\n")
        raise SystemExit(2)
    return tyro.cli(kind, prog=f"fewtext {name}", description=_description(kind, name), args=arguments, config=FLAT)


def _description(kind: type, name: str) -> str:
    """Return what the help of a command begins with: what it does, in the words of its options, and examples."""
    words = inspect.cleandoc(kind.__doc__ or "").split("Attributes:")[0].strip()
    return "\n  ".join([f"{words}\n\nexamples:", *_examples(name)])


def _examples(name: str) -> list[str]:
    return [line for line in EXAMPLES if line.split()[1] == name]


def _show(words: str, data: Any, *, as_json: bool) -> None:
    if as_json:
        _print_json(data)
    else:
        _print(words)


def _print_json(value: Any) -> None:
    _print(json.dumps(value, indent=1, ensure_ascii=False))


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
