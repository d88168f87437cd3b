"""Meta-train a learner and save it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from fewtext.artifact import Artifact
from fewtext.data.sampler import EpisodeSampler, EpisodeSpec
from fewtext.jobs.options import Data, Episodes
from fewtext.learners import learner_class
from fewtext.nn.backbone import Lora
from fewtext.nn.encoder import Encoder
from fewtext.nn.pretrained import MINILM
from fewtext.results import Row, write_results
from fewtext.training import TrainConfig, TrainHistory, meta_train

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
        seed: of adapters and episodes.
        validation_episodes: 5-way 1-shot episodes for early stopping.
        out: folder for the artifact and results; by default runs/<learner>-<card>.
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


def train(name: str, learner_config: Any, options: Train) -> tuple[Path, TrainHistory]:
    """Meta-train the learner `name` and save it; returns the folder and what happened."""
    accelerator = Accelerator()
    parts = options.data.parts()
    lora = Lora(rank=options.lora_rank, alpha=2 * options.lora_rank, from_layer=options.lora_from_layer)
    encoder = Encoder.from_pretrained(
        options.base,
        revision=options.revision,
        lora=lora if options.lora_rank else None,
        bf16=options.bf16,
        seed=options.seed,
    )
    learner = learner_class(name)(encoder, learner_config)
    unseen = [*parts["validation"], *parts["test"]]
    episodes = EpisodeSampler(
        parts["train"], options.episodes.spec(), seed=options.seed, weights=options.weights or None, exclude=unseen
    )
    small = [texts.at_most(VALIDATION_TEXTS) for texts in parts["validation"]]
    validation = EpisodeSampler(small, EpisodeSpec(ways=5, shots=1, queries=5), seed=1, exclude=parts["test"])
    start = time.perf_counter()
    history = meta_train(
        learner,
        episodes,
        options.loop,
        validation=validation,
        validation_episodes=options.validation_episodes,
        accelerator=accelerator,
    )
    seconds = time.perf_counter() - start
    place = "+".join(Path(card).stem for card in options.data.card)
    out = options.out or Path("runs") / f"{name}-{place}"
    if accelerator.is_main_process:
        facts = {
            "data": {"sources": [texts.name for texts in parts["train"]], "split": options.data.split},
            "fingerprints": {texts.name: texts.fingerprint() for texts in parts["train"]},
            "excluded": dict(episodes.excluded),
            "episodes": str(episodes.spec),
            "loop": asdict(options.loop),
            "seed": options.seed,
            "best_step": history.best_step,
        }
        Artifact("learner", learner, facts=facts).save(out)
        write_results(out / "results.json", _training_rows(history, f"{place}/{name}", seconds))
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return out, history


def _training_rows(history: TrainHistory, place: str, seconds: float) -> list[Row]:
    rows = [Row(f"{place}/training", seconds, "s", n=len(history.steps))]
    for step, value, half in history.validations:
        rows.append(Row(f"{place}/validation at step {step}", value, "accuracy", half))
    return rows
