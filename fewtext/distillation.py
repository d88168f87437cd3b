"""A classifier's answers, taught to a smaller one on texts without labels.

The student is the lower part of its teacher's encoder: the first layers or, with none, the mean of token embeddings,
which is a static model as those of https://github.com/MinishLab/model2vec are. Its encoder and its head descend
together on the cross-entropy with the teacher's probabilities at a temperature (Hinton et al. 2015,
https://arxiv.org/abs/1503.02531).

How certain the student may be is found on texts that were held out: their labels are drawn from the teacher's
calibrated probabilities, and it rejects as many of them as the teacher does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from numbers import Real

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup

from fewtext.classifier import FewShotClassifier
from fewtext.classifier.certainty import LOOSE, MOST, Certainty, HeldOut, certainty, knowing
from fewtext.classifier.fitted import MEASURED, Fitted
from fewtext.data.checks import checked_texts
from fewtext.data.collate import ragged
from fewtext.embedding import unit
from fewtext.errors import DataError, LearnerError
from fewtext.heads import Examples, fit_linear, nearest
from fewtext.learners.prototypical import Prototypical
from fewtext.nn.encoder import Encoder
from fewtext.nn.logistic import probabilities
from fewtext.nn.matmul import fast_matmul
from fewtext.nn.shorten import shortened
from fewtext.tensors import TaskState

LEAST = 10  # different texts, of which one is held out
HELD_OUT = 0.1  # share of the texts that are held out, at most `MOST`
BATCH, WARMUP = 64, 0.1  # texts per step; share of the steps
WORDS_LR, LR, HEAD_LR = 2e-3, 2e-4, 1e-2  # of token embeddings, of the encoder's other weights, of the head
START = 1.0  # C of the logistic regression that the head begins as


@dataclass(frozen=True)
class Lesson:
    """Texts and what the teachers say of them.

    Attributes:
        texts: n texts.
        chances: `[n, N]`, the mean of the teachers' probabilities.
        targets: `[n, N]`, the same with the temperature of teaching.
        known: `[n]`, the share of the teachers that do not reject a text.
        temperature: of teaching.
        several: whether a text may have several classes.
        windows: whether long texts are read in windows when the student is asked; while it is taught, they are cut.
    """

    texts: list[str]
    chances: Tensor
    targets: Tensor
    known: Tensor
    temperature: float
    several: bool = False
    windows: bool = False

    @classmethod
    def of(cls, teachers: Sequence[Fitted], texts: list[str], temperature: float) -> Lesson:
        """Ask the teachers."""
        parts = zip(*(_answers(state, texts, temperature) for state in teachers), strict=True)
        chances, targets, known = (torch.stack(part).mean(dim=0) for part in parts)
        first = teachers[0]
        return cls(texts, chances, targets, known, temperature, first.several, first.settings.windows)

    def vectors(self, encoder: Encoder) -> Tensor:
        """Return the texts embedded, `[n, D]`."""
        return unit(encoder, self.texts, windows=self.windows)

    def examples(self, encoder: Encoder) -> Examples:
        """Return the texts embedded, with the most probable labels."""
        best = self.chances > 0.5 if self.several else self.chances.argmax(dim=1)
        return Examples(self.vectors(encoder).cpu(), best, 0, self.chances.shape[1])

    def drawn(self, seed: int) -> Tensor:
        """Draw labels from the probabilities, as `HeldOut` has them."""
        generator = torch.Generator().manual_seed(seed)
        if self.several:
            return torch.rand(self.chances.shape, generator=generator) < self.chances
        return torch.multinomial(self.chances, 1, generator=generator)[:, 0]

    def loss(self, logits: Tensor, rows: np.ndarray) -> Tensor:
        """Return the cross-entropy of logits `[m, N]` of m texts, its gradient as large as without temperature."""
        targets, logits = self.targets[rows].to(logits.device), logits / self.temperature
        if self.several:
            loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(rows)
        else:
            loss = F.cross_entropy(logits, targets)
        return self.temperature**2 * loss


def distill(
    teacher: FewShotClassifier | Sequence[FewShotClassifier],
    texts: Iterable[str],
    *,
    layers: int = 0,
    temperature: float = 1.0,
    steps: int = 600,
    seed: int = 0,
) -> FewShotClassifier:
    """Return a smaller and faster classifier that answers like its teacher.

    It has no supports: to edit it, edit the teacher and distil again.

    Args:
        teacher: a fitted classifier, or several of the same classes, whose probabilities are averaged; the student
            is made of the encoder of the first.
        texts: n unlabelled texts like those that are to be classified, best thousands; of more than `steps` × 64,
            so many.
        layers: how many of the encoder's layers to keep, from the first; 0 leaves the mean of token embeddings,
            which is by far the fastest, and all but blind to the order of words.
        temperature: what the teacher's calibrated logits and the student's are divided by in teaching.
        steps: gradient steps, of 64 texts each.
        seed: of the order of the texts, and of the labels drawn.

    Raises:
        DataError: texts that are not strings or empty, too few of them, or teachers of different classes.
        EncoderError: layers that the encoder does not have, or cannot be without.
        LearnerError: no teacher, or a temperature or steps that cannot be.
        NotFittedError: a teacher that knows no classes yet.
    """
    start = time.perf_counter()
    teachers = [teacher] if isinstance(teacher, FewShotClassifier) else list(teacher)
    states, rows = _agreed(teachers), list(dict.fromkeys(checked_texts(texts)))
    state = states[0]
    _check(len(rows), temperature, steps)
    encoder = shortened(state.learner.encoder, layers)
    order = np.random.default_rng(seed).permutation(len(rows))
    rows = [rows[place] for place in order[: steps * BATCH]]
    held = min(MOST, int(HELD_OUT * len(rows)))
    with fast_matmul(trained=True):
        head = _taught(encoder, Lesson.of(states, rows[held:], temperature), steps, seed)
        own = _certainty(encoder, head, Lesson.of(states, rows[:held], temperature), seed)
    settings = replace(state.settings, method="linear", refine=False)
    facts = {name: fact for name, fact in state.facts.items() if name not in MEASURED}
    facts["distilled"] = {
        "texts": len(rows),
        "layers": layers,
        "temperature": temperature,
        "steps": steps,
        "seed": seed,
        "seconds": round(time.perf_counter() - start, 3),
        "other_teachers": [other.facts for other in states[1:]],
    }
    student = FewShotClassifier(encoder, hierarchy=teachers[0].hierarchy, **asdict(settings))
    learner = Prototypical(encoder).eval()
    learner.facts = state.learner.facts
    student._become(Fitted(encoder, learner, state.classes, state.several, settings, head, facts, given=own))
    student._history = []
    return student


def _agreed(teachers: Sequence[FewShotClassifier]) -> list[Fitted]:
    """Return the teachers' states, if they know the same classes."""
    if not teachers or not all(isinstance(own, FewShotClassifier) for own in teachers):
        raise LearnerError("no teacher. Give a fitted classifier, or several of the same classes.")
    states = [own._state() for own in teachers]
    for place, state in enumerate(states):
        if state.several != states[0].several or state.classes.tolist() != states[0].classes.tolist():
            raise DataError(f"teacher {place} has other classes than teacher 0: their answers have no mean.")
    return states


