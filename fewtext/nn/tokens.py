"""Texts to token numbers, in bounded time whatever the texts, and a report of what is lost on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any

import numpy as np

from fewtext.errors import DataError
from fewtext.nn.recipe import Recipe
from fewtext.nn.windows import MOST, spread, windows

BATCH = 256  # texts a tokenizer is given at once for a report: it needs a hundred bytes a token


@dataclass(frozen=True)
class TokenReport:
    """What an encoder gets to read of texts; reports are added up with `+`.

    Attributes:
        texts: how many.
        truncated: how many of them are not read in full.
        tokens: their tokens, special tokens and the prompt's aside.
        unknown: how many of these are the tokenizer's unknown token, which says nothing of what stood there.
        longest: tokens of the longest text, special tokens and prompt included, as far as it was counted.
        limit: how many tokens of a text are read.
    """

    texts: int
    truncated: int
    tokens: int
    unknown: int
    longest: int
    limit: int

    def __add__(self, other: TokenReport) -> TokenReport:
        return TokenReport(
            self.texts + other.texts,
            self.truncated + other.truncated,
            self.tokens + other.tokens,
            self.unknown + other.unknown,
            max(self.longest, other.longest),
            self.limit,
        )

    def __str__(self) -> str:
        return (
            f"{self.truncated:,} of {self.texts:,} texts are longer than {self.limit:,} tokens and not read in full; "
            f"{100 * self.unknown / max(1, self.tokens):.1f} % of the tokens are unknown to the encoder"
        )


class Reader:
    """A tokenizer that reads no more of a text than can matter.

    Attributes:
        tokenizer: of transformers.
        max_length: longest text, or window of one, in tokens, special tokens and prompt included.
        max_characters: of a text, or of one of `MOST` pieces of it. Tokenisers read all of a text before they cut
            it; nothing beyond this many characters can matter.
    """

    def __init__(self, tokenizer: Any, recipe: Recipe, max_length: int) -> None:
        self.tokenizer, self.recipe, self.max_length = tokenizer, recipe, max_length
        self.max_characters = max(16 * max_length, 4096)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return token numbers with special tokens, cut to `max_length`.

        Raises:
            DataError: something that is not a string.
        """
        found = self._prepared(texts, self.max_characters)
        return self.tokenizer(found, truncation=True, max_length=self.max_length)["input_ids"] if found else []

    def windows(self, texts: Sequence[str]) -> list[list[list[int]]]:
        """Return the windows of each text, at most `MOST`, each of them like a text of its own.

        Raises:
            DataError: something that is not a string.
        """
        size = self.max_length - len(self._frame)
        found = []
        for text, ids in zip(texts, self.tokenize(texts), strict=True):
            fits = len(ids) < self.max_length and len(text) <= self.max_characters
            found.append([ids] if fits or size < 1 else self._windows(text, size))
        return found

    def report(self, texts: Sequence[str], *, windows: bool = False) -> TokenReport:
        """Count what `tokenize`, or `windows`, loses of texts.

        Raises:
            DataError: something that is not a string.
        """
        pieces, frame, unknown = MOST if windows else 1, self._frame, self.tokenizer.unk_token_id
        limit, most = len(frame) + pieces * (self.max_length - len(frame)), pieces * self.max_characters
        found = self._prepared(texts, most)
        lengths, strange = [], -len(found) * frame.count(unknown)
        for start in range(0, len(found), BATCH):
            for ids in self._whole(found[start : start + BATCH])["input_ids"]:
                lengths.append(len(ids))
                strange += ids.count(unknown)
        return TokenReport(
            texts=len(found),
            truncated=sum(n > limit or len(text) > most for text, n in zip(texts, lengths, strict=True)),
            tokens=sum(lengths) - len(frame) * len(found),
            unknown=strange,
            longest=max(lengths, default=0),
            limit=limit,
        )

    @cached_property
    def _frame(self) -> list[int]:
        """Tokens that every text begins and ends with: special tokens and the prompt."""
        return self.tokenizer(self._lowered(self.recipe.prompt).rstrip())["input_ids"]

    def _windows(self, text: str, size: int) -> list[list[int]]:
        if len(text) > MOST * self.max_characters:
            starts = spread(len(text), self.max_characters)
            return self.tokenize([text[start : start + self.max_characters] for start in starts])
        encoding = self._whole(self._prepared([text], len(text)))
        ids = encoding["input_ids"][0]
        same = takewhile(lambda pair: pair[0] == pair[1], zip(self._frame, ids, strict=False))
        head = len(list(same))
        end = len(ids) - len(self._frame) + head
        words = encoding.word_ids(0)[head:end] if encoding.is_fast else None
        return [ids[:head] + window + ids[end:] for window in windows(ids[head:end], size, words)]

    def _whole(self, prepared: list[str]) -> Any:
        # Without `verbose`: that a text is too long is what is asked for here, not something to warn of.
        return self.tokenizer(prepared, verbose=False, return_attention_mask=False, return_token_type_ids=False)

    def _prepared(self, texts: Sequence[str], longest: int) -> list[str]:
        prepared = []
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(f"text {row}: a text must be a string, got {type(text).__name__}.")
            text = text[:longest].encode("utf-8", "replace").decode("utf-8")  # lone surrogates
            prepared.append(self._lowered(self.recipe.prompt + text))
        return prepared

    def _lowered(self, text: str) -> str:
        return text.lower() if self.recipe.lower_case else text


def by_length(lengths: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Return the numbers of texts of lengths `[n]`, shortest first, in groups of about `most` tokens."""
    order = np.argsort(lengths, kind="stable")
    while len(order):
        count = max(1, most // max(1, int(lengths[order[0]])))
        yield order[:count]
        order = order[count:]
