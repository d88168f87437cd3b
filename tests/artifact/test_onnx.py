"""A classifier as ONNX answers as it does in fewtext."""

import json
import logging
import shutil
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from conftest import save_tiny_encoder
from transformers import BertConfig, DebertaV2Config, ModernBertConfig, MPNetConfig, RobertaConfig

import fewtext.artifact.onnx
from fewtext import FewShotClassifier
from fewtext.artifact.onnx import export_onnx, onnx_labels, onnx_logits
from fewtext.errors import ArtifactError
from fewtext.nn.pretrained import MINILM
from fewtext.nn.recipe import POOLINGS

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

TEXTS = ["where is my card", "card not arrived", "refund the money", "money back", "flight late", "cancel flight"]
LABELS = ["card", "card", "refund", "refund", "flight", "flight"]
QUERIES = ["money", "my card has not arrived yet", "please cancel the flight to the room " * 30, "book", *TEXTS * 6]
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 128,
}
SPECIAL = {"eos_token_id": 3, "bos_token_id": 2, "cls_token_id": 2, "sep_token_id": 3}
CONFIGS = {  # positions from zero and from the padding token, relative ones, and a window on the neighbours
    "bert": BertConfig(**SIZES),
    "roberta": RobertaConfig(**SIZES),
    "mpnet": MPNetConfig(**SIZES),
    "modernbert": ModernBertConfig(**SIZES, **SPECIAL, local_attention=8, global_attn_every_n_layers=2),
    "deberta-v2": DebertaV2Config(
        **SIZES, relative_attention=True, position_biased_input=False, pos_att_type=["p2c", "c2p"], position_buckets=8
    ),
}


def probabilities(logits):
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def give(folder, **files):
    """Write files of sentence-transformers beside an encoder."""
    for name, content in files.items():
        path = folder / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))


