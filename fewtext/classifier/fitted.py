"""What fitting finds out: one value, replaced as a whole, so that a failed fit or edit changes nothing."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewtext.bases import fit_facts, load_base
from fewtext.classifier.certainty import (
    Certainty,
    HeldOut,
    certainty,
    cross_validated,
    evenly,
    less_optimistic,
    optimism,
)
from fewtext.classifier.supports import Supports, changes
from fewtext.embedding import held, unit
from fewtext.errors import DataError, LearnerError
from fewtext.heads import Examples, answers, fit_linear, fit_own, nearest
from fewtext.learners import MetaLearner
from fewtext.nn.encoder import Encoder
from fewtext.nn.matmul import fast_matmul
from fewtext.refine import held_out_answers, left_out, refine, refined, schedule
from fewtext.tensors import TaskState

MEASURED = ("results", "calibration", "rejection", "refined")  # facts that an edit makes old
HELD_OUT = 0.4  # share of the texts that a refined encoder's certainty is measured on
UNKNOWN = 0.01  # share of tokens from which on it is worth a warning
logger = logging.getLogger("fewtext")


@dataclass(frozen=True)
class Settings:
    """The parameters of a classifier that decide how it is fitted; see `FewShotClassifier`."""

    method: str
    names: bool
    refine: bool | str
    windows: bool
    C: float
    coverage: float
    about: str | None

    def check(self) -> None:
        """Raise a LearnerError where one of them cannot be."""
        if self.method not in ("linear", "prototype"):
            raise LearnerError(f"method={self.method!r}: it must be 'linear' or 'prototype'.")
        if self.refine not in (True, False, "auto") or (self.refine and self.method != "linear"):
            raise LearnerError(f"refine={self.refine!r}: it must be True, False or 'auto', for the linear method.")
        for name, value in (("names", self.names), ("windows", self.windows)):
            if value not in (True, False):
                raise LearnerError(f"{name}={value!r}: it must be True or False.")
        if self.windows and self.method != "linear":
            raise LearnerError("windows=True needs method='linear': other heads read texts as they are cut.")
        if isinstance(self.C, bool) or not (isinstance(self.C, Real) and 0 < self.C < math.inf):
            raise LearnerError(f"C={self.C!r}: the inverse strength of regularisation must be a number above 0.")
        if not (isinstance(self.coverage, Real) and 0 < self.coverage <= 1):
            raise LearnerError(f"coverage={self.coverage!r}: a share above 0 and at most 1 is needed.")
        if not isinstance(self.about or "", str):
            raise LearnerError(f"about={self.about!r}: it must be a sentence on the texts, or None.")


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted classifier.

    Attributes:
        base: what it stands on, as it was given or chosen; None where that was refined and is not to be had again.
        learner: the same, loaded, and refined where that was asked for.
        classes: `[N]`, the labels.
        several: whether a text may have several labels.
        settings: how it was fitted.
        head: see `fewtext.heads`.
        facts: what a model card says.
        supports: the texts; None where they were not saved.
        given: what `calibrate` or a saved classifier says about certainty; otherwise it is measured when needed.
    """

    base: str | Path | Encoder | MetaLearner | None
    learner: MetaLearner
    classes: np.ndarray
    several: bool
    settings: Settings
    head: TaskState
    facts: dict[str, Any]
    supports: Supports | None = None
    given: Certainty | None = None

    @cached_property
    def certainty(self) -> Certainty:
        """Temperature and thresholds, by cross-validation on the supports."""
        if self.given is not None or self.supports is None:
            return self.given or Certainty()
        own, coverage = self.supports, self.settings.coverage
        if "weight" not in self.head:
            return Certainty()
        held_out = cross_validated(self.examples(own), self.settings.C)
        outside = self.held_out(own.out_of_scope) if own.out_of_scope else None
        found, tried = certainty(held_out, coverage, outside), self.facts.get("refined", {"kept": False})
        if not tried.get("kept", True) or found.threshold is None:
            return found
        if "optimism" not in tried:
            trial = self._refined_held_out(own)
            honest = found if trial is None else certainty(trial, coverage, outside)
            tried["optimism"] = optimism(found, honest)
            return honest
        return less_optimistic(found, tried["optimism"])

    def measure_optimism(self) -> None:
        """Find out how optimistic a refined encoder is, while the texts that it was refined on are at hand."""
        tried = self.facts.get("refined", {"kept": False})
        if self.supports is not None and tried.get("kept", True) and "optimism" not in tried:
            _ = replace(self, given=None).certainty

    def _refined_held_out(self, supports: Supports) -> HeldOut | None:
        """Return answers to texts that a refined encoder has not seen either: it is refined again without them."""
        own, settings = supports.training_set(self.settings.names), self.settings
        held, rest = left_out(own.labels, HELD_OUT)
        if self.base is None or not len(held):
            return None
        held = held[evenly(len(held), len(own.words)).numpy()]
        with fast_matmul():
            learner = refined(self.unrefined(), own.rows(rest), schedule(own))
            found = held_out_answers(learner, own, settings.C, held, rest, windows=settings.windows)
        return HeldOut(*found, torch.from_numpy(own.labels[held]))

    def examples(self, supports: Supports) -> Examples:
        """Return the supports embedded."""
        own, windows = supports.training_set(self.settings.names), self.settings.windows
        with fast_matmul():
            return Examples.of(self.learner.encoder, own, windows=windows)

    def held_out(self, texts: tuple[str, ...] | list[str], labels: np.ndarray | None = None) -> HeldOut:
        """Return the answers to texts, with their class numbers `[n]` if they have any."""

        def of(logits: Tensor, vectors: Tensor | None) -> tuple[Tensor, Tensor]:
            return logits, self.cosines(logits, vectors)

        logits, cosines = map(torch.from_numpy, self.ask(texts, of))
        known = torch.zeros(len(texts), dtype=torch.long) if labels is None else torch.from_numpy(labels)
        return HeldOut(logits, cosines, known)

    def cosines(self, logits: Tensor, vectors: Tensor | None) -> Tensor:
        """Return the cosine similarities to the nearest class mean `[n]`; 0 where a head has no means."""
        if vectors is None or "means" not in self.head:
            return torch.zeros(len(logits), device=logits.device)
        return nearest(vectors, self.head["means"])

    def ask(self, texts: Any, of: Any) -> tuple[np.ndarray, ...]:
        """Return `of(logits, vectors)` for texts; see `answers`."""
        return answers(self.learner, self.head, texts, of, windows=self.settings.windows)

    def holding(self, texts: Sequence[str]) -> AbstractContextManager[None]:
        """Return a context in which texts are encoded once, however much is asked about them."""
        if "weight" not in self.head:
            return nullcontext()  # the learner's own head reads tokens
        return held(self.learner.encoder, texts, windows=self.settings.windows)

    def predicted(self, texts: list[str]) -> np.ndarray:
        """Return the most probable label of each text; where texts may have several, a tuple of labels."""
        if not self.several:
            (best,) = self.ask(texts, lambda logits, _: (logits.argmax(dim=1),))
            return self.classes[best]
        (given,) = self.ask(texts, lambda logits, _: (logits > 0,))
        found = np.empty(len(texts), dtype=object)
        found[:] = [tuple(self.classes[own].tolist()) for own in given]
        return found

    def embedded(self, texts: list[str]) -> Tensor:
        """Return unit embeddings `[n, D]` of texts that are not to be remembered."""
        with fast_matmul():
            return unit(self.learner.encoder, texts, windows=self.settings.windows).cpu()

    def unrefined(self) -> MetaLearner:
        """Return the base, loaded.

        Raises:
            DataError: it was saved refined only.
        """
        if self.base is None:
            raise DataError("the adapters of its base were not saved beside the refined ones. Fit again on the base.")
        return load_base(self.base)

    def edited(self, supports: Supports, *, refine: bool = False) -> Fitted:
        """Return the same classifier with other supports: the head fitted again, the encoder as it is.

        Args:
            supports: the others.
            refine: begin with the base, and refine it as `fit` did.
        """
        learner, settings = self.learner, replace(self.settings, refine=False)
        if refine:
            learner, settings = self.unrefined(), self.settings
        again = fitted(self.base, learner, supports, settings)
        facts = {name: fact for name, fact in self.facts.items() if name not in MEASURED} | again.facts
        if "refined" in self.facts and self.supports is not None and not refine:
            self.measure_optimism()
            earlier = self.facts["refined"].get("changed_since", 0)
            facts["refined"] = self.facts["refined"] | {"changed_since": earlier + changes(self.supports, supports)}
        return replace(again, settings=self.settings, facts=facts)


