"""A fewtext classifier as transformers knows one: `pipeline("text-classification", model=…)` after `import fewtext`.

The model type is registered with transformers' auto classes; nothing is downloaded as code. Texts are pooled in
padded batches here, as transformers hands them over, and without a choice that depends on the data, so that the
model exports to ONNX.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from fewtext.nn.pooling import ACTIVATIONS
from fewtext.nn.recipe import POOLINGS
from fewtext.nn.sequence_config import FewtextConfig


class FewtextForSequenceClassification(PreTrainedModel):
    """An encoder, pooling, and a linear head on embeddings of length 1."""

    config_class = FewtextConfig
    base_model_prefix = "encoder"
    _supports_sdpa = True

    def __init__(self, config: FewtextConfig) -> None:
        super().__init__(config)
        own = {key: value for key, value in config.encoder.items() if not key.startswith(("_", "auto_map"))}
        self.encoder = AutoModel.from_config(
            AutoConfig.for_model(**own), attn_implementation=config._attn_implementation
        )
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None
        layers: list[nn.Module] = []
        width = self.encoder.config.hidden_size * len(config.pooling)
        for inner, width, bias, activation in config.dense:
            layers += [nn.Linear(inner, width, bias=bias), ACTIVATIONS[activation]()]
        self.dense = nn.Sequential(*layers)
        self.classifier = nn.Linear(width, int(config.num_labels or 2))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Leave everything as it is: all weights are loaded."""

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **kwargs: Any
    ) -> SequenceClassifierOutput:
        """Return the logits `[n, N]`, and with `labels` `[n]`, or `[n, N]` of several a text, the cross-entropy.

        Args:
            input_ids: `[n, length]`; of longer texts the start is read, and the last token.
            attention_mask: `[n, length]`, zero where there is no token.
            labels: class numbers.
            kwargs: what tokenizers add; not used.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if input_ids.shape[1] > self.config.max_length:
            input_ids, mask = _cut(input_ids, mask, self.config.max_length)
        hidden = self.encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state
        pooled = [padded_pool(hidden, mask, mode, self.config.skip) for mode in self.config.pooling]
        vectors = self.dense(torch.cat(pooled, dim=-1))
        logits = self.classifier(F.normalize(vectors, dim=-1))
        several = self.config.problem_type == "multi_label_classification"
        entropy = F.binary_cross_entropy_with_logits if several else F.cross_entropy
        loss = None if labels is None else entropy(logits, labels.float() if several else labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)  # pyright: ignore[reportArgumentType]


def padded_pool(hidden: Tensor, mask: Tensor, mode: str, skip: int) -> Tensor:
    """Return one vector per text, `[n, H]`, from `[n, length, H]` and the mask of its tokens, as `Pooler` does."""
    if mode not in POOLINGS:
        raise ValueError(f"pooling {mode!r} is not known; known: {POOLINGS}.")
    place = mask.cumsum(1)  # 1 for the first token
    last = place[:, -1:]
    # A text that is nothing but prompt keeps its last token, so that there is something to pool.
    kept = mask.bool() & (place > torch.clamp(last - 1, max=skip))
    weight = kept.to(hidden.dtype)[..., None]
    count = weight.sum(1).clamp(min=1)
    if mode in ("cls", "lasttoken"):
        chosen = place == (torch.clamp(last - 1, max=skip) + 1 if mode == "cls" else last)
        return (hidden * (chosen & kept).to(hidden.dtype)[..., None]).sum(1)
    if mode == "max":
        return hidden.masked_fill(~kept[..., None], torch.finfo(hidden.dtype).min).amax(1)
    if mode == "weightedmean":
        weight = weight * place.to(hidden.dtype)[..., None]
        return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)
    return (hidden * weight).sum(1) / (count if mode == "mean" else count.sqrt())


def _cut(ids: Tensor, mask: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return the first tokens of each text, and its last one, which ends it."""
    place = mask.cumsum(1)
    kept = mask.bool() & ((place < length) | (place == place[:, -1:]))
    order = (~kept).to(torch.int8).sort(dim=1, stable=True).indices[:, :length]
    return ids.gather(1, order), (mask * kept).gather(1, order)


AutoModelForSequenceClassification.register(FewtextConfig, FewtextForSequenceClassification, exist_ok=True)