def _check(texts: int, temperature: float, steps: int) -> None:
    if texts < LEAST:
        raise DataError(f"{texts} different texts teach nothing. Give {LEAST} at least, better thousands.")
    if not (isinstance(temperature, Real) and 0 < temperature < math.inf):
        raise LearnerError(f"temperature={temperature!r}: it must be a number above 0.")
    if steps < 1:
        raise LearnerError(f"steps={steps!r}: it must be at least 1.")


def _answers(state: Fitted, texts: list[str], temperature: float) -> tuple[Tensor, ...]:
    """Return a teacher's probabilities `[n, N]` without and with the temperature, and whether it knows `[n]`."""
    own = state.certainty
    threshold = -math.inf if own.threshold is None else own.threshold

    def of(logits: Tensor, vectors: Tensor | None) -> tuple[Tensor, ...]:
        logits = logits / own.temperature
        known = knowing(logits, state.cosines(logits, vectors)) >= threshold
        soft = probabilities(logits / temperature, state.several)
        return probabilities(logits, state.several), soft, known.float()

    return tuple(map(torch.from_numpy, state.ask(texts, of)))


def _taught(encoder: Encoder, lesson: Lesson, steps: int, seed: int) -> TaskState:
    """Train an encoder in place; returns the head that was trained with it."""
    start = fit_linear(lesson.examples(encoder), START, tolerance=LOOSE)
    head = [nn.Parameter(start[name].to(encoder.device)) for name in ("weight", "bias")]
    words = encoder.backbone.get_input_embeddings().weight
    others = [weight for weight in encoder.backbone.parameters() if weight is not words]
    groups = [([words], WORDS_LR), (others, LR), (head, HEAD_LR)]
    optimizer = torch.optim.AdamW([{"params": own, "lr": lr} for own, lr in groups], fused=True)
    schedule = get_cosine_schedule_with_warmup(optimizer, round(WARMUP * steps), steps)
    tokens, rng = encoder.tokenize(lesson.texts), np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(len(tokens)) for _ in range(math.ceil(steps * BATCH / len(tokens)))])
    for step in tqdm(range(steps), desc="distill", unit="step", disable=None):
        rows = order[step * BATCH : (step + 1) * BATCH]
        vectors = encoder(ragged([[tokens[row] for row in rows]]).to(encoder.device))[0]
        optimizer.zero_grad()
        lesson.loss(F.linear(F.normalize(vectors, dim=-1), *head), rows).backward()
        nn.utils.clip_grad_norm_([words, *others, *head], 1.0)
        optimizer.step()
        schedule.step()
    # What was computed from weights is computed again when their version changes, and fused steps leave it.
    torch.autograd.graph.increment_version([words, *others])
    weight, bias = (own.detach() for own in head)
    return {"weight": weight, "bias": bias, "means": lesson.examples(encoder).means().to(encoder.device)}


def _certainty(encoder: Encoder, head: TaskState, lesson: Lesson, seed: int) -> Certainty:
    vectors = lesson.vectors(encoder)
    logits = F.linear(vectors, head["weight"], head["bias"]).cpu()
    found = HeldOut(logits, nearest(vectors, head["means"]).cpu(), lesson.drawn(seed))
    return certainty(found, lesson.known.mean().item())
