"""FewShotClassifier: from a handful of labelled texts to a classifier, with scikit-learn's conventions."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from torch import Tensor

from fewtext.artifact import Artifact
from fewtext.artifact.publishable import Publishable
from fewtext.bases import fit_facts, load_base
from fewtext.data.checks import batches, checked_labels, checked_texts
from fewtext.data.texts import readable
from fewtext.errors import ArtifactError, DataError, LearnerError
from fewtext.heads import CHUNK, answers, fit_linear, fit_own
from fewtext.learners import MetaLearner
from fewtext.nn.encoder import Encoder
from fewtext.nn.matmul import fast_matmul
from fewtext.nn.pretrained import best_local_base
from fewtext.refine import refine
from fewtext.tensors import TaskState


@dataclass(frozen=True)
class _Fitted:
    """Everything `fit` finds out; replaced in one assignment, so a failed fit changes nothing."""

    base: str | Path | Encoder | MetaLearner
    learner: MetaLearner
    classes: np.ndarray
    head: TaskState
    facts: dict[str, Any]


class FewShotClassifier(Publishable, ClassifierMixin, BaseEstimator):
    """Learn classes from a few texts each, and classify.

    Args:
        base: folder of a meta-trained learner, folder or hub id of an encoder, or such an object; by default the
            best encoder that is already on this machine, which `base_` names after fitting.
        method: `linear` is weakly regularised logistic regression on the encoder's embeddings, and above 1,000
            classes, where that takes too long, the direction of each class's mean embedding, its cosine similarity
            times 20 the logit; `prototype` is the base learner's own head.
        names: let the label itself, read as words, count as one more text of its class. Labels that are not
            strings have no words.
        refine: adapt the encoder to the texts with LoRA before fitting the linear head, which takes as many seconds
            as plain fitting takes tenths; `auto` keeps that if it helps one held-out text per class, and at fewer
            than 3 texts per class does little of it.
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
        refine: bool | Literal["auto"] = False,
        label_descriptions: Mapping[Any, str] | None = None,
        C: float = 100.0,
        device: str | None = None,
    ) -> None:
        self.base = base
        self.method = method
        self.names = names
        self.refine = refine
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
        if self.refine not in (True, False, "auto") or (self.refine and self.method != "linear"):
            raise LearnerError(f"refine={self.refine!r}: it must be True, False or 'auto', for the linear method.")
        rows, answers = checked_texts(texts), checked_labels(labels)
        if len(rows) != len(answers):
            raise DataError(f"{len(rows)} texts but {len(answers)} labels. Give one label per text.")
        classes, numbers = np.unique(answers, return_inverse=True)
        if len(classes) < 2:
            raise DataError(f"only one class, {classes[0]!r}. A classifier needs texts of at least two.")
        base = self.base if self.base is not None else best_local_base()
        learner = load_base(base)
        learner.to(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        words = self._words(classes)
        start, tried = time.perf_counter(), {}
        with fast_matmul():
            if self.refine:
                learner, tried = refine(learner, rows, numbers, words, self.C, check=self.refine == "auto")
            if self.method == "linear":
                head, means = fit_linear(learner, rows, numbers, words, self.C)
            else:
                head, means = fit_own(learner, rows, numbers, words), None
        facts = fit_facts(learner, classes, numbers, means, time.perf_counter() - start) | tried
        self._fitted = _Fitted(base, learner, classes, head, facts)
        return self

    def predict(self, texts: Iterable[str]) -> np.ndarray:
        """Return the most probable label of each text.

        Raises:
            DataError: texts that are not strings, or empty.
        """
        state = self._state()
        (best,) = answers(state.learner, state.head, checked_texts(texts), lambda logits: (logits.argmax(dim=1),))
        return state.classes[best]

    def predict_proba(self, texts: Iterable[str]) -> np.ndarray:
        """Return probabilities `[n, N]`, columns in the order of `classes_`.

        Raises:
            DataError: texts that are not strings, or empty.
        """
        state = self._state()
        return answers(state.learner, state.head, checked_texts(texts), lambda logits: (logits.softmax(dim=1),))[0]

    def predict_top(self, texts: Iterable[str], k: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Return the `k` most probable labels of each text and their probabilities, `[n, k]` each, best first.

        With fewer than `k` classes it is all of them. However many there are, `[n, N]` is never held.

        Raises:
            DataError: texts that are not strings, or empty.
            LearnerError: `k` below 1.
        """
        return self._top(checked_texts(texts), k)

    def stream(self, texts: Iterable[str]) -> Iterator[tuple[Any, float]]:
        """Yield the most probable label of each text and its probability, in order, in constant memory.

        Texts are taken from any iterable, some thousands at a time.

        Raises:
            DataError: a text that is not a string, or empty; all before its batch have been answered.
        """
        for start, rows in batches(texts, CHUNK):
            labels, probabilities = self._top(checked_texts(rows, first=start), 1)
            yield from zip(labels[:, 0].tolist(), probabilities[:, 0].tolist(), strict=True)

    @property
    def classes_(self) -> np.ndarray:
        """The labels, sorted."""
        return self._state().classes

    @property
    def base_(self) -> str | Path | Encoder | MetaLearner:
        """The base it stands on: `base`, or what was chosen where that is None."""
        return self._state().base

    @property
    def facts_(self) -> dict[str, Any]:
        """What the model card says about data and fitting; what is added here is saved, too."""
        return self._state().facts

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        device: str | None = None,
        token: str | bool | None = None,
    ) -> FewShotClassifier:
        """Load a classifier from a folder or from the hub; it gives the probabilities it gave when saved.

        Args:
            source: folder or hub id.
            revision: commit, branch or tag on the hub.
            device: where to run; `cuda` where there is one by default.
            token: of the hub, where the one that is logged in is not meant.

        Raises:
            ArtifactError: not found, damaged, from a newer version, or not a classifier.
        """
        artifact = Artifact.from_pretrained(source, revision=revision, token=token)
        if artifact.kind != "classifier":
            raise ArtifactError(f"{source}: a meta-trained learner, not a classifier. Give it as base and fit.")
        own = cls(base=str(source), device=device, **artifact.settings)
        learner = artifact.learner.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        head = {name: tensor.to(learner.encoder.device) for name, tensor in artifact.head.items()}
        own._fitted = _Fitted(str(source), learner, np.array(artifact.labels), head, dict(artifact.facts))
        return own

    def _artifact(self) -> Artifact:
        state = self._state()
        labels = state.classes.tolist()
        if not all(isinstance(label, str | int | float | bool) for label in labels):
            raise ArtifactError(f"labels of type {type(labels[0]).__name__} cannot be saved. Use strings or numbers.")
        settings = {"method": self.method, "names": self.names, "refine": self.refine, "C": self.C}
        return Artifact("classifier", state.learner, state.head, tuple(labels), settings, state.facts)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_fitted")

    def _state(self) -> _Fitted:
        if not hasattr(self, "_fitted"):
            raise NotFittedError("this FewShotClassifier knows no classes yet. Call fit(texts, labels) first.")
        return self._fitted

    def _words(self, classes: np.ndarray) -> list[str]:
        """Return the words that stand for each class, "" for none."""
        described = self.label_descriptions or {}
        labels = classes.tolist()
        if unknown := described.keys() - set(labels):
            raise DataError(f"label_descriptions: no class {next(iter(unknown))!r} among the labels.")
        plain = self.names and all(isinstance(label, str) for label in labels)
        return [described.get(label) or (readable(label) if plain else "") for label in labels]

    def _top(self, rows: list[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        state = self._state()
        k = min(k, len(state.classes))
        if k < 1:
            raise LearnerError(f"k={k}: at least one label a text can be asked for.")

        def best(logits: Tensor) -> tuple[Tensor, Tensor]:
            # Of equal logits `max` gives the first, as `argmax` in `predict` does; `topk` gives any.
            values, places = logits.max(dim=1, keepdim=True) if k == 1 else logits.topk(k, dim=1)
            return places, (values - logits.logsumexp(dim=1, keepdim=True)).exp()

        places, probabilities = answers(state.learner, state.head, rows, best)
        return state.classes[places], probabilities
