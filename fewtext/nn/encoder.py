"""Encoder: any transformers encoder, from ragged tokens to one vector per text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from fewtext.nn.backbone import Lora, attach_lora, is_unchanged, load_backbone, longest_text
from fewtext.nn.frozen_linear import freeze_linears
from fewtext.nn.matmul import fast_matmul
from fewtext.nn.pooling import Pooler
from fewtext.nn.prefix import FrozenPrefix
from fewtext.nn.pretrained import Pretrained, locate
from fewtext.nn.recipe import Recipe, read_recipe
from fewtext.nn.tokens import Reader, TokenReport, by_length
from fewtext.nn.transformer import Transformer
from fewtext.nn.windows import pool_windows
from fewtext.tensors import TaskState, Tokens

CHUNK_TOKENS = 2048  # per forward pass of `encode`: large enough for the matrix units, small enough for the cache
PADDED_ROWS = 32
CACHE_BYTES = 512 * 2**20


class Encoder(nn.Module):
    """A pretrained transformer with pooling and, optionally, LoRA.

    Dropout is always off, so that the same tokens give the same vectors in training and in use. Build one with
    `Encoder.from_pretrained`.

    Attributes:
        backbone: the transformers model, wrapped by peft where there is LoRA.
        source: where the pretrained weights come from.
        lora: the adapters' configuration, or None.
        dimension: D.
        task_weights: names of the backbone's weights that may be given per task.
        transformer: runs the backbone.
        prefix: the frozen layers below the first adapter, or None.
    """

    def __init__(
        self,
        backbone: Any,
        tokenizer: Any,
        source: Pretrained,
        recipe: Recipe,
        *,
        lora: Lora | None = None,
        bf16: bool = False,
        seed: int = 0,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        super().__init__()
        self.tokenizer, self.source, self.recipe, self.lora, self.bf16 = tokenizer, source, recipe, lora, bf16
        config = backbone.config
        self.max_length = min(recipe.max_length or 512, tokenizer.model_max_length, longest_text(config))
        self.reader = Reader(tokenizer, recipe, self.max_length)
        self.prompt_tokens = 0
        if recipe.prompt and not recipe.pool_prompt:
            ids = tokenizer(recipe.prompt)["input_ids"]
            self.prompt_tokens = len(ids) - (ids[-1] in tokenizer.all_special_ids)
        self.pool = Pooler(recipe, config.hidden_size, skip=self.prompt_tokens).requires_grad_(False)
        self.dimension = self.pool.dimension
        self.backbone: Any = backbone if lora is None else attach_lora(backbone, lora, seed)
        self.task_weights = [name for name, _ in self.backbone.named_parameters() if "lora_" in name]
        freeze_linears(self.backbone)
        self.prefix = FrozenPrefix(backbone, lora.from_layer, cache_bytes) if lora and lora.from_layer else None
        self.transformer = Transformer(
            self.backbone, pad=tokenizer.pad_token_id or 0, adapted=lora is not None, bf16=bf16, prefix=self.prefix
        )
        self._memory: dict[int, Tensor] | None = None
        self.train()

    @classmethod
    def from_pretrained(
        cls,
        base: str | Path,
        *,
        revision: str | None = None,
        lora: Lora | None = None,
        bf16: bool = False,
        seed: int = 0,
        cache_bytes: int = CACHE_BYTES,
    ) -> Encoder:
        """Load an encoder by hub id or folder, in full precision.

        Args:
            base: hub id or folder of a transformers or sentence-transformers encoder.
            revision: commit, branch or tag on the hub.
            lora: add adapters; without them all weights are trainable.
            bf16: compute in bfloat16: where autocast allows while training, everywhere without gradients; the
                weights stay in full precision.
            seed: of the adapters' first values.
            cache_bytes: where LoRA begins above the first layer, remember what the frozen layers below it gave for
                so many bytes of texts.

        Raises:
            EncoderError: not found, an unknown kind of module, or damaged weights.
        """
        source = locate(base, revision)
        backbone, tokenizer = load_backbone(source)
        recipe = read_recipe(source.folder)
        return cls(backbone, tokenizer, source, recipe, lora=lora, bf16=bf16, seed=seed, cache_bytes=cache_bytes)

    def __repr__(self) -> str:
        return f"Encoder({str(self.source.id or self.source.folder)!r})"

    def __sklearn_clone__(self) -> Encoder:
        return self  # the clones of a classifier share its base

    def train(self, mode: bool = True) -> Encoder:
        """Set the mode of everything but the backbone, whose dropout stays off."""
        super().train(mode)
        self.backbone.eval()
        return self

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights, and of the vectors whatever the precision of the products."""
        return next(self.parameters()).dtype

    def is_pretrained(self) -> bool:
        """Return whether the weights are still those of the source (adapters aside)."""
        return self.lora is not None or is_unchanged(self.backbone, self.source)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return token numbers with special tokens, cut to `max_length`.

        Raises:
            DataError: something that is not a string.
        """
        return self.reader.tokenize(texts)

    def report(self, texts: Sequence[str], *, windows: bool = False) -> TokenReport:
        """Return how many texts `encode` does not read in full, and how many tokens it does not know.

        Raises:
            DataError: something that is not a string.
        """
        return self.reader.report(texts, windows=windows)

    def forward(self, tokens: Tokens, weights: TaskState | None = None) -> Tensor:
        """Return one vector per text, `[T, S, D]`; absent rows are zero.

        Args:
            tokens: ragged tokens of T tasks.
            weights: some of the backbone's weights by name, each `[T, …]`, to be used instead of its own.
        """
        if self._memory is not None and weights is None:
            return self._remembered(tokens)
        if weights is None or (
            self.transformer.packs and weights.keys() <= set(self.task_weights)
        ):  # all tasks at once
            return self._embed(tokens.ids, tokens.lengths, weights)
        pieces = tokens.ids.split(tokens.lengths.sum(dim=1).tolist())
        rows = []
        for task, ids in enumerate(pieces):
            own = {name: weight[task] for name, weight in weights.items()}
            rows.append(self._embed(ids, tokens.lengths[task : task + 1], own))
        return torch.cat(rows)

    def encode(self, texts: Sequence[str], *, progress: bool | None = False, windows: bool = False) -> np.ndarray:
        """Return the vectors `[n, D]` of many texts, without gradients, in the order given.

        Texts of similar length go together, so that hardly any padding is computed.

        Args:
            texts: n texts.
            progress: show a bar; None: on a terminal.
            windows: read a text longer than `max_length` in windows of that length, instead of cutting it; its
                vector is their mean, the first counting twice. At most 16, spread evenly, with gaps if need be.

        Raises:
            DataError: something that is not a string.
        """
        found = self.reader.windows(texts) if windows else [[ids] for ids in self.tokenize(texts)]
        ids = [window for own in found for window in own]
        lengths = np.array([len(window) for window in ids], dtype=np.int64)
        out = np.empty((len(ids), self.dimension), dtype=np.float32)
        hidden = None if progress is None else not progress
        bar = tqdm(total=len(ids), unit="text", desc="encode", disable=hidden, leave=False)
        with torch.no_grad(), fast_matmul(), bar:
            for rows in by_length(lengths, CHUNK_TOKENS):
                flat = torch.tensor([token for row in rows for token in ids[row]], dtype=torch.long)
                vectors = self._embed(flat.to(self.device), torch.from_numpy(lengths[rows])[None], None)[0]
                out[rows] = vectors.float().cpu().numpy()
                bar.update(len(rows))
        return pool_windows(out, lengths, np.array([len(own) for own in found]), normalise=self.pool.normalise)

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Within this context each text is encoded once and then remembered by its id; no gradients flow.

        The ids must come from one `Collator`. A context within another shares its memory.
        """
        before = self._memory
        self._memory = {} if before is None else before
        try:
            yield
        finally:
            self._memory = before

    def _remembered(self, tokens: Tokens) -> Tensor:
        memory = self._memory
        assert memory is not None
        lengths, known = tokens.lengths.reshape(-1), tokens.text_ids.reshape(-1).tolist()
        keys = [key if key >= 0 else -1 - row for row, key in enumerate(known)]  # unknown texts: a key for this call
        pieces = tokens.ids.split(lengths.tolist())
        new = {key: row for row, key in enumerate(keys) if key not in memory and len(pieces[row])}
        if new:
            ids = torch.cat([pieces[row] for row in new.values()])
            with torch.no_grad():
                vectors = self._embed(ids, lengths[list(new.values())][None], None)[0]
            memory.update(zip(new, vectors, strict=True))
        out = torch.zeros(len(keys), self.dimension, device=self.device, dtype=self.dtype)
        for row, key in enumerate(keys):
            if len(pieces[row]):
                out[row] = memory[key] if key >= 0 else memory.pop(key)
        return out.view(*tokens.lengths.shape, self.dimension)

    def _embed(self, ids: Tensor, lengths: Tensor, weights: TaskState | None) -> Tensor:
        if not len(ids):
            return torch.zeros(*lengths.shape, self.dimension, device=self.device, dtype=self.dtype)
        if self.transformer.packs:
            return self.pool(self.transformer(ids, lengths, weights), lengths)
        flat = lengths.reshape(-1)
        pieces, rows = ids.split(flat.tolist()), torch.argsort(flat)
        vectors = torch.zeros(len(flat), self.dimension, device=self.device, dtype=self.dtype)
        for group in rows[flat[rows] > 0].split(PADDED_ROWS):
            own = torch.cat([pieces[row] for row in group.tolist()])
            hidden = self.transformer(own, flat[group][None], weights)
            vectors = vectors.index_copy(0, group.to(self.device), self.pool(hidden, flat[group][None])[0])
        return vectors.view(*lengths.shape, -1)
