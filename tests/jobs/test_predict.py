"""Files are classified shard by shard: the same answers after a kill, on any number of processes, in any form."""

import csv
import io
import json
import os
import subprocess
import sys
import time

import pyarrow.parquet
import pytest

from fewtext import Encoder, FewShotClassifier
from fewtext.cli import main
from fewtext.jobs.answers import Answers

TEXTS = ["where is my card", "my card has not arrived yet", "flight is late", "cancel the flight", "pay the bill"]
LABELS = ["card", "card", "flight", "flight", "bill"]


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return FewShotClassifier(str(tiny_folder), coverage=0.5).fit(TEXTS, LABELS).save_pretrained(tmp_path / "mine")


@pytest.fixture
def questions(tmp_path, toy):
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in toy.texts[:50]), "utf-8")
    return path


@pytest.fixture
def job(folder, questions):
    return ["predict", str(folder), "--file", str(questions), "--shard", "8"]


def expected(folder, texts):
    """The answers of the classifier itself, unsharded."""
    answers = FewShotClassifier.from_pretrained(folder).classify(texts)
    assert {answer.reason for answer in answers} > {"known"}
    return [answer.label for answer in answers], [answer.score for answer in answers]


def test_each_row_is_answered_once_and_in_order(job, folder, toy, tmp_path, capsys):
    out = tmp_path / "new" / "answers.jsonl"
    assert main([*job, "--out", str(out)]) == 0
    assert "answers.jsonl: 50 texts, " in capsys.readouterr().out
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [row["text"] for row in rows] == list(toy.texts[:50])
    labels, probabilities = expected(folder, toy.texts[:50])
    assert [row["label"] for row in rows] == labels
    assert [row["probability"] for row in rows] == pytest.approx(probabilities, abs=1e-4)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("top", [1, 2])
def test_every_form_holds_the_same_answers(job, tmp_path, capsys, top):
    flags = ["--top", str(top)]
    for name in ("a.jsonl", "a.csv", "a.parquet", "a.txt"):
        assert main([*job, *flags, "--out", str(tmp_path / name)]) == 0
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()]
    assert pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist() == rows
    tops = [row.get("top", [{"label": row["best"], "probability": row["probability"]}]) for row in rows]
    flat = [(row, best["label"], best["probability"]) for row, top in zip(rows, tops, strict=True) for best in top]
    with (tmp_path / "a.csv").open(newline="") as file:
        table = [tuple(row.values()) for row in csv.DictReader(file)]
    assert table == [(r["text"], r["label"] or "", str(p), best, r["reason"]) for r, best, p in flat]
    assert {row["label"] is None for row in rows} == {True, False}
    lines = [line[:14].split() for line in (tmp_path / "a.txt").read_text("utf-8").splitlines()]
    assert lines == [[*["?"] * (r["label"] is None), best, f"{p:.3f}"[:4]] for r, best, p in flat]
    capsys.readouterr()
    for form, name in (("csv", "a.csv"), ("jsonl", "a.jsonl"), ("table", "a.txt")):  # standard output, as it goes
        assert main([*job, *flags, "--format", form]) == 0
        assert capsys.readouterr().out.splitlines() == (tmp_path / name).read_text("utf-8").splitlines()


@pytest.mark.parametrize("moment", ["in a shard", "after a shard", "before joining", "after joining"])
def test_a_run_that_is_stopped_goes_on_where_it_was(job, tmp_path, capsys, monkeypatch, moment):
    whole, out = tmp_path / "whole.csv", tmp_path / "answers.csv"
    assert main([*job, "--out", str(whole)]) == 0
    capsys.readouterr()
    saved, save, write, replace = [], Answers.save, Answers.write, os.replace

    def counting(self, path, texts, *, first):
        if len(saved) == 3 and moment == "after a shard":
            raise KeyboardInterrupt
        save(self, path, texts, first=first)
        saved.append(path.name)

    def breaking(self, file, texts, *, first):
        write(self, file, texts[:4] if len(saved) == 3 else texts, first=first)
        if len(saved) == 3:
            raise KeyboardInterrupt

    def renaming(source, target):
        if target == out and moment == "after joining":
            replace(source, target)
        if target == out:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(Answers, "save", counting)
        if moment == "in a shard":
            patched.setattr(Answers, "write", breaking)
        if "joining" in moment:
            patched.setattr("fewtext.files.os.replace", renaming)
        with pytest.raises(KeyboardInterrupt):
            main([*job, "--out", str(out)])
    assert out.exists() == (moment == "after joining")
    monkeypatch.setattr(Answers, "save", counting if "joining" in moment else save)
    before = len(saved)
    assert main([*job, "--out", str(out)]) == 0
    assert out.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "answers.csv.parts").exists()
    assert f"({50 if 'joining' in moment else 24} of them in an earlier run)" in capsys.readouterr().out
    assert len(saved) == before


