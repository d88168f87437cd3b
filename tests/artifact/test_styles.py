"""Both styles of an artifact, read by fewtext and by the libraries they are made for."""

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from conftest import changed
from peft import PeftModel
from tokenizers import Tokenizer
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from fewtext import Artifact, Encoder, FewShotClassifier, Lora, Prototypical
from fewtext.artifact import LAYOUT, describe
from fewtext.artifact.card import snippets
from fewtext.errors import ArtifactError
from fewtext.learners import learner_class
from fewtext.nn.pretrained import MINILM, locate

TEXTS = [
    "where is my card",
    "card not arrived",
    "refund the money",
    "money back please",
    "flight late",
    "cancel flight",
]
LABELS = ["card", "card", "refund", "refund", "flight", "flight"]
QUERIES = ["my card has not arrived yet", "money", "please cancel the flight to the room " * 12, "book"]


def base(kind, folder):
    """A learner on a changed tiny encoder."""
    lora = Lora(rank=2) if "lora" in kind else None
    encoder = Encoder.from_pretrained(folder, lora=lora)
    encoder = encoder if kind == "frozen" else changed(encoder)
    return learner_class("fomaml" if "fomaml" in kind else "prototypical")(encoder)


def probabilities(answers, classes):
    """Columns in the order of `classes`, from what a pipeline returns."""
    rows = [{entry["label"]: entry["score"] for entry in answer} for answer in answers]
    return np.array([[row[str(label)] for label in classes] for row in rows])


@pytest.mark.parametrize("method", ["linear", "prototype"])
@pytest.mark.parametrize("kind", ["frozen", "lora", "full", "lora fomaml", "full fomaml"])
def test_transformers_gives_the_probabilities_of_fewtext(kind, method, tiny_folder, tmp_path):
    classifier = FewShotClassifier(base(kind, tiny_folder), method=method).fit(TEXTS, LABELS)
    folder = str(classifier.save_pretrained(tmp_path / "c"))
    expected = classifier.predict_proba(QUERIES)
    np.testing.assert_allclose(FewShotClassifier.from_pretrained(folder).predict_proba(QUERIES), expected, atol=1e-5)
    found = pipeline("text-classification", model=folder)(QUERIES, top_k=None, batch_size=4)
    np.testing.assert_allclose(probabilities(found, classifier.classes_), expected, atol=1e-5)
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    with torch.no_grad():
        logits = model.eval()(**tokenizer(QUERIES, return_tensors="pt", padding=True)).logits
    np.testing.assert_allclose(logits.softmax(-1), expected, atol=1e-5)
    assert [model.config.id2label[n] for n in range(3)] == classifier.classes_.tolist()


def test_a_prompt_and_lower_casing_are_in_the_tokenizer(tiny_folder, tmp_path):
    own = shutil.copytree(tiny_folder, tmp_path / "base")
    tokenizer = Tokenizer.from_file(str(own / "tokenizer.json"))
    tokenizer.normalizer = None
    tokenizer.save(str(own / "tokenizer.json"))
    prompts = {"prompts": {"classify": "please book: "}, "default_prompt_name": "classify"}
    (own / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    (own / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 20, "do_lower_case": True}))
    classifier = FewShotClassifier(str(own)).fit(TEXTS, LABELS)
    folder = str(classifier.save_pretrained(tmp_path / "c"))
    queries = [*QUERIES, "CARD Arrived"]
    found = pipeline("text-classification", model=folder)(queries, top_k=None)
    np.testing.assert_allclose(
        probabilities(found, classifier.classes_), classifier.predict_proba(queries), atol=1e-5
    )


def test_without_fewtext_the_error_names_it(tiny_folder, tmp_path):
    folder = FewShotClassifier(str(tiny_folder)).fit(TEXTS, LABELS).save_pretrained(tmp_path / "c")
    code = (
        "import sys; from transformers import AutoModelForSequenceClassification as A; A.from_pretrained(sys.argv[1])"
    )
    found = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    assert found.returncode == 1
    assert "model type `fewtext`" in found.stderr


