"""A smaller encoder: the first layers of a larger one, to be trained."""

from __future__ import annotations

import copy

from torch import nn

from fewtext.errors import EncoderError
from fewtext.nn.encoder import Encoder

ONE_TOKEN = {"cls", "lasttoken"}  # poolings that read one token, which without layers is the same in all texts


def shortened(encoder: Encoder, layers: int) -> Encoder:
    """Return a trainable copy of an encoder with so many of its layers, the first ones; adapters are merged.

    Without layers it is the mean of token embeddings.

    Raises:
        EncoderError: more layers than there are, none where that cannot be, or no list of layers to shorten.
    """
    backbone = copy.deepcopy(encoder.backbone)
    backbone = backbone if encoder.lora is None else backbone.merge_and_unload()
    config = backbone.config
    depth, kinds = config.num_hidden_layers, getattr(config, "layer_types", None)
    if layers not in range(depth + 1):
        raise EncoderError(f"layers={layers!r}: the encoder has {depth}, so 0 to {depth} can be kept.")
    if layers == 0 and (kinds or ONE_TOKEN.issuperset(encoder.pool.modes)):
        raise EncoderError("layers=0: this kind of encoder says nothing without a layer. Keep one or more.")
    lists = (
        (module, name, child)
        for module in backbone.modules()
        for name, child in module.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == depth
    )
    found = next(lists, None)
    if found is None:
        raise EncoderError(
            f"{type(backbone).__name__}: no list of {depth} layers is found, so it cannot be shortened."
        )
    module, name, child = found
    setattr(module, name, nn.ModuleList([*child.children()][:layers]))
    config.num_hidden_layers = layers
    if kinds:
        config.layer_types = kinds[:layers]
    own = Encoder(backbone, encoder.tokenizer, encoder.source, encoder.recipe, bf16=encoder.bf16)
    own.backbone.requires_grad_(True)
    return own.to(encoder.device)