def test_answers_of_different_runs_are_not_mixed(job, folder, questions, tmp_path, tiny_folder, monkeypatch, capsys):
    out = str(tmp_path / "answers.csv")

    def full(self, path, texts, *, first):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Answers, "save", full)
        assert main([*job, "--out", out]) == 1
    assert "cannot be written (No space left on device). Free some space" in capsys.readouterr().err
    other = [*job[:-1], "7"]
    for changed, key in ((other, "shard"), ([*job, "--top", "2"], "top"), ([*job, "--format", "jsonl"], "format")):
        assert main([*changed, "--out", out]) == 1
        assert f"answers of another run are there: {key} was" in capsys.readouterr().err
    before = questions.read_text("utf-8")
    questions.write_text(before + '{"text": "one more"}\n', "utf-8")
    assert main([*job, "--out", out]) == 1
    assert "answers of another run are there: texts was {'count': 50" in capsys.readouterr().err
    questions.write_text(before, "utf-8")
    FewShotClassifier(str(tiny_folder), C=1).fit(TEXTS, LABELS).save_pretrained(folder)
    assert main([*job, "--out", out]) == 1
    assert "answers of another run are there: classifier was" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--file missing.csv --out a.csv", "missing.csv: no such file"),
        ("--file {questions} --out a.csv --text-column body", "no text column 'body'; the columns are ['text']"),
        ("--file {empty} --out a.csv", "no texts"),
        ("--file {empty}", "no texts"),
        ("--file {hole} --out a.csv", "hole.csv, row 1: the text is empty"),
        ("--file {questions} --out a.csv --shard 0", "shard=0"),
        ("--file {questions} --out a.csv --top 0", "top=0"),
        ("--file {questions} --out a.tsv", "a.tsv: the name must end in .jsonl"),
        ("--file {questions} --out {folder} --format csv", "a folder is there"),
        ("--file {questions} --out {empty}/a.csv", "empty.txt: a file is there, and a folder is needed"),
        ("--file {questions} --format parquet", "parquet is not written to standard output"),
        ("--file {questions} --out a.csv --json --format csv", "--json is --format jsonl, but --format csv is there"),
        ("--file {questions} --out a.csv --sets", "sets of labels need calibrate(texts, labels) first"),
        ("--file {questions} --out a.csv", None),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(flags, message, folder, questions, tmp_path, monkeypatch, capsys):
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "hole.csv").write_text("text,label\nwhere,1\n,2\n")
    files = {"questions": questions, "folder": folder, "empty": tmp_path / "empty.txt", "hole": tmp_path / "hole.csv"}
    code = main(["predict", str(folder), *flags.format(**files).split()])
    if message is None:
        assert code == 0
        return
    assert code == 1
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not any(path.suffix != ".parts" for path in place.iterdir())


@pytest.mark.parametrize("flags", [[], ["--no-reject"]])
def test_json_is_jsonl_and_names_the_runner_up(job, folder, toy, capsys, flags):
    assert main([*job, *flags, "--format", "jsonl"]) == 0
    shown = capsys.readouterr().out
    for again in (["--json"], ["--json", "--format", "jsonl"]):
        assert main([*job, *flags, *again]) == 0
        assert capsys.readouterr().out == shown
    rows = list(map(json.loads, shown.splitlines()))
    answers = FewShotClassifier.from_pretrained(folder).classify(toy.texts[:50])
    assert [row["runner_up"]["label"] for row in rows] == [answer.runner_up for answer in answers]
    chances = [answer.top[1][1] for answer in answers]
    assert [row["runner_up"]["probability"] for row in rows] == pytest.approx(chances, abs=1e-4)
    assert [row["label"] for row in rows] == [answer.best if flags else answer.label for answer in answers]
    assert all("top" not in row for row in rows)


