"""The hub: what the real clients push they pull, bit by bit, in both ways that files can travel."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from httpx2 import TransportError
from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from hub.chaos import Chaos
from hub.server import Fault, client, without_waiting

ID = "tester/adapter"
BIG = bytes(range(256)) * 200
FILES = {"README.md": b"---\nlicense: mit\n---\nA card.", "head/weights.safetensors": BIG, "empty.txt": b""}


@pytest.fixture
def api(monkeypatch, endpoint, tmp_path):
    without_waiting(monkeypatch)
    api = client(monkeypatch, endpoint, tmp_path / "home")
    api.create_repo(ID)
    return api


def push(api, files=FILES, **options):
    """Put files in one commit and return its hash; None deletes."""
    operations = [
        CommitOperationDelete(path) if content is None else CommitOperationAdd(path, content)
        for path, content in files.items()
    ]
    return api.create_commit(ID, operations, commit_message="a push", **options).oid


def contents(folder):
    """The files of a folder, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_a_repository_is_made_once(api, hub):
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo(ID)
    assert api.create_repo(ID, exist_ok=True).repo_id == ID
    assert api.create_repo("tester/data", repo_type="dataset").repo_type == "dataset"
    assert set(hub.repos) == {ID, "datasets/tester/data"}
    api.delete_repo(ID)
    assert not api.repo_exists(ID)


def test_what_is_pushed_is_in_one_commit_and_what_is_unchanged_makes_none(api, hub):
    first = push(api)
    assert {path: hub.tree(ID)[path] for path in FILES} == FILES
    assert push(api) == first
    assert hub.calls["upload"] == (hub.mode == "lfs")
    second = push(api, {"empty.txt": None, "new.txt": b"new"}, parent_commit=first)
    assert [commit.sha for commit in hub.commits(ID)[1:]] == [first, second]
    assert [commit.commit_id for commit in api.list_repo_commits(ID)[:2]] == [second, first]
    assert set(hub.tree(ID, first)) - set(hub.tree(ID)) == {"empty.txt"}


def test_a_stale_parent_is_refused_and_changes_nothing(api, hub):
    parent = push(api)
    head = hub.commit(ID, {"config.json": b"{}"})
    with pytest.raises(HfHubHTTPError, match="412"):
        push(api, {"config.json": b"[]"}, parent_commit=parent)
    assert hub.commits(ID)[-1].sha == head


def test_names_point_at_commits(api, hub):
    sha = push(api)
    api.create_tag(ID, tag="v1.0")
    api.create_branch(ID, branch="try/this", revision=sha)
    later = push(api, {"new.txt": b"new"}, revision="try/this")
    refs = api.list_repo_refs(ID)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": sha, "try/this": later}
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"v1.0": sha}
    assert api.model_info(ID, revision="try/this").sha == later
    assert api.resolve_revision(ID, revision="v1.0").resolved == sha
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_tag(ID, tag="v1.0")
    with pytest.raises(RevisionNotFoundError):
        api.model_info(ID, revision="v2.0")
    proposed = api.create_commit(ID, [CommitOperationDelete("empty.txt")], commit_message="less", create_pr=True)
    assert proposed.pr_revision == "refs/pr/1"
    assert "empty.txt" not in hub.tree(ID, "refs/pr/1")
    assert hub.commits(ID)[-1].sha == sha


def test_listings_agree_with_the_files(api, hub):
    hub.page = 2
    push(api)
    sizes = {path: len(content) for path, content in FILES.items()}
    info = api.model_info(ID, files_metadata=True)
    assert sizes.items() <= {file.rfilename: file.size for file in info.siblings}.items()
    large = [file.rfilename for file in info.siblings if file.lfs]
    assert large == (["head/weights.safetensors"] if hub.mode == "lfs" else [])
    listed = {entry.path: getattr(entry, "size", None) for entry in api.list_repo_tree(ID, recursive=True)}
    assert listed == sizes | {".gitattributes": len(hub.tree(ID)[".gitattributes"]), "head": None}
    assert [entry.path for entry in api.list_repo_tree(ID, "head")] == ["head/weights.safetensors"]
    assert [entry.path for entry in api.get_paths_info(ID, ["head", "README.md", "no"])] == ["head", "README.md"]
    assert api.file_exists(ID, "README.md")
    assert not api.file_exists(ID, "no.md")
    assert not api.file_exists("tester/no", "README.md")


def test_a_snapshot_is_asked_for_once(api, hub):
    sha = push(api)
    api.create_tag(ID, tag="v1.0")
    hub.commit(ID, {"README.md": b"moved on"})
    folder = api.snapshot_download(ID, revision="v1.0")
    assert contents(folder).items() >= FILES.items()
    assert api.verify_repo_checksums(ID, revision=sha).mismatches == []
    hub.requests.clear()
    assert api.snapshot_download(ID, revision=sha) == folder
    assert hub.requests == []