def pooled(folder, *modes, length=None):
    """Let an encoder be pooled in these ways, and with a length have a prompt that is not."""
    kinds = {"": "Transformer", "1_Pooling": "Pooling"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
    give(folder, modules=modules)
    give(folder / "1_Pooling", config={"word_embedding_dimension": 16, "pooling_mode": list(modes)})
    if length is not None:
        give(folder, config_sentence_transformers={"prompts": {"a": "where is "}, "default_prompt_name": "a"})
        give(folder, sentence_bert_config={"max_seq_length": length})
        give(folder / "1_Pooling", config={"pooling_mode": list(modes), "include_prompt": False})
    return folder


def exported(base, folder, **options):
    classifier = FewShotClassifier(str(base)).fit(TEXTS, LABELS)
    classifier.save_pretrained(folder, style="merged")
    return classifier, export_onnx(folder, **options)


@pytest.fixture(scope="module")
def both(tiny_folder, tmp_path_factory):
    """A classifier, and its folder with both files."""
    folder = tmp_path_factory.mktemp("both") / "c"
    return exported(tiny_folder, folder, int8=True)[0], folder


@pytest.fixture
def saved(tiny_folder, tmp_path):
    """The folder of a classifier that has not been exported."""
    return FewShotClassifier(str(tiny_folder)).fit(TEXTS, LABELS).save_pretrained(tmp_path / "c", style="merged")


@pytest.mark.parametrize("kind", CONFIGS)
def test_probabilities_are_those_of_fewtext(kind, tmp_path):
    base = save_tiny_encoder(tmp_path / "base", CONFIGS[kind])
    classifier, _ = exported(base, tmp_path / "c")
    found = probabilities(onnx_logits(tmp_path / "c", QUERIES))
    np.testing.assert_allclose(found, classifier.predict_proba(QUERIES), rtol=0, atol=1e-4)


@pytest.mark.parametrize("length", [None, 20], ids=["plain", "prompt"])
@pytest.mark.parametrize("modes", [(mode,) for mode in POOLINGS] + [("max", "mean")], ids="+".join)
def test_every_pooling_is_exported(modes, length, tiny_folder, tmp_path):
    base = pooled(shutil.copytree(tiny_folder, tmp_path / "base"), *modes, length=length)
    classifier, _ = exported(base, tmp_path / "c")
    config = json.loads((tmp_path / "c" / "config.json").read_text("utf-8"))
    assert (config["pooling"], config["skip"] > 0) == (list(modes), length is not None)
    found = probabilities(onnx_logits(tmp_path / "c", QUERIES))
    np.testing.assert_allclose(found, classifier.predict_proba(QUERIES), rtol=0, atol=1e-4)


def test_batches_and_padding_change_nothing(both):
    _, folder = both
    alone = np.concatenate([onnx_logits(folder, [text]) for text in QUERIES[:6]])
    np.testing.assert_allclose(onnx_logits(folder, QUERIES[:6]), alone, rtol=0, atol=1e-4)
    assert onnx_logits(folder, []).shape == (0, 3)


def test_class_numbers_are_those_of_the_labels(both):
    classifier, folder = both
    assert (classifier.classes_[onnx_labels(folder, QUERIES)] == classifier.predict(QUERIES)).all()
    assert onnx_labels(folder, TEXTS, int8=True).tolist() == onnx_labels(folder, TEXTS).tolist()


@pytest.mark.parametrize("name", ["model.onnx", "model_quantized.onnx"])
def test_a_file_stands_alone_and_names_its_inputs_and_output(name, both):
    graph = onnx.load(both[1] / "onnx" / name, load_external_data=False)
    onnx.checker.check_model(graph)
    assert not any(onnx.external_data_helper.uses_external_data(tensor) for tensor in graph.graph.initializer)
    shapes = {
        port.name: [size.dim_param or size.dim_value for size in port.type.tensor_type.shape.dim]
        for port in [*graph.graph.input, *graph.graph.output]
    }
    texts = ["batch", "length"]
    assert shapes == {"input_ids": texts, "attention_mask": texts, "logits": ["batch", 3]}


def test_files_are_the_same_each_time_and_hold_no_local_path(both, saved):
    libraries = sysconfig.get_paths()["purelib"]
    places = [saved.parent, both[1], Path.home(), Path(fewtext.__file__).parents[1], libraries, "site-packages"]
    for path in export_onnx(saved, int8=True):
        content = path.read_bytes()
        assert content == (both[1] / "onnx" / path.name).read_bytes()
        assert not any(str(place).encode() in content for place in places)
    assert sorted(path.name for path in (saved / "onnx").iterdir()) == ["model.onnx", "model_quantized.onnx"]


def test_an_exported_classifier_loads_and_is_exported_again(saved):
    first = [path.read_bytes() for path in export_onnx(saved)]
    assert [path.read_bytes() for path in export_onnx(saved)] == first
    FewShotClassifier.from_pretrained(saved)
    (saved / "onnx" / "model.onnx").write_bytes(b"other")
    with pytest.raises(ArtifactError, match=r"onnx/model\.onnx is damaged"):
        FewShotClassifier.from_pretrained(saved)


def test_int8_leaves_the_root_logger_as_it_is(saved, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    export_onnx(saved, int8=True)
    assert logging.getLogger().handlers == []


def test_other_answers_are_an_error_and_leave_no_file(saved, monkeypatch):
    export = fewtext.artifact.onnx.torch.onnx.export

    def wrong(model, *arguments, **options):
        model.classifier.bias.data += 0.01
        export(model, *arguments, **options)
        model.classifier.bias.data -= 0.01

    monkeypatch.setattr(fewtext.artifact.onnx.torch.onnx, "export", wrong)
    with pytest.raises(ArtifactError, match="as ONNX it answers differently"):
        export_onnx(saved)
    assert not list((saved / "onnx").iterdir())
    FewShotClassifier.from_pretrained(saved)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_the_extra_the_error_names_it(package, saved, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ArtifactError, match=r"pip install 'fewtext\[onnx\]'"):
        export_onnx(saved)


def test_what_cannot_be_exported_says_so(saved, tmp_path, monkeypatch):
    with pytest.raises(ArtifactError, match=r"model_quantized\.onnx is missing"):
        onnx_labels(saved, TEXTS, int8=True)
    with pytest.raises(ArtifactError, match="style='merged'"):
        export_onnx(tmp_path)
    monkeypatch.setattr(fewtext.artifact.onnx, "MOST_BYTES", 1000)
    with pytest.raises(ArtifactError, match="GiB of weights"):
        export_onnx(saved)
    (saved / "classifier.safetensors").write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match="is damaged"):
        export_onnx(saved)


def test_the_real_encoder(minilm, tmp_path):
    classifier, (plain, rounded) = exported(MINILM, tmp_path / "c", int8=True)
    expected = classifier.predict_proba(QUERIES)
    np.testing.assert_allclose(probabilities(onnx_logits(tmp_path / "c", QUERIES)), expected, rtol=0, atol=1e-4)
    rough = probabilities(onnx_logits(tmp_path / "c", QUERIES, int8=True))
    np.testing.assert_allclose(rough, expected, rtol=0, atol=0.1)
    assert rounded.stat().st_size < 0.3 * plain.stat().st_size