def test_of_several_labels_the_whole_set_is_written(tiny_folder, tmp_path, capsys):
    table, out = tmp_path / "several.csv", str(tmp_path / "several")
    labels = ["card", "card; loss", "flight", "flight;refund", "bill"]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(TEXTS, labels, strict=True)])
    fit = ["fit", str(table), "--out", out, "--base", str(tiny_folder), "--separator", ";", "--no-names"]
    assert main(fit) == 0
    asked = [*TEXTS, "no signal"]
    classifier = FewShotClassifier.from_pretrained(out)
    sets, (best, chances) = classifier.predict(asked), classifier.predict_top(asked, 2)
    assert {len(own) for own in sets} == {0, 1, 2, 3}
    capsys.readouterr()
    job = ["predict", out, *asked]
    assert main(job) == 0
    width = max(len("; ".join(own)) for own in sets)
    rows = zip(sets, chances[:, 0], asked, strict=True)
    expected = [f"{'; '.join(own) or '–':<{width}}  {chance:.3f}  {text}" for own, chance, text in rows]
    assert capsys.readouterr().out.splitlines() == expected
    assert main([*job, "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[::3] == expected
    below = [f"  {name} {chance:.3f}".split() for name, chance in zip(best.flat, chances.flat, strict=True)]
    assert [line.split() for line in lines if line.startswith("  ")] == below
    assert main([*job, "--format", "csv"]) == 0
    written = csv.DictReader(capsys.readouterr().out.splitlines())
    assert [row["label"] for row in written] == [";".join(own) for own in sets]
    for name in ("a.jsonl", "a.parquet"):
        assert main([*job, "--out", str(tmp_path / name)]) == 0
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()]
    assert [(row["label"], row["runner_up"]) for row in rows] == [(list(own), None) for own in sets]
    assert pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist() == rows


def test_sets_of_a_calibrated_classifier_are_written(tiny_folder, toy, job, folder, tmp_path, capsys, monkeypatch):
    labels = [toy.classes[label] for label in toy.labels]
    classifier = FewShotClassifier(str(tiny_folder)).fit(toy.texts[::2], labels[::2])
    classifier.calibrate(toy.texts[1::2], labels[1::2], coverage=0.6)
    classifier.save_pretrained(folder)
    sets = classifier.predict_set(toy.texts[:50])
    assert len({len(own) for own in sets}) > 1
    job = [*job[:-2], "--sets"]
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        assert main([*job, "--out", str(tmp_path / name)]) == 0
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()]
    assert [row["set"] for row in rows] == sets
    assert pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist() == rows
    with (tmp_path / "a.csv").open(newline="") as file:
        assert [row["set"] for row in csv.DictReader(file)] == [";".join(own) for own in sets]
    capsys.readouterr()
    assert main(job) == 0
    ends = [f"  {text}  [{'; '.join(own)}]" for text, own in zip(toy.texts[:50], sets, strict=True)]
    assert all(map(str.endswith, capsys.readouterr().out.splitlines(), ends))
    seen, encode = [], Encoder.encode
    noting = lambda self, texts, **given: seen.extend(texts) or encode(self, texts, **given)  # noqa: E731
    monkeypatch.setattr(Encoder, "encode", noting)
    assert main(job) == 0
    assert sorted(own for own in seen if own in toy.texts) == sorted({*toy.texts[:50]})  # each once
    out = ["--out", str(tmp_path / "b.csv")]
    monkeypatch.setattr(Answers, "save", lambda self, path, texts, *, first: sys.exit())
    with pytest.raises(SystemExit):
        main([*job, *out])
    assert main([*job[:-1], *out]) == 1
    assert "answers of another run are there: sets was True, now it is False" in capsys.readouterr().err


@pytest.mark.parametrize("target", [[], ["--out", "answers.csv"]], ids=["standard output", "file"])
def test_one_line_says_what_of_all_texts_was_not_read(folder, tmp_path, monkeypatch, caplog, target):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("\n".join(["where is my card", "card " * 90, *["strange card"] * 2] * 3))
    assert main(["predict", str(folder), "--file", "texts.txt", "--shard", "5", *target]) == 0
    said = [record.getMessage() for record in caplog.records if record.name == "fewtext"]
    unknown = "2.0 % of the tokens are unknown to the encoder"
    assert said == [f"3 of 12 texts are longer than 64 tokens and not read in full; {unknown}"]
    caplog.clear()
    assert main(["predict", str(folder), *TEXTS]) == 0
    assert not [record for record in caplog.records if record.name == "fewtext"]