def test_the_token_stays_with_the_hub(api, hub, endpoint):
    push(api)
    assert Path(api.hf_hub_download(ID, "head/weights.safetensors")).read_bytes() == BIG
    assert api.token is None
    stored = [seen for seen in hub.requests if seen.path.startswith("/storage/")]
    assert [seen.method for seen in stored] == (["PUT", "GET"] if hub.mode == "lfs" else [])
    for seen in hub.requests:
        assert seen.has_authorization != (seen in stored)
        assert seen.host.startswith("localhost:" if seen in stored else "127.0.0.1:")
        assert "hf_test" not in seen.path


def test_without_a_token_nothing_is_written_and_nothing_private_is_seen(api, hub, monkeypatch):
    push(api)
    hub.create("tester/secret", private=True)
    assert api.model_info("tester/secret").private
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(HfHubHTTPError, match="401"):
        api.model_info(ID)
    monkeypatch.delenv("HF_TOKEN")
    assert api.model_info(ID).sha == hub.commits(ID)[-1].sha
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("tester/secret")
    with pytest.raises(HfHubHTTPError, match="401"):
        push(api, {"new.txt": b"new"})
    assert len(hub.commits(ID)) == 2


def test_a_card_that_is_no_yaml_is_refused_and_an_empty_one_is_warned_of(api):
    with pytest.raises(ValueError, match="Invalid metadata"):
        push(api, {"README.md": b"---\na: [\n---\n"})
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        push(api, {"README.md": b"# A card"})


@pytest.mark.parametrize("hub", ["lfs"], indirect=True)
@pytest.mark.parametrize("route", ["preupload", "batch", "upload", "verify", "commit"])
@pytest.mark.parametrize("kind", ["503", "lost", "cut", "always 500"])
def test_a_fault_leaves_the_old_files_or_all_of_the_new(api, hub, route, kind):
    """The client tries everything again but the commit itself, whose lost answer is the caller's to clear up."""
    old = hub.tree(ID)
    hub.faults.append(Fault(route, 1, kind))
    fails = kind == "always 500" or (route == "commit")
    if fails:
        with pytest.raises(Exception, match=r"Server|peer|Error while uploading"):
            push(api)
    else:
        push(api)
    done = not fails or kind in ("lost", "cut")
    assert hub.tree(ID) == (old | FILES if done else old)
    assert len(hub.commits(ID)) == 1 + done


@pytest.mark.parametrize("hub", ["lfs"], indirect=True)
def test_a_short_answer_is_noticed_by_the_client_and_a_wrong_bit_is_not(api, hub):
    push(api)
    hub.faults.append(Fault("download", 1, "truncated"))
    with pytest.raises(OSError, match="Consistency check failed"):
        api.hf_hub_download(ID, "head/weights.safetensors")
    hub.faults.append(("download", 2, "cut"))
    assert Path(api.hf_hub_download(ID, "head/weights.safetensors")).read_bytes() == BIG
    assert hub.calls["download"] == 3  # the second half is asked for on its own
    hub.faults.append(Fault("download", 4, "flipped"))
    again = Path(api.hf_hub_download(ID, "head/weights.safetensors", force_download=True)).read_bytes()
    assert sum(one != other for one, other in zip(again, BIG, strict=True)) == 1


def test_a_line_that_breaks_tears_nothing(hub, endpoint, monkeypatch, tmp_path):
    without_waiting(monkeypatch)
    hub.create(ID)
    old = hub.tree(ID)
    with Chaos(endpoint, seed=1, probability=0.4, most=60_000) as chaos:
        api = client(monkeypatch, chaos.endpoint, tmp_path)
        for number in range(12):
            new = FILES | {"number.txt": b"%d" % number, "head/weights.safetensors": BIG + bytes(number)}
            with suppress(TransportError, RuntimeError):
                push(api, new)
                old = None  # there is no way back once the client is content
            assert hub.tree(ID) == old or hub.tree(ID).items() >= new.items()
            old = hub.tree(ID)
        assert chaos.cuts > 0
        chaos.probability = 0
        push(api, new)
        assert contents(api.snapshot_download(ID)) == hub.tree(ID)
    stored = [seen.host for seen in hub.requests if seen.path.startswith("/storage/")]
    assert set(stored) == ({f"localhost:{chaos.server_address[1]}"} if hub.mode == "lfs" else set())


def test_transformers_peft_and_datasets_pull_what_they_pushed(hub, endpoint, tiny_folder, tmp_path):
    environment = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(tmp_path),
        "HF_TOKEN": "hf_test",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HTTPS_PROXY": "http://127.0.0.1:9",  # the hub is asked over http, and nothing else is there
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, Path(__file__).with_name("clients.py"), tiny_folder, hub.mode]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {"base": True, "adapter": True, "adapter matters": True} | (
        {"texts": True} if hub.mode == "lfs" else {}
    )
    assert {"model.safetensors", "tokenizer.json", "config.json"} <= set(hub.tree("tester/base"))
    assert {"adapter_model.safetensors", "adapter_config.json"} <= set(hub.tree("tester/adapter"))
    assert "hf_test" not in done.stdout + done.stderr + str(hub.requests)
