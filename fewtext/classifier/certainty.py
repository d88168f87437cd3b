"""How certain a classifier may be: its temperature, and the scores below which it does not know.

Both come from answers to supports that were held out in cross-validation, or to texts given to `calibrate`. The
temperature makes probabilities match the share of right answers (https://arxiv.org/abs/1706.04599). The score of a
text is its largest logit plus its cosine similarity to the nearest class mean: the one tells texts between classes,
the other texts unlike all of them. Prediction sets are split-conformal (https://arxiv.org/abs/0708.3220).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import t as student
from torch import Tensor
from torch.nn import functional as F

from fewtext.errors import DataError
from fewtext.heads import Examples, fit_linear, nearest
from fewtext.metrics.scores import brier_score, calibration_error
from fewtext.nn.logistic import TOLERANCE, probabilities

FOLDS = 5
MOST = 4096  # held-out texts: more say no more
LOGITS = 2**23  # of them, held at a time: with thousands of classes fewer texts must do
LOOSE = 0.01  # tolerance of a fold's fit where it takes time: logits are then within a few thousandths
LARGE = 2**14  # examples × classes from which on it does
FAMILIAR = 8.0  # weight of the cosine; chosen on validation texts of clinc150 and held-out classes of three sets
SPREAD = 0.5  # standard deviation of log temperature before anything is known


@dataclass(frozen=True)
class HeldOut:
    """Answers to texts that the head was not fitted to.

    Attributes:
        logits: `[n, N]`.
        cosines: `[n]`, to the nearest class mean.
        labels: `[n]` class numbers, or `[n, N]` where texts may have several.
    """

    logits: Tensor
    cosines: Tensor
    labels: Tensor

    def scores(self, temperature: float) -> Tensor:
        """Return how sure the classifier is that it knows each text, `[n]`."""
        return knowing(self.logits / temperature, self.cosines)


@dataclass(frozen=True)
class Certainty:
    """What is known about how certain answers are.

    Attributes:
        temperature: that logits are divided by.
        threshold: texts that score less are rejected; None where nothing is known about scores.
        unfamiliar: those of them whose cosine similarity to the nearest class mean is less are unlike every class.
        margin: labels whose logit is at most so much below the best one belong to a prediction set.
        measured: what was found on the texts it comes from: how many, accuracy, ECE and Brier score.
    """

    temperature: float = 1.0
    threshold: float | None = None
    unfamiliar: float = 0.0
    margin: float | None = None
    measured: dict[str, Any] | None = None


def knowing(logits: Tensor, cosines: Tensor) -> Tensor:
    """Return the score `[n]` of texts with calibrated logits `[n, N]` and cosines to the nearest class mean `[n]`."""
    return logits.max(dim=1).values + FAMILIAR * cosines


def cross_validated(examples: Examples, C: float) -> HeldOut | None:
    """Return answers to texts, each by a head that was fitted to the others' folds; None where that cannot be.

    The texts of one class go to different folds, and so do classes of one text each. A text whose class would have
    nothing left is not asked.
    """
    count = len(examples.vectors) - examples.named
    labels = examples.labels[:count]
    groups = labels if labels.dim() == 1 else labels.long().argmax(dim=1)
    # Sorted by embedding, so that the order in which texts were given does not matter.
    order = np.lexsort((*examples.vectors[:count, :2].T.numpy(), groups.numpy()))
    place = np.empty(count, dtype=np.int64)
    place[order] = np.arange(count)
    folds = torch.from_numpy((place + groups.numpy()) % FOLDS)
    asked = torch.zeros(count, dtype=torch.bool)
    asked[evenly(count, examples.ways)] = True
    tolerance, parts = LOOSE if len(examples.vectors) * examples.ways > LARGE else TOLERANCE, []
    for fold in range(FOLDS):
        out = folds == fold
        if not (out & asked).any() or not (examples.named or (~out).any()):
            continue
        known = examples.rows(~out)
        several = known.several
        has = known.labels.any(dim=0) if several else torch.bincount(known.labels, minlength=known.ways) > 0
        answerable = (has | ~labels).all(dim=1) if several else has[labels]
        rows = torch.nonzero(out & asked & answerable)[:, 0]
        if len(rows) and has.sum() > 1:
            head = fit_linear(known, C, tolerance=tolerance)
            vectors = examples.vectors[rows]
            logits = F.linear(vectors, head["weight"], head["bias"])
            parts.append((logits, nearest(vectors, head["means"]), labels[rows]))
    return HeldOut(*map(torch.cat, zip(*parts, strict=True))) if parts else None


def evenly(count: int, ways: int) -> Tensor:
    """Return the places of as many of the texts as say enough and can be held."""
    return torch.linspace(0, count - 1, min(count, MOST, max(1, LOGITS // ways))).long()


def certainty(held_out: HeldOut | None, coverage: float, outside: HeldOut | None = None) -> Certainty:
    """Return temperature and threshold.

    Args:
        held_out: answers to texts of the classes.
        coverage: share of them to accept, where there are no others.
        outside: answers to texts of no class; the threshold is then the one that tells them apart best.
    """
    if held_out is None:
        return Certainty()
    temperature = fitted_temperature(held_out)
    if held_out.labels.dim() == 2:  # no label at all is an answer already
        return Certainty(temperature, measured=measured(held_out, temperature))
    scores = held_out.scores(temperature)
    threshold = lower_bound(scores, coverage)
    if outside is not None:
        threshold = _between(scores, outside.scores(temperature))
    unfamiliar = lower_bound(held_out.cosines, coverage)
    return Certainty(temperature, threshold, unfamiliar, measured=measured(held_out, temperature))


def optimism(found: Certainty, honest: Certainty) -> dict[str, float]:
    """Return how far cross-validation on a refined encoder, which has seen the held-out texts, is from the truth."""
    return {
        "temperature": honest.temperature / found.temperature,
        "threshold": (honest.threshold or 0.0) - (found.threshold or 0.0),
        "unfamiliar": honest.unfamiliar - found.unfamiliar,
    }


def less_optimistic(found: Certainty, by: dict[str, float]) -> Certainty:
    """Return what cross-validation found, corrected by what `optimism` says."""
    return replace(
        found,
        temperature=found.temperature * by["temperature"],
        threshold=(found.threshold or 0.0) + by["threshold"],
        unfamiliar=found.unfamiliar + by["unfamiliar"],
    )


def lower_bound(values: Tensor, coverage: float) -> float:
    """Return what a share `coverage` of values like these `[n]` reaches: their quantile.

    Too few to tell that share by, less than 19 for 95 %, are taken as normally distributed: it is then their
    prediction bound.
    """
    count = len(values)
    if (count + 1) * (1 - coverage) >= 1 or coverage == 1 or count < 2:
        return torch.quantile(values, 1 - coverage).item()
    spread = values.std().item() * math.sqrt(1 + 1 / count)
    return values.mean().item() - float(student.ppf(coverage, count - 1)) * spread


def fitted_temperature(held_out: HeldOut) -> float:
    """Return the temperature of the largest likelihood, near 1 where there are few texts to say otherwise."""
    several = held_out.labels.dim() == 2
    targets = held_out.labels.double()
    logits = held_out.logits.double()

    def loss(log: float) -> float:
        scaled = logits / math.exp(log)
        if several:
            likelihood = F.binary_cross_entropy_with_logits(scaled, targets, reduction="sum")
        else:
            likelihood = F.cross_entropy(scaled, held_out.labels, reduction="sum")
        return likelihood.item() + 0.5 * (log / SPREAD) ** 2

    return math.exp(minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded").x)


def measured(held_out: HeldOut, temperature: float) -> dict[str, Any]:
    """Return accuracy, and ECE and Brier score with the temperature and without, on held-out texts."""
    if held_out.labels.dim() == 2:
        return {"texts": len(held_out.labels), "temperature": temperature}
    labels = held_out.labels.numpy()
    after, before = (probabilities(held_out.logits / t, several=False).numpy() for t in (temperature, 1.0))
    return {
        "texts": len(labels),
        "accuracy": float((after.argmax(axis=1) == labels).mean()),
        "temperature": temperature,
        "ece": calibration_error(after, labels),
        "brier": brier_score(after, labels),
        "ece_before": calibration_error(before, labels),
        "brier_before": brier_score(before, labels),
    }


def conformal_margin(held_out: HeldOut, coverage: float) -> float:
    """Return how far below the best logit a label may be that a prediction set holds.

    Sets then hold the true label with probability `coverage` or more, if the texts come as those here did. How far
    the true label is below the best one does not depend on the temperature but for its unit, so this holds although
    both are found on the same texts.

    Raises:
        DataError: too few texts for that coverage.
    """
    count = len(held_out.labels)
    rank = math.ceil(round((count + 1) * coverage, 9))  # 10 × 0.9 is 9
    if rank > count:
        need = math.ceil(round(coverage / (1 - coverage), 9)) if coverage < 1 else None
        raise DataError(
            f"{count} texts cannot guarantee coverage={coverage}. "
            f"{f'Give {need} or more' if need else 'It must be below 1'}, or lower it."
        )
    below = held_out.logits.max(dim=1).values - held_out.logits.gather(1, held_out.labels[:, None])[:, 0]
    return below.sort().values[rank - 1].item()


def _between(inside: Tensor, outside: Tensor) -> float:
    """Return the threshold of the largest sum of shares: of texts inside above it, and outside below."""
    candidates = torch.cat([inside, outside]).sort().values
    accepted = 1 - torch.searchsorted(inside.sort().values, candidates) / len(inside)
    rejected = torch.searchsorted(outside.sort().values, candidates) / len(outside)
    return candidates[(accepted + rejected).argmax()].item()
