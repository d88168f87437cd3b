"""The `fewtext` command, as a user types it."""

import csv
import io
import json
import os
import shlex
import subprocess
import sys
from functools import partial

import pytest
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker

import fewtext.cli
from fewtext import FewShotClassifier
from fewtext.checkpoint import Checkpoints
from fewtext.cli import COMMANDS, EXAMPLES, main
from fewtext.data.card import DataCard
from fewtext.errors import DataError
from fewtext.learners import LEARNERS

ROWS = [
    ("where is my card", "card"),
    ("my card has not arrived yet", "card"),
    ("flight is late", "flight"),
    ("cancel the flight", "flight"),
    ("pay the bill", "bill"),
    ("high bill", "bill"),
]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "intents.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *ROWS])
    return path


@pytest.fixture
def fitted(table, tmp_path, tiny_folder, capsys):
    out = tmp_path / "mine"
    assert main(["fit", str(table), "--out", str(out), "--base", str(tiny_folder), "--test", str(table)]) == 0
    assert "3 classes" in capsys.readouterr().out
    return out


def said(capsys):
    return capsys.readouterr().out


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    text = said(capsys)
    assert all(command in text for command in COMMANDS)
    assert main([]) == 2


@pytest.mark.parametrize("command", [*COMMANDS, "train prototypical"])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert stop.value.code == 0
    assert f"usage: fewtext {command}" in said(capsys)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_says_what_it_does_and_shows_examples(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = said(capsys)
    kind = getattr(fewtext.cli, command.capitalize())
    assert f"\n\n{kind.__doc__.splitlines()[0]}\n" in text
    assert "Attributes:" not in text
    own = [line for line in EXAMPLES if line.startswith(f"fewtext {command} ")]
    assert 2 <= len(own) <= 3
    assert "examples:\n  " + "\n  ".join(own) + "\n" in text
    assert main(["--help"]) == 0
    assert f"\n  {own[0]}\n" in said(capsys)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_a_command_line_that_can_be_read(example, monkeypatch):
    command, read = shlex.split(example)[1], []

    def job(*given):
        read.append(given[-1])
        raise DataError("read")

    job.__name__ = command
    monkeypatch.setattr(f"fewtext.cli.{command}", job)
    if command in ("fit", "distill"):
        kind = getattr(fewtext.cli, command.capitalize())
        monkeypatch.setitem(COMMANDS, command, (partial(fewtext.cli._fit, kind, job), ""))
    assert main(shlex.split(example)[1:]) == 1
    assert type(read[0]) is getattr(fewtext.cli, command.capitalize())


def test_a_wrong_command_is_answered_with_the_closest(capsys):
    assert main(["trian"]) == 2
    assert "Did you mean train?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train prototypcal", "Did you mean prototypical?"),
        ("train prototypical --card bankng77", "Did you mean banking77?"),
        ("train prototypical --card massive", "massive"),
        ("train prototypical --ways few", "'few' is not a count"),
        ("train prototypical --shots 30 --base {tiny}", "Lower"),
        ("train prototypical --base nobody/nothing", "the hub cannot be used"),
        ("test nobody/nothing", "the hub cannot be used"),
        ("fit missing.csv --out x", "no such file, folder or card"),
        ("fit everyday --out {tiny}/config.json", "config.json: a file is there, and a folder is needed"),
        ("test {tiny} --out {tiny}/config.json", "config.json: a file is there, and a folder is needed"),
        ("train prototypical --base {tiny} --out {tiny}/config.json", "config.json: a file is there, and a folder"),
        ("predict missing hello", "no such folder"),
        ("info missing", "no such folder"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(arguments, message, capsys, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments.format(tiny=tiny_folder).split()) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("fewtext: ")
    assert message in error
    assert not list(tmp_path.glob("*"))


def test_an_unknown_flag_is_a_wrong_command_line(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "x.csv", "--out", "y", "--shot", "3"])
    assert stop.value.code == 2
    assert "--shots" in capsys.readouterr().err


def test_fit_writes_a_classifier_and_what_it_measured(fitted):
    report = json.loads((fitted / "results.json").read_text("utf-8"))
    names = {row["name"]: row["value"] for row in report["rows"]}
    assert names["intents.csv/accuracy"] >= 0.8
    assert names["intents.csv/fit"] > 0


@pytest.mark.parametrize("given", [["--about", "questions to a bank"], []], ids=["given", "by the card"])
def test_fit_knows_what_the_texts_are_about(given, tiny_folder, tmp_path):
    out = tmp_path / "mine"
    main(["fit", "everyday", "--shots", "1", "--out", str(out), "--base", str(tiny_folder), *given])
    settings = json.loads((out / "fewtext.json").read_text("utf-8"))["settings"]
    assert settings["about"] == (given[1] if given else DataCard.read("everyday").about)


