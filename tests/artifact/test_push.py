"""Pushing to a hub over lines that break: what is there is the old artifact or the new one, and the caller knows."""

import os
import socket
import threading

import pytest
from hub.server import Fault, client, without_waiting
from huggingface_hub import HfApi, constants
from push_once import FOREIGN, ID, artifact, check_cuts, check_faults, check_kills, converged, files_of, holds

from fewtext.artifact import describe, locate_artifact, push
from fewtext.artifact.pull import check_endpoint
from fewtext.artifact.push import push_folder
from fewtext.errors import ArtifactError, HubError, PushConflictError

EVERY_PUSH = ("create", "info", "validate_yaml", "preupload", "commit")
KINDS = ("503", "lost", "cut", "always 500")
FAULTS = (  # mode, fault; large files are two
    *((mode, Fault(route, 1, kind)) for mode in ("lfs", "regular") for route in EVERY_PUSH for kind in KINDS),
    *(("lfs", Fault(route, 1, kind)) for route in ("batch", "upload", "verify") for kind in KINDS),
    *(("lfs", Fault(route, 2, kind)) for route in ("upload", "verify") for kind in KINDS),
)
FEW_FAULTS = [*(one for one in FAULTS if one[1].route == "commit"), *FAULTS[1::9]]
slow = pytest.mark.slow


@pytest.fixture
def quick(monkeypatch):
    without_waiting(monkeypatch)
    monkeypatch.setattr(push, "WAIT", 0.001)


@pytest.fixture
def api(monkeypatch, quick, endpoint, tmp_path):
    return client(monkeypatch, endpoint, tmp_path / "home")


@pytest.fixture
def there(hub):
    """A repository that holds an artifact already, and files of somebody else."""
    hub.create(ID)
    hub.commit(ID, files_of(0) | FOREIGN | {"head.safetensors": b"\0stale", "onnx/model.onnx": b"\0stale"})
    return hub.tree(ID)


def test_an_artifact_replaces_an_older_one_in_one_commit_and_leaves_what_is_not_ours(api, hub, there, tmp_path):
    commit = push_folder(artifact(tmp_path, 1), ID, message="Better")
    assert holds(hub, 1)
    assert [(one.sha, one.title) for one in hub.commits(ID)[2:]] == [(commit, "Better")]
    assert converged(hub, tmp_path / "artifact-1", 1) == 3


def test_only_files_of_an_artifact_are_pushed(api, hub, tmp_path):
    push_folder(artifact(tmp_path, 1, **{"notes.txt": b"mine", "checkpoint.pt": b"pickle", ".env": b"secret"}), ID)
    assert hub.tree(ID).keys() - {".gitattributes"} == files_of(1).keys()
    (tmp_path / "artifact-1" / "fewtext.json").unlink()
    with pytest.raises(ArtifactError, match=r"artifact-1: no fewtext\.json"):
        push_folder(tmp_path / "artifact-1", ID)
    assert "fewtext.json" in hub.tree(ID)


def test_branches_are_made_when_missing_and_tags_stay_where_they_are(api, hub, there, tmp_path):
    main = hub.commits(ID)[-1].sha
    commit = push_folder(artifact(tmp_path, 1), ID, branch="try/this", tag="v1")
    assert holds(hub, 1, "try/this")
    assert hub.commits(ID)[-1].sha == main
    assert hub.repos[ID].tags == {"v1": commit}
    assert push_folder(tmp_path / "artifact-1", ID, branch="try/this", tag="v1") == commit
    with pytest.raises(HubError, match=r"pushed as [0-9a-f]{40}, but not tagged: 'v1' names another commit"):
        push_folder(artifact(tmp_path, 2), ID, branch="try/this", tag="v1")
    assert holds(hub, 2, "try/this")
    assert hub.repos[ID].tags == {"v1": commit}


def test_a_repository_is_private_if_that_is_wanted(api, hub, tmp_path):
    push_folder(artifact(tmp_path, 1), ID, private=True)
    assert hub.repos[ID].private
    push_folder(artifact(tmp_path, 1), "tester/open")
    assert not hub.repos["tester/open"].private
    with pytest.raises(HubError, match="it is public"):
        push_folder(artifact(tmp_path, 2), "tester/open", private=True)
    assert hub.tree("tester/open")["fewtext.json"] == b'{"number": 1}'


def test_the_token_that_is_given_counts(api, hub, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match=r"nothing was pushed \(HfHubHTTPError, HTTP 401\)\. Log in"):
        push_folder(artifact(tmp_path, 1), ID)
    assert hub.repos == {}
    push_folder(tmp_path / "artifact-1", ID, token="hf_test")
    assert hub.calls["commit"] == 1


def test_what_is_no_name_is_refused_at_once(api, hub, tmp_path):
    for name in ("no spaces/allowed here", "a/b/c", "tester/.."):
        with pytest.raises(HubError, match="HFValidationError"):
            push_folder(artifact(tmp_path, 1), name)
    assert hub.requests == []


