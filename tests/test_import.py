"""What an import costs: next to nothing for the package, and for an answer only what the answer needs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fewtext
from fewtext import FewShotClassifier

TEXTS, LABELS = ["where is my card", "flight is late"], ["card", "flight"]
PACKAGE = """
import sys
before = set(sys.modules)
import fewtext
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(new - set(sys.stdlib_module_names)))
"""
ANSWER = """
import sys
from fewtext import FewShotClassifier
print(FewShotClassifier.from_pretrained(sys.argv[1]).predict(["where is my card"])[0])
print(*sys.modules)
"""


def run(code, *arguments):
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_importing_the_package_imports_next_to_nothing():
    assert run(PACKAGE).split() == ["fewtext", "wrapt"]


def test_a_saved_classifier_answers_without_what_only_fitting_and_data_need(tiny_folder, tmp_path):
    folder = FewShotClassifier(str(tiny_folder)).fit(TEXTS, LABELS).save_pretrained(tmp_path / "c")
    answer, modules = run(ANSWER, folder).splitlines()
    assert answer == "card"
    assert not {"datasets", "evaluate", "matplotlib", "peft", "sklearn.linear_model", "tyro"} & set(modules.split())


def test_type_checkers_see_the_names_where_they_are():
    """`__getattr__` hides them, so they are imported a second time where only type checkers look."""
    (block,) = [
        node for node in ast.parse(Path(fewtext.__file__).read_text("utf-8")).body if isinstance(node, ast.If)
    ]
    shown = {
        alias.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert shown == fewtext._HOME


def test_names_are_listed_and_a_wrong_one_is_refused_with_a_close_one():
    assert dir(fewtext) == fewtext.__all__
    with pytest.raises(AttributeError, match=r"no attribute 'FewShotClasifier'\. Did you mean FewShotClassifier\?"):
        _ = fewtext.FewShotClasifier
    with pytest.raises(AttributeError, match=r"no attribute '__wrapped__'$"):
        _ = fewtext.__wrapped__
