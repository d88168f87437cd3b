"""`fewtext push`, and the facts that travel to the hub."""

import json

import numpy as np
import pytest
from hub.server import Hub, client, running, without_waiting
from huggingface_hub import metadata_load

from fewtext import Artifact, FewShotClassifier, Prototypical
from fewtext.artifact import LAYOUT, describe
from fewtext.cli import main
from fewtext.errors import ArtifactError
from fewtext.jobs.push import data_facts

TRAIN = "--card everyday --steps 2 --meta-batch 1 --ways 4 --queries 2 --validation-episodes 4"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    without_waiting(monkeypatch)
    hub = Hub("regular")
    with running(hub) as endpoint:
        client(monkeypatch, endpoint, tmp_path / "home")
        yield hub


def card(hub, repo, tmp_path):
    (tmp_path / "card.md").write_bytes(hub.tree(repo)["README.md"])
    return metadata_load(tmp_path / "card.md")


def test_a_learner_goes_to_the_hub_and_serves_as_a_base(hub, tiny_folder, tmp_path, capsys):
    out = str(tmp_path / "run")
    job = ["train", "prototypical", "--base", str(tiny_folder), *TRAIN.split(), "--out", out]
    assert main([*job, "--push-to-hub", "me/base"]) == 0
    assert {"fewtext.json", "encoder/model.safetensors", "README.md"} <= hub.tree("me/base").keys()
    assert main(["test", out, "--number", "4", "--all-way", "0"]) == 0
    (results,) = (tmp_path / "run").glob("test-*.json")
    more = ["--results", str(results), "--licence", "apache-2.0", "--tag", "v1", "--private"]
    assert main(["push", out, "me/tested", *more]) == 0
    assert "pushed me/tested at" in capsys.readouterr().out
    front = card(hub, "me/tested", tmp_path)
    assert front["license"] == "apache-2.0"
    assert any("prototypical" in str(entry) for entry in front["model-index"])
    made = ["--shots", "2", "--base", "me/base", "--out", str(tmp_path / "mine"), "--push-to-hub", "me/mine"]
    assert main(["fit", "everyday", *made]) == 0
    classifier = FewShotClassifier.from_pretrained("me/mine")
    assert classifier.facts_["base"]["data"]["sources"] == ["everyday"]
    np.testing.assert_array_equal(
        classifier.predict(["where is my card"]),
        FewShotClassifier.from_pretrained(tmp_path / "mine").predict(["where is my card"]),
    )
    capsys.readouterr()
    assert main(["info", "me/tested"]) == 0
    assert json.loads(capsys.readouterr().out)["facts"]["licence"] == "apache-2.0"


def test_data_that_forbid_publishing_are_respected(hub, tiny_lora, tmp_path):
    facts = {"data": data_facts(["everyday", "private.csv"])}
    assert facts["data"]["sources"] == ["everyday", "private.csv"]
    facts["data"]["cards"][0]["publish_models"] = False
    learner = Prototypical(tiny_lora)
    learner.facts = facts
    classifier = FewShotClassifier(learner).fit(["where is my card", "flight late"], ["card", "flight"])
    for thing in (Artifact("learner", learner, facts=facts), classifier):
        with pytest.raises(ArtifactError, match="everyday, whose licence does not allow publishing"):
            thing.push_to_hub("me/forbidden")
    assert "me/forbidden" not in hub.repos
    commit = classifier.push_to_hub("me/forbidden", allow_data=True)
    assert commit == hub.commits("me/forbidden")[-1].sha


def test_texts_stay_at_home_unless_they_are_asked_for(hub, tiny_folder, tmp_path, caplog):
    texts, labels = ["where is my card", "flight late"], ["card", "flight"]
    classifier = FewShotClassifier(str(tiny_folder)).fit(texts, labels)
    own = str(classifier.save_pretrained(tmp_path / "mine", include_texts=True))
    assert main(["push", own, "me/mine"]) == 0
    assert LAYOUT.texts not in hub.tree("me/mine")
    assert "mine: its texts stay at home. --include-texts pushes them, too." in caplog.text
    caplog.clear()
    assert main(["push", own, "me/whole", "--include-texts"]) == 0
    assert json.loads(hub.tree("me/whole")[LAYOUT.texts])["texts"] == texts
    classifier.save_pretrained(tmp_path / "bare")
    assert main(["push", str(tmp_path / "bare"), "me/bare"]) == 0
    assert "stay at home" not in caplog.text


def test_results_that_are_none_are_refused(tiny_lora, tmp_path, capsys):
    folder = Artifact("learner", Prototypical(tiny_lora)).save_pretrained(tmp_path / "a")
    assert main(["push", str(folder), "me/x", "--results", str(folder / LAYOUT.description)]) == 1
    assert "fewtext.json: these are no results of fewtext" in capsys.readouterr().err
    assert describe(folder)["facts"] == {}
