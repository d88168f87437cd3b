"""Two sides of a comparison, each in a process of its own, in turn, on one core.

A file of benchmarks holds the functions that are its sides. A side sets up from a folder of prepared inputs and
returns what to repeat; the driver starts `python <file> <side> <folder>` for each of the two, asks one trial of the
one, one of the other, and so on. So other work on the machine slows both sides, and neither side's imports or memory
are the other's. The processes talk in lines: a word in, JSON out.
"""

from __future__ import annotations

import inspect
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO, Any

Facts = dict[str, Any]


@dataclass(frozen=True)
class Side:
    """What a side does once it is set up.

    Attributes:
        trial: is measured, as often as asked for; may return what the row's value needs beside the time.
        finish: is not measured: called once in the end, returns facts, writes what is to be compared.
    """

    trial: Callable[[], Facts | None] = dict
    finish: Callable[[], Facts] = dict


@dataclass(frozen=True)
class Benchmark:
    """One row of the table.

    Attributes:
        name: of the row.
        ours: our side: folder of inputs → `Side`.
        peer: the side it is compared with.
        against: the peer, in words.
        unit: of both values.
        target: the ratio to reach.
        prepare: writes the inputs of both sides into a folder.
        value: what counts of a trial; process CPU seconds by default.
        more_is_better: whether a larger value is the better one.
        compare: facts about both sides' results, read from the folder.
        fresh: start both processes anew for each trial; what counts is the time until they are set up.
        slow_peer: whether the peer's trials are to be fewer.
    """

    name: str
    ours: Callable[[Path], Side]
    peer: Callable[[Path], Side]
    against: str
    unit: str
    target: float
    prepare: Callable[[Path, Any], None]
    value: Callable[[Facts], float] = lambda trial: trial["cpu_s"]
    more_is_better: bool = False
    compare: Callable[[Path], Facts] = lambda folder: {}
    fresh: bool = False
    slow_peer: bool = False


def per_second(trial: Facts) -> float:
    """Return the amount of work a trial did per second of CPU time."""
    return trial["amount"] / trial["cpu_s"]


def serve(sides: dict[str, Any]) -> None:
    """Be the side named on the command line: take one core, set up, then answer until the input ends."""
    if sys.platform == "linux":  # before anything is imported that would count the cores
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    side = sides[sys.argv[1]](Path(sys.argv[2]))

    def answer(facts: Facts) -> None:
        answers.write(json.dumps(facts) + "\n")
        answers.flush()

    answer({"cpu_s": time.process_time()})
    for line in sys.stdin:
        if line.strip() == "trial":
            wall, cpu = time.perf_counter(), time.process_time()
            facts = side.trial() or {}
            times = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
            answer(times | facts)
        else:
            answer({"peak_mb": peak_mb()} | side.finish())


def peak_mb() -> float:
    """Return the largest memory this process has had, in MB."""
    status = Path("/proc/self/status")  # where there is one: ru_maxrss begins with what the parent process had
    if status.is_file():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@contextmanager
def started(side: Callable[[Path], Side], folder: Path) -> Iterator[Callable[[str], Facts]]:
    """Start a side; yields what asks it: `ready` once, then `trial` and `finish`."""
    log, begin = folder / f"{side.__name__}.log", time.perf_counter()
    command = [sys.executable, inspect.getfile(side), side.__name__, str(folder)]
    alone = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stderr=stderr, env=os.environ | alone, **streams) as process,
    ):
        into, out = process.stdin, process.stdout
        assert into is not None
        assert out is not None

        def ask(word: str) -> Facts:
            if word == "ready":
                return _answer(out, log) | {"wall_s": time.perf_counter() - begin}
            into.write(word + "\n")
            into.flush()
            return _answer(out, log)

        yield ask
        into.close()


def _answer(out: IO[str], log: Path) -> Facts:
    line = out.readline()
    if not line:
        raise RuntimeError(f"{log.stem} failed:\n{log.read_text()[-2000:]}")
    return json.loads(line)


def measure(benchmark: Benchmark, folder: Path, repeats: int, slow_repeats: int, say: Callable[[str], None]) -> Facts:
    """Run both sides of a prepared benchmark in turn and return its row."""
    rounds = {"ours": repeats, "peer": min(repeats, slow_repeats) if benchmark.slow_peer else repeats}
    trials: dict[str, list[Facts]] = {"ours": [], "peer": []}
    facts: dict[str, Facts] = {}

    def note(side: str, trial: Facts) -> None:
        trials[side].append(trial)
        say(f"{benchmark.name}: {side} {benchmark.value(trial):.4g} {benchmark.unit}")

    if benchmark.fresh:
        for turn in range(-1, repeats):  # the first turn only brings the files into memory
            for name in trials:
                with started(getattr(benchmark, name), folder) as ask:
                    ready = ask("ready")
                    facts[name] = ask("finish")
                if turn >= 0:
                    note(name, ready)
    else:
        with started(benchmark.ours, folder) as ours, started(benchmark.peer, folder) as peer:
            sides = {"ours": ours, "peer": peer}
            for ask in sides.values():
                ask("ready")
            for turn in range(repeats):
                for name, ask in sides.items():
                    if turn < rounds[name]:
                        note(name, ask("trial"))
            facts = {name: ask("finish") for name, ask in sides.items()}
    return summary(benchmark, trials["ours"], trials["peer"], facts) | benchmark.compare(folder)


def summary(benchmark: Benchmark, ours: Sequence[Facts], peer: Sequence[Facts], facts: dict[str, Facts]) -> Facts:
    """Return a row: medians, and the median and range of the ratios of neighbouring trials."""
    own, other = [[benchmark.value(trial) for trial in side] for side in (ours, peer)]
    ratios = paired_ratios(own, other, more_is_better=benchmark.more_is_better)
    row = {
        "name": benchmark.name,
        "value": median(own),
        "unit": benchmark.unit,
        "n": len(own),
        "peer": benchmark.against,
        "peer_value": median(other),
        "ratio": median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "target": benchmark.target,
        "trials": own,
        "peer_trials": other,
    }
    theirs = {f"peer_{key}": value for key, value in facts.get("peer", {}).items()}
    return row | facts.get("ours", {}) | theirs


def paired_ratios(ours: Sequence[float], peer: Sequence[float], *, more_is_better: bool) -> list[float]:
    """Return for each of our trials how many times better it is than the peer's of the same turn, or its last."""
    pairs = [(own, peer[min(turn, len(peer) - 1)]) for turn, own in enumerate(ours)]
    return [own / other if more_is_better else other / own for own, other in pairs]
