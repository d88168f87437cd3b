"""Pulling from a hub over lines that break: what is loaded is what was pushed, or nothing."""

import json
import logging
import traceback
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import changed
from hub.server import Fault, client, running, without_waiting
from huggingface_hub import constants
from push_once import ID, check_moving, check_pulls, file_route, put, same_files

from fewtext import Artifact, Encoder, FewShotClassifier, Lora, Prototypical
from fewtext.artifact import LAYOUT, describe, locate_artifact, pull, push
from fewtext.artifact.push import push_folder
from fewtext.artifact.verify import check_files
from fewtext.errors import ArtifactError, HubError

TEXTS = ["where is my card", "cancel the flight please", "book a room", "renew the loan"]
NOT_READ = {"config.json", "classifier.safetensors", "model.safetensors.index.json", "README.md", "tokenizer.json"}
slow = pytest.mark.slow


def classifier(tiny_folder, seed):
    """A classifier whose weights a seed decides."""
    encoder = changed(Encoder.from_pretrained(tiny_folder, lora=Lora(rank=2)), seed)
    return FewShotClassifier(encoder).fit(TEXTS, ["card", "flight", "room", "loan"])


@pytest.fixture(scope="module")
def one(tiny_folder):
    return classifier(tiny_folder, 1)


@pytest.fixture(scope="module")
def folders(one, tiny_folder, tmp_path_factory):
    """Two saved classifiers, which differ in their weights."""
    place = tmp_path_factory.mktemp("classifiers")
    return [one.save_pretrained(place / "one"), classifier(tiny_folder, 2).save_pretrained(place / "two")]


@pytest.fixture
def quick(monkeypatch):
    without_waiting(monkeypatch)
    monkeypatch.setattr(push, "WAIT", 0.001)
    monkeypatch.setattr(pull, "WAIT", 0.001)


@pytest.fixture
def endpoint(hub, quick, monkeypatch, tmp_path):
    with running(hub) as endpoint:
        client(monkeypatch, endpoint, tmp_path / "home")
        yield endpoint


@pytest.fixture
def there(hub, folders, endpoint):
    """A repository with the first classifier; its commit."""
    return put(hub, folders[0])


def test_what_is_pulled_gives_the_logits_of_what_was_pushed(one, hub, endpoint, tmp_path):
    commit = one.push_to_hub(ID, tag="v1")
    assert one.push_to_hub(ID, tag="v1") == commit
    assert NOT_READ < hub.tree(ID).keys()
    expected = FewShotClassifier.from_pretrained(one.save_pretrained(tmp_path / "one")).predict_proba(TEXTS)
    np.testing.assert_allclose(expected, one.predict_proba(TEXTS), atol=1e-6)
    for revision in (None, "v1", commit):
        pulled = FewShotClassifier.from_pretrained(ID, revision=revision)
        np.testing.assert_array_equal(pulled.predict_proba(TEXTS), expected)
    assert describe(ID)["kind"] == "classifier"


def test_a_learner_is_pushed_and_pulled(tiny_lora, endpoint):
    artifact = Artifact("learner", Prototypical(tiny_lora), facts={"seed": 3})
    artifact.push_to_hub(ID, branch="try")
    assert Artifact.from_pretrained(ID, revision="try").facts == {"seed": 3}
    with pytest.raises(ArtifactError, match=r"no fewtext\.json"):
        Artifact.from_pretrained(ID)


def test_only_what_fewtext_reads_is_downloaded_from_one_commit_with_few_requests(hub, there, folders):
    more = {f"onnx/{name}.onnx": b"large" for name in "ab"} | {"evil.pkl": b"pickle", "encoder/code.py": b"1"}
    commit = put(hub, folders[0], **more)
    hub.requests.clear()
    hub.calls.clear()
    found = locate_artifact(ID)
    assert same_files(found, folders[0])
    assert len(hub.requests) <= 2 + 2 * sum(path.is_file() for path in found.rglob("*"))
    assert hub.calls["info"] == 1
    asked = [seen.path for seen in hub.requests[1:] if not seen.path.startswith("/storage/")]
    assert all(commit in path for path in asked)
    hub.requests.clear()
    assert locate_artifact(ID) == found
    assert len(hub.requests) == 1


