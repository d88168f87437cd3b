"""The layers below the first trained one: they give the same vectors every time, so each text goes through them once.

Works for every transformers encoder that keeps its layers in a list and hands each layer the hidden states first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fewtext.errors import EncoderError
from fewtext.nn.merge import state_of


class LayerStack(nn.ModuleList):
    """A list of layers of which a model may be shown a part; names and weights are those of all."""

    shown = slice(None)

    def __iter__(self) -> Iterator[nn.Module]:
        return iter([*self.children()][self.shown])


class FrozenPrefix:
    """The layers of a model below the first trained one, and a bounded memory of what they gave.

    Args:
        backbone: the model; its list of layers is replaced by a `LayerStack`.
        first: number of the first trained layer, at least 1.
        budget: bytes of hidden states to remember at most; the longest unused go first.
    """

    def __init__(self, backbone: Any, first: int, budget: int) -> None:
        self.first, self.budget, self.used = first, budget, 0
        self._stack = _stack_layers(backbone)
        self._memory: OrderedDict[bytes, Tensor] = OrderedDict()
        self._made_from: Any = None

    def clear(self) -> None:
        """Forget every text."""
        self._memory.clear()
        self.used = 0

    def hidden(self, ids: Tensor, lengths: Tensor, run: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return what enters the first trained layer, `[total, H]`, for texts given end to end.

        Args:
            ids: `[total]` tokens, text after text.
            lengths: `[S]` tokens per text, 0 for an absent one.
            run: computes it, from tokens and lengths; it is asked for each text once.
        """
        kind = ids.device.type
        autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        made_from = ([state_of(layer) for layer in self._lower()], autocast)
        if made_from != self._made_from:
            self.clear()
            self._made_from = made_from
        pieces = [piece for piece in ids.split(lengths.tolist()) if len(piece)]
        keys = [piece.cpu().numpy().tobytes() for piece in pieces]
        known = {key: self._memory[key] for key in keys if key in self._memory}
        new = {key: piece for key, piece in zip(keys, pieces, strict=True) if key not in known}
        if new:
            sizes = [len(piece) for piece in new.values()]
            with torch.no_grad():
                states = run(torch.cat([*new.values()]), torch.tensor(sizes)).split(sizes)
            known |= {key: state.clone() for key, state in zip(new, states, strict=True)}
        self._remember(known)
        return torch.cat([known[key] for key in keys])

    @contextmanager
    def below(self) -> Iterator[list[Tensor]]:
        """Within this scope the model has its frozen layers only; yields a list that what they give is added to."""
        caught: list[Tensor] = []

        def catch(_layer: nn.Module, _args: Any, output: Any) -> None:
            caught.append(output if isinstance(output, Tensor) else output[0])

        with self._shown(slice(self.first), [*self._lower()][-1].register_forward_hook(catch)):
            yield caught

    @contextmanager
    def above(self, hidden: Tensor) -> Iterator[None]:
        """Within this scope the model has its other layers only, and `[rows, width, H]` enters the first of them."""

        def enter(_layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return (hidden, *args[1:])

        with self._shown(slice(self.first, None), self._stack[self.first].register_forward_pre_hook(enter)):
            yield

    @contextmanager
    def _shown(self, part: slice, hook: Any) -> Iterator[None]:
        self._stack.shown = part
        try:
            yield
        finally:
            self._stack.shown = slice(None)
            hook.remove()

    def _lower(self) -> Iterator[nn.Module]:
        return (layer for number, layer in enumerate(self._stack.children()) if number < self.first)

    def _remember(self, states: dict[bytes, Tensor]) -> None:
        for key, state in states.items():
            if key not in self._memory:
                self._memory[key] = state
                self.used += state.nbytes
            self._memory.move_to_end(key)
        while self.used > self.budget:
            self.used -= self._memory.popitem(last=False)[1].nbytes


def _stack_layers(backbone: Any) -> LayerStack:
    depth = backbone.config.num_hidden_layers
    for module in backbone.modules():
        for name, child in module.named_children():
            if type(child) is nn.ModuleList and len(child) == depth:
                stack = LayerStack(child)
                setattr(module, name, stack)
                return stack
    raise EncoderError(f"{type(backbone).__name__}: no list of {depth} layers is found. Use LoRA from layer 0.")
