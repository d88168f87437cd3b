"""The structure of the package: who may import whom, what is public, how long a file may be."""

import ast
from pathlib import Path

import pytest

import fewtext

PACKAGE = Path(fewtext.__file__).parent
MAY_IMPORT = {
    "errors": set(),
    "tensors": set(),
    "files": {"errors"},
    "results": set(),
    "metrics": set(),
    "data": {"errors", "tensors"},
    "nn": {"errors", "tensors"},
    "learners": {"errors", "tensors", "nn"},
    "parallel": {"errors"},
    "checkpoint": {"errors", "files"},
    "run": {"checkpoint", "data", "errors", "learners", "nn", "parallel"},
    "plots": {"errors", "metrics", "results"},
    "scoring": {"data", "learners", "metrics", "nn", "tensors"},
    "testing": {"data", "learners", "metrics", "nn", "results", "scoring"},
    "training": {"checkpoint", "data", "errors", "learners", "metrics", "nn", "run", "scoring", "tensors"},
    "artifact": {"data", "errors", "files", "heads", "learners", "nn", "results", "tensors"},
    "embedding": {"nn"},
    "heads": {"data", "embedding", "learners", "nn", "tensors"},
    "similarity": {"data", "embedding", "nn"},
    "suggest": {"errors"},
    "doctor": {"data", "errors", "heads", "metrics", "nn", "results", "tensors"},
    "bases": {"artifact", "heads", "learners", "nn", "results"},
    "autoclasses": {"nn"},
    "refine": {"data", "embedding", "heads", "learners", "nn", "tensors"},
    "classifier": {
        "artifact",
        "bases",
        "data",
        "embedding",
        "errors",
        "heads",
        "learners",
        "metrics",
        "nn",
        "refine",
        "suggest",
        "tensors",
    },
    "distillation": {"classifier", "data", "embedding", "errors", "heads", "learners", "nn", "tensors"},
    "jobs": {
        "bases",
        "checkpoint",
        "distillation",
        "files",
        "plots",
        "run",
        "artifact",
        "classifier",
        "data",
        "doctor",
        "errors",
        "learners",
        "metrics",
        "nn",
        "refine",
        "results",
        "similarity",
        "suggest",
        "testing",
        "training",
    },
    "cli": {"errors", "jobs", "learners", "results"},
    "__main__": {"cli"},
    "__init__": {"TYPE_CHECKING only"},
}
PUBLIC = [
    "Artifact",
    "Collator",
    "DataCard",
    "Encoder",
    "Episode",
    "EpisodeSampler",
    "EpisodeSpec",
    "FewShotClassifier",
    "FewtextError",
    "LabeledTexts",
    "Lora",
    "MetaLearner",
    "Prototypical",
    "Row",
    "TrainConfig",
    "TrainingSet",
    "class_disjoint",
    "distill",
    "load_texts",
    "meta_test",
    "meta_train",
    "read_episodes",
    "write_episodes",
    "write_results",
]
FILES = sorted(PACKAGE.rglob("*.py"))


def short(path):
    return path.relative_to(PACKAGE).as_posix()


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            if name.startswith("fewtext."):
                yield name.split(".")[1]
            assert name.split(".")[0] != "recipes", f"{path.name} imports a recipe"


@pytest.mark.parametrize("path", [p for p in FILES if p.parent != PACKAGE or p.name != "__init__.py"], ids=short)
def test_imports_go_one_way(path):
    own = room(path)
    assert own in MAY_IMPORT, f"{own} is a new room: say here what it may import"
    assert set(imported_rooms(path)) - {own} <= MAY_IMPORT[own]


def test_public_names():
    assert fewtext.__all__ == PUBLIC
    for name in PUBLIC:
        assert getattr(fewtext, name).__doc__, f"{name} has no docstring"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fewtext.nothing


@pytest.mark.parametrize("path", FILES, ids=short)
def test_files_are_short(path):
    assert len(path.read_text("utf-8").splitlines()) <= 250
