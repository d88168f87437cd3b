"""A transformers model as a function from ragged tokens to one vector per token.

How tasks and texts share forward passes is decided here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from fewtext.nn.backbone import first_position
from fewtext.nn.layout import Layout, end_to_end, in_rows, rows_per_task
from fewtext.nn.merge import merged, state_of
from fewtext.nn.prefix import FrozenPrefix
from fewtext.tensors import TaskState


class Transformer:
    """Runs a model on texts that lie end to end.

    Args:
        backbone: the model, wrapped by peft where there is LoRA.
        pad: token number for padding.
        adapted: there is LoRA.
        bf16: compute in bfloat16: with gradients where autocast allows, without them everywhere.
        prefix: the frozen lower layers, if any.
    """

    def __init__(
        self, backbone: Any, *, pad: int, adapted: bool, bf16: bool, prefix: FrozenPrefix | None = None
    ) -> None:
        self.backbone, self.pad, self.bf16, self.prefix = backbone, pad, bf16, prefix
        start = first_position(backbone.config)
        self.packs, self._first_position = start is not None, start or 0
        self._adapted = adapted
        self._merged: tuple[Any, Any] | None = None

    def __call__(self, ids: Tensor, lengths: Tensor, weights: TaskState | None = None) -> Tensor:
        """Return the last hidden states `[total, H]`, in the model's full precision.

        Args:
            ids: `[total]` tokens, text after text, task after task.
            lengths: `[T, S]` tokens per text, 0 for an absent one.
            weights: some of the model's weights by name; for models that pack, those of LoRA may be `[T, …]`.
        """
        if weights is None and not torch.is_grad_enabled() and (self._adapted or self.bf16):
            return self._run(self._without_gradients(), ids, lengths)[0]
        if self.prefix is None:
            return self._run(self.backbone, ids, lengths, weights)[0]
        hidden = self.prefix.hidden(ids, lengths.reshape(-1), self._below)
        return self._run(self.backbone, ids, lengths, weights, hidden)[0]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what cannot be pickled and is quickly made again."""
        return self.__dict__ | {"_merged": None}

    @contextmanager
    def full_precision(self) -> Iterator[None]:
        """Within this context nothing is computed in bfloat16."""
        if not self.bf16:
            yield
            return
        kept, self._merged, self.bf16 = self._merged, None, False
        try:
            yield
        finally:
            self._merged, self.bf16 = kept, True

    def _below(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return what the frozen layers of the prefix give, `[total, H]`."""
        assert self.prefix is not None
        with self.prefix.below() as caught:
            _, layout = self._run(self.backbone, ids, lengths[None])
        return caught[0].flatten(0, 1)[layout.flat]

    def _run(
        self,
        model: Any,
        ids: Tensor,
        lengths: Tensor,
        weights: TaskState | None = None,
        hidden: Tensor | None = None,
    ) -> tuple[Tensor, Layout]:
        """Return what the model gives; its layers above the prefix, where `hidden` `[total, H]` enters them."""
        several = weights is not None and len(lengths) > 1
        inputs: dict[str, Any] = {}
        if ragged := self._end_to_end(ids):
            layout = end_to_end(ids, lengths, pad=self.pad)
            inputs["runs"] = layout.runs
        else:
            layout = in_rows(ids, lengths, packed=self.packs, pad=self.pad)
            inputs["attention_mask"] = (
                layout.block_mask(self._precision(model)) if self.packs else (layout.text >= 0).long()
            )
        inputs["input_ids"] = layout.ids
        if self.packs:
            inputs["position_ids"] = layout.position + self._first_position
        with ExitStack() as scope:
            if ragged and several:
                *sizes, _ = lengths.sum(1).tolist()  # what only fills up counts to the last task
                scope.enter_context(rows_per_task([*sizes, layout.ids.numel() - sum(sizes)]))
            if self.bf16 and model is self.backbone:
                scope.enter_context(torch.autocast(ids.device.type, dtype=torch.bfloat16))
            if hidden is not None:
                assert self.prefix is not None
                rows = hidden.new_zeros(layout.ids.numel(), hidden.shape[-1]).index_copy(0, layout.flat, hidden)
                scope.enter_context(self.prefix.above(rows.view(*layout.ids.shape, -1)))
            output = model(**inputs) if weights is None else functional_call(model, weights, (), inputs)
        states = output.last_hidden_state.flatten(0, 1)[layout.flat]
        return states.to(self._precision(self.backbone)), layout

    def _end_to_end(self, ids: Tensor) -> bool:
        return self.packs and ids.device.type == "cpu"

    def _without_gradients(self) -> Any:
        made_from = state_of(self.backbone)
        if self._merged is None or self._merged[0] != made_from:
            self._merged = made_from, merged(self.backbone, self._precision(None))
        return self._merged[1]

    def _precision(self, model: Any) -> torch.dtype:
        """Return the precision of a model's products, autocast aside: the backbone itself stays in full precision."""
        full = next(self.backbone.parameters()).dtype
        return torch.bfloat16 if self.bf16 and model is not self.backbone else full
