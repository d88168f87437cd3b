"""A classifier as an artifact, and back."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from fewtext.artifact import Artifact
from fewtext.classifier.certainty import Certainty
from fewtext.classifier.fitted import Fitted
from fewtext.classifier.supports import Supports
from fewtext.errors import ArtifactError, DataError
from fewtext.refine import unrefined


def to_artifact(classifier: Any, state: Fitted, *, include_texts: bool) -> Artifact:
    """Return what is to be saved; no texts unless they are wanted.

    Raises:
        ArtifactError: labels that JSON cannot hold.
        DataError: texts are wanted but not there.
    """
    labels = state.classes.tolist()
    if not all(isinstance(label, str | int | float | bool) for label in labels):
        raise ArtifactError(f"labels of type {type(labels[0]).__name__} cannot be saved. Use strings or numbers.")
    if include_texts:
        state.measure_optimism()  # for the edits of whoever loads it
    own, settings = state.certainty, asdict(state.settings) | {"hierarchy": classifier.hierarchy}
    facts = state.facts | ({"calibration": own.measured} if own.measured else {})
    if own.threshold is not None:
        coverage = (own.measured or {}).get("coverage", state.settings.coverage)
        facts["rejection"] = {"threshold": own.threshold, "coverage": coverage}
    return Artifact(
        "classifier",
        state.learner,
        state.head,
        tuple(labels),
        {name: np.asarray(value).item() for name, value in settings.items()},  # grid searches set NumPy's numbers
        facts,
        asdict(own) | {"several": state.several},
        _texts(classifier.supports_) if include_texts else None,
    )


def restored(cls: type, source: str | Path, device: str, *, revision: str | None, token: str | bool | None) -> Any:
    """Return the classifier in a folder or on the hub; see `FewShotClassifier.from_pretrained`."""
    artifact = Artifact.from_pretrained(source, revision=revision, token=token)
    if artifact.kind != "classifier":
        raise ArtifactError(f"{source}: a meta-trained learner, not a classifier. Give it as base and fit.")
    own = cls(base=str(source), device=device, **artifact.settings)
    learner = artifact.learner.to(device)
    head = {name: tensor.to(learner.encoder.device) for name, tensor in artifact.head.items()}
    known = dict(artifact.certainty or {})
    several = bool(known.pop("several", False))
    supports = None
    if artifact.texts is not None:
        try:
            supports = _supports(artifact.texts, artifact.labels, several)
        except (DataError, LookupError, TypeError, ValueError) as error:
            raise ArtifactError(f"{source}: its texts are damaged ({error}).") from error
    given = Certainty(**known) if known else Certainty()
    refined, base = artifact.facts.get("refined"), learner
    if isinstance(refined, dict) and refined.get("kept", True) and learner.encoder.lora is not None:
        base = unrefined(learner) if refined.get("plain_base") else None
    facts, settings = dict(artifact.facts), own._settings()
    own._history = []
    own._become(Fitted(base, learner, np.array(artifact.labels), several, settings, head, facts, supports, given))
    return own


def _texts(supports: Supports) -> dict[str, Any]:
    """Return supports as plain JSON, their labels as class numbers."""
    number = {label: place for place, label in enumerate(supports.classes)}
    labels = (sorted(number[label] for label in own) if supports.several else number[own] for own in supports.labels)
    return {
        "texts": list(supports.texts),
        "labels": list(labels),
        "descriptions": [[number[label], words] for label, words in supports.descriptions.items()],
        "out_of_scope": list(supports.out_of_scope),
        "paraphrases": [[text, list(ways)] for text, ways in supports.paraphrases.items()],
    }


def _supports(found: Any, classes: tuple[Any, ...], several: bool) -> Supports:
    labels = [[classes[n] for n in own] if isinstance(own, list) else classes[own] for own in found["labels"]]
    descriptions = {classes[place]: words for place, words in found["descriptions"]}
    paraphrases = dict(found.get("paraphrases", ()))
    own = Supports.of(found["texts"], labels, classes, descriptions, found["out_of_scope"], paraphrases)
    if own.texts and own.several != several:
        raise ValueError("one label a text where there may be several, or several where there is one")
    return replace(own, several=several)  # without texts the labels do not tell
