"""Every meta-learner beside its frozen encoder: same encoder, same texts seen, same episodes of unseen classes.

    make leaderboard
    python recipes/benchmarks/learners.py --learners maml anil --sets banking77 --workers 2
    python recipes/benchmarks/learners.py --report-only

A run is one learner meta-trained on the training classes of one set, in a process of its own on one core. What it has
after each validation is compared on validation classes, and the best is tested once, on episodes of the test classes.
It is kept at once in `results/learners_runs.jsonl`, so an interruption costs one run, and what is there is not run
again. The report is made from that file.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import tyro
from learners_report import FROZEN, rows_of, text_of
from report import header, put_table, read

from fewtext import Collator, Encoder, EpisodeSampler, EpisodeSpec, Lora, TrainConfig, meta_train, write_results
from fewtext.data.sampler import Episode
from fewtext.jobs.options import Data
from fewtext.learners import LEARNERS, MetaLearner, learner_class
from fewtext.nn.matmul import fast_matmul
from fewtext.nn.pretrained import MINILM
from fewtext.scoring import score_heads, score_learner

HERE = Path(__file__).parent
RUNS = HERE / "results" / "learners_runs.jsonl"
SETS = ("everyday", "banking77", "hwu64")
SPLIT, SHOTS, TIMED = 1, (1, 5), 30
LORA = Lora(rank=8, alpha=16, from_layer=3)  # as good as all layers on validation classes, and cheaper
TRAINING = EpisodeSpec(ways=12, shots=1, queries=3)
TRANSDUCTIVE = "-transductive"
Run = dict[str, Any]


def main(
    *,
    sets: tuple[str, ...] = SETS,
    learners: tuple[str, ...] = (FROZEN, *sorted(LEARNERS)),
    again: tuple[str, ...] = (),
    steps: int = 80,
    episodes: int = 200,
    workers: int = 1,
    data_root: Path | None = None,
    base: str = MINILM,
    runs: Path = RUNS,
    report_only: bool = False,
) -> None:
    """Run what is missing, then write the report.

    Args:
        sets: data cards; split 1 of their classes.
        learners: which.
        again: learners whose runs are dropped first.
        steps: meta-steps of four episodes; 12-way 1-shot, 3 queries.
        episodes: 5-way test episodes of each number of shots, with 5 queries a class.
        workers: runs at a time.
        data_root: folder in which data cards find their data.
        base: hub id or folder of the encoder.
        runs: file that keeps the runs; the report stands beside it.
        report_only: run nothing.
    """
    if unknown := sorted({*learners, *again} - {FROZEN, *LEARNERS}):
        raise SystemExit(f"no learner {unknown[0]!r}. Learners: {', '.join((FROZEN, *sorted(LEARNERS)))}.")
    kept = [run for run in read(runs) if run["learner"] not in again]
    if again:
        runs.write_text("".join(json.dumps(run) + "\n" for run in kept), "utf-8")
    known = {(run["learner"], run["set"]) for run in kept}
    wanted = [] if report_only else [key for key in product(learners, sets) if key not in known]
    if wanted:
        # A process for each run: its memory is its own, and one core is what a user has at least.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
            pending = [pool.submit(measure, *key, steps, episodes, data_root, base) for key in wanted]
            try:
                for done in as_completed(pending):
                    run = done.result()
                    with runs.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(run) + "\n")
                    print(run["learner"], run["set"], f"{run['train_s']:.0f} s", file=sys.stderr, flush=True)
            finally:
                pool.shutdown(cancel_futures=True)  # after an error the others need not begin
    found = read(runs)
    write_results(runs.with_name("learners.json"), rows_of(found), "make leaderboard")
    if runs == RUNS:
        put_table(HERE / "README.md", text_of(found), "learners.py")


def measure(name: str, card: str, steps: int, episodes: int, data_root: Path | None, base: str) -> Run:
    """Meta-train and test one learner on one set; returns the right answers of each episode, times and memory."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    parts = Data(card=(card,), split=SPLIT, data_root=data_root).parts()
    drawn = {
        shots: list(first(EpisodeSampler(parts["test"], EpisodeSpec(5, shots, 5), seed=shots), episodes))
        for shots in SHOTS
    }
    run: Run = {"learner": name, "set": card, "episodes": episodes, "train_s": 0.0, "steps": steps}
    if name == FROZEN:
        encoder = Encoder.from_pretrained(base)
        run["accuracy"] = {
            shots: {
                head: scores.accuracy.tolist() for head, scores in score_heads(encoder, own, parts["test"]).items()
            }
            for shots, own in drawn.items()
        }
    else:
        learner = learner_class(name)(Encoder.from_pretrained(base, lora=LORA), None)
        run |= train(learner, parts, steps)
        collator = Collator(parts["test"], learner.encoder.tokenize)
        run["adapt_ms"] = {shots: adaptation(learner, own[:TIMED], collator) for shots, own in drawn.items()}
        run["accuracy"] = {shots: scores_of(learner, own, collator) for shots, own in drawn.items()}
        run["config"], run["own_parameters"] = (
            repr(learner.config),
            sum(p.numel() for p in learner.own_parameters().values()),
        )
    made = header("learners.py")
    when = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "commit": made.get("commit"), "machine": made["machine"]}
    return run | {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024} | when


def train(learner: MetaLearner, parts: dict[str, list], steps: int) -> Run:
    """Meta-train in place; every learner sees the same texts, and keeps what is best on validation classes."""
    sampler = EpisodeSampler(parts["train"], TRAINING, seed=0, exclude=[*parts["validation"], *parts["test"]])
    small = [texts.at_most(30) for texts in parts["validation"]]
    validation = EpisodeSampler(small, EpisodeSpec(5, 1, 5), seed=1, exclude=parts["test"])
    marks: list[float] = []
    start = time.process_time()
    history = meta_train(
        learner,
        sampler,
        TrainConfig(steps=steps, validate_every=max(1, steps // 4), patience=steps),
        validation=validation,
        on_step=lambda *_: marks.append(time.process_time()),
        progress=False,
    )
    return {"train_s": time.process_time() - start, "step_s": median(np.diff(marks)), "best_step": history.best_step}


def first(sampler: EpisodeSampler, number: int) -> Iterator[Episode]:
    """Yield the first episodes."""
    return (sampler[place] for place in range(number))


def scores_of(learner: MetaLearner, episodes: Sequence[Episode], collator: Collator) -> dict[str, list[float]]:
    """Return the accuracy in each episode, and where the learner can, also after it has seen all queries."""
    ways = {learner.name: False} | ({learner.name + TRANSDUCTIVE: True} if learner.transductive else {})
    return {
        name: score_learner(learner, episodes, collator, transductive=way).accuracy.tolist()
        for name, way in ways.items()
    }


def adaptation(learner: MetaLearner, episodes: Sequence[Episode], collator: Collator) -> float:
    """Return the median CPU milliseconds of adapting to one task, tokens at hand."""
    times = []
    for episode in episodes:
        support = collator([episode]).support
        with torch.no_grad(), fast_matmul():
            start = time.process_time()
            learner.adapt(support)
            times.append(1000 * (time.process_time() - start))
    return median(times)


if __name__ == "__main__":
    tyro.cli(main)
