"""Meta-train a learner and save it."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from fewtext.artifact import Artifact
from fewtext.checkpoint import Checkpoints, only_writer
from fewtext.data.sampler import EpisodeSampler, EpisodeSpec
from fewtext.errors import TrainingError
from fewtext.files import write_json
from fewtext.jobs.options import Data, Episodes, check_folder
from fewtext.jobs.push import data_facts
from fewtext.jobs.report import describe_run, write_history
from fewtext.learners import learner_class
from fewtext.nn.backbone import Lora
from fewtext.nn.encoder import Encoder
from fewtext.nn.pretrained import MINILM
from fewtext.results import Row, hardware, versions, write_results
from fewtext.run import TrainConfig, TrainHistory
from fewtext.training import meta_train

VALIDATION_TEXTS = 30  # per class: enough to tell learners apart, and encoded in seconds


@dataclass(frozen=True)
class Train:
    """Meta-train a learner on episodes of some classes, validated on others.

    Attributes:
        data: where texts come from.
        episodes: training episodes.
        loop: the outer loop.
        base: hub id or folder of the pretrained encoder.
        revision: commit, branch or tag of the encoder.
        lora_rank: rank of the LoRA adapters; 0 fine-tunes all weights.
        lora_from_layer: adapt only layers from this one upwards.
        bf16: compute in bfloat16.
        weights: how often an episode draws from each card; by default in proportion to its classes.
        seed: of adapters, a learner's own weights, and episodes.
        validation_episodes: 5-way 1-shot episodes for early stopping.
        out: folder of the run; by default runs/<learner>-<card>. It gets `config.json`, `log.jsonl`, `curve.png`,
            `results.json`, and the trained learner in `learner/`.
        resume: go on from the newest checkpoint in `out`.
        dry_run: only say what would be done: classes, episodes, trainable weights, time and memory.
        log_with: trackers to report to (tensorboard, trackio, wandb, mlflow, …), as accelerate names them.
        push_to_hub: push the trained learner to this repository (owner/name).
        private: make a new repository private.
    """

    data: Data = field(default_factory=Data)
    episodes: Episodes = field(default_factory=lambda: Episodes(ways="12", shots="1", queries="3"))
    loop: TrainConfig = field(default_factory=TrainConfig)
    base: str = MINILM
    revision: str | None = None
    lora_rank: int = 8
    lora_from_layer: int = 0
    bf16: bool = False
    weights: tuple[float, ...] = ()
    seed: int = 0
    validation_episodes: int = 200
    out: Path | None = None
    resume: bool = False
    dry_run: bool = False
    log_with: tuple[str, ...] = ()
    push_to_hub: str | None = None
    private: bool = False


def train(name: str, learner_config: Any, options: Train) -> tuple[Path, TrainHistory]:
    """Meta-train the learner `name` and save it; returns the run's folder and what happened.

    Raises:
        DataError: texts that cannot be read or used, or a file in the place of the folder.
        TrainingError: the folder is in use, or holds an interrupted run that is not to be resumed.
    """
    place = "+".join(Path(card).stem for card in options.data.card)
    out = options.out or Path("runs") / f"{name}-{place}"
    check_folder(out)
    accelerator = Accelerator(log_with=list(options.log_with) or None, project_dir=str(out))
    parts = options.data.parts()
    lora = Lora(rank=options.lora_rank, alpha=2 * options.lora_rank, from_layer=options.lora_from_layer)
    encoder = Encoder.from_pretrained(
        options.base,
        revision=options.revision,
        lora=lora if options.lora_rank else None,
        bf16=options.bf16,
        seed=options.seed,
    )
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        learner = learner_class(name)(encoder, learner_config)
    unseen = [*parts["validation"], *parts["test"]]
    spec, weights = options.episodes.spec(), options.weights or None
    episodes = EpisodeSampler(parts["train"], spec, seed=options.seed, weights=weights, exclude=unseen)
    small = [texts.at_most(VALIDATION_TEXTS) for texts in parts["validation"]]
    validation = EpisodeSampler(small, EpisodeSpec(ways=5, shots=1, queries=5), seed=1, exclude=parts["test"])
    if options.dry_run:
        sys.stdout.write(describe_run(learner, episodes, validation, options.loop, accelerator))
        return out, TrainHistory()
    checkpoints = Checkpoints(out / "checkpoints")
    with only_writer(out) if accelerator.is_main_process else nullcontext():
        interrupted = checkpoints.newest() is not None
        if interrupted and not options.resume:
            raise TrainingError(f"{out}: an interrupted run is there. Go on with --resume, or choose another --out.")
        accelerator.wait_for_everyone()
        if options.log_with:
            accelerator.init_trackers("fewtext", config={"learner": name, **asdict(options.loop)})
        if accelerator.is_main_process and not interrupted:
            write_json(
                out / "config.json", describe_options(name, learner_config, options) | {"versions": versions()}
            )
        start = time.perf_counter()
        history = meta_train(
            learner,
            episodes,
            options.loop,
            validation=validation,
            validation_episodes=options.validation_episodes,
            accelerator=accelerator,
            checkpoints=checkpoints,
            on_step=lambda step, loss, right: accelerator.log({"loss": loss, "accuracy": right}, step=step),
        )
        seconds = time.perf_counter() - start
        if accelerator.is_main_process:
            facts = {
                "data": data_facts(options.data.card, options.data.split),
                "fingerprints": {texts.name: texts.fingerprint() for texts in parts["train"]},
                "excluded": dict(episodes.excluded),
                "episodes": str(episodes.spec),
                "loop": asdict(options.loop),
                "seed": options.seed,
                "best_step": history.best_step,
                "seconds": round(seconds, 1),
                "hardware": hardware(accelerator.device),
            }
            artifact = Artifact("learner", learner, facts=facts)
            artifact.save_pretrained(out / "learner")
            write_history(out, history)
            write_results(out / "results.json", _training_rows(history, f"{place}/{name}", seconds))
            shutil.rmtree(checkpoints.folder, ignore_errors=True)  # of use only to a run that was interrupted
            if options.push_to_hub is not None:
                artifact.push_to_hub(options.push_to_hub, private=options.private or None)
        accelerator.wait_for_everyone()
    accelerator.end_training()
    return out, history


def describe_options(name: str, learner_config: Any, options: Train) -> dict[str, Any]:
    """Return the settings of a run as plain JSON, without the places on this machine."""
    settings = asdict(options)
    for key in ("out", "resume", "dry_run", "push_to_hub", "private"):
        del settings[key]
    settings["data"] |= {"data_root": None, "card": [Path(card).name for card in options.data.card]}
    settings["base"] = Path(options.base).name if Path(options.base).is_dir() else options.base
    return {"learner": {"name": name, **asdict(learner_config)}, "options": settings}


def _training_rows(history: TrainHistory, place: str, seconds: float) -> list[Row]:
    rows = [Row(f"{place}/training", seconds, "s", n=len(history.steps))]
    for step, value, half in history.validations:
        rows.append(Row(f"{place}/validation at step {step}", value, "accuracy", half))
    return rows