def test_what_is_read_is_not_replaced(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    path = tmp_path / "texts" / "a.csv"
    path.write_text("text\nwhere is my card\n")
    (tmp_path / "link.csv").symlink_to(path)
    for source, out in (
        ("texts/a.csv", "texts/a.csv"),
        (str(path), "texts/../texts/a.csv"),
        ("texts/a.csv", "link.csv"),
        ("texts", "texts/new.csv"),  # started again, it would be read, too
    ):
        for command in (["predict", str(folder), "--file", source], ["suggest", str(folder), source]):
            assert main([*command, "--out", out]) == 1
            said = f"{out}: this would change what is read from {source}. Choose another --out."
            assert said in capsys.readouterr().err
    os.mkfifo("pipe.csv")
    assert main(["predict", str(folder), "x", "--out", "pipe.csv"]) == 1
    assert "pipe.csv: no ordinary file" in capsys.readouterr().err
    assert main(["predict", str(folder), "x", "--out", "link.csv"]) == 0  # what a link leads to is replaced
    assert (tmp_path / "link.csv").is_symlink()
    assert path.read_text().startswith("text,label")
    path.write_text("text\nwhere is my card\n")
    assert [place.name for place in path.parent.iterdir()] == ["a.csv"]


def test_parts_that_are_nobodys_are_not_taken_for_answers(job, tmp_path, capsys):
    out = tmp_path / "a.csv"
    parts = tmp_path / "a.csv.parts"
    parts.mkdir()
    (parts / "000000.csv").write_text("OLD,x,1,x,known\n")
    assert main([*job, "--out", str(out)]) == 0
    assert "OLD" not in out.read_text("utf-8")
    assert "earlier run" not in capsys.readouterr().err
    assert not list(parts.glob("0*"))


def test_half_a_character_is_answered_as_the_encoder_reads_it(folder, tmp_path):
    (tmp_path / "half.jsonl").write_text(json.dumps({"text": "where is my card \ud83d"}) + "\n")
    job = ["predict", str(folder), "--file", str(tmp_path / "half.jsonl")]
    for name in ("a.jsonl", "a.csv", "a.txt", "a.parquet"):
        assert main([*job, "--out", str(tmp_path / name)]) == 0
        if name == "a.parquet":
            assert pyarrow.parquet.read_table(tmp_path / name)["text"].to_pylist() == ["where is my card ?"]
        else:
            assert "where is my card ?" in (tmp_path / name).read_text("utf-8")
    utf8 = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    program = [sys.executable, "-m", "fewtext"]
    done = subprocess.run([*program, *job], capture_output=True, encoding="utf-8", check=False, env=utf8)
    assert "where is my card ?" in done.stdout, done.stderr


@pytest.mark.parametrize("out", [[], ["--out", "a.csv"]], ids=["standard output", "file"])
def test_standard_input_that_is_no_utf_8_is_said(out, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), encoding="utf-8"))
    assert main(["predict", str(folder), *out]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("fewtext: standard input: cannot be read ('utf-8' codec can't decode byte 0xe9")
    assert error.endswith("Give it as UTF-8.")


def test_an_encoder_is_no_classifier(tiny_folder, questions, capsys):
    assert main(["predict", str(tiny_folder), "--file", str(questions)]) == 1
    assert "not a fewtext artifact" in capsys.readouterr().err


def test_one_process_writes_at_a_time(job, tmp_path, capsys):
    from fewtext.checkpoint import only_writer

    with only_writer(tmp_path / "answers.csv.parts"):
        assert main([*job, "--out", str(tmp_path / "answers.csv")]) == 1
    assert "another process is writing there" in capsys.readouterr().err


def started(*command):
    environment = {key: value for key, value in os.environ.items() if key not in ("WORLD_SIZE", "MASTER_ADDR")}
    environment |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.slow
def test_what_one_process_began_when_it_was_killed_two_finish(job, tmp_path):
    questions, whole, out = tmp_path / "many.txt", tmp_path / "whole.jsonl", tmp_path / "answers.jsonl"
    questions.write_text("".join(f"where is my card {'no ' * (n % 9)}{n}\n" for n in range(2000)), "utf-8")
    job[3] = str(questions)
    assert main([*job, "--out", str(whole)]) == 0
    parts = tmp_path / "answers.jsonl.parts"
    first = started("-m", "fewtext", *job, "--out", str(out))
    while len(list(parts.glob("0*"))) < 5 and first.poll() is None:
        time.sleep(0.01)
    first.kill()
    first.communicate()
    assert 5 <= len(list(parts.glob("0*"))) < 250
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "recipes/predict.py"]
    second = started(*launch, *job[1:], "--out", str(out))
    said, errors = second.communicate(timeout=300)
    assert second.returncode == 0, errors[-2000:]
    assert said.count("saved") == 1
    assert "2,000 texts (" in said
    assert "on 2 processes" in said
    assert out.read_bytes() == whole.read_bytes()
    assert not parts.exists()
