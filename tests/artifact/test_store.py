"""Artifacts: what is saved is what is loaded, and what is damaged is refused."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from conftest import changed
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from fewtext import Artifact, Collator, Encoder, EpisodeSampler, EpisodeSpec, FewShotClassifier, Lora, Prototypical
from fewtext.artifact import LAYOUT, describe
from fewtext.errors import ArtifactError, EncoderError
from fewtext.files import sha256
from fewtext.nn.pretrained import Pretrained, locate


def logits(learner, toy):
    sampler = EpisodeSampler(toy, EpisodeSpec(ways=4, shots=1, queries=2))
    batch = Collator([toy], learner.encoder.tokenize)([sampler[0], sampler[1]])
    with torch.no_grad():
        return learner.predict(learner.adapt(batch.support), batch.query.tokens)


@pytest.fixture
def named(tiny_folder, monkeypatch):
    """The tiny encoder with LoRA, under the name of a hub model."""

    def locate_tiny(base, revision=None):
        return Pretrained(tiny_folder, base, revision) if base == "someone/tiny" else locate(base, revision)

    monkeypatch.setattr("fewtext.nn.encoder.locate", locate_tiny)
    return changed(Encoder.from_pretrained("someone/tiny", lora=Lora(rank=2)))


@pytest.fixture
def saved(named, tmp_path):
    return Artifact("learner", Prototypical(named), facts={"seed": 3}).save_pretrained(tmp_path / "learner")


@pytest.fixture
def whole(tiny_lora, tmp_path):
    return Artifact("learner", Prototypical(tiny_lora), facts={"seed": 3}).save_pretrained(tmp_path / "learner")


def remake_manifest(folder):
    """Make a tampered folder consistent again, so that the check behind the manifest's is reached."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != LAYOUT.manifest]
    manifest = {path.relative_to(folder).as_posix(): sha256(path) for path in files}
    (folder / LAYOUT.manifest).write_text(json.dumps(manifest))


@pytest.mark.parametrize("kind", ["lora", "full", "frozen"])
def test_a_loaded_learner_gives_the_logits_it_gave_when_saved(kind, toy, tiny_folder, tmp_path):
    encoder = Encoder.from_pretrained(tiny_folder, lora=Lora(rank=2) if kind == "lora" else None)
    learner = Prototypical(encoder if kind == "frozen" else changed(encoder))
    expected = logits(learner, toy)
    Artifact("learner", learner).save_pretrained(tmp_path / "a")
    torch.testing.assert_close(logits(Artifact.from_pretrained(tmp_path / "a").learner, toy), expected)


def test_an_artifact_of_a_local_base_stands_alone(toy, tiny_folder, tmp_path):
    base = shutil.copytree(tiny_folder, tmp_path / "base")
    learner = Prototypical(changed(Encoder.from_pretrained(base, lora=Lora(rank=2))))
    expected = logits(learner, toy)
    Artifact("learner", learner).save_pretrained(tmp_path / "a")
    shutil.rmtree(base)
    torch.testing.assert_close(logits(Artifact.from_pretrained(tmp_path / "a").learner, toy), expected)
    assert not any(str(tmp_path) in path.read_text("utf-8") for path in (tmp_path / "a").rglob("*.json"))


