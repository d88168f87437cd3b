"""Pooling of ragged tokens, against sentence-transformers' own modules on padded ones."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from fewtext.errors import EncoderError
from fewtext.nn.pooling import Pooler
from fewtext.nn.recipe import POOLINGS, Recipe

HIDDEN = 4
LENGTHS = torch.tensor([[3, 5, 4], [7, 0, 3]])
MODES = [(mode,) for mode in POOLINGS] + [("mean", "max"), ("cls", "weightedmean")]


@pytest.fixture
def reference():
    """The modules that sentence-transformers itself pools with."""
    return pytest.importorskip("sentence_transformers.sentence_transformer.modules")


@pytest.fixture
def vectors():
    return torch.randn(int(LENGTHS.sum()), HIDDEN, generator=torch.Generator().manual_seed(0))


def padded(vectors):
    pieces = [piece for piece in vectors.split(LENGTHS.reshape(-1).tolist()) if len(piece)]
    mask = nn.utils.rnn.pad_sequence([torch.ones(len(piece), dtype=torch.long) for piece in pieces], batch_first=True)
    filled = nn.utils.rnn.pad_sequence(pieces, batch_first=True, padding_value=9.0)
    return {"token_embeddings": filled, "attention_mask": mask}


def save_dense(folder, weight, config=None):
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"in_features": weight.shape[1], "out_features": weight.shape[0], "bias": False, **(config or {})})
    )
    save_file({"linear.weight": weight}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("modes", MODES, ids="+".join)
def test_pooling_equals_that_of_sentence_transformers(reference, vectors, modes):
    pooled = Pooler(Recipe(pooling=modes), HIDDEN)(vectors, LENGTHS)
    expected = reference.Pooling(HIDDEN, modes)(padded(vectors))["sentence_embedding"]
    assert_close(pooled[LENGTHS > 0], expected)


@pytest.mark.parametrize("modes", MODES, ids="+".join)
def test_skipped_tokens_are_those_of_a_prompt_in_sentence_transformers(reference, vectors, modes):
    pooled = Pooler(Recipe(pooling=modes), HIDDEN, skip=2)(vectors, LENGTHS)
    module = reference.Pooling(HIDDEN, modes, include_prompt=False)
    expected = module(padded(vectors) | {"prompt_length": 2})["sentence_embedding"]
    assert_close(pooled[LENGTHS > 0], expected)


@pytest.mark.parametrize("mode", ["mean", "max", "cls", "lasttoken", "weightedmean"])
def test_a_text_that_is_all_prompt_keeps_its_last_token(vectors, mode):
    pooled = Pooler(Recipe(pooling=(mode,)), HIDDEN, skip=5)(vectors, LENGTHS)
    assert_close(pooled[0, 0], vectors[2])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "activation", [nn.Tanh(), nn.Identity(), nn.ReLU(), nn.GELU()], ids=lambda a: type(a).__name__
)
def test_dense_layer_saved_by_sentence_transformers_is_applied(reference, vectors, tmp_path, activation, bias):
    dense = reference.Dense(HIDDEN, 3, bias=bias, activation_function=activation)
    (tmp_path / "dense").mkdir()
    dense.save(str(tmp_path / "dense"))
    pool = Pooler(Recipe(dense=((tmp_path / "dense", type(activation).__name__),)), HIDDEN)
    means = Pooler(Recipe(), HIDDEN)(vectors, LENGTHS)[LENGTHS > 0]
    assert pool.dimension == 3
    assert_close(pool(vectors, LENGTHS)[LENGTHS > 0], dense({"sentence_embedding": means})["sentence_embedding"])


def test_dense_layers_are_applied_in_order(vectors, tmp_path):
    first, second = torch.randn(3, HIDDEN), torch.randn(2, 3)
    layers = (save_dense(tmp_path / "a", first), "ReLU"), (save_dense(tmp_path / "b", second), "Identity")
    means = Pooler(Recipe(), HIDDEN)(vectors, LENGTHS)
    assert_close(Pooler(Recipe(dense=layers), HIDDEN)(vectors, LENGTHS), (means @ first.T).relu() @ second.T)


@pytest.mark.parametrize("option", [{"use_residual": True}, {"module_input_name": "token_embeddings"}], ids=str)
def test_dense_layer_with_an_unknown_option_is_refused(tmp_path, option):
    folder = save_dense(tmp_path / "dense", torch.eye(HIDDEN), option)
    with pytest.raises(EncoderError):
        Pooler(Recipe(dense=((folder, "Tanh"),)), HIDDEN)


def test_unknown_activation_is_an_encoder_error(tmp_path):
    folder = save_dense(tmp_path / "2_Dense", torch.eye(HIDDEN))
    with pytest.raises(EncoderError, match="2_Dense: activation 'Softmax' is not known"):
        Pooler(Recipe(dense=((folder, "Softmax"),)), HIDDEN)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_dense_layer_with_a_missing_file_is_an_encoder_error(tmp_path, missing):
    folder = save_dense(tmp_path / "2_Dense", torch.eye(HIDDEN))
    (folder / missing).unlink()
    with pytest.raises(EncoderError, match="2_Dense: cannot load the dense layer"):
        Pooler(Recipe(dense=((folder, "Tanh"),)), HIDDEN)


@pytest.mark.parametrize(
    ("file", "content"),
    [("config.json", b"{"), ("config.json", b"{}"), ("config.json", b"[]"), ("model.safetensors", b"damaged")],
)
def test_dense_layer_with_a_damaged_file_is_an_encoder_error(tmp_path, file, content):
    folder = save_dense(tmp_path / "2_Dense", torch.eye(HIDDEN))
    (folder / file).write_bytes(content)
    with pytest.raises(EncoderError, match="2_Dense: cannot load the dense layer"):
        Pooler(Recipe(dense=((folder, "Tanh"),)), HIDDEN)


def test_dense_layer_of_another_size_is_an_encoder_error(tmp_path):
    folder = save_dense(tmp_path / "2_Dense", torch.eye(HIDDEN), {"out_features": 3})
    with pytest.raises(EncoderError, match="2_Dense: cannot load the dense layer"):
        Pooler(Recipe(dense=((folder, "Tanh"),)), HIDDEN)


def test_normalised_vectors_have_length_one_and_the_same_direction(vectors):
    pooled = Pooler(Recipe(), HIDDEN)(vectors, LENGTHS)[LENGTHS > 0]
    normalised = Pooler(Recipe(normalise=True), HIDDEN)(vectors, LENGTHS)[LENGTHS > 0]
    assert_close(normalised, pooled / pooled.norm(dim=-1, keepdim=True))


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("modes", MODES, ids="+".join)
def test_absent_rows_are_zero(vectors, modes, normalise):
    pooled = Pooler(Recipe(pooling=modes, normalise=normalise), HIDDEN)(vectors, LENGTHS)
    assert pooled.shape == (2, 3, HIDDEN * len(modes))
    assert not pooled[1, 1].any()


def test_absent_rows_are_zero_after_a_dense_layer_with_bias(reference, vectors, tmp_path):
    dense = reference.Dense(HIDDEN, 3, init_bias=torch.ones(3))
    (tmp_path / "dense").mkdir()
    dense.save(str(tmp_path / "dense"))
    pooled = Pooler(Recipe(dense=((tmp_path / "dense", "Tanh"),)), HIDDEN)(vectors, LENGTHS)
    assert not pooled[1, 1].any()


@pytest.mark.parametrize("modes", [*MODES, ("max", "cls"), ("max", "lasttoken")], ids="+".join)
def test_absent_rows_leave_the_gradients_of_the_others_as_they_are(vectors, modes):
    pool, picks = Pooler(Recipe(pooling=modes, normalise=True), HIDDEN), torch.randn(HIDDEN * len(modes))
    gradients = []
    for lengths in (LENGTHS.reshape(1, -1), LENGTHS[LENGTHS > 0][None]):
        leaf = vectors.clone().requires_grad_()
        (pool(leaf, lengths) @ picks).sum().backward()
        gradients.append(leaf.grad)
    assert_close(gradients[0], gradients[1])
