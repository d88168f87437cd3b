"""What a training run says about itself: before it starts, and in its folder when it is over."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import psutil
from accelerate import Accelerator

from fewtext.data.collate import Collator
from fewtext.data.sampler import EpisodeSampler
from fewtext.errors import FewtextError
from fewtext.learners import MetaLearner
from fewtext.nn.matmul import fast_matmul
from fewtext.run import TrainConfig, TrainHistory


def describe_run(
    learner: MetaLearner,
    episodes: EpisodeSampler,
    validation: EpisodeSampler,
    config: TrainConfig,
    accelerator: Accelerator,
) -> str:
    """Return what a run would do, and how long and with how much memory, measured on a few backward passes."""
    learner.to(accelerator.device).train()
    collator = Collator(episodes.sources, learner.encoder.tokenize)
    tried, ranks = 3, accelerator.num_processes
    together = 1 if config.deterministic else min(config.micro_batch, max(1, config.meta_batch // ranks))
    with fast_matmul(trained=learner.encoder.lora is None):  # as training does
        for number in range(tried):
            if number == 1:  # the first one warms up
                start = time.perf_counter()
            batch = collator([episodes[number * together + more] for more in range(together)])
            learner(batch.to(accelerator.device)).loss.backward()
    seconds = (time.perf_counter() - start) / (tried - 1) / together * config.meta_batch / ranks
    learner.zero_grad()
    trainable = sum(weight.numel() for weight in learner.parameters() if weight.requires_grad)
    everything = sum(weight.numel() for weight in learner.parameters())
    sources = [f"{texts.name} ({len(episodes.classes(n))} classes)" for n, texts in enumerate(episodes.sources)]
    checks = [f"{texts.name} ({len(validation.classes(n))} classes)" for n, texts in enumerate(validation.sources)]
    lines = {
        "learner": f"{learner.name}, {trainable:,} of {everything:,} weights trainable",
        "episodes": f"{episodes.spec}, from {', '.join(sources)}",
        "left out": ", ".join(f"{count} {why}" for why, count in episodes.excluded.items()) or "nothing",
        "validation": f"{validation.spec}, from {', '.join(checks)}",
        "steps": f"at most {config.steps}, of {config.meta_batch} episodes on {ranks} processes",
        "time": f"about {config.steps * seconds / 60:.1f} min without validation ({seconds:.2f} s a step)",
        "memory": f"at its peak {peak_memory() / 2**30:.1f} GiB a process",
    }
    return "".join(f"{name + ':':<12}{text}\n" for name, text in lines.items())


def peak_memory() -> int:
    """Return the most bytes of main memory that this process has held so far."""
    try:
        import resource
    except ImportError:  # on Windows
        return psutil.Process().memory_info().peak_wset  # pyright: ignore[reportAttributeAccessIssue]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def write_history(folder: Path, history: TrainHistory) -> None:
    """Write `log.jsonl`, and `curve.png` where matplotlib is installed."""
    entries = [{"step": step, "loss": loss, "accuracy": right} for step, loss, right in history.steps]
    entries += [{"step": step, "validation": value, "ci95": half} for step, value, half in history.validations]
    text = "".join(json.dumps(entry) + "\n" for entry in sorted(entries, key=lambda entry: entry["step"]))
    (folder / "log.jsonl").write_text(text, "utf-8")
    try:
        from fewtext.plots import draw_history
    except FewtextError:
        return  # a picture is an extra
    draw_history(history.steps, history.validations, folder / "curve.png")
