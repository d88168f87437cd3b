"""Load artifacts in forked processes, and report what was tried there and what it cost.

Reads `{"warm": [folder, …], "folders": {name: folder, …}}` and prints a line of JSON for each name. The imports are
done before the first fork, so time and memory are those of loading alone.
"""

import collections
import dataclasses
import functools
import json
import os
import resource
import select
import sys
import time
import typing

import fewtext
from fewtext import Artifact, FewShotClassifier
from fewtext.artifact import describe
from fewtext.errors import FewtextError

CALLS = {"artifact": Artifact.from_pretrained, "classifier": FewShotClassifier.from_pretrained, "describe": describe}
SECONDS, MEGABYTES = 10, 1500  # after which a process is ended, to protect the machine
AT_A_TIME = 20  # artifacts per process: a fork of a process as large takes longer than most refusals
CODE = tuple(map(os.path.realpath, (sys.prefix, sys.base_prefix, *fewtext.__path__)))
MAKERS = tuple(module.__file__ for module in (typing, dataclasses, collections))
NEVER = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "os.startfile",
    "pty.spawn",
    "subprocess.Popen",
    "pickle.find_class",
    "cpython.run_",
    "ctypes.dlopen",
    "socket.",
    "urllib.Request",
    "http.client.connect",
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chown",
    "os.utime",
    "os.putenv",
    "shutil.",
    "tempfile.",
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@functools.cache
def is_installed(name: str) -> bool:
    """Whether a file is ours, Python's, or that of an installed package."""
    return os.path.realpath(name).startswith(CODE)


def is_library(name: str) -> bool:
    """Whether code of this file name is installed, or Python's own."""
    return name.startswith("<frozen ") or is_installed(name) or is_annotation(name)


def is_annotation(name: str) -> bool:
    """Whether Python itself makes a class, or looks up what an annotation names, just now."""
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return name == "<string>" and frame is not None and frame.f_code.co_filename in MAKERS


def forbidden(event: str, args: tuple) -> str | None:
    """Return what an event of Python's audit hook did that loading never does."""
    if event == "open":
        path, mode, flags = args
        writes = any(letter in (mode or "") for letter in "wax+") or (flags or 0) & WRITES
        return f"writes {path}" if writes and path != os.devnull else None
    if event == "exec":
        return None if is_library(args[0].co_filename) else f"runs {args[0].co_filename}"
    if event == "compile":
        name = args[1].decode() if isinstance(args[1], bytes) else str(args[1])
        return None if is_library(name) else f"compiles {name}"
    if event == "import":  # with a file name: an extension
        return None if args[1] is None or is_library(args[1]) else f"imports {args[1]}"
    return f"{event} {args!r:.200}" if event.startswith(NEVER) else None


def attempt(call, folder: str) -> str:
    try:
        call(folder)
    except FewtextError as error:
        return f"{type(error).__name__}: {error}"
    except BaseException as error:  # what must not come: anything else
        return f"UNTYPED {type(error).__name__}: {error}"
    return "loaded"


def watched(folder: str, seen: list[str]) -> dict:
    """Load in this process, and report what it took; memory is the most of this process until now."""
    answers, seconds = {}, []
    seen.clear()
    for name, call in CALLS.items():
        start = time.perf_counter()
        answers[name] = attempt(call, folder)
        seconds.append(time.perf_counter() - start)
    return {"answers": answers, "seconds": max(seconds), "megabytes": peak(), "events": seen[:10]}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def work(folders: dict[str, str], pipe: int) -> None:
    """Load one folder after the other in this forked process."""
    seen: list[str] = []
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # panics in Rust say so there
    sys.addaudithook(lambda event, args: seen.append(what) if (what := forbidden(event, args)) else None)
    before = peak()
    with os.fdopen(pipe, "w") as reports:
        for name, folder in folders.items():
            report = watched(folder, seen)
            report["megabytes"] -= before
            reports.write(json.dumps({"name": name} | report) + "\n")
            reports.flush()


def in_fork(folders: dict[str, str]) -> int:
    """Have a forked process load, and end it when it hangs or fills the memory; returns how many are done."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        work(folders, write)
        os._exit(0)
    os.close(write)
    names, done, start, rest = list(folders), 0, time.monotonic(), b""
    while True:
        if select.select([read], [], [], 0.02)[0]:
            if not (part := os.read(read, 2**16)):
                break
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                print(line.decode(), flush=True)  # noqa: T201
            done, start = done + len(lines), time.monotonic() if lines else start
        resident = int(open(f"/proc/{child}/statm").read().split()[1]) * resource.getpagesize() >> 20
        if time.monotonic() - start > SECONDS or resident > MEGABYTES:
            os.kill(child, 9)
            break
    os.waitpid(child, 0)
    os.close(read)
    if done < len(names):
        reason = f"UNTYPED ended after {time.monotonic() - start:.0f} s with {resident} MB"
        print(json.dumps({"name": names[done], "answers": {"artifact": reason}}), flush=True)  # noqa: T201
        done += 1
    return done


def main() -> None:
    given = json.load(sys.stdin)
    for folder in given["warm"]:
        Artifact.from_pretrained(folder)
    names = list(given["folders"])
    while names:
        done = in_fork({name: given["folders"][name] for name in names[:AT_A_TIME]})
        names = names[done:]


if __name__ == "__main__":
    main()