def test_a_public_base_is_named_and_not_copied(tmp_path):
    learner = Prototypical(Encoder.from_pretrained("sentence-transformers/all-MiniLM-L6-v2", lora=Lora(rank=2)))
    folder = Artifact("learner", learner).save_pretrained(tmp_path / "a")
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 1_500_000
    encoder = describe(folder)["encoder"]
    assert encoder["id"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert not (folder / LAYOUT.encoder).exists()
    assert len(encoder["sha256"]) == 64
    assert json.loads((folder / LAYOUT.adapter_config).read_text())["base_model_name_or_path"] == encoder["id"]
    assert Artifact.from_pretrained(folder).learner.encoder.source.id == encoder["id"]


def test_peft_reads_the_adapter(saved, named, tiny_folder):
    other = PeftModel.from_pretrained(AutoModel.from_pretrained(tiny_folder), str(saved)).eval()
    ids = torch.tensor([named.tokenize(["where is my card"])[0]])
    with torch.no_grad():
        expected = named.backbone(input_ids=ids).last_hidden_state
        torch.testing.assert_close(other(input_ids=ids).last_hidden_state, expected, atol=1e-5, rtol=1e-5)


def test_facts_survive_and_are_read_without_weights(saved):
    (saved / LAYOUT.learner).unlink()
    assert describe(saved)["facts"] == {"seed": 3}


@pytest.mark.parametrize(
    "name", ["fewtext.json", "learner.safetensors", "adapter/adapter_model.safetensors", "encoder/config.json"]
)
def test_a_flipped_byte_is_found(whole, name):
    content = bytearray((whole / name).read_bytes())
    content[len(content) // 2] ^= 1
    (whole / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{name} is damaged"):
        Artifact.from_pretrained(whole)


@pytest.mark.parametrize("name", ["learner.safetensors", "adapter_model.safetensors", "manifest.json"])
def test_a_missing_file_is_found(saved, name):
    (saved / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        Artifact.from_pretrained(saved)


@pytest.mark.parametrize(
    "name",
    ["head.safetensors", "encoder/model-2.safetensors", "encoder/1_Dense/config.json", "encoder/adapter_config.json"],
)
def test_a_file_the_manifest_does_not_list_is_refused(whole, name):
    (whole / name).parent.mkdir(exist_ok=True)
    (whole / name).write_bytes(b"slipped in")
    with pytest.raises(ArtifactError, match=f"{name} is not in manifest.json"):
        Artifact.from_pretrained(whole)


def test_a_manifest_must_list_the_description(saved):
    path = saved / LAYOUT.manifest
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != LAYOUT.description}))
    with pytest.raises(ArtifactError, match=r"fewtext\.json is not in manifest\.json"):
        Artifact.from_pretrained(saved)


def test_results_written_beside_an_artifact_do_no_harm(saved):
    (saved / "results.json").write_text("[]")
    assert Artifact.from_pretrained(saved).facts == {"seed": 3}


def test_nan_is_refused(saved):
    path = saved / LAYOUT.adapter
    tensors = load_file(path)
    name = sorted(tensors)[0]
    tensors[name][0, 0] = float("nan")
    save_file(tensors, path)
    remake_manifest(saved)
    with pytest.raises(ArtifactError, match="NaN"):
        Artifact.from_pretrained(saved)


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_tensors_that_do_not_fit_are_refused(saved, change):
    path = saved / LAYOUT.adapter
    tensors = load_file(path)
    name = sorted(tensors)[0]
    if change == "missing":
        del tensors[name]
    elif change == "extra":
        tensors["more"] = torch.zeros(1)
    else:
        tensors[name] = tensors[name][:, :-1].contiguous()
    save_file(tensors, path)
    remake_manifest(saved)
    with pytest.raises(ArtifactError, match=r"do not fit|is needed"):
        Artifact.from_pretrained(saved)


def edited(folder, **entries):
    path = folder / LAYOUT.description
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
    remake_manifest(folder)
    return folder


def test_a_newer_format_is_refused_with_the_version_it_needs(saved):
    with pytest.raises(ArtifactError, match=r"format version 99.*Use fewtext 7\.0"):
        Artifact.from_pretrained(edited(saved, format_version=99, fewtext_version="7.0"))


def test_an_unknown_learner_is_refused(saved):
    with pytest.raises(ArtifactError, match="no learner 'magic'"):
        Artifact.from_pretrained(edited(saved, learner={"name": "magic", "config": {}}))


def test_another_base_than_the_one_named_is_refused(tmp_path):
    learner = Prototypical(Encoder.from_pretrained("sentence-transformers/all-MiniLM-L6-v2"))
    folder = Artifact("learner", learner).save_pretrained(tmp_path / "a")
    encoder = describe(folder)["encoder"] | {"sha256": "0" * 64}
    with pytest.raises(ArtifactError, match="has other weights"):
        Artifact.from_pretrained(edited(folder, encoder=encoder))


def test_a_base_that_is_not_there_is_an_encoder_error(saved):
    encoder = describe(saved)["encoder"] | {"id": "nobody/nothing"}
    with pytest.raises(EncoderError, match="nobody/nothing"):
        Artifact.from_pretrained(edited(saved, encoder=encoder))


def test_saving_never_touches_a_folder_of_something_else(tiny_lora, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ArtifactError, match="not a fewtext artifact"):
        Artifact("learner", Prototypical(tiny_lora)).save_pretrained(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_failed_save_leaves_the_old_artifact(saved, tiny_lora, monkeypatch, toy):
    expected = logits(Artifact.from_pretrained(saved).learner, toy)

    def broken(self, folder, *given):
        (folder / "half").write_text("written")
        raise OSError("disk full")

    monkeypatch.setattr(Artifact, "_write", broken)
    with pytest.raises(OSError, match="disk full"):
        Artifact("learner", Prototypical(tiny_lora)).save_pretrained(saved)
    torch.testing.assert_close(logits(Artifact.from_pretrained(saved).learner, toy), expected)
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


@pytest.fixture
def shared(whole):
    """An artifact's folder with what others keep in it, and what was measured on it."""
    (whole / ".git").mkdir()
    for name in (
        ".git/config",
        "notes.txt",
        ".gitattributes",
        "results.json",
        "results.md",
        "test-toy-0-1-shot.json",
    ):
        (whole / name).write_text("of the old one")
    return whole


def others(place):
    """Where in a folder there is what others keep in an artifact."""
    return [path.parent for name in (".git", "notes.txt", ".gitattributes") for path in place.rglob(name)]


def test_an_artifact_in_place_of_another_leaves_only_what_is_of_others(shared, named, tmp_path):
    expected = Artifact("learner", Prototypical(named)).save_pretrained(tmp_path / "alone")
    assert Artifact("learner", Prototypical(named)).save_pretrained(shared) == shared
    names = {path.relative_to(shared).as_posix() for path in shared.rglob("*")}
    kept = {".git", ".git/config", "notes.txt", ".gitattributes"}
    assert names == kept | {path.relative_to(expected).as_posix() for path in expected.rglob("*")}
    assert (shared / ".git" / "config").read_text() == "of the old one"
    assert Artifact.from_pretrained(shared).learner.encoder.source.id == "someone/tiny"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", shared.name]


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_whatever_stops_the_exchange_nothing_is_lost(shared, monkeypatch, error, number, done):
    """Before or after the old folder, the new one, and each of three entries of others was renamed."""
    rename, calls = os.rename, []

    def stopping(source, place):
        assert {path.name for path in shared.parent.rglob(LAYOUT.description)}  # were it killed here
        assert len(others(shared.parent)) == 3
        calls.append(place)
        if done or len(calls) != number + 1:
            rename(source, place)
        if len(calls) == number + 1:
            raise error("stopped")

    artifact = Artifact("learner", Artifact.from_pretrained(shared).learner, facts={"new": 1})
    monkeypatch.setattr(os, "rename", stopping)
    with pytest.raises(ArtifactError if error is OSError else error, match="stopped"):
        artifact.save_pretrained(shared)
    replaced = number + done >= 2
    assert Artifact.from_pretrained(shared).facts == ({"new": 1} if replaced else {"seed": 3})
    assert len(others(shared.parent)) == 3
    left = [path for path in shared.parent.iterdir() if path != shared]
    assert set(others(shared.parent)) <= {shared, *left}
    assert len(left) == (number >= 2)
    assert (shared / "results.json").exists() != replaced


def test_what_a_link_leads_to_is_replaced_and_the_link_stays(whole, named, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(whole.name)
    assert Artifact("learner", Prototypical(named)).save_pretrained(link) == link
    assert os.readlink(link) == whole.name
    assert describe(whole)["style"] == "adapter"


def test_the_folder_one_is_in_is_not_replaced(whole, monkeypatch):
    artifact = Artifact("learner", Artifact.from_pretrained(whole).learner)
    monkeypatch.chdir(whole)
    with pytest.raises(ArtifactError, match=r"the folder you are in cannot be replaced\. Change to another"):
        artifact.save_pretrained(".")
    assert Artifact.from_pretrained(whole).facts == {"seed": 3}


TEXTS, LABELS = ["where is my card", "block the card", "flight is late", "cancel the flight"], [0, 0, 1, 1]


def not_finite(classifier):
    classifier._state().head["bias"][0] = torch.nan


@pytest.mark.parametrize(
    ("texts", "labels", "change", "message"),
    [
        ([*TEXTS, "no " * 2**19], [*LABELS, 1], None, r"texts\.json: .* texts have at most 1,048,576 characters"),
        (TEXTS, np.array(LABELS, np.uint64) + np.uint64(2**63), None, r"labels .* numbers below 2\*\*63"),
        (TEXTS, LABELS, not_finite, "NaN"),
    ],
)
def test_what_could_not_be_loaded_again_is_not_saved(texts, labels, change, message, tiny, tmp_path):
    folder = FewShotClassifier(tiny).fit(TEXTS, LABELS).save_pretrained(tmp_path / "c", include_texts=True)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    classifier = FewShotClassifier(tiny).fit(texts, labels)
    if change is not None:
        change(classifier)
    with pytest.raises(ArtifactError, match=rf"^c: not saved, and left as it was, .*{message}"):
        classifier.save_pretrained(folder, include_texts=True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_no_artifact_is_an_artifact_error(tmp_path):
    with pytest.raises(ArtifactError, match=r"no fewtext\.json"):
        Artifact.from_pretrained(tmp_path)
    with pytest.raises(ArtifactError, match="no such folder, and it cannot be had from the hub"):
        Artifact.from_pretrained("nobody/nothing")
