"""Encoder: any transformers encoder, from ragged tokens to one vector per text.

How tasks and texts share forward passes (packed, padded, one task at a time) is decided here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.func import functional_call
from tqdm import tqdm
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from fewtext.errors import DataError, EncoderError
from fewtext.nn.layout import lay_out
from fewtext.nn.pooling import Pooler
from fewtext.nn.pretrained import Pretrained, Recipe, locate, read_recipe
from fewtext.nn.task_linear import allow_task_weights
from fewtext.tensors import TaskState, Tokens

# Absolute positions given by the caller and 4-D masks: what packing needs. The number added to a position.
PACKABLE = {"bert": 0, "electra": 0, "roberta": 2, "xlm-roberta": 2, "camembert": 2}
CHUNK_TOKENS = 4096  # per forward pass of `encode`: large enough for the matrix units, small enough for the cache
PADDED_ROWS = 32


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters on the linear layers of an encoder (https://arxiv.org/abs/2106.09685).

    Attributes:
        rank: inner dimension R.
        alpha: the product of the two factors is scaled by alpha / rank.
        targets: names of the linear layers to adapt; empty means all of them.
        from_layer: adapt only layers from this one upwards.
    """

    rank: int = 8
    alpha: int = 16
    targets: tuple[str, ...] = ()
    from_layer: int = 0


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
    """

    def __init__(
        self,
        backbone: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        source: Pretrained,
        recipe: Recipe,
        *,
        lora: Lora | None = None,
        bf16: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.tokenizer, self.source, self.recipe, self.lora, self.bf16 = tokenizer, source, recipe, lora, bf16
        config = backbone.config
        positions = getattr(config, "max_position_embeddings", 512) - PACKABLE.get(config.model_type, 0)
        self.max_length = min(recipe.max_length or 512, tokenizer.model_max_length, positions)
        self.prompt_tokens = 0
        if recipe.prompt and not recipe.pool_prompt:
            ids = tokenizer(recipe.prompt)["input_ids"]
            self.prompt_tokens = len(ids) - (ids[-1] in tokenizer.all_special_ids)
        self.pool = Pooler(recipe, config.hidden_size, skip=self.prompt_tokens)
        self.dimension = self.pool.dimension
        self.packs = config.model_type in PACKABLE
        self._first_position = PACKABLE.get(config.model_type, 0)
        self.backbone = backbone if lora is None else _with_lora(backbone, lora, seed)
        self.task_weights = [] if lora is None else allow_task_weights(self.backbone)
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
    ) -> Encoder:
        """Load an encoder by hub id or folder, in full precision.

        Args:
            base: hub id or folder of a transformers or sentence-transformers encoder.
            revision: commit, branch or tag on the hub.
            lora: add adapters; without them all weights are trainable.
            bf16: compute in bfloat16 where autocast allows; weights stay in full precision.
            seed: of the adapters' first values.

        Raises:
            EncoderError: not found, an unknown kind of module, or damaged weights.
        """
        source = locate(base, revision)
        try:
            config = AutoConfig.from_pretrained(source.folder, trust_remote_code=False)
            backbone, info = AutoModel.from_pretrained(
                source.folder,
                config=config,
                dtype=torch.float32,
                attn_implementation="sdpa" if config.model_type not in PACKABLE else "eager",
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=False)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise EncoderError(f"base {base}: cannot be loaded ({str(error).splitlines()[0]}).") from error
        if missing := sorted(key for key in info["missing_keys"] if "pooler" not in key):
            raise EncoderError(f"base {base}: {len(missing)} weights are missing, {missing[0]} first.")
        if getattr(backbone, "pooler", None) is not None:
            backbone.pooler = None  # often freshly initialised, and never used here
        for name, weight in backbone.named_parameters():
            if not weight.isfinite().all():
                raise EncoderError(f"base {base}: {name} holds NaN or infinite values; the file is damaged.")
        return cls(backbone, tokenizer, source, read_recipe(source.folder), lora=lora, bf16=bf16, seed=seed)

    def train(self, mode: bool = True) -> Encoder:
        """Set the mode of everything but the backbone, whose dropout stays off."""
        super().train(mode)
        self.backbone.eval()
        return self

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return token numbers with special tokens, cut to `max_length`.

        Raises:
            DataError: something that is not a string.
        """
        # Tokenisers read all of a text before they cut it; nothing beyond this many characters can matter.
        longest = max(16 * self.max_length, 4096)
        prepared = []
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(f"text {row}: a text must be a string, got {type(text).__name__}.")
            text = text[:longest].encode("utf-8", "replace").decode("utf-8")  # lone surrogates
            prepared.append(self.recipe.prompt + (text.lower() if self.recipe.lower_case else text))
        if not prepared:
            return []
        return self.tokenizer(prepared, truncation=True, max_length=self.max_length)["input_ids"]

    def forward(self, tokens: Tokens, weights: TaskState | None = None) -> Tensor:
        """Return one vector per text, `[T, S, D]`; absent rows are zero.

        Args:
            tokens: ragged tokens of T tasks.
            weights: some of the backbone's weights by name, each `[T, …]`, to be used instead of its own.
        """
        if self._memory is not None and weights is None:
            return self._remembered(tokens)
        parallel = weights is None or (self.packs and weights.keys() <= set(self.task_weights))
        if parallel:
            return self._embed(tokens.ids, tokens.lengths, weights)
        pieces = tokens.ids.split(tokens.lengths.sum(dim=1).tolist())
        rows = []
        for task, ids in enumerate(pieces):
            own = {name: weight[task] for name, weight in weights.items()}
            rows.append(self._embed(ids, tokens.lengths[task : task + 1], own))
        return torch.cat(rows)

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
        """Return the vectors `[n, D]` of many texts, without gradients, in the order given.

        Texts of similar length go together, so that hardly any padding is computed.
        """
        ids = self.tokenize(texts)
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        out = np.empty((len(ids), self.dimension), dtype=np.float32)
        with torch.inference_mode(), tqdm(total=len(ids), unit="text", desc="encode", disable=not progress) as bar:
            start = 0
            while start < len(order):
                stop = min(len(order), start + max(1, CHUNK_TOKENS // max(1, len(ids[order[start]]))))
                rows = order[start:stop]
                flat = torch.tensor([token for row in rows for token in ids[row]], dtype=torch.long)
                lengths = torch.tensor([[len(ids[row]) for row in rows]])
                out[rows] = self._embed(flat.to(self.device), lengths, None)[0].float().cpu().numpy()
                bar.update(len(rows))
                start = stop
        return out

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Within this context each text is encoded once and then remembered by its id; no gradients flow."""
        self._memory = {}
        try:
            yield
        finally:
            self._memory = None

    def _remembered(self, tokens: Tokens) -> Tensor:
        memory = self._memory
        assert memory is not None
        text_ids, lengths = tokens.text_ids.reshape(-1).tolist(), tokens.lengths.reshape(-1)
        pieces = tokens.ids.split(lengths.tolist())
        new = {key: row for row, key in enumerate(text_ids) if key not in memory and len(pieces[row])}
        if new:
            ids = torch.cat([pieces[row] for row in new.values()])
            with torch.no_grad():
                vectors = self._embed(ids, lengths[list(new.values())][None], None)[0]
            memory.update(zip(new, vectors, strict=True))
        absent = torch.zeros(self.dimension, device=self.device)
        rows = [memory[key] if len(piece) else absent for key, piece in zip(text_ids, pieces, strict=True)]
        return torch.stack(rows).view(*tokens.lengths.shape, -1) if rows else absent.expand(*tokens.lengths.shape, -1)

    def _embed(self, ids: Tensor, lengths: Tensor, weights: TaskState | None) -> Tensor:
        if not len(ids):
            return torch.zeros(*lengths.shape, self.dimension, device=self.device)
        if self.packs:
            return self.pool(self._tokens(ids, lengths, weights), lengths)
        flat = lengths.reshape(-1)
        pieces, rows = ids.split(flat.tolist()), torch.argsort(flat)
        vectors = torch.zeros(len(flat), self.dimension, device=self.device)
        for group in rows[flat[rows] > 0].split(PADDED_ROWS):
            own = torch.cat([pieces[row] for row in group.tolist()])
            hidden = self._tokens(own, flat[group][None], weights)
            vectors = vectors.index_copy(0, group.to(self.device), self.pool(hidden, flat[group][None])[0])
        return vectors.view(*lengths.shape, -1)

    def _tokens(self, ids: Tensor, lengths: Tensor, weights: TaskState | None) -> Tensor:
        """Return the last hidden states `[total, H]` of ragged tokens."""
        layout = lay_out(ids, lengths, packed=self.packs, pad=self.tokenizer.pad_token_id or 0)
        inputs = {"input_ids": layout.ids, "attention_mask": (layout.text >= 0).long()}
        if self.packs:
            inputs["attention_mask"] = layout.block_mask(torch.float32)
            inputs["position_ids"] = layout.position + self._first_position
        device = layout.ids.device.type
        with torch.autocast(device, dtype=torch.bfloat16) if self.bf16 else nullcontext():
            if weights is None:
                hidden = self.backbone(**inputs).last_hidden_state
            else:
                hidden = functional_call(self.backbone, weights, (), inputs).last_hidden_state
        return hidden.reshape(-1, hidden.shape[-1])[layout.flat].float()


def _with_lora(backbone: nn.Module, lora: Lora, seed: int) -> nn.Module:
    linears = {name.rsplit(".", 1)[-1] for name, module in backbone.named_modules() if isinstance(module, nn.Linear)}
    if unknown := sorted(set(lora.targets) - linears):
        raise EncoderError(f"LoRA target {unknown[0]!r}: the encoder's linear layers are {sorted(linears)}.")
    depth = backbone.config.num_hidden_layers
    if not 0 <= lora.from_layer < depth:
        raise EncoderError(f"LoRA from layer {lora.from_layer}: the encoder has layers 0 to {depth - 1}.")
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=sorted(lora.targets or linears),
        layers_to_transform=list(range(lora.from_layer, depth)) if lora.from_layer else None,
        task_type="FEATURE_EXTRACTION",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(backbone, config)
