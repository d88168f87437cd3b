"""Measure a saved learner on unseen classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from accelerate import Accelerator

from fewtext.artifact import describe, is_artifact
from fewtext.bases import load_base, names_artifact
from fewtext.data.episode_file import read_episodes, write_episodes
from fewtext.data.sampler import EpisodeSampler
from fewtext.errors import LearnerError
from fewtext.jobs.options import Data, Episodes, check_folder
from fewtext.nn.encoder import Encoder
from fewtext.results import Row, write_results
from fewtext.testing import meta_test


@dataclass(frozen=True)
class Test:
    """Measure a meta-trained learner on classes it has not seen, beside the frozen encoder.

    Attributes:
        learner: folder of a meta-trained learner, or folder or hub id of an encoder (tested as prototypical).
        data: where texts come from.
        episodes: test episodes.
        number: how many of them.
        seed: of the episodes.
        all_way: further episodes with all test classes at once; 0 for none.
        part: which classes; look at test only once.
        episodes_file: read the episodes from this file, or write them to it if it is not there.
        out: folder for the results; by default the learner's.
    """

    learner: Annotated[str, tyro.conf.Positional]
    data: Data = field(default_factory=Data)
    episodes: Episodes = field(default_factory=Episodes)
    number: int = 600
    seed: int = 0
    all_way: int = 10
    part: Literal["test", "validation", "train"] = "test"
    episodes_file: Path | None = None
    out: Path | None = None


def test(options: Test) -> list[Row]:
    """Meta-test a saved learner and write the results; returns their rows."""
    if options.out is not None:
        check_folder(options.out)
    accelerator = Accelerator()
    learner = load_base(options.learner)
    learner.to(accelerator.device)
    frozen = _frozen(options.learner, learner.encoder).to(accelerator.device)
    texts = options.data.parts()[options.part]
    episodes: Any = options.number
    if options.episodes_file is not None:
        if not options.episodes_file.exists() and accelerator.is_main_process:
            sampler = EpisodeSampler(texts, options.episodes.spec(), seed=options.seed)
            write_episodes(options.episodes_file, sampler, options.number)
        accelerator.wait_for_everyone()
        episodes = read_episodes(options.episodes_file, texts, options.episodes.spec())
    rows = meta_test(
        learner,
        texts,
        options.episodes.spec(),
        frozen=frozen,
        episodes=episodes,
        seed=options.seed,
        all_way=options.all_way,
        accelerator=accelerator,
        progress=accelerator.is_main_process,
    )
    folder = options.out or (Path(options.learner) if is_artifact(options.learner) else Path("runs/test"))
    if accelerator.is_main_process:
        place = "+".join(Path(card).stem for card in options.data.card)
        kind = "" if options.part == "test" else f"-{options.part}"
        kind += "" if options.episodes.ways == Episodes.ways else f"-{options.episodes.ways}-way"
        name = f"test-{place}-{options.data.split}{kind}-{options.episodes.shots}-shot.json"
        write_results(folder / name, rows)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return rows


def _frozen(source: str, encoder: Encoder) -> Encoder:
    """Return the encoder as it was before meta-training."""
    named = describe(source)["encoder"] if names_artifact(source) else {"id": encoder.source.id, "revision": None}
    if named["id"] is not None:
        return Encoder.from_pretrained(named["id"], revision=named["revision"] or encoder.source.revision)
    if named.get("trained"):
        raise LearnerError(f"{source}: all weights were trained, and its base has no name to compare it with.")
    frozen = Encoder.from_pretrained(encoder.source.folder)
    if encoder.lora is not None:  # its folder may have the adapter merged; its weights do not
        own = encoder.backbone.get_base_model().state_dict()
        base = {name.replace(".base_layer", ""): weight for name, weight in own.items() if "lora_" not in name}
        frozen.backbone.load_state_dict(base)
    return frozen
