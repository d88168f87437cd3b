"""What tests of push and pull do again and again, each time with something else that goes wrong."""

import os
import random
import shutil
import signal
import threading
import time
from contextlib import suppress

from hub.chaos import Chaos
from hub.server import Hub, client, running
from huggingface_hub import constants

from fewtext.artifact import locate_artifact
from fewtext.artifact.layout import READ, matches
from fewtext.artifact.push import push_folder
from fewtext.errors import HubError
from fewtext.files import sha256

ID = "tester/learner"
CARD = b"---\nlicense: mit\n---\nA card.\n"
FOREIGN = {"picture.png": b"\x89PNG", "notes/ideas.md": b"ours"}


def files_of(number):
    """The files of an artifact, none of which another number shares, but for its card."""
    mark = b"%d\0" % number
    small = {"fewtext.json": b'{"number": %d}' % number, "manifest.json": b"[%d]" % number, "README.md": CARD}
    return small | {"learner.safetensors": mark * 3000, "encoder/model.safetensors": mark * 700}


def artifact(place, number, **more):
    """Write such files, and those in `more`, as a folder."""
    for name, content in (files_of(number) | more).items():
        path = place / f"artifact-{number}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return place / f"artifact-{number}"


def holds(hub, number, branch="main"):
    """Whether a branch holds an artifact completely and nothing of another one, and what is not ours still."""
    foreign = {".gitattributes": hub.tree(ID, hub.commits(ID)[0].sha)[".gitattributes"]} | FOREIGN
    return hub.tree(ID, branch) == files_of(number) | foreign


def converged(hub, folder, number):
    """Push until it is there, and again, which changes nothing."""
    commit = push_folder(folder, ID)
    assert holds(hub, number)
    count = len(hub.commits(ID))
    assert push_folder(folder, ID) == commit == hub.commits(ID)[-1].sha
    assert len(hub.commits(ID)) == count
    return count


def pushing(folder):
    """Push from a process of its own, whose id is returned."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # forked beside threads, it might wait for one that it does not have
        with suppress(HubError):
            push_folder(folder, ID)
        os._exit(0)
    return child


def check_kills(kills, hub, place):
    """Kill so many pushes at work, and return how many had arrived and how many had not."""
    start = time.perf_counter()
    os.waitpid(pushing(artifact(place, 0)), 0)
    took, draw, number, seen = time.perf_counter() - start, random.Random(kills), 0, {True: 0, False: 0}
    while sum(seen.values()) < kills:
        number += 1
        folder, count = artifact(place, number), len(hub.commits(ID))
        child = pushing(folder)
        time.sleep(draw.uniform(0, 1.2 * took))
        os.kill(child, signal.SIGKILL)
        was_killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        tree = hub.tree(ID)
        arrived = tree.items() >= files_of(number).items()
        assert arrived or tree.items() >= files_of(number - 1).items()
        seen[arrived] += was_killed
        push_folder(folder, ID)
        assert hub.tree(ID).items() >= files_of(number).items()
        assert len(hub.commits(ID)) == count + 1
    return seen


def check_faults(faults, monkeypatch, place):
    """Push once with each fault, and again without."""
    for mode in ("lfs", "regular"):
        hub = Hub(mode)
        hub.create(ID)
        hub.commit(ID, files_of(0) | FOREIGN)
        with running(hub) as endpoint:
            client(monkeypatch, endpoint, place / "home")
            count = 2
            for number, fault in enumerate((fault for own, fault in faults if own == mode), start=1):
                folder = artifact(place, number)
                hub.calls.clear()
                hub.faults[:] = [fault]
                commit = None
                with suppress(HubError):
                    commit = push_folder(folder, ID)
                assert hub.calls[fault.route] >= fault.time, fault
                assert holds(hub, number) if commit else holds(hub, number - 1), fault
                # What was uploaded but not verified is not uploaded again.
                assert (commit is None) == (fault.kind == "always 500" and fault.route != "verify"), fault
                count += commit is not None
                assert len(hub.commits(ID)) == count, fault
                hub.faults.clear()
                count = converged(hub, folder, number)


def check_cuts(cuts, hub, endpoint, monkeypatch, place):
    """Push over a line until it has been cut so many times, and return how often what was told.

    A push may succeed, fail, or end without knowing, if the hub cannot be asked any more.
    """
    hub.create(ID)
    hub.commit(ID, files_of(0) | FOREIGN)
    number, last, seen = 0, 0, dict.fromkeys(("pushed", "nothing was pushed", "it is not known"), 0)
    with Chaos(endpoint, seed=cuts, probability=0.4, most=30_000) as chaos:
        client(monkeypatch, chaos.endpoint, place / "home")
        while chaos.cuts < cuts:
            number, count = number + 1, len(hub.commits(ID))
            try:
                assert push_folder(artifact(place, number), ID) == hub.commits(ID)[-1].sha
                told = "pushed"
            except HubError as error:
                told = next(words for words in seen if str(error).startswith(f"{ID}: {words}"))
            seen[told] += 1
            arrived = len(hub.commits(ID)) > count
            assert holds(hub, number if arrived else last)
            assert told == "it is not known" or arrived == (told == "pushed")
            assert len(hub.commits(ID)) == count + arrived
            last = number if arrived else last
        chaos.probability = 0
        converged(hub, place / f"artifact-{number}", number)
    return seen


def put(hub, folder, **more):
    """Move the branch to an artifact, as another user would."""
    if ID not in hub.repos:
        hub.create(ID)
    new = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return hub.commit(ID, new | more)


def file_route(hub):
    """The route from which the large files come."""
    return "download" if hub.mode == "lfs" else "resolve"


def same_files(found, folder):
    """Whether a downloaded folder has exactly what fewtext reads of a saved one."""
    want = {path.relative_to(folder).as_posix(): sha256(path) for path in folder.rglob("*") if path.is_file()}
    want = {name: digest for name, digest in want.items() if matches(name, READ)}
    return want == {path.relative_to(found).as_posix(): sha256(path) for path in found.rglob("*") if path.is_file()}


def check_pulls(cuts, hub, endpoint, folders, monkeypatch, place):
    """Pull into empty caches over a line until it has been cut so many times; returns pulls and failures."""
    put(hub, folders[0])
    pulls, failed = 0, 0
    with Chaos(endpoint, seed=cuts, probability=0.3, most=30_000) as chaos:
        client(monkeypatch, chaos.endpoint, place / "home")
        while chaos.cuts < cuts:
            pulls, chaos.probability = pulls + 1, 0.3
            monkeypatch.setattr(constants, "HF_HUB_CACHE", str(place / f"cache-{pulls}"))
            try:
                assert same_files(locate_artifact(ID), folders[0])
            except HubError:
                failed, chaos.probability = failed + 1, 0
                assert same_files(locate_artifact(ID), folders[0])
            shutil.rmtree(place / f"cache-{pulls}")
    return pulls, failed


def check_moving(loads, hub, folders, monkeypatch, place):
    """Pull while the branch moves to and fro; returns how often which artifact was found."""
    put(hub, folders[0])
    done, seen = threading.Event(), [0, 0]

    def move():
        while not done.wait(0.002):
            put(hub, folders[len(hub.commits(ID)) % 2])

    mover = threading.Thread(target=move)
    mover.start()
    try:
        for number in range(loads):
            if number % 5 == 0:
                monkeypatch.setattr(constants, "HF_HUB_CACHE", str(place / f"cache-{number}"))
            found = locate_artifact(ID)
            seen = [count + same_files(found, folder) for count, folder in zip(seen, folders, strict=True)]
    finally:
        done.set()
        mover.join()
    return seen
