"""What labels alone show: too few texts, classes that are missing, misspelt names, names that say nothing."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations

from fewtext.data.texts import normalise
from fewtext.doctor.findings import HELD_OUT, OUTSIDE, Example, Finding, Sheet, found

FEW, TIMES = 5, 10  # texts of a small class; times that the largest class is larger than one that is out of balance
RARE = 5  # times as many texts as the class whose name is misspelt has the other one
LONG = 8  # letters of a name that hardly resembles another by chance: twice as many texts are enough at few shots
FEWEST = 2  # texts of a class, at most, for that
SHORTEST = 5  # letters of a name that one letter cannot turn into another: `on` and `off` differ on purpose
SEPARATORS = re.compile(r"[\s_/\\.,;:!?'\"()\-]+")
EMPTY_WORDS = {"label", "class", "category", "cluster", "intent", "topic", "group", "type", "tag", "id"}


def examine_classes(sheet: Sheet) -> list[Finding]:
    """Return what is wrong with the classes: their sizes, and their names."""
    names, numbers = sheet.classes
    sizes = Counter(names[number] for number in numbers)
    rising = sorted(names, key=lambda name: (sizes[name], name))
    small = [_sized(name, sizes[name]) for name in rising if sizes[name] < FEW]
    most = max(sizes.values())
    uneven = [_sized(name, sizes[name]) for name in rising if TIMES * sizes[name] < most]
    parts = zip(sheet.label_sets, sheet.parts, strict=True)
    held = Counter(label for labels, part in parts if part in HELD_OUT for label in labels if label != OUTSIDE)
    unknown = [_sized(name, held[name]) for name in sorted(held.keys() - sizes.keys())]
    untested = [_sized(name, sizes[name]) for name in sorted(sizes.keys() - held.keys()) if held]
    wordless = [_sized(name, sizes[name]) for name in names if not _words(name)]
    severity = "warning" if min(sizes.values()) == 1 else "note"
    advice = (
        "Say what they mean (label_descriptions, or fewtext fit --labels): it counts as one more text of their class."
    )
    biggest = f"The largest class, {rising[-1]}, has {most:,} texts: prefer macro-F1, or take as many of each."
    one = [_sized(names[0], most)] if len(names) == 1 else []
    return [
        *found("only one class", "error", "Fit needs two. Is this the right label column, and all of the file?", one),
        *found("classes only in held-out texts", "error", "No answer can be right: correct or drop them.", unknown),
        *_misspelt(sizes + held),
        *found(f"classes of fewer than {FEW} texts", severity, "Label more of them.", small),
        *found(f"classes {TIMES} times smaller than the largest", "note", biggest, uneven),
        *found("classes without held-out texts", "note", "Nothing says how well they are recognised.", untested),
        *found("label names without words", "note", advice, wordless if 2 * len(wordless) > len(names) else []),
    ]


def _misspelt(sizes: Counter[str]) -> list[Finding]:
    """Return pairs of labels that may be one: equal but for case and separators, or rare and one letter off."""
    buckets: dict[str, list[tuple[str, str]]] = {}
    for name in sizes:
        key = SEPARATORS.sub("", normalise(name))
        # Two words that one letter added, dropped, changed or moved turns into each other share one of these.
        shorter = {key[:i] + key[i + 1 :] for i in range(len(key))} if len(key) >= SHORTEST else set()
        for variant in {key} | shorter:
            buckets.setdefault(variant, []).append((name, key))
    pairs = set()
    for bucket in buckets.values():
        for one, other in combinations(bucket, 2):
            (rare, key), (usual, wanted) = sorted((one, other), key=lambda pair: (sizes[pair[0]], pair))
            letters = len(re.findall(r"[^\W\d_]", key)) > 1
            digits = re.findall(r"\d", key) == re.findall(r"\d", wanted)
            times = 2 if len(key) >= LONG and sizes[rare] <= FEWEST else RARE
            near = min(len(key), len(wanted)) >= SHORTEST and times * sizes[rare] <= sizes[usual]
            if letters and digits and (key == wanted or near):
                pairs.add((rare, usual))
    examples = [
        Example(f"{rare!r} ({sizes[rare]:,} texts), {usual!r} ({sizes[usual]:,})") for rare, usual in sorted(pairs)
    ]
    return found("labels that may be one, misspelt", "warning", "Give both the same name if they are.", examples)


def _sized(name: str, size: int) -> Example:
    return Example(f"{name} ({size:,})")


def _words(name: str) -> list[str]:
    """Return the words of a label that mean something; one letter of an alphabet is none, of Chinese it is."""
    words = re.findall(r"[^\W\d_]+", normalise(name))
    return [word for word in words if word not in EMPTY_WORDS and (len(word) > 1 or word > "\u2e80")]
