"""What each entry of `fewtext.json` may be: strangers write it, too."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

Allowed = Callable[[Any], bool]

MOST_TEXT, MOST_TEXTS = 2**20, 10**6  # characters of a text; texts
MOST_RANK, MOST_ALPHA, MOST_COUNT, MOST_VALUE, MOST_CANARIES = 256, 2**16, 256, 1e6, 64


def is_number(value: Any) -> bool:
    """Return whether this is a number, and not a truth value."""
    return type(value) in (int, float)


def is_flag(value: Any) -> bool:
    """Return whether this is a truth value, or a number that stands for one."""
    return value in (0, 1)


def is_setting(value: Any, kind: Any) -> bool:
    """Return whether a learner's setting is of its kind, and no number so large that the learner never finishes."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in inner)
    if origin in (Union, UnionType):
        return any(is_setting(value, choice) for choice in inner)
    if origin in (tuple, list):
        return isinstance(value, list) and all(is_setting(part, inner[0]) for part in value)
    if kind is int:
        return type(value) is int and 0 <= value <= MOST_COUNT
    return is_number(value) and abs(value) <= MOST_VALUE if kind is float else isinstance(value, kind)


def _text(pattern: str, most: int = 1000) -> Allowed:
    fits = re.compile(pattern, re.DOTALL).fullmatch
    return lambda value: isinstance(value, str) and len(value) <= most and bool(fits(value))


def _list(allowed: Allowed, least: int = 0, most: int = 1000) -> Allowed:
    return lambda value: isinstance(value, list) and least <= len(value) <= most and all(map(allowed, value))


def _none_or(allowed: Allowed) -> Allowed:
    return lambda value: value is None or allowed(value)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _are_labels(value: Any) -> bool:
    """Return whether these are different labels of one type."""
    kinds = {type(label) for label in value} if isinstance(value, list) else {None}
    if not kinds <= {str} and kinds not in ({int}, {float}, {bool}):
        return False
    sound = (bool(label.strip()) if kinds == {str} else abs(label) < 2**63 for label in value)
    return all(sound) and len(set(value)) == len(value)


def _are_settings(value: Any) -> bool:
    return isinstance(value, dict) and all(key in SETTINGS and SETTINGS[key](own) for key, own in value.items())


def _are_certain(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == CERTAINTY.keys()
        and all(CERTAINTY[key](own) for key, own in value.items())
    )


def _is_finite(value: Any) -> bool:
    return is_number(value) and abs(value) <= MOST_VALUE


SETTINGS: dict[str, Allowed] = {
    "method": _text("linear|prototype"),
    "names": is_flag,
    "refine": lambda value: is_flag(value) or value == "auto",
    "about": _none_or(_text(".*", MOST_TEXT)),
    "hierarchy": _none_or(_text(".+", 10)),
    "coverage": lambda value: is_number(value) and 0 < value <= 1,
    "windows": is_flag,
    "C": lambda value: is_number(value) and value > 0,
}
"""The parameters of a classifier; its settings hold no others."""
OPTIMISM = {"temperature", "threshold", "unfamiliar"}
CERTAINTY: dict[str, Allowed] = {
    "several": is_flag,
    "temperature": lambda value: _is_finite(value) and value >= 1e-3,
    "threshold": _none_or(_is_finite),
    "unfamiliar": _is_finite,
    "margin": _none_or(lambda value: _is_finite(value) and value >= 0),
    "measured": _none_or(
        lambda value: isinstance(value, dict) and len(value) <= 20 and all(map(is_number, value.values()))
    ),
}
"""What a classifier knows about its certainty: all of it."""
ENTRIES: dict[str, Allowed] = {
    "fewtext_version": _text(".*"),
    "style": _text("adapter|merged"),
    "kind": _text("learner|classifier"),
    "learner": _is_object,
    "learner.name": _text(".*"),
    "learner.config": _is_object,
    "encoder": _is_object,
    "encoder.id": _none_or(_text(r"(\w[\w.-]*/)?\w[\w.-]*", 200)),  # no path
    "encoder.revision": _none_or(_text("[0-9a-f]{40}")),
    "encoder.sha256": _text("[0-9a-f]{64}"),
    "encoder.lora": _none_or(_is_object),
    "encoder.lora.rank": lambda value: type(value) is int and 1 <= value <= MOST_RANK,
    "encoder.lora.alpha": lambda value: is_number(value) and 0 < value <= MOST_ALPHA,
    "encoder.lora.targets": _list(_text(r"[^\W\d][\w.]*")),
    "encoder.lora.from_layer": lambda value: type(value) is int and 0 <= value <= MOST_COUNT,
    "encoder.bf16": is_flag,
    "labels": _are_labels,
    "settings": _are_settings,
    "facts": _is_object,
    "certainty": _none_or(_are_certain),
    "canaries": _list(_text(r".*\S.*"), 1, MOST_CANARIES),
    "versions": lambda value: isinstance(value, dict) and all(map(_text(".*"), value.values())),
}
"""What must be there, from the outside in; of what is None, there need be no more. Other entries are not read."""


def are_texts(value: Any, ways: int, several: bool) -> bool:
    """Return whether these are a classifier's texts, with class numbers below `ways`, or lists of them."""

    def is_class(number: Any) -> bool:
        return type(number) is int and 0 <= number < ways

    text, count = _text(r".*\S.*", MOST_TEXT), MOST_TEXTS
    allowed = {
        "texts": _list(text, most=count),
        "labels": _list(_list(is_class, most=ways) if several else is_class, most=count),
        "descriptions": _list(
            lambda own: isinstance(own, list) and len(own) == 2 and is_class(own[0]) and text(own[1]), most=ways
        ),
        "out_of_scope": _list(text, most=count),
        "paraphrases": _list(
            lambda own: isinstance(own, list) and len(own) == 2 and text(own[0]) and _list(text, most=count)(own[1]),
            most=count,
        ),
    }
    if not isinstance(value, dict) or value.keys() | {"paraphrases"} != allowed.keys():  # which older ones lack
        return False
    sound = all(allowed[key](own) for key, own in value.items())
    return sound and len(value["texts"]) == len(value["labels"])


def is_refined(value: Any) -> bool:
    """Return whether this is what a classifier knows about its refining: edits calculate with it."""
    if not isinstance(value, dict):
        return False
    by = value.get("optimism", dict.fromkeys(OPTIMISM, 1))
    sound = isinstance(by, dict) and by.keys() == OPTIMISM and all(map(_is_finite, by.values()))
    plain = all(is_number(own) or is_flag(own) for key, own in value.items() if key != "optimism")
    return sound and by["temperature"] > 0 and plain


def wrong_entry(found: Mapping[str, Any]) -> str | None:
    """Return the first entry that is missing or not allowed, or None."""
    for name, allowed in ENTRIES.items():
        *outer, last = name.split(".")
        place: Any = found
        for key in outer:
            place = place and place[key]
        if place is not None and not (last in place and allowed(place[last])):
            return name
    return None
