"""FewShotClassifier: from a handful of labelled texts to a classifier, with scikit-learn's conventions."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags

from fewtext.artifact.publishable import Publishable
from fewtext.bases import load_base
from fewtext.classifier.answering import Answering
from fewtext.classifier.editing import Editable
from fewtext.classifier.evidence import Explaining
from fewtext.classifier.fitted import Fitted, Settings, fitted
from fewtext.classifier.saving import restored, to_artifact
from fewtext.classifier.suggesting import Suggesting
from fewtext.classifier.supports import Supports
from fewtext.data.checks import check_pairs, checked_texts, column
from fewtext.errors import LearnerError
from fewtext.learners import MetaLearner
from fewtext.nn.encoder import Encoder
from fewtext.nn.logistic import probabilities
from fewtext.nn.pretrained import best_local_base


class FewShotClassifier(Answering, Editable, Explaining, Suggesting, Publishable, ClassifierMixin, BaseEstimator):
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
        classes: the labels that there are; by default those of the texts. One without texts is learned from its
            words.
        label_descriptions: words for a label that say more than the label does.
        about: what the texts are about, in a sentence, for a learner's own head that reads it.
        hierarchy: what separates the levels of labels such as `card/lost`, `/` say.
        coverage: share of the texts of known classes that `classify` is to accept.
        windows: read texts that are longer than the encoder's limit in several windows, instead of cutting them.
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
        classes: Iterable[Any] | None = None,
        label_descriptions: Mapping[Any, str] | None = None,
        about: str | None = None,
        hierarchy: str | None = None,
        coverage: float = 0.95,
        windows: bool = False,
        C: float = 100.0,
        device: str | None = None,
    ) -> None:
        self.base = base
        self.method = method
        self.names = names
        self.refine = refine
        self.classes = classes
        self.label_descriptions = label_descriptions
        self.about = about
        self.hierarchy = hierarchy
        self.coverage = coverage
        self.windows = windows
        self.C = C
        self.device = device

    def fit(
        self,
        texts: Iterable[str] = (),
        labels: Iterable[Any] = (),
        *,
        out_of_scope: Iterable[str] = (),
        paraphrases: Mapping[str, Iterable[str]] | None = None,
    ) -> FewShotClassifier:
        """Learn from labelled texts.

        Args:
            texts: n texts; none are needed where `classes` are given.
            labels: the label of each, or a list of its labels where it may have several, or none.
            out_of_scope: texts that belong to no class; they set the threshold of `classify`.
            paraphrases: other ways to say some of the texts, by text; a text and its paraphrases count as one.

        Raises:
            DataError: texts that are not strings or empty, missing labels, fewer than two classes.
            EncoderError: no usable base.
            LearnerError: a parameter that cannot be.
        """
        settings = self._settings()
        settings.check()
        if self.hierarchy is not None and not (isinstance(self.hierarchy, str) and 1 <= len(self.hierarchy) <= 10):
            raise LearnerError(f"hierarchy={self.hierarchy!r}: it must be a short string such as '/', or None.")
        given = self.classes, self.label_descriptions, out_of_scope, paraphrases
        supports = Supports.of(texts, labels, *given)
        base = self.base if self.base is not None else best_local_base()
        learner = load_base(base)
        learner.to(_device(self.device))
        self._become(fitted(base, learner, supports, settings))
        self._history = []
        return self

    def predict(self, texts: Iterable[str]) -> np.ndarray:
        """Return the most probable label of each text; where texts may have several, a tuple of labels.

        Raises:
            DataError: texts that are not strings, or empty.
        """
        return self._state().predicted(checked_texts(texts))

    def predict_proba(self, texts: Iterable[str]) -> np.ndarray:
        """Return calibrated probabilities `[n, N]`, columns in the order of `classes_`.

        A row sums to 1; where texts may have several labels, each has a probability of its own.

        Raises:
            DataError: texts that are not strings, or empty.
        """
        state, rows = self._state(), checked_texts(texts)
        temperature = state.certainty.temperature
        return state.ask(rows, lambda logits, _: (probabilities(logits / temperature, state.several),))[0]

    def score(self, X: Iterable[str], y: Iterable[Any], sample_weight: Any = None) -> float:
        """Return the accuracy: the share of texts whose label, or whole set of labels, is right.

        Raises:
            DataError: texts that are not strings, or empty; not one label per text.
        """
        guesses, given = self.predict(X).tolist(), list(column(y, "label"))
        check_pairs(guesses, given)
        same = (lambda a, b: set(a) == set(b)) if self.several_ else operator.eq
        own = list(map(same, guesses, given))
        return float(np.average(own, weights=sample_weight))

    def embed(self, texts: Iterable[str]) -> np.ndarray:
        """Return the embeddings that the linear head stands on, `[n, D]`, each of length 1.

        Raises:
            DataError: texts that are not strings, or empty.
        """
        return self._state().embedded(checked_texts(texts)).numpy()

    @property
    def classes_(self) -> np.ndarray:
        """The labels, sorted."""
        return self._state().classes

    @property
    def several_(self) -> bool:
        """Whether a text may have several labels."""
        return self._state().several

    @property
    def base_(self) -> str | Path | Encoder | MetaLearner | None:
        """The base it stands on: `base`, or what was chosen where that is None."""
        return self._state().base if self.base is None else self.base

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
        return restored(cls, source, _device(device), revision=revision, token=token)

    def _artifact(self, *, include_texts: bool = False) -> Any:
        return to_artifact(self, self._state(), include_texts=include_texts)

    def _settings(self) -> Settings:
        return Settings(self.method, self.names, self.refine, self.windows, self.C, self.coverage, self.about)

    def _become(self, state: Fitted) -> None:
        self._fitted = state

    def _state(self) -> Fitted:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError("this FewShotClassifier knows no classes yet. Call fit(texts, labels) first.")
        return self._fitted

    def __sklearn_is_fitted__(self) -> bool:
        return "_fitted" in vars(self)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array, tags.input_tags.one_d_array = True, False, True
        return tags


def _device(name: str | None) -> str:
    try:
        found = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=found)  # it is here, too
    except (AssertionError, RuntimeError, TypeError) as error:
        raise LearnerError(f"device={name!r}: it must be 'cpu', 'cuda' or another device of this machine.") from error
    return str(found)
