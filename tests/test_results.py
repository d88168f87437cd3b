"""Result files: one shape, nothing private, and a table that reads well."""

import json
import math
import re
import subprocess
from pathlib import Path

import pytest

from fewtext import results
from fewtext.results import PACKAGES, Row, table, write_results

ROWS = [
    Row(
        "banking77/prototypical", 0.8123, "accuracy", ci95=0.0123, n=600, peer="nearest", peer_value=0.75, ratio=1.083
    ),
    Row("gain", 6.23, "points"),
    Row("speed", 1234.5, "texts/s"),
]


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def place(monkeypatch, tmp_path):
    """Let the package lie in a folder; returns what a result file written from there says."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))

    def report_from(folder):
        monkeypatch.setattr(results, "__file__", str(folder / "results.py"))
        return written(tmp_path / "out" / "results.json")

    return report_from


@pytest.fixture
def checkout(place, tmp_path):
    """A git checkout in which the package is committed."""
    package = tmp_path / "project" / "fewtext"
    package.mkdir(parents=True)
    (package / "results.py").write_text("", "utf-8")
    (package.parent / ".gitignore").write_text(".venv\n", "utf-8")
    git(package.parent, "init", "--quiet")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "--quiet", "--message", "first")
    return package.parent


def written(path, rows=(), **options):
    return json.loads(write_results(path, rows, **options).read_text("utf-8"))


def test_a_report_has_exactly_these_keys(place, checkout):
    assert list(place(checkout / "fewtext")) == ["command", "commit", "machine", "versions", "rows"]


def test_the_commit_is_that_of_the_checkout(place, checkout):
    assert place(checkout / "fewtext")["commit"] == git(checkout, "rev-parse", "HEAD")


def test_a_changed_checkout_says_so(place, checkout):
    (checkout / "fewtext" / "results.py").write_text("changed", "utf-8")
    assert place(checkout / "fewtext")["commit"] == git(checkout, "rev-parse", "HEAD") + "+changes"


def test_outside_a_checkout_there_is_no_commit(place, tmp_path):
    (tmp_path / "fewtext").mkdir()
    assert list(place(tmp_path / "fewtext")) == ["command", "machine", "versions", "rows"]


def test_a_package_installed_inside_another_checkout_has_no_commit(place, checkout):
    installed = checkout / ".venv" / "fewtext"
    installed.mkdir(parents=True)
    (installed / "results.py").write_text("", "utf-8")
    assert "commit" not in place(installed)


def test_versions_are_those_of_the_packages_and_of_python(tmp_path):
    versions = written(tmp_path / "results.json")["versions"]
    assert set(versions) == {*PACKAGES, "python"}
    assert all(re.match(r"\d+\.\d+", version) for version in versions.values())


def test_the_machine_is_described_without_its_name(tmp_path):
    machine = written(tmp_path / "results.json")["machine"]
    assert set(machine) == {"processor", "cores", "system"}
    assert machine["cores"] >= 1


def test_fields_that_do_not_apply_are_absent(tmp_path):
    assert written(tmp_path / "results.json", ROWS)["rows"] == [
        {
            "name": "banking77/prototypical",
            "value": 0.8123,
            "unit": "accuracy",
            "ci95": 0.0123,
            "n": 600,
            "peer": "nearest",
            "peer_value": 0.75,
            "ratio": 1.083,
        },
        {"name": "gain", "value": 6.23, "unit": "points"},
        {"name": "speed", "value": 1234.5, "unit": "texts/s"},
    ]


def test_an_interval_that_does_not_exist_is_absent(tmp_path):
    rows = [Row("one run", 0.5, "accuracy", ci95=math.nan, n=1)]
    assert written(tmp_path / "results.json", rows)["rows"] == [
        {"name": "one run", "value": 0.5, "unit": "accuracy", "n": 1}
    ]
    assert "±" not in table(rows)
    assert "nan" not in table(rows)


def test_zero_is_a_number_and_stays(tmp_path):
    assert written(tmp_path / "results.json", [Row("none", 0.0, "s", ci95=0.0)])["rows"] == [
        {"name": "none", "value": 0.0, "unit": "s", "ci95": 0.0}
    ]


def test_the_table_stands_beside_under_its_command(tmp_path):
    write_results(tmp_path / "a" / "results.json", ROWS, command="fewtext test everyday")
    assert (tmp_path / "a" / "results.md").read_text("utf-8") == f"`fewtext test everyday`\n\n{table(ROWS)}\n"


def test_no_absolute_path_of_the_machine_leaks(tmp_path, monkeypatch):
    program = tmp_path / "recipes" / "speed.py"
    monkeypatch.setattr("sys.argv", [str(program), "--card", "everyday"])
    path = write_results(tmp_path / "results.json", ROWS)
    content = path.read_text("utf-8") + path.with_suffix(".md").read_text("utf-8")
    assert json.loads(path.read_text("utf-8"))["command"] == "speed.py --card everyday"
    assert not [folder for folder in (tmp_path, Path.home(), Path(results.__file__).parent) if str(folder) in content]


def test_each_place_has_a_table_with_percentages_and_aligned_columns():
    assert table(ROWS).splitlines() == [
        "| banking77    | value      | unit        | n   | beside       | ratio |",
        "|--------------|------------|-------------|-----|--------------|-------|",
        "| prototypical | 81.2 ± 1.2 | accuracy, % | 600 | nearest 75.0 | 1.08x |",
        "",
        "|       | value | unit    |",
        "|-------|-------|---------|",
        "| gain  | +6.23 | points  |",
        "| speed | 1,234 | texts/s |",
    ]


def test_columns_that_nobody_fills_are_left_out():
    assert table([Row("a", 0.5, "macro-F1")]).splitlines() == [
        "|   | value | unit        |",
        "|---|-------|-------------|",
        "| a | 50.0  | macro-F1, % |",
    ]


def test_a_loss_in_points_keeps_its_sign():
    assert "| -1.50 " in table([Row("a", -1.5, "points")])


def test_no_rows_make_no_table():
    assert table([]) == ""
