"""Refining an encoder on the supports of one classifier: LoRA, trained by label-anchored sub-episodes.

Each sub-episode draws some of the classes; of each, one text and the class's name make the prototype, and another
text is the query. Where classes are few, it takes more texts of each: up to half of them are queries. Half of the
loss is against the names alone, so that an embedding does not forget what the label says. Prototypical networks
(https://arxiv.org/abs/1703.05175) on the task itself, in place of contrastive pairs.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from fewtext.data.collate import labels_of, ragged
from fewtext.data.training_set import TrainingSet
from fewtext.embedding import unit
from fewtext.heads import Examples, fit_linear, nearest
from fewtext.learners.base import MetaLearner
from fewtext.learners.prototypical import Prototypical
from fewtext.nn.backbone import Lora
from fewtext.nn.encoder import Encoder
from fewtext.tensors import EpisodeBatch, Query, Support

ENOUGH, SHORT = 3, 20  # texts per class for a check on held-out ones; steps where there are fewer


@dataclass(frozen=True)
class RefineConfig:
    """Settings of refining.

    Attributes:
        steps: gradient steps, one sub-episode each.
        ways: most classes in a sub-episode, and about as many queries, if there are enough texts.
        lr: step size of AdamW.
        rank: of the adapters, where the base has none.
        seed: of adapters and sub-episodes.
    """

    steps: int = 40
    ways: int = 24
    lr: float = 5e-4
    rank: int = 8
    seed: int = 0

    def parts(self, classes: int, texts: int) -> tuple[int, int]:
        """Return how many of a class's texts are queries and supports in a sub-episode of so many classes."""
        most = max(1, self.ways // classes)
        queries = max(1, min(most, texts // 2))
        return queries, min(most, texts - queries)


def refine(
    learner: MetaLearner, own: TrainingSet, C: float, *, check: bool, windows: bool = False
) -> tuple[MetaLearner, dict[str, Any]]:
    """Return a learner on a refined encoder, or the one given, and what a model card says about it.

    Args:
        learner: the base.
        own: what to refine it on; one label per text.
        C: inverse regularisation strength of the linear head that is to stand on it.
        check: refine on all but one text per class first, and keep it only if these get more right answers.
        windows: read long texts in windows in that check, as the head will.
    """
    config = schedule(own)
    if not check or config.steps == SHORT:
        return refined(learner, own, config), {"refined": {"steps": config.steps}}
    held, rest = left_out(own.labels)
    right = []
    for candidate in (learner, refined(learner, own.rows(rest))):
        logits, _ = held_out_answers(candidate, own, C, held, rest, windows=windows)
        right.append(float((logits.argmax(dim=1).numpy() == own.labels[held]).mean()))
    facts = {"held_out": len(held), "frozen": right[0], "refined": right[1], "kept": right[1] > right[0]}
    return refined(learner, own) if facts["kept"] else learner, {"refined": facts}


def held_out_answers(
    learner: MetaLearner, own: TrainingSet, C: float, held: np.ndarray, rest: np.ndarray, *, windows: bool = False
) -> tuple[Tensor, Tensor]:
    """Return logits `[m, N]` of the texts at `held` by a linear head of those at `rest`, and their likeness.

    That is their cosine similarity to the nearest class mean, `[m]`.
    """
    head = fit_linear(Examples.of(learner.encoder, own.rows(rest), windows=windows), C)
    vectors = unit(learner.encoder, own.rows(held).texts, windows=windows).cpu()
    return F.linear(vectors, head["weight"], head["bias"]), nearest(vectors, head["means"])


def schedule(own: TrainingSet) -> RefineConfig:
    """Return the usual settings, and fewer steps where a class has fewer texts than a check needs."""
    enough = np.bincount(own.labels, minlength=len(own.words)).min() >= ENOUGH
    return RefineConfig() if enough else RefineConfig(steps=SHORT)


def left_out(labels: np.ndarray, share: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of a share of each class's texts, one at least where there are two, and of all others."""
    places = [np.flatnonzero(labels == number) for number in np.flatnonzero(np.bincount(labels) > 1)]
    held = [row for own in places for row in own[: max(1, int(share * len(own)))]]
    return np.array(held, dtype=np.int64), np.setdiff1d(np.arange(len(labels)), held)


def refined(learner: MetaLearner, own: TrainingSet, config: RefineConfig | None = None) -> Prototypical:
    """Return a learner on a refined copy of the learner's encoder; the learner itself stays as it is.

    Args:
        learner: the base.
        own: what to refine it on; one of the ways to say a text is drawn whenever it is.
        config: settings.
    """
    config = config or RefineConfig()
    student = Prototypical(_trainable_copy(learner.encoder, config)).to(learner.encoder.device)
    student.facts = learner.facts
    (said, owners), tokenize = own.ways(), student.encoder.tokenize
    tokens, names = tokenize(said), [tokenize([word])[0] if word else [] for word in own.words]
    counts = np.bincount(owners)
    first = np.cumsum(counts) - counts  # the place of each text itself, before its paraphrases
    by_class = [np.flatnonzero(own.labels == number) for number in range(len(names))]
    # A class of one text and no name has nothing to be compared with.
    classes = [number for number, rows in enumerate(by_class) if len(rows) + bool(names[number]) > 1]
    if len(classes) < 2:
        return student
    optimizer = torch.optim.AdamW([weight for weight in student.parameters() if weight.requires_grad], lr=config.lr)
    for step in tqdm(range(config.steps), desc="refine", unit="step", disable=None):
        generator = np.random.default_rng((config.seed, step))
        drawn = generator.permutation(classes)[: config.ways]
        shuffled = [generator.permutation(by_class[number]) for number in drawn]
        # One way to say each text:
        chosen = first + generator.integers(counts) if len(said) > len(own.texts) else first
        query, support = [], []
        for place, rows in enumerate(shuffled):
            asked, known = config.parts(len(drawn), len(rows))
            query += [(place, row) for row in chosen[rows[:asked]]]
            support += [(place, row) for row in chosen[rows[asked : asked + known]]]
        batch = EpisodeBatch(
            Support(
                ragged([[tokens[row] for _, row in support]]),
                labels_of([[place for place, _ in support]]),
                ragged([[names[number] for number in drawn]]),
                torch.ones(1, len(drawn), dtype=torch.bool),
            ),
            Query(ragged([[tokens[row] for _, row in query]]), labels_of([[place for place, _ in query]])),
        ).to(student.encoder.device)
        optimizer.zero_grad()
        student(batch).loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
    return student.eval()


def unrefined(learner: MetaLearner) -> MetaLearner:
    """Return the base of a learner whose encoder had no adapters before it was refined; weights are shared."""
    encoder = learner.encoder
    backbone = copy.deepcopy(encoder.backbone, _shared(encoder)).unload()
    own = Prototypical(Encoder(backbone, encoder.tokenizer, encoder.source, encoder.recipe, bf16=encoder.bf16))
    own.facts = learner.facts
    return own.eval()


def _shared(encoder: Encoder) -> dict[int, nn.Parameter]:
    """Return what `deepcopy` is to share: frozen views of all weights but the adapters'."""
    return {
        id(weight): nn.Parameter(weight.detach(), requires_grad=False)
        for name, weight in encoder.backbone.named_parameters()
        if "lora_" not in name
    }


def _trainable_copy(encoder: Encoder, config: RefineConfig) -> Encoder:
    """Return an encoder with adapters of its own; the weights below them are shared."""
    if encoder.lora is not None:
        return copy.deepcopy(encoder, _shared(encoder))
    return Encoder(
        copy.deepcopy(encoder.backbone, _shared(encoder)),
        encoder.tokenizer,
        encoder.source,
        encoder.recipe,
        lora=Lora(rank=config.rank, alpha=2 * config.rank),
        bf16=encoder.bf16,
        seed=config.seed,
    )
