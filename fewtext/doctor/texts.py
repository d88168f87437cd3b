"""What texts alone show: repeated ones, contradictions, leaks between row splits, broken rows."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from fewtext.data.texts import normalise
from fewtext.doctor.findings import Example, Finding, Sheet, found

LONG, TIMES = 1000, 20  # characters, and times the median length: a quote that is never closed swallows rows


def examine_texts(sheet: Sheet) -> list[Finding]:
    """Return what is wrong with the texts as they stand; two count as the same where `normalise` makes them so."""
    groups: dict[str, dict[tuple[tuple[str, ...], str], list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, text in enumerate(sheet.texts):
        groups[normalise(text)][sheet.label_sets[row], sheet.parts[row]].append(row)
    conflicts, leaks, repeats = [], [], []
    for places in groups.values():
        first = sheet.example([rows[0] for rows in places.values()])
        if len({labels for labels, _ in places}) > 1:
            conflicts.append(first)
        if len({part for _, part in places}) > 1:
            leaks.append(first)
        repeats += [rows for rows in places.values() if len(rows) > 1]
    repeats = [_repeated(sheet, rows) for rows in sorted(repeats, key=len, reverse=True)]
    return [
        *found("one text, different labels", "error", "Decide what is right, and keep one row.", conflicts),
        *found("one text in several row splits", "error", "Keep it in one, or the scores reward memory.", leaks),
        *found("repeated texts", "note", "Keep one of each: repeating a text teaches nothing.", repeats),
        *found("empty texts", "warning", "They are left out.", [Example("", (place,)) for place in sheet.empty]),
        *_overlong(sheet),
    ]


def _repeated(sheet: Sheet, rows: list[int]) -> Example:
    exact = len({sheet.texts[row] for row in rows}) == 1
    return sheet.example(rows[:2], f"{len(rows)} times" + ("" if exact else ", but for case, width or spaces"))


def _overlong(sheet: Sheet) -> list[Finding]:
    """Return texts that are so much longer than the others that they may be several rows."""
    lengths = np.array([len(text) for text in sheet.texts])
    limit = max(LONG, TIMES * float(np.median(lengths)))
    rows = [row for row in np.argsort(-lengths, kind="stable") if lengths[row] > limit]
    examples = [sheet.example([row], f"{lengths[row]:,} characters") for row in rows]
    advice = f"The median is {np.median(lengths):,.0f} characters: look for quotes that are not closed."
    return found("texts far longer than the others", "note", advice, examples)
