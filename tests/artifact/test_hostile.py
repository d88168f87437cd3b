"""Nothing of an artifact is executed, and whatever is wrong with it is refused: typed, soon, and in little memory."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import changed

sys.path.insert(0, str(Path(__file__).parent))  # for who runs pytest with another import mode
from attacking import CARD, MANIFEST, hub_cache, make
from hostile import ATTACKS
from load_watched import forbidden

from fewtext import Artifact, Encoder, FewShotClassifier, Lora
from fewtext.errors import FewtextError
from fewtext.learners import learner_class
from fewtext.nn.pretrained import Pretrained

TEXTS = ["where is my card", "card lost", "book a flight", "late flight"]
LABELS = ["card", "card", "flight", "flight"]
MOST_SECONDS, MOST_MEGABYTES = 2, 200


@pytest.fixture(scope="module")
def place(tiny_folder, tmp_path_factory):
    """A folder of valid artifacts, and a hub cache with the base that one of them names."""
    place = tmp_path_factory.mktemp("hostile")
    commit = hub_cache(place / "hub", tiny_folder)
    base = place / f"hub/models--someone--tiny/snapshots/{commit}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fewtext.nn.encoder.locate", lambda *_: Pretrained(base, "someone/tiny", commit))
        named = changed(Encoder.from_pretrained("someone/tiny", lora=Lora(rank=2)))
        Artifact("learner", learner_class("fomaml")(named)).save_pretrained(place / "adapter", style="adapter")
    for seed, name in enumerate(("merged", "twin")):
        encoder = changed(Encoder.from_pretrained(tiny_folder, lora=Lora(rank=2), seed=seed))
        FewShotClassifier(encoder).fit(TEXTS, LABELS).save_pretrained(place / name, include_texts=True)
    own = FewShotClassifier(learner_class("fomaml")(encoder), method="prototype").fit(TEXTS, LABELS)
    own.save_pretrained(place / "own head")
    full = Artifact("learner", learner_class("prototypical")(changed(Encoder.from_pretrained(tiny_folder))))
    full.save_pretrained(place / "full")
    return place


def watched(place, folders):
    """Return what `load_watched.py` reports of folders by name; it could reach the network."""
    own = {"HF_HUB_CACHE": str(place / "hub"), "HF_ENDPOINT": "https://hub.invalid", "OMP_NUM_THREADS": "1"}
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"} | own
    warm = [str(place / name) for name in ("merged", "adapter")]
    given = {"warm": warm, "folders": {name: str(folder) for name, folder in folders.items()}}
    script = Path(__file__).with_name("load_watched.py")
    done = subprocess.run(
        [sys.executable, script], input=json.dumps(given), env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {(report := json.loads(line))["name"]: report for line in done.stdout.splitlines()}


def complaints(report, describes=False):
    """Return what is wrong with how an artifact was refused."""
    answers = report["answers"]
    wrong = [f"{call}: {answer}" for call, answer in answers.items() if answer.startswith("UNTYPED")]
    wrong += [f"{call} took it" for call in ("artifact", "classifier") if answers.get(call) == "loaded"]
    wrong += [f"{report['seconds']:.1f} s"] if report.get("seconds", 0) > MOST_SECONDS else []
    wrong += [f"{report['megabytes']:.0f} MB"] if report.get("megabytes", 0) > MOST_MEGABYTES else []
    return wrong + report.get("events", [])


def test_hostile_artifacts_are_refused_and_valid_ones_do_nothing_but_load(place, tmp_path):
    valid = {f"valid, {name}": place / name for name in ("merged", "twin", "own head", "full", "adapter")}
    hostile = {}
    for number, (name, attack) in enumerate(ATTACKS.items()):
        hostile[name] = shutil.copytree(place / attack.style, tmp_path / str(number))
        make(name, hostile[name])
    assert len(hostile) >= 300
    reports = watched(place, valid | hostile)
    assert reports.keys() == (valid | hostile).keys()
    assert {name: (reports[name]["answers"]["artifact"], reports[name]["events"]) for name in valid} == dict.fromkeys(
        valid, ("loaded", [])
    )
    assert {name: wrong for name in hostile if (wrong := complaints(reports[name]))} == {}
    if figures := os.environ.get("FEWTEXT_FIGURES"):
        Path(figures).write_text(json.dumps(reports))


OWN_CODE = compile("1", "/tmp/own.py", "eval")


@pytest.mark.parametrize(
    ("event", "given"),
    [
        ("os.system", ("true",)),
        ("subprocess.Popen", ("true", [], None, None)),
        ("pickle.find_class", ("os", "system")),
        ("exec", (OWN_CODE,)),
        ("exec", (compile("1", "<string>", "eval"),)),
        ("compile", (b"1", "/tmp/own.py")),
        ("import", ("own", "/tmp/own.so", None, None, None)),
        ("open", ("/tmp/x", "w", 0)),
        ("open", ("/tmp/x", None, os.O_WRONLY)),
        ("os.remove", ("/tmp/x", -1)),
        ("socket.connect", (None, ("203.0.113.1", 443))),
    ],
)
def test_the_watch_knows_what_must_not_be(event, given):
    assert forbidden(event, given)
    assert not forbidden("open", ("/tmp/x", "r", 0))
    assert not forbidden("exec", (json.loads.__code__,))


def files_of(folder):
    """All files but the card, which people edit."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CARD)


