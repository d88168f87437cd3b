"""Pretrained models are loaded whole or not at all, and LoRA goes where it is asked to."""

import json
import shutil

import pytest
import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

from fewtext import Encoder, Lora
from fewtext.errors import EncoderError
from fewtext.nn import attention
from fewtext.nn.backbone import attach_lora, is_unchanged, load_backbone
from fewtext.nn.pretrained import Pretrained, locate


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy of the tiny encoder that may be damaged."""
    return shutil.copytree(tiny_folder, tmp_path / "encoder")


@pytest.fixture
def backbone(tiny_folder):
    return load_backbone(locate(tiny_folder))[0]


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    save_file(change(weights), folder / "model.safetensors", {"format": "pt"})


def change_config(folder, **values):
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | values))


def lora_weights(model):
    return {name: weight for name, weight in model.named_parameters() if "lora_" in name}


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_cut_weights_are_an_encoder_error(folder, kept):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: int(kept * len(data))])
    with pytest.raises(EncoderError, match="base encoder: cannot be loaded"):
        load_backbone(locate(folder))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_an_encoder_error(folder, value):
    def damage(weights):
        weights["encoder.layer.1.output.dense.weight"][3, 5] = value
        return weights

    change_weights(folder, damage)
    with pytest.raises(EncoderError, match=r"encoder\.layer\.1\.output\.dense\.weight holds NaN or infinite values"):
        load_backbone(locate(folder))


def test_missing_weights_are_an_encoder_error(folder):
    change_weights(
        folder, lambda weights: {name: w for name, w in weights.items() if "layer.1.attention" not in name}
    )
    with pytest.raises(EncoderError, match=r"10 weights are missing, encoder\.layer\.1\.attention"):
        load_backbone(locate(folder))


def test_weights_of_another_shape_are_an_encoder_error(folder):
    change_config(folder, intermediate_size=48)
    with pytest.raises(EncoderError, match="base encoder: cannot be loaded"):
        load_backbone(locate(folder))


def test_a_missing_pooler_is_not_missed(folder):
    change_weights(folder, lambda weights: {name: w for name, w in weights.items() if "pooler" not in name})
    assert load_backbone(locate(folder))[0].pooler is None


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "nothing-known"}', "{}"])
def test_a_damaged_config_is_an_encoder_error(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(EncoderError, match="base encoder: cannot be loaded"):
        load_backbone(locate(folder))


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_damaged_tokenizer_is_an_encoder_error(folder, content):
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(EncoderError, match="base encoder: cannot be loaded"):
        load_backbone(locate(folder))


def test_code_beside_the_weights_is_never_run(folder, tmp_path):
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    change_config(folder, auto_map={"AutoConfig": "own.Own", "AutoModel": "own.Own", "AutoTokenizer": "own.Own"})
    load_backbone(locate(folder))
    assert not (tmp_path / "ran").exists()


def test_a_config_cannot_ask_for_an_attention_kernel(folder):
    change_config(folder, _attn_implementation="someone/kernel", attn_implementation="someone/kernel")
    assert load_backbone(locate(folder))[0].config._attn_implementation == attention.NAME


def test_weights_are_loaded_in_full_precision(folder):
    change_weights(folder, lambda weights: {name: weight.half() for name, weight in weights.items()})
    change_config(folder, dtype="float16")
    assert {weight.dtype for weight in load_backbone(locate(folder))[0].parameters()} == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_fresh_backbone_is_unchanged(folder, dtype):
    change_weights(folder, lambda weights: {name: weight.to(dtype) for name, weight in weights.items()})
    source = locate(folder)
    assert is_unchanged(load_backbone(source)[0], source)


def test_a_backbone_with_one_other_weight_is_changed(backbone, tiny_folder):
    with torch.no_grad():
        backbone.encoder.layer[1].output.dense.bias[3] += 0.5
    assert not is_unchanged(backbone, locate(tiny_folder))


def test_a_prefix_in_the_file_does_not_hide_a_change(folder):
    change_weights(folder, lambda weights: {f"bert.{name}": weight for name, weight in weights.items()})
    backbone, _ = load_backbone(locate(folder))
    assert is_unchanged(backbone, locate(folder))
    with torch.no_grad():
        backbone.embeddings.word_embeddings.weight[7] += 0.5
    assert not is_unchanged(backbone, locate(folder))


def test_unknown_lora_target_is_an_encoder_error_that_lists_the_known(backbone):
    with pytest.raises(EncoderError, match=r"LoRA target 'q_proj'.*\['dense', 'key', 'query', 'value'\]"):
        attach_lora(backbone, Lora(targets=("query", "q_proj")), seed=0)


@pytest.mark.parametrize("layer", [-1, 2, 7])
def test_lora_from_a_layer_that_is_not_there_is_an_encoder_error(backbone, layer):
    with pytest.raises(EncoderError, match=f"LoRA from layer {layer}: the encoder has layers 0 to 1"):
        attach_lora(backbone, Lora(from_layer=layer), seed=0)


def test_lora_depends_on_its_seed_only(tiny_folder):
    drawn = []
    for seed, global_seed in ((3, 0), (3, 1), (4, 0)):
        torch.manual_seed(global_seed)
        drawn.append(lora_weights(attach_lora(load_backbone(locate(tiny_folder))[0], Lora(), seed)))
    first, again, other = drawn
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if "lora_A" in name)


def test_lora_leaves_the_global_random_state_as_it_was(backbone):
    before = torch.get_rng_state()
    attach_lora(backbone, Lora(), seed=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_fresh_lora_does_not_change_the_vectors(tiny, tiny_folder):
    adapted = Encoder.from_pretrained(tiny_folder, lora=Lora())
    texts = ["where is my card", "book a flight"]
    assert (adapted.encode(texts) == tiny.encode(texts)).all()


def test_only_lora_weights_are_trained(backbone):
    model = attach_lora(backbone, Lora(), seed=0)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained == set(lora_weights(model))
    assert trained


@pytest.mark.parametrize("rank", [2, 8])
def test_lora_adapts_every_linear_layer_with_the_rank_asked_for(backbone, rank):
    weights = lora_weights(attach_lora(backbone, Lora(rank=rank), seed=0))
    assert len(weights) == 2 * 2 * 6  # two factors in two layers of six linears
    assert all(weight.shape["lora_B" in name] == rank for name, weight in weights.items())


def test_lora_is_scaled_by_alpha_over_rank(backbone):
    model = attach_lora(backbone, Lora(rank=4, alpha=6), seed=0)
    assert {layer.scaling["default"] for layer in model.modules() if isinstance(layer, LoraLayer)} == {1.5}


def test_lora_adapts_the_targets_only(backbone):
    weights = lora_weights(attach_lora(backbone, Lora(targets=("query", "value")), seed=0))
    assert {name.split(".lora_")[0].rsplit(".", 1)[1] for name in weights} == {"query", "value"}


def test_lora_from_layer_one_adapts_that_layer_only(backbone):
    weights = lora_weights(attach_lora(backbone, Lora(from_layer=1), seed=0))
    assert len(weights) == 2 * 6
    assert all(".layer.1." in name for name in weights)


def test_lora_tells_other_readers_to_leave_the_pooler_out(backbone):
    config = attach_lora(backbone, Lora(), seed=0).peft_config["default"]
    assert config.exclude_modules == ["pooler.dense"]


def test_local_paths_appear_in_no_config(folder):
    backbone = attach_lora(load_backbone(locate(folder))[0], Lora(), seed=0)
    assert str(folder) not in json.dumps(backbone.peft_config["default"].to_dict(), default=str)
    assert str(folder) not in json.dumps(backbone.config.to_dict(), default=str)
    assert str(folder) not in backbone.config._name_or_path


def test_hub_id_appears_in_both_configs(folder):
    backbone = attach_lora(load_backbone(Pretrained(folder, "someone/encoder"))[0], Lora(), seed=0)
    assert backbone.config._name_or_path == "someone/encoder"
    assert backbone.peft_config["default"].base_model_name_or_path == "someone/encoder"
