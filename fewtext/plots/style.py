"""What all pictures share: fonts, colours, labels that fit, checked arrays, and how a file is written."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context, rcParams
from matplotlib.figure import Figure  # the object API: no window system
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

from fewtext.errors import DataError

logger = logging.getLogger("fewtext")
BLUE, RED, GREY, PALE = "#0072b2", "#d00000", "#6e6e6e", "#e4e4e4"
# Okabe and Ito's colours, which colour-blind readers tell apart (https://doi.org/10.1038/nmeth.1618).
COLOURS = (BLUE, "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
MARKERS, LINES = "osD^vP*", ("-", "--", ":", "-.")  # for whoever sees no colours at all
Style = tuple[dict[str, Any], str]  # colour and line, and a marker
LOOK: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "text.parse_math": False,  # a dollar sign is one
    "svg.hashsalt": "fewtext",
}
UNDATED = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}  # the same picture, the same bytes


@contextmanager
def drawing(path: str | Path, width: float, height: float, names: Iterable[object] = ()) -> Iterator[Figure]:
    """Give an empty figure of some inches, and write it when it has been drawn.

    Args:
        path: PNG, SVG or PDF file to write.
        width: in inches.
        height: in inches.
        names: what will be written in it, for fonts that can show it.

    Raises:
        DataError: a file of another kind.
    """
    kind = Path(path).suffix.lower()
    if kind not in UNDATED:
        raise DataError(f"{path}: a picture's name must end in one of {', '.join(UNDATED)}, got {kind!r}.")
    families, _ = _fonts(frozenset("".join(map(str, names))))
    with rc_context({"font.family": [*rcParams["font.family"], *families], **LOOK}):
        figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
        yield figure
        figure.savefig(path, metadata=UNDATED[kind])


def short_names(names: Sequence[object], most: int = 30) -> list[str]:
    """Return names as they fit in a picture: one line, shortened in the middle, `#3` where no font shows number 3."""
    lines = [" ".join(str(name).split()) for name in names]
    _, lacking = _fonts(frozenset("".join(lines)))
    if lacking:
        missed = "".join(sorted(lacking))
        logger.warning("no installed font has %s: names with them are drawn as numbers. Install Noto fonts.", missed)
    shown = [f"#{number}" if lacking & set(line) else line for number, line in enumerate(lines)]
    return [line if len(line) <= most else f"{line[: most // 2]}…{line[1 - most // 2 :]}" for line in shown]


@cache
def _fonts(characters: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """Return the font families that show what the usual font lacks, and the characters that none shows."""
    families, lacking = [], _without(characters, findfont(FontProperties()))
    upright = {font.name: font.fname for font in fontManager.ttflist if (font.style, font.weight) == ("normal", 400)}
    for family in sorted(upright) if lacking else []:
        if not family.startswith("Last Resort") and (left := _without(lacking, upright[family])) != lacking:
            families.append(family)
            lacking = left
    return families, lacking


def _without(characters: frozenset[str], file: str) -> frozenset[str]:
    try:
        font = get_font(file)
    except RuntimeError:  # made of bitmaps, as those of coloured emoji are
        return characters
    return frozenset(c for c in characters if not c.isspace() and not font.get_char_index(ord(c)))


def named(name: str, values: Any) -> Iterable[tuple[str, Any]]:
    """Return the items of a mapping, and anything else as the only item, under `name`.

    Raises:
        DataError: an empty mapping.
    """
    if isinstance(values, Mapping) and not values:
        raise DataError(f"{name}: an empty mapping. Give at least one array by name.")
    return values.items() if isinstance(values, Mapping) else [(name, values)]


def styles() -> Iterator[Style]:
    """Yield looks that can be told apart without colours, too."""
    for colour, line, marker in zip(cycle(COLOURS), cycle(LINES), cycle(MARKERS), strict=False):
        yield {"color": colour, "linestyle": line}, marker


def checked(name: str, values: Any, shape: str, sizes: dict[str, int]) -> np.ndarray:
    """Return values as an array of finite numbers of a shape such as `[n, N]`.

    Args:
        name: what the values are, for messages.
        values: what was given.
        shape: names of its sizes.
        sizes: the sizes that are known; those of these values are added.

    Raises:
        DataError: another shape, nothing in it, or something that is no finite number.
    """
    array = np.asarray(values)
    names = shape.strip("[]").split(", ")
    wanted = ", ".join(f"{key}={sizes[key]}" for key in names if key in sizes)
    if array.ndim != len(names) or 0 in array.shape or array.dtype.kind not in "biuf":
        got = f"{array.dtype} of shape {array.shape}"
        raise DataError(f"{name}: numbers of shape {shape} are needed, got {got}. Give such an array.")
    if any(sizes.setdefault(key, size) != size for key, size in zip(names, array.shape, strict=True)):
        raise DataError(f"{name}: shape {shape} with {wanted} is needed, got {array.shape}. Give one for each.")
    if not np.isfinite(array).all():
        raise DataError(f"{name}: {int((~np.isfinite(array)).sum())} values are not finite. Leave those texts out.")
    return array


def checked_classes(name: str, values: Any, shape: str, sizes: dict[str, int]) -> np.ndarray:
    """Return class numbers below the size `N` as an array; arguments as those of `checked`.

    Raises:
        DataError: as `checked`, or something that is no class's number.
    """
    array = checked(name, values, shape, sizes)
    if array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= sizes["N"]:
        raise DataError(
            f"{name}: whole numbers from 0 to {sizes['N'] - 1} are needed, got {array.dtype} from {array.min()} to "
            f"{array.max()}. Give positions in the classes."
        )
    return array