def test_a_revision_is_a_commit_a_branch_or_a_tag(hub, there, folders):
    hub.repos[ID].tags["v1"] = there
    hub.repos[ID].branches["try/this"] = there
    put(hub, folders[1])
    for revision in (there, there[:7], "v1", "try/this"):
        assert same_files(locate_artifact(ID, revision), folders[0])
    assert same_files(locate_artifact(ID), folders[1])
    assert same_files(locate_artifact(ID, "main"), folders[1])
    with pytest.raises(HubError, match=r"RevisionNotFoundError, HTTP 404\)\. Check the name and the revision"):
        locate_artifact(ID, "v2")


def test_a_private_repository_needs_the_token(hub, there, folders, monkeypatch):
    hub.repos[ID].private = True
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match=r"HTTP 401\)\. Log in"):
        locate_artifact(ID)
    assert same_files(locate_artifact(ID, token="hf_test"), folders[0])


@pytest.mark.parametrize("kind", ["503", "lost", "cut", "truncated"])
def test_a_fault_on_every_route_is_survived(kind, hub, there, folders):
    routes = ("info", "tree", file_route(hub))
    hub.faults += [Fault(route, 1, kind) for route in routes]
    assert same_files(locate_artifact(ID), folders[0])
    assert all(hub.calls[route] > 1 for route in routes)


def test_a_hub_that_is_not_well_is_an_error_that_says_so(hub, there, folders):
    for route in ("info", "tree", "head", "resolve"):
        hub.faults[:] = [Fault(route, hub.calls[route] + 1, "always 500")]
        with pytest.raises(HubError, match="cannot be had from the hub"):
            locate_artifact(ID)
    hub.faults.clear()
    assert same_files(locate_artifact(ID), folders[0])


@pytest.mark.parametrize(
    ("cuts", "attempts"), [(6, pull.ATTEMPTS), *(pytest.param(100, n, marks=slow) for n in (pull.ATTEMPTS, 1))]
)
def test_a_line_that_breaks_gives_what_was_pushed_or_an_error(
    cuts, attempts, hub, endpoint, folders, monkeypatch, tmp_path
):
    monkeypatch.setattr(pull, "ATTEMPTS", attempts)
    pulls, failed = check_pulls(cuts, hub, endpoint, folders, monkeypatch, tmp_path)
    assert 0 < failed < pulls or attempts > 1


def test_six_may_pull_into_one_cache(there, folders):
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(locate_artifact, [ID] * 6))
    assert all(same_files(one, folders[0]) for one in found)


def test_a_wrong_bit_is_found_and_had_again(hub, there, folders, caplog):
    hub.faults.append(Fault(file_route(hub), 3, "flipped"))
    assert same_files(locate_artifact(ID), folders[0])
    assert "is damaged and downloaded again" in caplog.text
    place = locate_artifact(ID) / "encoder" / "model.safetensors"
    content = bytearray(place.read_bytes())
    content[-1] ^= 1
    place.resolve().write_bytes(content)  # a disk that fails
    with pytest.raises(ArtifactError, match="damaged"):
        check_files(place.parents[1])
    assert same_files(locate_artifact(ID), folders[0])


def test_bits_that_are_always_wrong_are_an_error_and_do_not_stay(hub, there, folders):
    hub.faults += [Fault(file_route(hub), time, "flipped") for time in range(1, 40)]
    with pytest.raises(HubError, match=r"arrives damaged, twice now\. Check the network"):
        locate_artifact(ID)
    hub.faults.clear()
    assert same_files(locate_artifact(ID), folders[0])


@pytest.mark.parametrize("loads", [6, pytest.param(100, marks=slow)])
def test_a_branch_that_moves_never_gives_a_mixture(loads, hub, endpoint, folders, monkeypatch, tmp_path):
    assert sum(check_moving(loads, hub, folders, monkeypatch, tmp_path)) == loads


def test_what_was_pulled_once_needs_no_hub(one, hub, there, folders, monkeypatch):
    expected = FewShotClassifier.from_pretrained(ID).predict_proba(TEXTS)
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for revision in (None, "main", there):
        pulled = FewShotClassifier.from_pretrained(ID, revision=revision)
        np.testing.assert_array_equal(pulled.predict_proba(TEXTS), expected)
    assert describe(ID)["kind"] == "classifier"
    with pytest.raises(HubError, match="it is not in the cache, and HF_HUB_OFFLINE is set"):
        locate_artifact("tester/other")
    assert hub.requests == []


