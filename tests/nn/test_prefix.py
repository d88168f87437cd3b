"""Layers below the first adapter are computed once per text, and nothing else changes."""

import pytest
import torch
from conftest import save_tiny_encoder
from torch.testing import assert_close
from transformers import (
    BertConfig,
    DebertaConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    MPNetConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from fewtext import Encoder, Lora
from fewtext.data.collate import ragged
from fewtext.errors import EncoderError
from fewtext.nn.matmul import fast_matmul
from fewtext.nn.prefix import FrozenPrefix

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}
SPECIAL = {"eos_token_id": 3, "bos_token_id": 2, "cls_token_id": 2, "sep_token_id": 3}
CONFIGS = {
    "bert": BertConfig(**SIZES),
    "roberta": RobertaConfig(**SIZES),
    "xlm-roberta": XLMRobertaConfig(**SIZES),
    "electra": ElectraConfig(**SIZES),
    "mpnet": MPNetConfig(**SIZES),
    "distilbert": DistilBertConfig(dim=16, n_layers=3, n_heads=2, hidden_dim=32, max_position_embeddings=64),
    "modernbert": ModernBertConfig(**SIZES, **SPECIAL),
    "deberta": DebertaConfig(**SIZES),
    "deberta-v2": DebertaV2Config(
        **SIZES, relative_attention=True, position_biased_input=False, pos_att_type=["p2c", "c2p"]
    ),
}


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    return {
        kind: save_tiny_encoder(tmp_path_factory.mktemp(kind) / "encoder", config) for kind, config in CONFIGS.items()
    }


def rows_of(*lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [[2, *torch.randint(4, 30, (n - 2,), generator=generator).tolist(), 3] if n else [] for n in lengths]


def two_tasks(seed=0):
    rows = rows_of(5, 9, 3, 7, 30, 0, seed=seed)
    return ragged([rows[:3], rows[3:]])


def adapted(folder, layer=2, **options):
    encoder = Encoder.from_pretrained(folder, lora=Lora(rank=2, from_layer=layer), **options)
    with torch.no_grad():
        for name in encoder.task_weights:
            weight = encoder.backbone.get_parameter(name)
            weight.copy_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name))))
    return encoder


def without_prefix(folder, layer=2):
    encoder = adapted(folder, layer)
    encoder.transformer.prefix = None
    return encoder


def outputs(encoder, tokens, weights):
    """Return vectors and the gradients of all adapters."""
    encoder.zero_grad()
    vectors = encoder(tokens, weights)
    vectors.square().sum().backward()
    own = dict(encoder.backbone.named_parameters()) if weights is None else weights
    return [vectors, *(own[name].grad for name in encoder.task_weights)]


def weights_per_task(encoder):
    generator = torch.Generator().manual_seed(7)
    own = {name: encoder.backbone.get_parameter(name).detach() for name in encoder.task_weights}
    return {
        name: (value + 0.2 * torch.randn((2, *value.shape), generator=generator)).requires_grad_()
        for name, value in own.items()
    }


@pytest.mark.parametrize("per_task", [False, True], ids=["own weights", "weights per task"])
@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("kind", CONFIGS)
def test_vectors_and_gradients_are_those_without_it(folder_of, kind, layer, per_task):
    cached, plain = adapted(folder_of[kind], layer), without_prefix(folder_of[kind], layer)
    for seed in (0, 1, 0):  # new texts, other texts, remembered texts
        tokens = two_tasks(seed)
        both = [
            outputs(encoder, tokens, weights_per_task(encoder) if per_task else None) for encoder in (cached, plain)
        ]
        for own, expected in zip(*both, strict=True):
            assert_close(own, expected, rtol=1e-6, atol=1e-6 * float(expected.detach().abs().max()))


def test_a_text_goes_through_the_frozen_layers_once(folder_of):
    encoder, seen = adapted(folder_of["bert"]), []
    encoder.prefix._stack[0].register_forward_hook(lambda _layer, args, _out: seen.append(args[0].shape[1]))
    rows = rows_of(5, 9, 3)
    for texts in (rows[:2], [rows[1], rows[2], rows[2]], rows):
        encoder(ragged([texts]))
    assert seen == [14, 3]


def test_memory_is_bounded_and_the_longest_unused_go_first(folder_of):
    rows = rows_of(5, 6, 7)
    encoder = adapted(folder_of["bert"], cache_bytes=12 * 16 * 4)
    for row in (rows[0], rows[1], rows[0], rows[2]):
        encoder(ragged([[row]]))
        assert encoder.prefix.used == sum(state.nbytes for state in encoder.prefix._memory.values()) <= 12 * 16 * 4
    assert [len(state) for state in encoder.prefix._memory.values()] == [5, 7]


def test_no_memory_at_all_is_as_exact(folder_of):
    none, plain = adapted(folder_of["bert"], cache_bytes=0), without_prefix(folder_of["bert"])
    for _ in range(2):
        assert_close(none(two_tasks()), plain(two_tasks()))
    assert not none.prefix._memory


def test_it_is_forgotten_when_a_frozen_weight_changes(folder_of):
    encoder = adapted(folder_of["bert"])
    before = encoder(two_tasks())
    with torch.no_grad():
        encoder.prefix._stack[0].intermediate.dense.weight.mul_(2)
    plain = without_prefix(folder_of["bert"])
    with torch.no_grad():
        plain.prefix._stack[0].intermediate.dense.weight.mul_(2)
    after = encoder(two_tasks())
    assert_close(after, plain(two_tasks()))
    assert not torch.allclose(before, after)


def test_autocast_has_a_memory_of_its_own(folder_of):
    encoder = adapted(folder_of["bert"])
    exact = encoder(two_tasks())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not torch.equal(encoder(two_tasks()), exact)
    assert torch.equal(encoder(two_tasks()), exact)


def test_an_exception_leaves_all_layers_in_place(folder_of, monkeypatch):
    encoder = adapted(folder_of["bert"])
    expected = encoder(two_tasks())
    with pytest.raises(RuntimeError), encoder.prefix.above(torch.zeros(1, 3, 99)):
        encoder.backbone(torch.tensor([[2, 5, 3]]))
    assert_close(encoder(two_tasks()), expected)
    with torch.no_grad():
        encoder.prefix.clear()
        assert_close(encoder.encode(["where is my card"]), adapted(folder_of["bert"]).encode(["where is my card"]))


def test_names_of_weights_do_not_change(folder_of):
    names = adapted(folder_of["bert"]).state_dict().keys()
    assert names == without_prefix(folder_of["bert"]).state_dict().keys()
    assert {name.split(".layer.")[1][0] for name in names if ".layer." in name} == {"0", "1", "2"}
    assert {name.split(".layer.")[1][0] for name in names if "lora_" in name} == {"2"}


def test_a_model_without_a_list_of_layers_is_refused():
    model = torch.nn.Linear(2, 2)
    model.config = BertConfig(**SIZES)
    with pytest.raises(EncoderError, match="no list of 3 layers"):
        FrozenPrefix(model, 1, 0)


def test_it_works_with_packed_weights(folder_of):
    encoder, plain = adapted(folder_of["bert"]), without_prefix(folder_of["bert"])
    with fast_matmul(True):
        assert_close(encoder(two_tasks()), plain(two_tasks()))
