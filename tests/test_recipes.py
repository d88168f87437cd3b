"""Recipes: short, run as programs, and never a second library. The demo is run with fewer steps."""

import importlib
import json
import runpy
import sys
from pathlib import Path

import pytest

from fewtext import Artifact
from fewtext.learners import LEARNERS

RECIPES = Path(__file__).parents[1] / "recipes"
SCRIPTS = sorted(path for path in RECIPES.glob("*.py") if path.name != "__init__.py")
RUN = {"adapt.py", "demo.py", "meta_test.py", "meta_train.py", "predict.py", "push.py"}


def program(name, *arguments):
    """Run a recipe as `python recipes/<name>` would; returns its exit code."""
    sys.argv = [str(RECIPES / name), *map(str, arguments)]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        return stop.code
    return 0


@pytest.fixture(autouse=True)
def _own_arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv)


def test_every_recipe_is_run_by_a_test():
    assert {path.name for path in SCRIPTS} == RUN


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_recipe_is_short_and_starts_with_how_to_run_it(path):
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 100
    assert f"recipes/{path.name}" in text.split('"""')[1]


def test_recipes_cannot_be_imported(monkeypatch):
    monkeypatch.syspath_prepend(RECIPES.parent)
    with pytest.raises(ModuleNotFoundError, match="recipes are programs"):
        importlib.import_module("recipes.adapt")


def test_no_recipe_hides_a_package():
    assert not {path.stem for path in SCRIPTS} & {"evaluate", "datasets", "accelerate", "peft", "torch", "tokenizers"}


def test_meta_train_then_meta_test_then_adapt_then_predict(tiny_folder, tmp_path, capsys):
    out = tmp_path / "base"
    steps = ["--steps", 2, "--meta-batch", 1, "--ways", 4, "--queries", 2, "--validation-episodes", 4]
    assert program("meta_train.py", "prototypical", "--base", tiny_folder, "--out", out, *steps) == 0
    assert program("meta_test.py", out, "--number", 4, "--all-way", 0) == 0
    assert "frozen prototypes" in capsys.readouterr().out
    assert program("adapt.py", "everyday", "--shots", 2, "--base", out, "--out", tmp_path / "mine") == 0
    assert json.loads((tmp_path / "mine" / "fewtext.json").read_text("utf-8"))["kind"] == "classifier"
    (tmp_path / "new.txt").write_text("where is my card\n", "utf-8")
    answers = tmp_path / "answers.csv"
    assert program("predict.py", tmp_path / "mine", "--file", tmp_path / "new.txt", "--out", answers) == 0
    assert answers.read_text("utf-8").splitlines()[1].startswith("where is my card,")


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_every_learner_is_trained_by_the_recipe_and_serves_as_a_base(name, tiny_folder, tmp_path):
    steps = ["--steps", 1, "--meta-batch", 1, "--ways", 3, "--queries", 1, "--validation-episodes", 2]
    out = tmp_path / "base"
    assert program("meta_train.py", name, "--base", tiny_folder, "--lora-rank", 2, "--out", out, *steps) == 0
    given = ["--shots", 1, "--base", out, "--method", "prototype", "--out", tmp_path / "mine"]
    assert program("adapt.py", "everyday", *given) == 0
    assert Artifact.from_pretrained(out / "learner").learner.name == name


def test_nothing_is_pushed_where_there_is_nothing(tmp_path, capsys):
    assert program("push.py", tmp_path, "me/nothing") == 1
    assert "not a fewtext artifact" in capsys.readouterr().err


def test_the_demo_goes_the_whole_road(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert program("demo.py", "--steps", 2, "--episodes", 4) == 0
    text = capsys.readouterr().out
    assert "1. Meta-training" in text
    assert "4. Saving, reloading, classifying" in text
    report = json.loads((tmp_path / "demo" / "results.json").read_text("utf-8"))
    assert report["command"] == "make demo"
    assert any("5-shot classifier" in row["name"] for row in report["rows"])
    assert (tmp_path / "demo" / "accuracy.png").read_bytes().startswith(b"\x89PNG")
