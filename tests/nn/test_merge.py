"""Without gradients an encoder uses a copy with merged adapters, which gives the same vectors and is never stale."""

import pytest
import torch
from torch.testing import assert_close

from fewtext import Encoder, Lora
from fewtext.data.collate import ragged
from fewtext.nn.merge import merged
from fewtext.nn.transformer import Transformer

TEXTS = ["where is my card", "refund", "book a room to renew my loan please"]


@pytest.fixture
def encoder(tiny_folder):
    encoder = Encoder.from_pretrained(tiny_folder, lora=Lora(rank=2))
    change(encoder, 0)
    return encoder


def change(encoder, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name in encoder.task_weights:
            weight = encoder.backbone.get_parameter(name)
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))


def with_gradients(encoder):
    return encoder(ragged([encoder.tokenize(TEXTS)]))[0].detach()


def test_vectors_are_those_of_the_adapted_model(encoder):
    assert_close(torch.from_numpy(encoder.encode(TEXTS)), with_gradients(encoder), rtol=1e-5, atol=1e-5)


def test_adapters_that_change_are_merged_anew(encoder):
    before = encoder.encode(TEXTS)
    change(encoder, 1)
    after = torch.from_numpy(encoder.encode(TEXTS))
    assert_close(after, with_gradients(encoder), rtol=1e-5, atol=1e-5)
    assert (after - torch.from_numpy(before)).abs().max() > 0.01


def test_adapters_that_do_not_change_are_merged_once(encoder, monkeypatch):
    calls = []
    monkeypatch.setattr("fewtext.nn.transformer.merged", lambda *given: calls.append(1) or merged(*given))
    for _ in range(3):
        encoder.encode(TEXTS)
    assert calls == [1]


def test_the_original_is_left_as_it_was_and_shares_what_is_not_adapted(encoder):
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    copy = merged(encoder.backbone, torch.float32)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    embedding = encoder.backbone.get_base_model().embeddings.word_embeddings.weight
    assert copy.embeddings.word_embeddings.weight.data_ptr() == embedding.data_ptr()
    assert not any("lora" in name for name, _ in copy.named_parameters())


@pytest.mark.parametrize("end_to_end", [True, False])
def test_bfloat16_keeps_the_original_in_full_precision_and_stays_close(tiny_folder, monkeypatch, end_to_end):
    monkeypatch.setattr(Transformer, "_end_to_end", lambda *given: end_to_end)
    exact, fast = Encoder.from_pretrained(tiny_folder), Encoder.from_pretrained(tiny_folder, bf16=True)
    vectors, expected = (torch.from_numpy(encoder.encode(TEXTS)) for encoder in (fast, exact))
    assert fast.dtype == torch.float32
    assert vectors.dtype == torch.float32
    assert torch.cosine_similarity(vectors, expected).min() > 0.999
    assert not torch.equal(vectors, expected)


def test_bfloat16_rounds_products_only(encoder):
    copy = merged(encoder.backbone, torch.bfloat16)
    exact = {name for name, own in copy.named_parameters() if own.dtype == torch.float32}
    assert exact == {name for name, _ in copy.named_parameters() if "embeddings" in name or "LayerNorm" in name}
    embedding = encoder.backbone.get_base_model().embeddings.word_embeddings.weight
    assert copy.embeddings.word_embeddings.weight.data_ptr() == embedding.data_ptr()


@pytest.mark.parametrize("gradients", [True, False])
def test_rows_with_a_block_mask_give_what_texts_end_to_end_give(encoder, monkeypatch, gradients):
    """What a GPU does, on a CPU."""
    with torch.set_grad_enabled(gradients):
        expected = with_gradients(encoder)
        monkeypatch.setattr(Transformer, "_end_to_end", lambda *given: False)
        assert_close(with_gradients(encoder), expected, rtol=1e-5, atol=1e-5)


def test_many_tokens_and_weights_per_task_are_filled_up_without_a_trace(encoder):
    rows = [
        encoder.tokenize([" ".join(["card"] * (3 + n % 9)) for n in range(first, first + 60)]) for first in (0, 5)
    ]
    weights = {
        name: torch.stack([encoder.backbone.get_parameter(name) * factor for factor in (1.0, 0.5)]).detach()
        for name in encoder.task_weights
    }
    assert sum(len(ids) for task in rows for ids in task) > 512
    both = encoder(ragged(rows), weights)
    for task in (0, 1):
        own = {name: value[[task]] for name, value in weights.items()}
        assert_close(both[[task]], encoder(ragged([rows[task]]), own), rtol=1e-5, atol=1e-5)
