"""Classify texts: a few at once, a stream, or a file of any size on any number of processes.

A file is cut into shards of fixed size. Shard i is answered by process i mod P, and written beside its place and
renamed, so it is there completely or not at all. A run that was killed goes on with the shards that are missing, on
whatever number of processes; the last step joins them.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from tqdm import tqdm

from fewtext.artifact import LAYOUT, locate_artifact
from fewtext.checkpoint import only_writer
from fewtext.classifier import FewShotClassifier
from fewtext.classifier.fitted import UNKNOWN
from fewtext.data.checks import batches, checked_text
from fewtext.data.stream import stream_texts
from fewtext.errors import DataError, PredictionError
from fewtext.files import read_json, sha256, whole_or_absent, write_json
from fewtext.jobs.answers import Answers, Form, form_of, join
from fewtext.jobs.options import check_file
from fewtext.nn.matmul import fast_matmul, onednn_is_exact

RUN = "run.json"
logger = logging.getLogger("fewtext")


@dataclass(frozen=True)
class Predict:
    """Classify texts with a saved classifier.

    Attributes:
        classifier: folder or hub id of a classifier.
        texts: the texts; without any they are read from `file`, or line by line from standard input.
        file: a csv, tsv, json, jsonl, parquet or plain text file (one text a line), a folder, or a hub id.
        text_column: column of the texts in a table.
        format: how to write the answers; by default as the name of `out` says, else as a table.
        json: the same as `--format jsonl`.
        top: how many labels per text.
        reject: say of texts that are unlike all classes, or between them, that they are unknown.
        sets: write the labels that may be right, too, so many that the right one is as often among them as was
            asked for when the classifier was calibrated.
        out: file to write to; standard output by default. A file read from `file` is answered by all processes, and
            a run that is killed goes on where it was when it is started again.
        shard: texts answered, and written, at a time.
    """

    classifier: Annotated[str, tyro.conf.Positional]
    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    file: str | None = None
    text_column: str | None = None
    format: Form | None = None
    json: bool = False
    top: int = 1
    reject: bool = True
    sets: bool = False
    out: Path | None = None
    shard: int = 4096


def predict(options: Predict) -> str | None:
    """Classify and write; returns what the main process says about it, None where the answers are all.

    Raises:
        ArtifactError: no such classifier.
        DataError: the texts cannot be read or used, sets of a classifier that was not calibrated, or a file to write
            that cannot be, or is the one read.
        PredictionError: a form that cannot be, or an output that belongs to another run.
    """
    if options.json and options.format not in (None, "jsonl"):
        raise PredictionError(f"--json is --format jsonl, but --format {options.format} is there. Give one of them.")
    form = form_of(options.out, "jsonl" if options.json else options.format)
    if options.out is not None:
        check_file(options.out, options.file)
    if options.shard < 1 or options.top < 1:
        raise PredictionError(f"shard={options.shard}, top={options.top}: at least one text and one label at a time.")
    # A process that is done waits for the others as long as they need, which the default timeouts do not allow.
    accelerator = Accelerator(kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=30))])
    if accelerator.num_processes > 1 and None in (options.file, options.out):
        raise PredictionError(f"{accelerator.num_processes} processes have nothing to share. Give --file and --out.")
    classifier = FewShotClassifier.from_pretrained(options.classifier, device=str(accelerator.device))
    answers = Answers(classifier, form, options.top, reject=options.reject, sets=options.sets)
    # Exactness alone decides which library multiplies, so that every process gives the same bits, at any time.
    with fast_matmul(onednn_is_exact()):
        if options.out is not None:
            message = _to_file(answers, options, options.out, accelerator)
        else:
            message = _to_standard_output(answers, options)
    read = answers.reading  # None where an earlier run, or other processes, answered all texts
    if read is not None and (read.truncated or read.unknown > UNKNOWN * read.tokens):
        logger.warning("%s", read)
    return message


def _to_standard_output(answers: Answers, options: Predict) -> None:
    """Answer texts as they come; the answers say all there is to say."""
    rows = None
    for start, rows in batches(_texts(options), options.shard):
        answers.write(sys.stdout, rows, first=start == 0)
        sys.stdout.flush()
    if rows is None:
        raise DataError("no texts. Give at least one.")


def _texts(options: Predict) -> Iterable[str]:
    if options.texts:
        return options.texts
    if options.file is not None:
        return stream_texts(options.file, text_column=options.text_column)
    return _lines()


def _lines() -> Iterator[str]:
    try:
        yield from (line.rstrip("\n") for line in sys.stdin if line.strip())
    except UnicodeDecodeError as error:
        raise DataError(f"standard input: cannot be read ({error}). Give it as UTF-8.") from error


def _to_file(answers: Answers, options: Predict, out: Path, accelerator: Accelerator) -> str | None:
    """Answer this process's shards; the main process joins all of them."""
    again = partial(_texts, options) if options.file is not None else partial(iter, list(_texts(options)))
    identity = {
        "classifier": sha256(locate_artifact(options.classifier) / LAYOUT.manifest),
        "texts": _fingerprint(again()),
        "format": answers.form,
        "top": answers.top,
        "reject": answers.reject,
        "sets": answers.sets,
        "shard": options.shard,
    }
    parts = out.with_name(f"{out.name}.parts")
    if (parts / RUN).exists():
        _check_same(parts, read_json(parts / RUN), identity)
    main, count = accelerator.is_main_process, identity["texts"]["count"]
    shards = [parts / f"{number:06d}.{answers.form}" for number in range(-(-count // options.shard))]
    with only_writer(parts) if main else nullcontext():
        if main:
            for left in () if (parts / RUN).exists() else parts.glob(f"[0-9]*.{answers.form}"):
                left.unlink()  # nothing says whose it is
            with whole_or_absent(parts / RUN) as staging:
                write_json(staging, identity)
        accelerator.wait_for_everyone()
        missing = {number for number, place in enumerate(shards) if not place.exists()}
        accelerator.wait_for_everyone()
        start = time.perf_counter()
        with tqdm(total=count, unit="text", desc="predict", disable=not main, leave=False) as bar:
            for number, (_, texts) in enumerate(batches(again(), options.shard)):
                if number in missing and number % accelerator.num_processes == accelerator.process_index:
                    _save(answers, shards[number], texts, first=number == 0)
                bar.update(len(texts))
        accelerator.wait_for_everyone()
        seconds = time.perf_counter() - start
        if main:
            join(shards, out, answers.form)
            for place in shards:
                place.unlink()  # before what says whose they are
            shutil.rmtree(parts, ignore_errors=True)  # a lock file that is in use stays on Windows
    accelerator.end_training()
    new = sum(min(options.shard, count - number * options.shard) for number in missing)
    earlier = f" ({count - new:,} of them in an earlier run)" if new < count else ""
    processes = "one process" if accelerator.num_processes == 1 else f"{accelerator.num_processes} processes"
    speed = f"{new / seconds:,.0f} texts/s on {processes}"
    return f"saved {out}: {count:,} texts{earlier}, {speed}" if main else None


def _save(answers: Answers, place: Path, texts: list[str], *, first: bool) -> None:
    try:
        answers.save(place, texts, first=first)
    except OSError as error:
        raise PredictionError(
            f"{place}: cannot be written ({error.strerror}). Free some space and start again; what is there stays."
        ) from error


def _fingerprint(texts: Iterable[str]) -> dict[str, Any]:
    """Return what tells these texts from others, read once from the first to the last, and checks them on the way."""
    digest, count = hashlib.sha256(), 0
    for text in texts:
        digest.update(f"{checked_text(text, f'text {count}')}\x1e".encode())
        count += 1
    if not count:
        raise DataError("no texts. Give at least one.")
    return {"count": count, "sha256": digest.hexdigest()}


def _check_same(parts: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    if different := [key for key, value in now.items() if before.get(key) != value]:
        key = different[0]
        raise PredictionError(
            f"{parts}: answers of another run are there: {key} was {before.get(key)}, now it is {now[key]}. "
            "Choose another --out, or remove that folder."
        )