def mutate(folder, count, seed):
    """Change one byte of some file, `count` times one after the other; return those that were not refused."""
    choose, taken = random.Random(seed), []
    for _ in range(count):
        path = choose.choice(files_of(folder))
        whole = path.read_bytes()
        place = choose.randrange(len(whole))
        value = choose.choice([byte for byte in range(256) if byte != whole[place]])
        path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
        if not is_refused(folder) and not (path.name == MANIFEST and says_the_same(path.read_bytes(), whole)):
            taken.append((path.name, place, value))
        path.write_bytes(whole)
    return taken


def is_refused(folder):
    try:
        Artifact.from_pretrained(folder)
    except FewtextError:
        return True
    return False


def says_the_same(one, other):
    """A space in the manifest may become a line break: nothing is damaged then."""
    return json.loads(one) == json.loads(other)


@pytest.mark.parametrize("style", ["merged", "adapter"])
def test_a_changed_byte_is_found(place, tmp_path, style):
    folder = shutil.copytree(place / style, tmp_path / style)
    assert mutate(folder, 150, seed=1) == []
    with (folder / CARD).open("a") as card:
        card.write("Edited by hand.\n")
    if style == "merged":
        assert not is_refused(folder)


@pytest.mark.slow
def test_5000_changed_bytes_are_found(place, tmp_path):
    folder = shutil.copytree(place / "merged", tmp_path / "merged")
    assert mutate(folder, 5000, seed=2) == []


@pytest.mark.parametrize("style", ["merged", "adapter"])
def test_a_missing_file_is_found(place, tmp_path, style):
    folder = shutil.copytree(place / style, tmp_path / style)
    for path in files_of(folder):
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(FewtextError, match=r"missing|cannot be read|is not a fewtext artifact"):
            Artifact.from_pretrained(folder)
        path.write_bytes(whole)


def test_a_file_of_another_artifact_is_found(place, tmp_path):
    folder, swapped = shutil.copytree(place / "merged", tmp_path / "merged"), 0
    for path in files_of(folder):
        whole, other = path.read_bytes(), (place / "twin" / path.relative_to(folder)).read_bytes()
        if whole != other:
            path.write_bytes(other)
            with pytest.raises(FewtextError, match="is damaged"):
                Artifact.from_pretrained(folder)
            path.write_bytes(whole)
            swapped += 1
    assert swapped >= 6


def test_a_download_may_lack_what_only_others_read(place, tmp_path):
    folder = shutil.copytree(place / "merged", tmp_path / "models--a--b/snapshots/0123456789")
    for name in ("config.json", "model.safetensors.index.json", "classifier.safetensors", "tokenizer.json"):
        (folder / name).unlink()
    assert not is_refused(folder)
    (folder / "encoder/tokenizer.json").unlink()
    assert is_refused(folder)
