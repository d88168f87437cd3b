"""FewShotClassifier: from a handful of labelled texts to a classifier, with scikit-learn's conventions."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional as F

from fewtext.artifact import Artifact, is_artifact
from fewtext.data.checks import checked_labels, checked_texts
from fewtext.data.collate import labels_of, ragged
from fewtext.data.texts import readable
from fewtext.errors import ArtifactError, DataError, LearnerError
from fewtext.learners import MetaLearner
from fewtext.learners.prototypical import Prototypical
from fewtext.nn.encoder import Encoder
from fewtext.nn.matmul import fast_matmul
from fewtext.nn.pretrained import best_local_base
from fewtext.tensors import Support, TaskState

logger = logging.getLogger("fewtext")

CHUNK = 256  # texts per prediction pass of a learner's own head


@dataclass(frozen=True)
class _Fitted:
    """Everything `fit` finds out; replaced in one assignment, so a failed fit changes nothing."""

    base: str | Path | Encoder | MetaLearner
    learner: MetaLearner
    classes: np.ndarray
    head: TaskState


class FewShotClassifier(ClassifierMixin, BaseEstimator):
    """Learn classes from a few texts each, and classify.

    Args:
        base: folder of a meta-trained learner, folder or hub id of an encoder, or such an object; by default the
            best encoder that is already on this machine, which `base_` names after fitting.
        method: `linear` is weakly regularised logistic regression on the encoder's embeddings; `prototype` is the
            base learner's own head.
        names: let the label itself, read as words, count as one more text of its class. Labels that are not
            strings have no words.
        label_descriptions: words for a label that say more than the label does.
        C: inverse regularisation strength of the linear head.
        device: where to run; `cuda` where there is one by default.

    Example:
        >>> classifier = FewShotClassifier().fit(texts, labels)  # doctest: +SKIP
        >>> classifier.predict(["where is my card?"])  # doctest: +SKIP
    """

    def __init__(
        self,
        base: str | Path | Encoder | MetaLearner | None = None,
        *,
        method: Literal["linear", "prototype"] = "linear",
        names: bool = True,
        label_descriptions: Mapping[Any, str] | None = None,
        C: float = 100.0,
        device: str | None = None,
    ) -> None:
        self.base = base
        self.method = method
        self.names = names
        self.label_descriptions = label_descriptions
        self.C = C
        self.device = device

    def fit(self, texts: Iterable[str], labels: Iterable[Any]) -> FewShotClassifier:
        """Learn from labelled texts.

        Raises:
            DataError: texts that are not strings or empty, missing labels, fewer than two classes.
            EncoderError: no usable base.
            LearnerError: an unknown method.
        """
        if self.method not in ("linear", "prototype"):
            raise LearnerError(f"method={self.method!r}: it must be 'linear' or 'prototype'.")
        rows, answers = checked_texts(texts), checked_labels(labels)
        if len(rows) != len(answers):
            raise DataError(f"{len(rows)} texts but {len(answers)} labels. Give one label per text.")
        classes, numbers = np.unique(answers, return_inverse=True)
        if len(classes) < 2:
            raise DataError(f"only one class, {classes[0]!r}. A classifier needs texts of at least two.")
        base = self.base if self.base is not None else best_local_base()
        learner = load_base(base)
        learner.to(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        fit = self._fit_linear if self.method == "linear" else self._fit_own
        with fast_matmul():
            self._fitted = _Fitted(base, learner, classes, fit(learner, rows, numbers, self._words(classes)))
        return self

    def predict(self, texts: Iterable[str]) -> np.ndarray:
        """Return the most probable label of each text.

        Raises:
            DataError: texts that are not strings, or empty.
        """
        return self.classes_[self._logits(texts).argmax(axis=1)]

    def predict_proba(self, texts: Iterable[str]) -> np.ndarray:
        """Return probabilities `[n, N]`, columns in the order of `classes_`.

        Raises:
            DataError: texts that are not strings, or empty.
        """
        return torch.from_numpy(self._logits(texts)).softmax(dim=1).numpy()

    @property
    def classes_(self) -> np.ndarray:
        """The labels, sorted."""
        return self._state().classes

    @property
    def base_(self) -> str | Path | Encoder | MetaLearner:
        """The base it stands on: `base`, or what was chosen where that is None."""
        return self._state().base

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the classifier as safetensors and JSON; returns the folder. Training texts are not saved.

        Raises:
            ArtifactError: the folder holds something else, or labels that JSON cannot hold.
        """
        state = self._state()
        labels = state.classes.tolist()
        if not all(isinstance(label, str | int | float | bool) for label in labels):
            raise ArtifactError(f"labels of type {type(labels[0]).__name__} cannot be saved. Use strings or numbers.")
        settings = {"method": self.method, "names": self.names, "C": self.C}
        return Artifact("classifier", state.learner, state.head, tuple(labels), settings).save(folder)

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, revision: str | None = None, device: str | None = None
    ) -> FewShotClassifier:
        """Load a classifier from a folder or from the hub; it gives the probabilities it gave when saved.

        Raises:
            ArtifactError: not found, damaged, from a newer version, or not a classifier.
        """
        artifact = Artifact.load(source, revision=revision)
        if artifact.kind != "classifier":
            raise ArtifactError(f"{source}: a meta-trained learner, not a classifier. Give it as base and fit.")
        own = cls(base=str(source), device=device, **artifact.settings)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        head = {name: tensor.to(device) for name, tensor in artifact.head.items()}
        own._fitted = _Fitted(str(source), artifact.learner.to(device), np.array(artifact.labels), head)
        return own

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_fitted")

    def _state(self) -> _Fitted:
        if not hasattr(self, "_fitted"):
            raise NotFittedError("this FewShotClassifier knows no classes yet. Call fit(texts, labels) first.")
        return self._fitted

    def _words(self, classes: np.ndarray) -> list[str]:
        """Return the words that stand for each class, "" for none."""
        described = self.label_descriptions or {}
        if unknown := [label for label in described if label not in classes.tolist()]:
            raise DataError(f"label_descriptions: no class {unknown[0]!r} among the labels.")
        plain = self.names and all(isinstance(label, str) for label in classes.tolist())
        return [described.get(label) or (readable(label) if plain else "") for label in classes.tolist()]

    def _fit_linear(self, learner: MetaLearner, texts: list[str], numbers: np.ndarray, words: list[str]) -> TaskState:
        named = [number for number, word in enumerate(words) if word]
        vectors = _embed(learner.encoder, texts + [words[number] for number in named])
        model = LogisticRegression(C=self.C, max_iter=2000).fit(vectors, np.concatenate([numbers, named]).astype(int))
        weight, bias = model.coef_, model.intercept_
        if len(weight) == 1:  # two classes: the softmax of (0, z) is the sigmoid of z
            weight, bias = np.vstack([0 * weight, weight]), np.array([0.0, bias[0]])
        return {"weight": torch.from_numpy(weight).float(), "bias": torch.from_numpy(bias).float()}

    def _fit_own(self, learner: MetaLearner, texts: list[str], numbers: np.ndarray, words: list[str]) -> TaskState:
        tokenize = learner.encoder.tokenize
        names = [tokenize([word])[0] if word else [] for word in words]
        mask = torch.ones(1, len(words), dtype=torch.bool)
        support = Support(ragged([tokenize(texts)]), labels_of([numbers]), ragged([names]), mask)
        with torch.no_grad():
            return learner.adapt(support.to(learner.encoder.device))

    def _logits(self, texts: Iterable[str]) -> np.ndarray:
        state, rows = self._state(), checked_texts(texts)
        encoder = state.learner.encoder
        with torch.no_grad(), fast_matmul():
            if "weight" in state.head:
                vectors = torch.from_numpy(_embed(encoder, rows))
                return F.linear(vectors, state.head["weight"].cpu(), state.head["bias"].cpu()).numpy()
            ids = encoder.tokenize(rows)
            logits: list[Tensor] = []
            for start in range(0, len(ids), CHUNK):
                query = ragged([ids[start : start + CHUNK]]).to(encoder.device)
                logits.append(state.learner.predict(state.head, query)[0].cpu())
            return torch.cat(logits).numpy()


@cache
def _load(base: str) -> MetaLearner:
    if is_artifact(base):
        return Artifact.load(base).learner
    learner = Prototypical(Encoder.from_pretrained(base)).eval()
    logger.info("FewShotClassifier: base %s, as it was pretrained", base)
    return learner


def load_base(base: str | Path | Encoder | MetaLearner) -> MetaLearner:
    """Return the learner behind a base; what is named by a string is loaded once per process.

    Raises:
        EncoderError: no such encoder.
        ArtifactError: a folder with a damaged artifact.
    """
    if isinstance(base, MetaLearner):
        return base
    return Prototypical(base).eval() if isinstance(base, Encoder) else _load(str(base))


def _embed(encoder: Encoder, texts: Sequence[str]) -> np.ndarray:
    vectors = encoder.encode(texts)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