def fitted(
    base: str | Path | Encoder | MetaLearner | None, learner: MetaLearner, supports: Supports, settings: Settings
) -> Fitted:
    """Fit a head, after refining the encoder where the settings say so.

    Raises:
        DataError: fewer than two classes, one without texts and words, or several labels where that cannot be.
    """
    own = supports.checked().training_set(settings.names)
    start, tried, device = time.perf_counter(), {}, learner.encoder.device
    if supports.several and (settings.refine or settings.method != "linear"):
        raise DataError("texts with several labels need method='linear' without refine.")
    with fast_matmul():
        if settings.refine and supports.texts:
            check, plain = settings.refine == "auto", learner.encoder.lora is None
            learner, tried = refine(learner, own, settings.C, check=check, windows=settings.windows)
            tried["refined"]["plain_base"] = plain
        if settings.method == "linear":
            head = fit_linear(Examples.of(learner.encoder, own, windows=settings.windows), settings.C)
        else:
            head = fit_own(learner, own, settings.about)
    head = {name: tensor.to(device) for name, tensor in head.items()}
    seconds = time.perf_counter() - start
    means = head["means"] if "weight" in head else None  # a learner's own head may call anything so
    facts = fit_facts(learner, supports.classes, supports.shots(), means, seconds) | tried
    report = learner.encoder.report(supports.texts, windows=settings.windows)
    if report.truncated or report.unknown > UNKNOWN * report.tokens:
        logger.warning("%s", report)
    facts["reading"] = asdict(report)
    classes = np.array(supports.classes)
    return Fitted(base, learner, classes, supports.several, settings, head, facts, supports)
