"""What is checked before anything of an artifact is used, and right after: files, description, answers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import Tensor

from fewtext.artifact.entries import are_texts, is_refined, is_setting, wrong_entry
from fewtext.artifact.layout import LAYOUT, OWNED, READ, READABLE, UNSIGNED, matches
from fewtext.data.collate import labels_of, ragged
from fewtext.errors import ArtifactError, FewtextError, LearnerError
from fewtext.files import MOST_JSON, read_any_json, read_json, sha256, tensor_kinds
from fewtext.heads import answers
from fewtext.learners import MetaLearner, learner_class
from fewtext.tensors import Support

CANARIES = (
    "The kettle whistles before the tide turns.",
    "please move my violin lesson to thursday",
    "HOW many lanterns fit on the bridge??",
    "forty-two blue umbrellas, two of them broken",
    "I never said the glacier was for sale",
    "what",
    "Straße, café, 東京 and a 🦊",
    "a list: one, two, three, four, five, six, seven, eight, nine, ten, and then all of it once more from the start",
)
"""Texts that nobody has trained on, whose logits travel with an artifact."""
TOLERANCE = 1e-4  # of logits in full precision, relative to the largest of them: machines differ by about 1e-6
SUPPORTS = ("open the window", "let some air in", "play a waltz", "some music, please")
SUPPORT_LABELS = (0, 0, 1, 1)
FILE_NAME = re.compile(r"[\w.-]+(/[\w.-]+)*")
PICKLES = (".bin", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".dill")
LARGE = ("tokenizer.json", "vocab.json", LAYOUT.texts)
"""JSON of a tokenizer's vocabulary and of texts, which may be longer than other JSON."""
MOST_LARGE = 64 * 2**20


def canary_logits(learner: MetaLearner, head: Mapping[str, Tensor], texts: tuple[str, ...] = CANARIES) -> Tensor:
    """Return the logits of made-up texts in full precision, `[n, N]`.

    Args:
        learner: the base.
        head: of a classifier; without one the learner adapts to two made-up classes.
        texts: which.
    """
    with learner.encoder.transformer.full_precision():
        if not head:
            tokenize = learner.encoder.tokenize
            support = Support(
                ragged([tokenize(SUPPORTS)]),
                labels_of([SUPPORT_LABELS]),
                ragged([[[], []]]),
                torch.ones(1, 2, dtype=torch.bool),
            )
            with torch.no_grad():
                head = learner.adapt(support.to(learner.encoder.device))
        (logits,) = answers(learner, dict(head), texts, lambda logits, _: (logits,))
    return torch.from_numpy(logits)


def check_canaries(folder: Path, expected: Tensor, found: Tensor) -> None:
    """Raise where a loaded artifact does not give the logits it gave when it was saved."""
    if expected.shape != found.shape:
        raise ArtifactError(f"{folder.name}/{LAYOUT.canary}: logits {list(expected.shape)}, not {list(found.shape)}.")
    difference = float((expected - found).abs().max() / expected.abs().max().clamp(min=1))
    if not difference <= TOLERANCE:
        raise ArtifactError(
            f"{folder.name}: answers differently than when it was saved (by {difference:.1e} of the largest logit, "
            f"{TOLERANCE:.0e} is allowed). Another version of transformers, or damaged files."
        )


