"""Artifacts of every released version still load, and answer as they did."""

import json
import runpy
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fewtext import FewShotClassifier
from fewtext.artifact import LAYOUT
from fewtext.errors import ArtifactError
from fewtext.files import sha256

GOLDEN = Path(__file__).parents[1] / "golden"
VERSIONS = sorted(path.name for path in GOLDEN.iterdir() if (path / "classifier").is_dir())
MADE = runpy.run_path(str(GOLDEN / "make.py"))


def test_this_version_has_golden_artifacts():
    assert version("fewtext") in VERSIONS


@pytest.mark.parametrize("name", VERSIONS)
def test_a_golden_classifier_answers_as_it_did(name):
    classifier = FewShotClassifier.from_pretrained(GOLDEN / name / "classifier")
    found = torch.from_numpy(classifier.predict_proba(MADE["QUERIES"])).log()
    expected = load_file(GOLDEN / name / "expected.safetensors")["logits"]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", VERSIONS)
def test_a_golden_learner_is_a_base(name):
    base = str(GOLDEN / name / "learner")
    classifier = FewShotClassifier(base, names=False, C=1e6).fit(MADE["TEXTS"], MADE["LABELS"])
    assert classifier.predict(MADE["TEXTS"]).tolist() == MADE["LABELS"]


def test_a_newer_format_is_refused_with_the_version_it_needs(tmp_path):
    folder = shutil.copytree(GOLDEN / VERSIONS[-1] / "classifier", tmp_path / "c")
    description = json.loads((folder / LAYOUT.description).read_text())
    description |= {"format_version": description["format_version"] + 1, "fewtext_version": "9.9"}
    (folder / LAYOUT.description).write_text(json.dumps(description))
    manifest = json.loads((folder / LAYOUT.manifest).read_text())
    manifest[LAYOUT.description] = sha256(folder / LAYOUT.description)
    (folder / LAYOUT.manifest).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=r"Use fewtext 9\.9 or newer"):
        FewShotClassifier.from_pretrained(folder)
