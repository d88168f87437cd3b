"""The configuration of our sequence classifier, apart from it because transformers needs it first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers.configuration_utils import PretrainedConfig

MODEL_TYPE = "fewtext"


class FewtextConfig(PretrainedConfig):
    """What `config.json` says.

    Args:
        encoder: the configuration of the encoder, as transformers writes it.
        pooling: how token vectors become one, each of `POOLINGS`.
        dense: `[in, out, bias, activation]` of each dense layer behind.
        skip: tokens at the start of each text that are not pooled (a prompt's).
        max_length: tokens of a text that are read, special tokens included.
        kwargs: what every configuration has; `id2label` above all.
    """

    model_type = MODEL_TYPE

    def __init__(
        self,
        encoder: Mapping[str, Any] | None = None,
        pooling: Sequence[str] = ("mean",),
        dense: Sequence[Sequence[Any]] = (),
        skip: int = 0,
        max_length: int = 512,
        **kwargs: Any,
    ) -> None:
        self.encoder = dict(encoder or {})
        self.pooling, self.dense = list(pooling), [list(layer) for layer in dense]
        self.skip, self.max_length = skip, max_length
        super().__init__(**kwargs)