def test_sentence_transformers_reads_the_merged_encoder(tiny_folder, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    learner = base("lora", tiny_folder)
    folder = Artifact("learner", learner).save_pretrained(tmp_path / "a")
    model = library.SentenceTransformer(str(folder / LAYOUT.encoder), device="cpu")
    np.testing.assert_allclose(model.encode(QUERIES), learner.encoder.encode(QUERIES), atol=1e-5)


def test_the_adapter_rides_along(tiny_folder, tmp_path):
    learner = base("lora", tiny_folder)
    folder = Artifact("learner", learner).save_pretrained(tmp_path / "a")
    model = PeftModel.from_pretrained(AutoModel.from_pretrained(tiny_folder), str(folder), subfolder="adapter").eval()
    ids = torch.tensor([learner.encoder.tokenize([TEXTS[0]])[0]])
    with torch.no_grad():
        expected = learner.encoder.backbone(input_ids=ids).last_hidden_state
        torch.testing.assert_close(model(input_ids=ids).last_hidden_state, expected, atol=1e-5, rtol=1e-5)


def test_without_lora_an_adapter_is_the_head_and_a_name(tmp_path):
    classifier = FewShotClassifier(MINILM).fit(TEXTS, LABELS)
    folder = classifier.save_pretrained(tmp_path / "c", style="adapter")
    assert not (folder / LAYOUT.adapter).exists()
    assert not list(folder.rglob("model*.safetensors"))
    again = FewShotClassifier.from_pretrained(folder)
    np.testing.assert_allclose(again.predict_proba(QUERIES), classifier.predict_proba(QUERIES), atol=1e-6)


def test_an_encoder_with_a_chat_template_can_be_saved_and_loaded(tiny_folder, tmp_path):
    base = shutil.copytree(tiny_folder, tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = "{{ messages }}"
    tokenizer.save_pretrained(base)
    assert (base / "chat_template.jinja").is_file()
    own = FewShotClassifier(base).fit(["my card", "a flight"], ["card", "flight"])
    loaded = FewShotClassifier.from_pretrained(own.save_pretrained(tmp_path / "c"))
    assert loaded.predict(["my card"]).tolist() == ["card"]


def test_what_cannot_be_an_adapter_says_so(tiny_folder, tmp_path):
    learner = Prototypical(changed(Encoder.from_pretrained(MINILM)))
    with pytest.raises(ArtifactError, match=r"all weights of this encoder were trained\. Use 'merged'"):
        Artifact("learner", learner).save_pretrained(tmp_path / "a", style="adapter")
    with pytest.raises(ArtifactError, match=r"a folder that no hub knows\. Use 'merged'"):
        Artifact("learner", base("lora", tiny_folder)).save_pretrained(tmp_path / "a", style="adapter")
    with pytest.raises(ArtifactError, match="must be 'adapter' or 'merged'"):
        Artifact("learner", base("lora", tiny_folder)).save_pretrained(tmp_path / "a", style="both")
    assert not (tmp_path / "a").exists()


def test_a_merged_classifier_is_merged_again(tiny_folder, tmp_path):
    first = FewShotClassifier(base("lora", tiny_folder)).fit(TEXTS, LABELS).save_pretrained(tmp_path / "1")
    again = FewShotClassifier.from_pretrained(first)
    second = again.save_pretrained(tmp_path / "2")
    np.testing.assert_allclose(
        FewShotClassifier.from_pretrained(second).predict_proba(QUERIES), again.predict_proba(QUERIES), atol=1e-5
    )


def test_no_local_path_is_written(tiny_folder, tmp_path):
    folder = FewShotClassifier(base("lora", tiny_folder)).fit(TEXTS, LABELS).save_pretrained(tmp_path / "c")
    place = str(tiny_folder.parent).encode()
    assert not [path.name for path in folder.rglob("*") if path.is_file() and place in path.read_bytes()]


@pytest.mark.parametrize("kind", ["classifier merged", "classifier adapter", "learner merged", "learner adapter"])
def test_the_code_of_the_card_runs(kind, tiny_folder, tmp_path, capsys):
    what, style = kind.split()
    own = MINILM if style == "adapter" else tiny_folder
    learner = Prototypical(changed(Encoder.from_pretrained(own, lora=Lora(rank=2))))
    if what == "classifier":
        folder = FewShotClassifier(learner).fit(TEXTS, LABELS).save_pretrained(tmp_path / "a", style=style)
    else:
        folder = Artifact("learner", learner).save_pretrained(tmp_path / "a", style=style)
    code = snippets(describe(folder), str(folder))
    readers = {"fewtext", "peft"} if style == "adapter" else {"fewtext", "sentence-transformers"}
    assert set(code) == readers | ({"transformers"} if kind == "classifier merged" else set())
    card = (folder / LAYOUT.card).read_text("utf-8")
    for name, text in snippets(describe(folder)).items():
        assert text in card
        if name != "sentence-transformers" or find_spec("sentence_transformers"):
            exec(code[name].replace(MINILM, str(locate(MINILM).folder)), {})  # no hub is at hand
            assert capsys.readouterr().out.strip()


def test_several_adapters_share_one_encoder(tmp_path):
    learners = [Prototypical(changed(Encoder.from_pretrained(MINILM, lora=Lora(rank=2)), seed)) for seed in (1, 2)]
    for name, learner in zip("ab", learners, strict=True):
        Artifact("learner", learner).save_pretrained(tmp_path / name)
    model = PeftModel.from_pretrained(AutoModel.from_pretrained(locate(MINILM).folder), tmp_path / "a", "a").eval()
    model.load_adapter(str(tmp_path / "b"), adapter_name="b")
    ids = torch.tensor([learners[0].encoder.tokenize([TEXTS[0]])[0]])
    for name, learner in zip("ab", learners, strict=True):
        model.set_adapter(name)
        with torch.no_grad():
            expected = learner.encoder.backbone(input_ids=ids).last_hidden_state
            torch.testing.assert_close(model(input_ids=ids).last_hidden_state, expected, atol=1e-5, rtol=1e-5)
