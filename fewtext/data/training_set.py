"""What a head is fitted to and an encoder refined on: texts and the words of their classes, ready and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from fewtext.data.collate import Tokenize, labels_of, ragged
from fewtext.data.texts import LabeledTexts
from fewtext.tensors import Support


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Labelled texts and class words.

    Attributes:
        texts: n texts.
        labels: `[n]`, class numbers; or `[n, N]`, whether a text has a class, where it may have several.
        words: what stands for each of the N classes, "" for nothing.
        paraphrases: other ways to say a text, by text; they count as one text with it.
    """

    texts: Sequence[str]
    labels: np.ndarray
    words: Sequence[str]
    paraphrases: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, texts: LabeledTexts) -> TrainingSet:
        """Return all texts of a set, whose classes are called as they are there."""
        words = [texts.words(number) for number in range(len(texts.classes))]
        return cls(texts.texts, texts.labels, words, texts.paraphrases)

    @property
    def named(self) -> list[int]:
        """The numbers of the classes that have words."""
        return [number for number, word in enumerate(self.words) if word]

    def rows(self, chosen: Sequence[int] | np.ndarray) -> TrainingSet:
        """Return the texts at these places; the classes stay."""
        return replace(self, texts=[self.texts[row] for row in chosen], labels=self.labels[chosen])

    def ways(self) -> tuple[list[str], np.ndarray]:
        """Return the texts, each followed by its paraphrases, and of each of these m the place of its text, `[m]`."""
        said = [(text, *self.paraphrases.get(text, ())) for text in self.texts]
        return [way for own in said for way in own], np.repeat(np.arange(len(said)), list(map(len, said)))

    def support(self, tokenize: Tokenize, about: str | None = None) -> Support:
        """Return this as the one task of a learner (T = 1), to which paraphrases are more texts.

        Args:
            tokenize: an encoder's.
            about: what the texts are about, in a sentence, for those learners that read it.
        """
        texts, owners = self.ways()
        names = [tokenize([word])[0] if word else [] for word in self.words]
        mask = torch.ones(1, len(names), dtype=torch.bool)
        told = ragged([tokenize([about])]) if about else None
        return Support(ragged([tokenize(texts)]), labels_of([self.labels[owners]]), ragged([names]), mask, told)