@contextmanager
def unusable(folder: Path) -> Iterator[None]:
    """Raise as an ArtifactError whatever the libraries raise that are given an artifact's files."""
    try:
        yield
    except (FewtextError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # tokenizers raises Exception itself, and a panic in Rust is not even that
        reason = next(iter(str(error).splitlines()), "")
        raise ArtifactError(f"{folder.name}: cannot be used ({type(error).__name__}: {reason:.300}).") from error


def sign(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file that the manifest lists.

    Raises:
        ArtifactError: more JSON than can be read again.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in files:
        _check_length(path, path.relative_to(folder).as_posix())
    names = (path.relative_to(folder).as_posix() for path in files)
    return {name: sha256(folder / name) for name in names if name not in UNSIGNED}


def check_files(folder: Path) -> None:
    """Raise where a file is damaged, missing, not listed in the manifest, or elsewhere.

    In the hub's cache, files that fewtext does not read may be absent: a download leaves them out.
    """
    manifest = read_json(folder / LAYOUT.manifest)
    home, cached = folder.resolve(), folder.parent.name == "snapshots"
    if cached:  # there, a snapshot links to files that are stored once
        home = folder.parents[1].resolve()
    for name in manifest:
        if not (FILE_NAME.fullmatch(name) and matches(name, OWNED)) or name.endswith(".py"):
            raise ArtifactError(f"{folder.name}/{LAYOUT.manifest}: {name[:100]!r} is not a file of an artifact.")
        if not (cached and not matches(name, READ)) and not (folder / name).is_file():
            raise ArtifactError(f"{folder.name}: {name} is missing. Save or download it again.")
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        _check_kind(path, f"{folder.name}: {name}", home)
        # transformers would read more in the encoder's folder than an artifact may have.
        own = matches(name, OWNED) or name.startswith(f"{LAYOUT.encoder}/")
        if not path.is_file() or name in UNSIGNED or not own:
            continue
        if name not in manifest:
            raise ArtifactError(f"{folder.name}: {name} is not in {LAYOUT.manifest}. Remove it, or save again.")
        if sha256(path) != manifest[name]:
            raise ArtifactError(f"{folder.name}: {name} is damaged (its sha256 is not the manifest's).")
        _check_content(path, f"{folder.name}: {name}")


def _check_kind(path: Path, where: str, home: Path) -> None:
    """Raise where something is not a file or folder of the artifact's own, or a pickle."""
    if not Path(os.path.realpath(path)).is_relative_to(home):
        raise ArtifactError(f"{where} is a link that leads out of the artifact.")
    if not path.is_file() and (path.is_symlink() or not path.is_dir()):
        raise ArtifactError(f"{where} is neither a file nor a folder.")
    if path.suffix in PICKLES:
        raise ArtifactError(f"{where} may hold pickles, which run code when they are opened. Remove it.")


def _check_length(path: Path, where: str) -> None:
    most = MOST_LARGE if path.name in LARGE else MOST_JSON
    if path.suffix == ".json" and path.stat().st_size > most:
        raise ArtifactError(f"{where} has more than {most:,} bytes.")


def _check_content(path: Path, where: str) -> None:
    """Raise where JSON or the header of safetensors is long or ambiguous, or a tensor claims any shape."""
    _check_length(path, where)
    if path.suffix == ".json" and path.name not in LARGE:
        read_any_json(path)
    if path.suffix == ".safetensors":
        for name, (_, shape) in tensor_kinds(path).items():
            if 0 in shape:
                raise ArtifactError(f"{where}: {name} is empty.")


def check_description(folder: Path) -> dict[str, Any]:
    """Return what `fewtext.json` says.

    Raises:
        ArtifactError: a newer format, entries that are missing or not what they must be, or another number of
            labels than the head and the answers have.
    """
    where = f"{folder.name}/{LAYOUT.description}"
    found = read_json(folder / LAYOUT.description)
    version = found.get("format_version")
    if type(version) is not int or version not in READABLE:
        raise ArtifactError(
            f"{folder.name}: format version {version!r:.20}, this fewtext reads {READABLE[0]} to {READABLE[-1]}. "
            f"Use fewtext {found.get('fewtext_version', '(unknown)')!s:.20} or newer."
        )
    found.setdefault("certainty", None)  # unknown to the first version
    if wrong := wrong_entry(found):
        raise ArtifactError(f"{where}: {wrong} is missing or not what it must be. Save it again with fewtext.")
    fitted, base = found["kind"] == "classifier", found["facts"].get("base", {})
    if fitted != bool(found["labels"]) or (fitted and not isinstance(base, dict)):
        raise ArtifactError(f"{where}: a classifier has labels and a base, and a learner has none.")
    if not is_refined(found["facts"].get("refined", {})):
        raise ArtifactError(f"{where}: facts.refined is not what refining found. Save it again with fewtext.")
    _check_learner(found["learner"], where)
    _check_shapes(folder, found)
    return found


def checked_texts(folder: Path, description: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the classifier's texts, None where they were not saved.

    Raises:
        ArtifactError: something else than texts with classes of their own.
    """
    if not (folder / LAYOUT.texts).is_file():
        return None
    found, certainty = read_json(folder / LAYOUT.texts, most=MOST_LARGE), description["certainty"] or {}
    if not are_texts(found, len(description["labels"]), bool(certainty.get("several"))):
        raise ArtifactError(f"{folder.name}/{LAYOUT.texts}: these are not the texts of a classifier. Save it again.")
    return found


def _check_learner(own: Mapping[str, Any], where: str) -> None:
    """Raise where settings of a learner are not of its `Config`, or so large that it would not come to an end."""
    try:
        allowed = get_type_hints(learner_class(own["name"]).Config)
    except LearnerError as error:
        raise ArtifactError(f"{where}: {error}") from error
    for key, value in own["config"].items():
        if key not in allowed or not is_setting(value, allowed[key]):
            raise ArtifactError(f"{where}: {key[:100]!r} of the learner cannot be {value!r:.100}.")


def _check_shapes(folder: Path, found: Mapping[str, Any]) -> None:
    """Raise where answers or head are not those of so many labels."""
    ways = len(found["labels"]) or len(set(SUPPORT_LABELS))
    if tensor_kinds(folder / LAYOUT.canary) != {"logits": ("F32", (len(found["canaries"]), ways))}:
        raise ArtifactError(f"{folder.name}/{LAYOUT.canary}: not {len(found['canaries'])} answers of {ways} classes.")
    head = tensor_kinds(folder / LAYOUT.head) if found["kind"] == "classifier" else {}
    if wrong := sorted(name for name, (kind, _) in head.items() if kind not in ("F32", "BOOL")):
        raise ArtifactError(f"{folder.name}/{LAYOUT.head}: {wrong[0]} is {head[wrong[0]][0]}, F32 is needed.")
    if "weight" in head and (
        not {"weight", "bias"} <= head.keys() <= {"weight", "bias", "means"}
        or head["bias"][1] != (ways,)
        or head["weight"][1][:1] != (ways,)
        or head.get("means", head["weight"])[1] != head["weight"][1]
    ):
        raise ArtifactError(f"{folder.name}/{LAYOUT.head}: not weight and bias of {ways} classes.")