def test_a_hub_that_is_gone_is_told_and_the_cache_used(hub, folders, quick, monkeypatch, tmp_path, caplog):
    with running(hub) as endpoint:
        client(monkeypatch, endpoint, tmp_path / "home")
        commit = put(hub, folders[0])
        locate_artifact(ID)
    for revision in (None, "main", commit):
        caplog.clear()
        assert same_files(locate_artifact(ID, revision), folders[0])
        assert f"the hub does not answer; commit {commit} from the cache is used" in caplog.text
    assert describe(ID)["kind"] == "classifier"
    folder = locate_artifact(ID)
    (folder / "head.safetensors").unlink()
    for source, revision in [("tester/other", None), (ID, "v2"), (ID, None)]:
        with pytest.raises(HubError, match=r"cannot be had from the hub"):
            locate_artifact(source, revision)
    monkeypatch.setattr(pull, "_kept", lambda *_: folder)  # as older clients do, who know of no missing files
    with pytest.raises(HubError, match="cannot be had from the hub"):
        locate_artifact(ID)


def test_a_token_is_seen_by_the_hub_only(one, hub, endpoint, monkeypatch, tmp_path, caplog):
    token = "hf_ThisIsNobodysBusiness"
    for name in (None, "huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2"):
        caplog.set_level(logging.DEBUG, name)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_DEBUG", True)
    hub.tokens.add(token)
    hub.faults += [Fault("commit", 1, "lost"), Fault("info", 2, "503"), Fault("tree", 1, "cut")]
    one.push_to_hub(ID, private=True, token=token, tag="v1")
    pulled = FewShotClassifier.from_pretrained(ID, token=token)
    told = [repr(pulled), repr(vars(pulled)), repr(pulled._artifact()), repr(pulled.facts_)]
    hub.tokens.clear()
    for use in (one.push_to_hub, FewShotClassifier.from_pretrained):
        with pytest.raises(HubError, match="HTTP 401") as caught:
            use(ID, token=token)
        told += traceback.format_exception(caught.value)
        error = caught.value
        while error is not None:
            told += [str(error), repr(error), repr(error.args)]
            error = error.__cause__ or error.__context__
    told += [record.getMessage() + repr(vars(record)) for record in caplog.records]
    told += [seen.path for seen in hub.requests]
    told += [path.read_text("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    told += [content.decode("latin-1") for content in hub.tree(ID).values()]
    heard = {record.name.split(".")[0].rstrip("2") for record in caplog.records}
    assert {"huggingface_hub", "httpx", "httpcore"} <= heard
    assert not any("ThisIsNobodysBusiness" in text for text in told)
    stored = [seen for seen in hub.requests if seen.path.startswith("/storage/")]
    assert bool(stored) == (hub.mode == "lfs")
    for seen in hub.requests:
        assert seen.has_authorization == (seen not in stored)


def test_a_hub_that_keeps_something_else_than_was_pushed_is_found_out(one, there, monkeypatch):
    def pushed(folder, repo_id, **how):
        other = json.loads((folder / LAYOUT.description).read_text()) | {"canaries": ["something else"]}
        (folder / LAYOUT.description).write_text(json.dumps(other))
        return push_folder(folder, repo_id, **how)

    monkeypatch.setattr("fewtext.artifact.store.push_folder", pushed)
    with pytest.raises(ArtifactError, match=r"fewtext\.json is damaged"):
        one.push_to_hub(ID)


def test_a_line_that_breaks_after_the_push_is_a_warning(one, hub, there, monkeypatch, caplog):
    def pushed(*given, **how):
        commit = push_folder(*given, **how)
        hub.faults += [
            Fault(route, hub.calls[route] + n, "503") for route in ("info", "resolve") for n in range(1, 20)
        ]
        return commit

    monkeypatch.setattr("fewtext.artifact.store.push_folder", pushed)
    assert one.push_to_hub(ID) == hub.commits(ID)[-1].sha
    assert "but not loaded from there to check it" in caplog.text
