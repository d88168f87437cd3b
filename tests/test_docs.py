"""Every code block of the documentation runs, and prints what it says it prints."""

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path

import pytest
from hub.server import Hub, running

from fewtext.cli import main
from fewtext.nn.pretrained import MINILM, locate

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# The documents' numbers are for people; a test needs few steps and few episodes.
FEWER = [(r"--steps \d+", "--steps 2"), (r"steps=\d+", "steps=2"), (r"--number \d+", "--number 5 --all-way 0")]
FEWER += [(r"episodes=\d+", "episodes=5, all_way=0"), (r"(validation=validation)", r"\1, validation_episodes=5")]
FEWER += [(r"(fewtext train.*)", r"\1 --meta-batch 1 --validation-episodes 5")]
SHELL = """
set -euo pipefail
pip() { python - "$2" <<'END'
import sys
from importlib.metadata import metadata
from packaging.requirements import Requirement
wanted = Requirement(sys.argv[1])
assert wanted.name == "fewtext" and wanted.extras <= set(metadata("fewtext").get_all("Provides-Extra")), wanted
END
}
"""


def blocks(name):
    text = (ROOT / name).read_text("utf-8")
    return [(kind, code) for kind, code in BLOCK.findall(text)]


def fewer(code):
    for pattern, replacement in FEWER:
        code = re.sub(pattern, replacement, code)
    return code


def run_shell(code):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path}
    done = subprocess.run(
        ["bash", "-c", SHELL + fewer(code)], capture_output=True, text=True, check=False, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def run_here(code):
    """Run the fewtext commands in this process, which has imported all they need, and the rest in a shell."""
    parts = re.split(r"^(fewtext .*)\n", code, flags=re.MULTILINE)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        for rest, command in zip_longest(parts[::2], parts[1::2]):
            if rest:
                run_shell(rest)
            if command:
                assert main(shlex.split(fewer(command))[1:]) == 0, command
    return output.getvalue()


def run_page(name, shell):
    """Run a page from top to bottom, compare what it prints, and return its Python names."""
    names: dict = {}
    printed = ""
    for kind, code in blocks(name):
        if kind == "python":
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(fewer(code), names)
            printed = output.getvalue()
        elif kind == "bash":
            printed = shell(code)
        elif printed:
            assert printed == code
            printed = ""
    return names


def test_the_readme_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_page("README.md", run_here)
    assert any("− frozen prototypes" in row.name for row in names["rows"])


def test_the_guide_of_the_classifier_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page("recipes/classifier.md", run_here)
    assert {path.stem for path in tmp_path.glob("*.png")} == {"confusion", "coverage", "map", "reliability"}
    assert (tmp_path / "to-label.csv").read_text("utf-8").startswith("text,label,reason,row\n")


@pytest.mark.slow  # it trains two learners
def test_the_page_on_learners_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page("recipes/learners.md", run_here)
    assert (
        json.loads((tmp_path / "my-intents-own-head" / "fewtext.json").read_text("utf-8"))["learner"]["name"]
        == "anil"
    )


RUN_AGAINST_A_HUB = """
import contextlib, io, json, subprocess, sys
names, printed = {}, ""
for kind, code in json.load(open(sys.argv[1])):
    if kind == "python":
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(code, names)
        printed = output.getvalue()
    elif kind == "bash":
        subprocess.run(["bash", "-c", code], check=True)
    else:
        assert printed == code, (printed, code)
"""


@pytest.mark.slow
def test_publishing_runs_against_a_hub(tmp_path):
    hub, package = Hub("lfs"), locate(MINILM).folder
    hub.create(MINILM)
    hub.commit(MINILM, {str(p.relative_to(package)): p.read_bytes() for p in package.rglob("*") if p.is_file()})
    code = [(kind, SHELL + fewer(code) if kind == "bash" else code) for kind, code in blocks("recipes/publishing.md")]
    (tmp_path / "code.json").write_text(json.dumps(code))
    with running(hub) as endpoint:
        environment = os.environ | {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(tmp_path / "home"),
            "HF_TOKEN": "hf_test",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        done = subprocess.run(
            [sys.executable, "-c", RUN_AGAINST_A_HUB, str(tmp_path / "code.json")],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            cwd=tmp_path,
            timeout=600,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert {"me/my-intents", "me/everyday-base", "me/everyday-base-private", "my-team/intents"} <= hub.repos.keys()
    assert "prototypical" in (tmp_path / "info.json").read_text()


def tutorial():
    (code,) = [code for kind, code in blocks("CONTRIBUTING.md") if kind == "python"]
    return code


@pytest.fixture
def _forget_dot():
    yield
    from fewtext.learners import LEARNERS

    LEARNERS.pop("dot", None)


@pytest.mark.usefixtures("_forget_dot")
def test_the_learner_of_the_tutorial_is_trained_and_serves_as_a_base(tmp_path, tiny_folder):
    names: dict = {}
    exec(tutorial(), names)
    from fewtext import FewShotClassifier
    from fewtext.jobs.train import Train, train
    from fewtext.run import TrainConfig

    loop = TrainConfig(steps=2, meta_batch=1)
    options = Train(base=str(tiny_folder), loop=loop, validation_episodes=4, out=tmp_path / "dot")
    out, history = train("dot", names["DotConfig"](), options)
    assert len(history.steps) == 2
    classifier = FewShotClassifier(out / "learner", method="prototype").fit(["my card", "a late flight"], ["a", "b"])
    assert set(classifier.predict(["my card", "a late flight"])) <= {"a", "b"}


@pytest.mark.slow
def test_the_learner_of_the_tutorial_keeps_the_contract(tmp_path):
    (tmp_path / "tutorial_learner.py").write_text(tutorial(), "utf-8")
    contract = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tutorial_learner", "-k", "dot"]
    done = subprocess.run(
        [sys.executable, *contract, ROOT / "tests" / "learners" / "test_contract.py"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=ROOT,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"^1\d passed", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", *(f"recipes/{path.name}" for path in (ROOT / "recipes").glob("*.md"))]
)
def test_links_lead_somewhere(name):
    document = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text("utf-8")):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_every_card_is_described():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert all(path.stem.removesuffix("20") in text for path in (ROOT / "data_cards").glob("*.md"))