def test_offline_nothing_is_tried(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=r"nothing was pushed \(OfflineModeIsEnabled\)"):
        push_folder(artifact(tmp_path, 1), ID)


def test_few_requests_are_made(api, hub, tmp_path):
    large = 2 if hub.mode == "lfs" else 0
    for number, most in [(1, 6 + 2 * large), (2, 6 + 2 * large), (2, 2)]:
        hub.requests.clear()
        push_folder(artifact(tmp_path, number), ID)
        assert len(hub.requests) <= most


def test_what_the_client_would_leave_out_is_not_pushed_by_half(api, hub, there, monkeypatch, tmp_path):
    preupload = HfApi.preupload_lfs_files

    def ignoring(self, repo_id, additions, **options):
        preupload(self, repo_id, additions, **options)
        additions[0]._should_ignore = True

    monkeypatch.setattr(HfApi, "preupload_lfs_files", ignoring)
    with pytest.raises(HubError, match=r"\.gitignore excludes README\.md"):
        push_folder(artifact(tmp_path, 1), ID)
    assert hub.tree(ID) == there


def test_a_fault_leaves_the_old_artifact_or_the_new_one_and_is_told(quick, monkeypatch, tmp_path):
    check_faults(FEW_FAULTS, monkeypatch, tmp_path)


@slow
def test_every_fault_leaves_the_old_artifact_or_the_new_one_and_is_told(quick, monkeypatch, tmp_path):
    assert len(FAULTS) >= 48
    check_faults(FAULTS, monkeypatch, tmp_path)


@pytest.mark.parametrize("kind", ["lost", "503"])
def test_a_first_push_survives_a_fault_on_every_route(api, hub, kind, tmp_path):
    hub.faults += [Fault(route, 1, kind) for route in (*EVERY_PUSH, "branch", "tag")]
    commit = push_folder(artifact(tmp_path, 1), ID, branch="try", tag="v1")
    assert hub.tree(ID, "v1").items() >= files_of(1).items()
    assert [one.sha for one in hub.commits(ID, "try")[1:]] == [commit]
    assert hub.calls["commit"] == 2 - (kind == "lost")


def test_a_hub_that_does_not_tell_whether_the_push_has_arrived_is_reported(api, hub, there, tmp_path):
    hub.faults += [Fault("commit", 1, "lost"), Fault("info", 2, "always 500")]
    with pytest.raises(HubError, match="not known whether the push has arrived, push again"):
        push_folder(artifact(tmp_path, 1), ID)
    hub.faults.clear()
    assert converged(hub, tmp_path / "artifact-1", 1) == 3


def test_a_line_that_breaks_tears_nothing(hub, endpoint, quick, monkeypatch, tmp_path):
    check_cuts(6, hub, endpoint, monkeypatch, tmp_path)


@slow
@pytest.mark.parametrize("attempts", [push.ATTEMPTS, 2])
def test_a_line_that_breaks_a_hundred_times_tears_nothing(attempts, hub, endpoint, quick, monkeypatch, tmp_path):
    monkeypatch.setattr(push, "ATTEMPTS", attempts)
    seen = check_cuts(100, hub, endpoint, monkeypatch, tmp_path)
    assert seen["nothing was pushed"] > 0 or attempts > 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=slow)])
def test_a_killed_push_leaves_the_old_artifact_or_the_new_one(kills, api, hub, tmp_path):
    assert sum(check_kills(kills, hub, tmp_path).values()) == kills


def test_of_six_pushers_one_wins_and_five_are_told(api, hub, monkeypatch, tmp_path):
    hub.create(ID)
    hub.commit(ID, files_of(0) | FOREIGN)
    ready, send, told = threading.Barrier(6), push._attempt, []

    def at_once(*given):
        ready.wait(30)
        return send(*given)

    def attempt(number):
        try:
            told.append((number, push_folder(artifact(tmp_path, number), ID)))
        except HubError as error:
            told.append((number, error))

    monkeypatch.setattr(push, "_attempt", at_once)
    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ((winner, commit),) = [(number, what) for number, what in told if isinstance(what, str)]
    assert [type(what) for number, what in told if number != winner] == [PushConflictError] * 5
    assert holds(hub, winner)
    assert [one.sha for one in hub.commits(ID)[2:]] == [commit]


@pytest.mark.parametrize(
    "address", ["http://example.com", "http://127.0.0.1.example.com", "http://localhost@example.com", "example.com"]
)
def test_an_address_that_is_neither_https_nor_here_is_refused_before_any_connection(address, monkeypatch, tmp_path):
    def never(*given, **options):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    monkeypatch.setattr(socket.socket, "connect", never)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for use in (locate_artifact, describe, lambda name: push_folder(artifact(tmp_path, 1), name)):
        with pytest.raises(HubError, match="HF_ENDPOINT must begin with https://"):
            use(ID)


@pytest.mark.parametrize(
    "address", ["https://huggingface.co", "https://hub.example.com", "http://localhost:1", "http://[::1]:1"]
)
def test_https_and_this_machine_are_accepted(address, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", address)
    check_endpoint()
