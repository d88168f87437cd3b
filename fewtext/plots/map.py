"""Where texts lie to each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from fewtext.plots.spread import spread
from fewtext.plots.style import COLOURS, GREY, RED, checked, checked_classes, drawing, short_names

FEW = 10  # texts for which t-SNE says nothing


def draw_map(
    supports: Any,
    support_labels: Any,
    queries: Any,
    query_labels: Any,
    classes: Sequence[object],
    path: str | Path,
    *,
    guesses: Any = None,
    unknown: Any = None,
    seed: int = 0,
) -> Path:
    """Draw supports and queries as points of a plane, texts with similar embeddings close together.

    The plane is t-SNE's of the cosine distances (https://jmlr.org/papers/v9/vandermaaten08a.html), which takes some
    ten seconds per thousand texts; of 10 texts or fewer it is that of the two principal components. Each class is
    named at its supports. Colours repeat where there are many classes, as far apart as they can.

    Args:
        supports: `[S, D]` embeddings.
        support_labels: `[S]` class numbers.
        queries: `[Q, D]` embeddings.
        query_labels: `[Q]` class numbers; those of unknown texts are not looked at.
        classes: `[N]` names.
        path: PNG, SVG or PDF file to write.
        guesses: `[Q]` class numbers; queries that are guessed wrong get a red ring.
        unknown: `[Q]`, true for texts of no class, which are drawn as crosses.
        seed: of t-SNE.

    Raises:
        DataError: shapes or numbers that do not fit together, or another kind of file.
    """
    sizes = {"N": len(classes)}
    supports, queries = checked("supports", supports, "[S, D]", sizes), checked("queries", queries, "[Q, D]", sizes)
    owners = checked_classes("support_labels", support_labels, "[S]", sizes)
    outside = checked("unknown", np.zeros(len(queries)) if unknown is None else unknown, "[Q]", sizes).astype(bool)
    labels = np.where(outside, 0, checked("query_labels", query_labels, "[Q]", sizes))
    checked_classes("query_labels", labels, "[Q]", sizes)
    guesses = labels if guesses is None else checked_classes("guesses", guesses, "[Q]", sizes)

    places, method = _plane(np.concatenate([supports, queries]).astype(np.float64), seed)
    own, others = places[: len(supports)], places[len(supports) :]
    present = np.unique(owners)
    centres = np.array([_middle(own[owners == number]) for number in present])
    colours = np.full(len(classes), GREY, dtype=object)  # of classes without supports
    colours[present] = _colours(centres)
    names = short_names(classes)
    known, wrong = ~outside, (guesses != labels) & ~outside
    side, tall = float(np.clip(6 + 0.1 * len(present), 7, 16)), max(0.4, places[:, 1].max())
    with drawing(path, side, side * tall + 0.8, classes) as figure:
        axis = figure.subplots()
        axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, tall + 0.03), xticks=[], yticks=[])
        axis.set_title(f"{method}, {len(places):,} texts")
        axis.spines[:].set_visible(False)
        dots = {"s": 10, "alpha": 0.6, "linewidth": 0, "label": "query, in its class's colour"}
        axis.scatter(*others[known].T, c=list(colours[labels[known]]), **dots)
        if wrong.any():
            ring = {"s": 42, "facecolors": "none", "edgecolors": RED, "linewidth": 0.9}
            axis.scatter(*others[wrong].T, label=f"query guessed wrong ({wrong.sum():,})", **ring)
        if outside.any():
            cross = {"s": 22, "c": "black", "marker": "x", "linewidth": 0.7}
            axis.scatter(*others[outside].T, label=f"text of no class ({outside.sum():,})", **cross)
        marked = {"s": 36, "edgecolors": "black", "linewidth": 0.8, "marker": "s", "label": "support"}
        axis.scatter(*own.T, c=list(colours[owners]), **marked)
        figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4)
        _name(figure, centres, [names[number] for number in present])
    return Path(path)


def _plane(vectors: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    """Return places `[n, 2]`, from 0 to 1 the longer way, which is the first, and how they were found."""
    method = "principal components"
    if len(vectors) > FEW:
        from sklearn.manifold import TSNE  # takes a second to import

        perplexity = min(30.0, (len(vectors) - 1) / 3)
        tsne = TSNE(init="pca", metric="cosine", perplexity=perplexity, random_state=seed)
        vectors, method = tsne.fit_transform(vectors), "t-SNE of cosine distances"
    centred = vectors - vectors.mean(axis=0)
    _, _, components = np.linalg.svd(centred, full_matrices=False)
    places = np.pad(centred @ components[:2].T, ((0, 0), (0, 2)))[:, :2]
    places = places - places.min(axis=0)
    return places / max(places.max(), 1e-12), method


def _middle(points: np.ndarray) -> np.ndarray:
    """Return the point nearest to the median, as the median itself may lie among other classes."""
    return points[np.linalg.norm(points - np.median(points, axis=0), axis=1).argmin()]


def _colours(centres: np.ndarray) -> list[str]:
    """Give every class the colour whose classes so far are farthest from it."""
    nearest = np.full((len(COLOURS), len(centres)), np.inf)  # distance from the next class of each colour
    chosen = []
    for number, centre in enumerate(centres):
        colour = int(nearest[:, number].argmax())
        nearest[colour] = np.minimum(nearest[colour], np.linalg.norm(centres - centre, axis=1))
        chosen.append(COLOURS[colour])
    return chosen


def _name(figure: Figure, centres: np.ndarray, names: Sequence[str]) -> None:
    """Write names beside their places, none over another."""
    axis = figure.axes[0]
    halo = [withStroke(linewidth=2.5, foreground="white")]
    style = {"ha": "center", "va": "center", "fontsize": 8, "path_effects": halo, "zorder": 5}
    texts = [axis.text(centre[0], centre[1], name, **style) for centre, name in zip(centres, names, strict=True)]
    figure.draw_without_rendering()  # only now sizes and places in pixels are known,
    figure.set_layout_engine("none")  # and must stay
    boxes = np.array([text.get_window_extent().size for text in texts]) + 3
    frame = axis.get_window_extent()
    start = axis.transData.transform(centres) + np.array([0, 14])  # above the supports
    ends = axis.transData.inverted().transform(spread(start, boxes, frame.min + boxes / 2, frame.max - boxes / 2))
    for text, centre, end in zip(texts, centres, ends, strict=True):
        text.set_position(end)
        axis.plot(*zip(centre, end, strict=True), color="black", linewidth=0.5, zorder=4)
