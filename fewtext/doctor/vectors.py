"""What embeddings show: rephrased texts, texts that are nearer to another class, classes that are easily confused."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor
from torch.nn import functional as F

from fewtext.data.texts import normalise
from fewtext.doctor.findings import HELD_OUT, Finding, Sheet, found
from fewtext.heads import most_alike

# Chosen by reading banking77, clinc150, hwu64 and liu54 with all-MiniLM-L6-v2.
SAME = 0.97  # cosine from which two texts say the same: below it, `turn on` and `turn off` begin to meet
DOUBT = (
    0.25  # cosine by which a text is nearer to another class: of planted wrong labels nine in ten are, of others 1 %
)
MIXED, TWICE = 0.1, 2  # share of two classes' texts that are nearer to the other class, and how many at least
TWINS = 0.9  # cosine of the means of two classes that look alike even where their own texts are told apart
PARTNERS = 8  # texts that one text is compared in detail with
HELD = 2**24  # cosines held at a time


def examine_vectors(sheet: Sheet, vectors: Tensor) -> list[Finding]:
    """Return what the embeddings `[n, D]` of the texts show."""
    vectors = F.normalize(vectors, dim=1)
    return [*_rephrased(sheet, vectors), *_doubtful(sheet, vectors[sheet.supports])]


def alike(vectors: Tensor) -> list[tuple[int, int, float]]:
    """Return pairs of rows of unit vectors `[n, D]` whose cosine is `SAME` or more, the nearest first.

    Of the rows like one row only the nearest `PARTNERS` are looked at, so that n near-copies are not n² pairs.
    """
    pairs, step = {}, max(1, HELD // len(vectors))
    for start in range(0, len(vectors), step):
        cosines = vectors[start : start + step] @ vectors.T
        rows = torch.arange(len(cosines))
        cosines[rows, start + rows] = -1
        values, places = cosines.topk(min(PARTNERS, len(vectors)))
        for row, column in (values >= SAME).nonzero().tolist():
            first, second = sorted((start + row, int(places[row, column])))
            pairs[first, second] = float(values[row, column])
    return sorted(((*pair, cosine) for pair, cosine in pairs.items()), key=lambda pair: -pair[2])


def leave_one_out(vectors: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return how much nearer each text is to another class's mean than to its own, and the nearest such class.

    The text itself is left out of its own class's mean. Where nothing is left of that, the difference is -1.

    Args:
        vectors: `[n, D]`, unit vectors.
        labels: `[n]`, class numbers.
        classes: N, 2 or more.
    """
    sums = torch.zeros(classes, vectors.shape[1]).index_add_(0, labels, vectors)
    means = F.normalize(sums, dim=1)
    own = (F.normalize(sums[labels] - vectors, dim=1) * vectors).sum(dim=1)
    rivals, others = torch.empty_like(own), torch.empty_like(labels)
    step = max(1, HELD // classes)
    for start in range(0, len(vectors), step):
        part = slice(start, start + step)
        cosines = (vectors[part] @ means.T).scatter_(1, labels[part, None], -1)
        rivals[part], others[part] = cosines.max(dim=1)
    return torch.where(labels.bincount(minlength=classes)[labels] > 1, rivals - own, -1.0), others


def _rephrased(sheet: Sheet, vectors: Tensor) -> list[Finding]:
    """Return pairs of texts that say the same, sorted by what is wrong with that."""
    conflicts, leaks, repeats = [], [], []
    for first, second, cosine in alike(vectors):
        if normalise(sheet.texts[first]) == normalise(sheet.texts[second]):
            continue
        example = sheet.example([first, second], f"cosine {cosine:.3f}")
        if sheet.label_sets[first] != sheet.label_sets[second]:
            conflicts.append(example)
        elif sheet.parts[first] != sheet.parts[second]:
            leaks.append(example)
        elif sheet.parts[first] not in HELD_OUT:
            repeats.append(example)
    return [
        *found("nearly one text, different labels", "warning", "One of the labels is probably wrong.", conflicts),
        *found("nearly one text in two row splits", "note", "Keep it in one for scores of unseen texts.", leaks),
        *found("nearly repeated texts", "note", "Texts that differ more teach more.", repeats),
    ]


def _doubtful(sheet: Sheet, vectors: Tensor) -> list[Finding]:
    """Return supports that are probably mislabelled, and pairs of classes that are easily confused.

    As in confident learning (https://arxiv.org/abs/1911.00068) a label is doubted by a model that has not seen it,
    here the nearest class mean. Texts with several labels are near to several.
    """
    if sheet.several:
        lost = "Labels to doubt and confusable classes are not looked for: a text of two classes looks like both."
        return found("texts with several labels", "note", lost, [sheet.example([row]) for row in sheet.several])
    names, numbers = sheet.classes
    if len(names) < 2:
        return []
    labels, supports = torch.from_numpy(numbers), sheet.supports.tolist()
    nearer, others = leave_one_out(vectors, labels, len(names))
    suspects = [row for row in nearer.argsort(descending=True).tolist() if nearer[row] >= DOUBT]
    doubted = [
        sheet.example([supports[row]], f"nearer to {names[int(others[row])]}, by {nearer[row]:.2f}")
        for row in suspects
    ]
    wrong: dict[tuple[int, int], int] = defaultdict(int)
    for row in (nearer > 0).nonzero()[:, 0].tolist():
        one, other = sorted((int(labels[row]), int(others[row])))
        wrong[one, other] += 1
    means = F.normalize(torch.zeros(len(names), vectors.shape[1]).index_add_(0, labels, vectors), dim=1)
    sizes = labels.bincount().tolist()
    shares = {pair: count / (sizes[pair[0]] + sizes[pair[1]]) for pair, count in wrong.items()}
    pairs = {pair for pair, share in shares.items() if share >= MIXED and wrong[pair] >= TWICE}
    pairs |= {(one, other) for one, other, cosine in most_alike(means, len(names)) if cosine >= TWINS}
    confused = []
    for one, other in sorted(pairs, key=lambda pair: (-shares.get(pair, 0), pair)):
        mine, theirs = (labels == one).nonzero()[:, 0], (labels == other).nonzero()[:, 0]
        nearest = int((vectors[mine] @ vectors[theirs].T).argmax())
        row, column = divmod(nearest, len(theirs))
        note = (
            f"{names[one]}, {names[other]}: {wrong[one, other]} of {sizes[one] + sizes[other]} texts are nearer to "
            f"the other class; cosine of the means {float(means[one] @ means[other]):.2f}"
        )
        confused.append(sheet.example([supports[int(mine[row])], supports[int(theirs[column])]], note))
    advice = "Join them, describe both (label_descriptions, or fewtext fit --labels), or label more texts of both."
    return [
        *found("labels to doubt", "warning", "Read these texts again, and correct the label if need be.", doubted),
        *found("classes that are easily confused", "warning", advice, confused),
    ]
