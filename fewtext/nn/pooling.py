"""From token vectors to one vector per text, the way the pretrained model was trained to."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from fewtext.errors import EncoderError
from fewtext.nn.recipe import Recipe

DENSE_OPTIONS = {
    "use_residual": (False,),
    "module_input_name": ("sentence_embedding",),
    "module_output_name": (None, "sentence_embedding"),
}
ACTIVATIONS = {"Tanh": nn.Tanh, "Identity": nn.Identity, "ReLU": nn.ReLU, "GELU": nn.GELU}


class Pooler(nn.Module):
    """Pooling, dense layers and normalisation over ragged token vectors.

    Args:
        recipe: what the pretrained model asks for.
        hidden: size of a token vector.
        skip: tokens at the start of each text that are left out (a prompt's).
    """

    def __init__(self, recipe: Recipe, hidden: int, *, skip: int = 0) -> None:
        super().__init__()
        self.modes, self.skip, self.normalise = recipe.pooling, skip, recipe.normalise
        self.dimension = hidden * len(recipe.pooling)
        layers: list[nn.Module] = []
        for folder, activation in recipe.dense:
            if activation not in ACTIVATIONS:
                raise EncoderError(
                    f"{folder.name}: activation {activation!r} is not known; known: {list(ACTIVATIONS)}."
                )
            linear = _read_dense(folder)
            layers += [linear, ACTIVATIONS[activation]()]
            self.dimension = linear.out_features
        self.dense = nn.Sequential(*layers)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return `[T, S, D]` from token vectors `[total, H]` and lengths `[T, S]`; absent rows are zero."""
        device = tokens.device
        sizes = lengths.reshape(-1).to(device)
        text = torch.repeat_interleave(torch.arange(len(sizes), device=device), sizes)
        first = sizes.cumsum(0) - sizes
        place = torch.arange(len(text), device=device) - first[text]
        # A text that is nothing but prompt keeps its last token, so that there is something to pool.
        skip = torch.minimum(sizes - 1, torch.tensor(self.skip, device=device)).clamp(min=0)
        count = (sizes - skip).clamp(min=1)[:, None].to(tokens.dtype)
        kept = place >= skip[text] if self.skip else slice(None)
        tokens_kept, text_kept, place_kept = tokens[kept], text[kept], place[kept]

        def total(values: Tensor) -> Tensor:
            return torch.zeros(len(sizes), values.shape[1], device=device, dtype=values.dtype).index_add(
                0, text_kept, values
            )

        pooled = []
        for mode in self.modes:
            if mode in ("mean", "mean_sqrt_len_tokens"):
                pooled.append(total(tokens_kept) / (count if mode == "mean" else count.sqrt()))
            elif mode == "weightedmean":
                weight = (place_kept + 1).to(tokens.dtype)[:, None]
                pooled.append(total(tokens_kept * weight) / total(weight).clamp(min=1))
            elif mode == "max":
                none = torch.zeros(len(sizes), tokens.shape[1], device=device, dtype=tokens.dtype)
                index = text_kept[:, None].expand_as(tokens_kept)
                pooled.append(none.scatter_reduce(0, index, tokens_kept, "amax", include_self=False))
            else:
                chosen = first + (skip if mode == "cls" else sizes - 1)
                pooled.append(tokens[chosen.clamp(0, len(tokens) - 1)])
        vectors = self.dense(torch.cat(pooled, dim=-1))
        if self.normalise:
            vectors = F.normalize(vectors, dim=-1)
        return torch.where(sizes[:, None] > 0, vectors, 0.0).view(*lengths.shape, -1)


def _read_dense(folder: Path) -> nn.Linear:
    """Read a dense layer as sentence-transformers saves it."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        for option, usual in DENSE_OPTIONS.items():
            if config.get(option, usual[0]) not in usual:
                raise EncoderError(f"{folder.name}: {option}={config[option]!r} of a dense layer is not supported.")
        weights = load_file(folder / "model.safetensors")
        with torch.device("meta"):  # a configuration may claim any size
            linear = nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
        linear.load_state_dict({key.removeprefix("linear."): value for key, value in weights.items()}, assign=True)
        linear.float()
        if not all(weight.isfinite().all() for weight in linear.parameters()):
            raise EncoderError(f"{folder.name}: a dense layer holds NaN or infinite values.")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        if isinstance(error, EncoderError):
            raise
        raise EncoderError(f"{folder.name}: cannot load the dense layer ({error}).") from error
    return linear