def test_predict_reads_arguments(fitted, capsys):
    assert main(["predict", str(fitted), "where is my card", "high bill"]) == 0
    lines = said(capsys).splitlines()
    assert [line.split()[0] for line in lines] == ["card", "bill"]


def test_predict_reads_standard_input(fitted, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("where is my card\n\nhigh bill\n"))
    assert main(["predict", str(fitted), "--format", "jsonl", "--top", "2"]) == 0
    answers = [json.loads(line) for line in said(capsys).splitlines()]
    assert [answer["label"] for answer in answers] == ["card", "bill"]
    assert [len(answer["top"]) for answer in answers] == [2, 2]


@pytest.mark.parametrize("name", ["texts.txt", "texts.csv"])
def test_predict_reads_a_file_and_writes_one(fitted, tmp_path, name):
    source = tmp_path / name
    header = "text\n" if name.endswith("csv") else ""
    source.write_text(header + "where is my card\nhigh bill\n")
    out = tmp_path / "answers.csv"
    assert main(["predict", str(fitted), "--file", str(source), "--format", "csv", "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.open()))
    assert [(row["text"], row["label"]) for row in rows] == [("where is my card", "card"), ("high bill", "bill")]


def test_info_describes_an_artifact_a_card_and_the_installation(fitted, capsys):
    assert main(["info", str(fitted)]) == 0
    assert json.loads(said(capsys))["labels"] == ["bill", "card", "flight"]
    assert main(["info", "banking77"]) == 0
    assert json.loads(said(capsys))["licence"] == "CC-BY-4.0"
    assert main(["info"]) == 0
    assert "prototypical" in said(capsys)


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_info_says_in_a_line_what_the_head_of_a_learner_is(name, monkeypatch, capsys):
    monkeypatch.setattr("fewtext.jobs.info.describe", lambda source: {"learner": {"name": name}})
    assert main(["info", "mine"]) == 0
    head = json.loads(said(capsys))["heads"]["prototype"]
    assert head.startswith(f"that of the learner {name}: ")
    assert head.endswith(".")
    assert "\n" not in head


def test_suggest_says_when_texts_it_was_fitted_to_may_be_suggested(fitted, table, tiny_folder, tmp_path, caplog):
    assert main(["suggest", str(fitted), str(table)]) == 0
    assert "saved without its texts" in caplog.text
    assert "--include-texts" in caplog.text
    caplog.clear()
    own = str(tmp_path / "own")
    assert main(["fit", str(table), "--out", own, "--base", str(tiny_folder), "--include-texts"]) == 0
    assert main(["suggest", own, str(table)]) == 0
    assert "saved without its texts" not in caplog.text


def test_suggest_makes_the_folder_of_its_file(fitted, table, tmp_path, capsys):
    out = tmp_path / "new" / "to-label.csv"
    assert main(["suggest", str(fitted), str(table), "--out", str(out)]) == 0
    with out.open(newline="") as file:
        assert next(csv.reader(file)) == ["text", "label", "reason", "row"]
    for place, message in ((out.parent, "a folder is there"), (out / "a.csv", "a folder is needed")):
        assert main(["suggest", str(fitted), str(table), "--out", str(place)]) == 1
        assert message in capsys.readouterr().err.splitlines()[-1]


def test_suggest_writes_the_best_guess_where_texts_have_several_labels(minilm, tmp_path):
    texts = ["where is my card", "block the card", "flight is late", "pay the bill"]
    own = FewShotClassifier(minilm).fit(texts, [["card"], ["card", "loss"], ["flight"], ["bill"]])
    folder, out = own.save_pretrained(tmp_path / "several"), tmp_path / "to-label.csv"
    asked = tmp_path / "asked.txt"
    asked.write_text("late flight\nhigh bill\nmy stolen card\n", "utf-8")
    assert main(["suggest", str(folder), str(asked), "--strategy", "coverage", "--out", str(out)]) == 0
    with out.open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert found
    for row in found:
        (labels,) = own.predict([row["text"]])
        assert row["label"] == ";".join(labels)


def test_info_says_which_sources_are_worth_meta_training_on(tiny_folder, table, capsys):
    command = ["info", str(table), "--similarity", "everyday", "--base", str(tiny_folder)]
    assert main(command) == 0
    shown = said(capsys)
    assert "expected gain" in shown
    assert "everyday/train" in shown
    assert main([*command, "--json"]) == 0
    (found,) = json.loads(said(capsys))
    assert found["verdict"] in ("worth trying", "of little use", "may hurt")
    assert main([*command[:3], "--base", str(tiny_folder), "--data-root", str(table.parent)]) == 0
    assert "| everyday/train | 35 |" in said(capsys)  # the only card that needs no other data
    own = str(table.parent / "own")
    assert main(["fit", str(table), "--out", own, "--base", str(tiny_folder), "--include-texts"]) == 0
    said(capsys)
    assert main(["info", own, *command[2:], "--json"]) == 0
    assert json.loads(said(capsys)) == [found]
    assert main(["info", "--similarity", "everyday"]) == 1
    assert "Name the texts first" in capsys.readouterr().err


TRAIN = "--steps 4 --meta-batch 2 --ways 4 --queries 2 --validate-every 2 --validation-episodes 5 --lora-rank 2"


def test_train_test_and_fit_on_the_trained_base(tiny_folder, tmp_path, capsys, table):
    out = tmp_path / "run"
    assert main(["train", "prototypical", "--base", str(tiny_folder), "--out", str(out), *TRAIN.split()]) == 0
    assert "best validation accuracy" in said(capsys)
    episodes = tmp_path / "episodes.json"
    measure = ["test", str(out), "--number", "6", "--all-way", "0", "--episodes-file", str(episodes)]
    assert main(measure) == 0
    first = said(capsys)
    assert "prototypical + names − frozen prototypes + names" in first
    assert main(measure) == 0
    assert said(capsys) == first
    report = json.loads((out / "test-everyday-1-1-shot.json").read_text("utf-8"))
    assert {row["n"] for row in report["rows"]} == {6}
    assert main(["fit", str(table), "--out", str(tmp_path / "mine"), "--base", str(out)]) == 0


def test_a_dry_run_says_what_it_would_do_and_does_nothing(tiny_folder, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", "fomaml", "--base", str(tiny_folder), "--out", str(out), "--dry-run"]) == 0
    text = said(capsys)
    for words in ("fomaml, ", "12-way 1-shot, 3 queries, from everyday/train (35 classes)", "GiB", "s a step"):
        assert words in text
    assert "saved" not in text
    assert not out.exists()


def test_an_interrupted_run_is_resumed_only_when_asked(tiny_folder, tmp_path, capsys, monkeypatch):
    out, job = tmp_path / "run", ["train", "prototypical", "--base", str(tiny_folder), *TRAIN.split()]
    whole = tmp_path / "whole"
    assert main([*job, "--out", str(whole)]) == 0
    save = Checkpoints.save

    def interrupted(self, checkpoint):
        save(self, checkpoint)
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", interrupted)
    job += ["--checkpoint-every", "3", "--out", str(out)]
    with pytest.raises(KeyboardInterrupt):
        main(job)
    monkeypatch.setattr(Checkpoints, "save", save)
    capsys.readouterr()
    assert main(job) == 1
    assert "Go on with --resume" in capsys.readouterr().err
    assert main([*job, "--resume"]) == 0
    for name in ("learner/adapter/adapter_model.safetensors", "learner/learner.safetensors"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert not (out / "checkpoints").exists()


def test_a_run_reports_to_trackers(tiny_folder, tmp_path, monkeypatch):
    seen = []

    class Mine(GeneralTracker):
        name, requires_logging_directory, tracker = "mine", False, None

        def store_init_configuration(self, values):
            seen.append(values["learner"])

        def log(self, values, step=None, **options):
            seen.append((step, sorted(values)))

    monkeypatch.setattr("fewtext.jobs.train.Accelerator", lambda **given: Accelerator(log_with=Mine()))
    out = str(tmp_path / "run")
    job = ["train", "prototypical", "--base", str(tiny_folder), "--out", out, "--log-with", "mine", *TRAIN.split()]
    assert main(job) == 0
    assert seen == ["prototypical", *[(step, ["accuracy", "loss"]) for step in range(4)]]


def launched(entry, *options):
    """Meta-train on two processes, as a user would start them."""
    flags = "--cpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no".split()
    launch = [sys.executable, "-m", "accelerate.commands.launch", *flags, *entry, "prototypical"]
    environment = {key: value for key, value in os.environ.items() if key not in ("WORLD_SIZE", "MASTER_ADDR")}
    job = [*launch, *TRAIN.split(), *map(str, options)]
    return subprocess.run(job, capture_output=True, text=True, timeout=300, check=False, env=environment)


@pytest.mark.slow
def test_a_meta_batch_that_two_processes_cannot_share_is_refused(tiny_folder, tmp_path):
    done = launched(["recipes/meta_train.py"], "--base", tiny_folder, "--out", tmp_path / "run", "--meta-batch", 3)
    assert done.returncode == 1
    assert "meta_batch=3 cannot be shared by 2 processes" in done.stderr


@pytest.mark.parametrize(
    "entry",
    [["recipes/meta_train.py"], pytest.param(["-m", "fewtext", "train"], marks=pytest.mark.slow)],
    ids=["recipe", "module"],
)
def test_accelerate_launch_on_two_cpu_processes_really_starts_two(entry, tiny_folder, tmp_path):
    out = tmp_path / "run"
    done = launched(entry, "--base", tiny_folder, "--out", out)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("saved") == 1
    assert {path.name for path in out.iterdir()} >= {
        "config.json",
        "curve.png",
        "learner",
        "log.jsonl",
        "results.json",
    }
