"""Time and peak memory against texts, classes, tasks per meta-batch, encoder depth and processes.

    python recipes/benchmarks/scaling.py --data-root data
    python recipes/benchmarks/scaling.py --axes streamed --most 1000000

Writes `results/scaling.json`, the table beside it, and `results/scaling.png`, axis by axis; axes that are not
measured stay as they were. Each point is a process of its own with one thread. Memory is the process's own peak; of
recipes, that of all their processes together.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import datasets
import encode
import episodes
import fit
import inner_loop
import psutil
import tyro
from harness import Side, started
from made_up import made_up_texts
from material import Material, load_material
from transformers.utils.logging import disable_progress_bar

from fewtext import FewShotClassifier, Row, write_results

HERE = Path(__file__).parent
ENOUGH = 5.0  # seconds of trials per point
COLUMNS = 3  # of the picture
Point = tuple[int, float, float]  # where, seconds, MB


def texts(material: Material, folder: Path, most: int) -> Iterator[Point]:
    """Encode so many texts."""
    for number in (n for n in (1_000, 4_000, 16_000, 64_000) if n <= most):
        yield number, *encoding(folder, str(material.base), made_up_texts(material.train.texts, number))


def streamed(material: Material, folder: Path, most: int) -> Iterator[Point]:
    """Classify a file of so many texts with recipes/predict.py."""
    classifier = FewShotClassifier(str(material.base)).fit(*material.supports)
    saved = str(classifier.save_pretrained(folder / "classifier"))
    for number in (n for n in (1_000, 10_000, 100_000, 1_000_000) if n <= most):
        (folder / "texts.txt").write_text("\n".join(made_up_texts(material.train.texts, number)) + "\n", "utf-8")
        files = ["--file", str(folder / "texts.txt"), "--out", str(folder / f"{number}.csv")]
        yield number, *program([str(HERE.parent / "predict.py"), saved, *files], folder / "log")


def classes(material: Material, folder: Path, most: int) -> Iterator[Point]:
    """Fit a classifier to so many classes of 5 texts."""
    for number in (n for n in (10, 100, 1_000, 10_000) if 5 * n <= most):
        labels = [f"class {n}" for n in range(number)] * 5
        rows = {"texts": made_up_texts(material.train.texts, len(labels)), "labels": labels}
        inputs = {"base": str(material.base), "supports": rows, "test": {"texts": rows["texts"][:1], "labels": [""]}}
        (folder / "inputs.json").write_text(json.dumps(inputs), "utf-8")
        yield number, *point(fit.ours, folder)


def tasks(material: Material, folder: Path, most: int) -> Iterator[Point]:
    """Take a meta-step of first-order MAML with so many tasks."""
    for number in (n for n in (1, 2, 4, 8, 16) if 50 * n <= most):
        episodes.prepare(folder, material, tasks=number, targets=inner_loop.ATTENTION)
        yield number, *point(inner_loop.ours, folder)


def depth(material: Material, folder: Path, most: int) -> Iterator[Point]:
    """Encode 2,000 texts with the first so many layers of the encoder."""
    given = made_up_texts(material.train.texts, min(2_000, most))
    config = json.loads((material.base / "config.json").read_text("utf-8"))
    shutil.copytree(material.base, folder / "base")
    for number in range(1, config["num_hidden_layers"] + 1):
        shallow = json.dumps(config | {"num_hidden_layers": number})
        (folder / "base" / "config.json").write_text(shallow, "utf-8")
        yield number, *encoding(folder, str(folder / "base"), given)


def processes(material: Material, folder: Path, most: int) -> Iterator[Point]:
    """Meta-train for 10 meta-steps of 4 tasks on so many processes, with recipes/meta_train.py."""
    for number in (1, 2):
        out = folder / f"run-{number}"
        launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", str(number)]
        options = ["--steps", str(min(10, most)), "--validate-every", "0", "--base", str(material.base)]
        recipe = [str(HERE.parent / "meta_train.py"), "prototypical", "--out", str(out), *options]
        _, memory = program([*launch, *recipe], folder / "log")
        rows = json.loads((out / "results.json").read_text("utf-8"))["rows"]
        yield number, next(row["value"] for row in rows if row["name"].endswith("/training")), memory


AXES = {axis.__name__: axis for axis in (texts, streamed, classes, tasks, depth, processes)}


def encoding(folder: Path, base: str, given: list[str]) -> tuple[float, float]:
    """Return seconds and MB of encoding texts."""
    inputs = {"base": base, "train": {"texts": given}, "test": {"texts": given[:1]}}
    (folder / "inputs.json").write_text(json.dumps(inputs), "utf-8")
    return point(encode.ours_fp32, folder)


def point(side: Callable[[Path], Side], folder: Path) -> tuple[float, float]:
    """Return the median CPU seconds of a side's trials, and the peak memory of its process."""
    with started(side, folder) as ask:
        ask("ready")
        times: list[float] = []
        while sum(times) < ENOUGH:
            times.append(ask("trial")["cpu_s"])
        return median(times), ask("finish")["peak_mb"]


def program(command: list[str], log: Path) -> tuple[float, float]:
    """Run a recipe; returns seconds, start-up included, and the largest memory of all its processes together."""
    start, peak = time.perf_counter(), 0
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (
        log.open("w") as out,
        subprocess.Popen([sys.executable, *command], stdout=out, stderr=out, env=environment) as process,
    ):
        family = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, sum(map(_resident, [family, *family.children(recursive=True)])))
            time.sleep(0.1)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[:2])} failed:\n{log.read_text()[-2000:]}")
    return time.perf_counter() - start, peak / 2**20


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:  # it has ended since
        return 0


def kept(out: Path) -> dict[str, list[Point]]:
    """Return the points of axes that were measured before."""
    if not out.is_file():
        return {}
    found: dict[str, dict[int, dict[str, float]]] = {}
    for row in json.loads(out.read_text("utf-8"))["rows"]:
        axis, _, where = row["name"].partition("/")
        place = int(where.split()[0].replace(",", ""))
        found.setdefault(axis, {}).setdefault(place, {})[row["unit"]] = row["value"]
    return {axis: [(w, at["s"], at["MB"]) for w, at in places.items()] for axis, places in found.items()}


def draw(points: dict[str, list[Point]], path: Path) -> None:
    """Draw seconds and memory, one panel for each axis."""
    from matplotlib.figure import Figure

    height = -(-len(points) // COLUMNS)
    figure = Figure(figsize=(4.2 * COLUMNS, 3.2 * height), layout="constrained")
    panels = figure.subplots(height, COLUMNS, squeeze=False).flatten()
    for panel in panels[len(points) :]:
        panel.set_axis_off()
    for panel, (name, measured) in zip(panels, points.items(), strict=False):
        where, seconds, memory = zip(*measured, strict=True)
        panel.plot(where, seconds, color="tab:blue", marker="o")
        panel.set_xlabel(name)
        panel.set_ylabel("seconds", color="tab:blue")
        if where[-1] > 100 * where[0]:
            panel.set(xscale="log", yscale="log")
        else:
            panel.set(xlim=(0, 1.1 * max(where)), ylim=(0, 1.1 * max(seconds)))
        other = panel.twinx()
        other.plot(where, memory, color="grey", marker="s", linestyle=":")
        other.set_ylim(0, 1.2 * max(memory))
        other.set_ylabel("peak memory, MB", color="grey")
    figure.savefig(path, dpi=120)


def main(
    *,
    axes: tuple[str, ...] = tuple(AXES),
    most: int = 100_000,
    card: str = "banking77",
    data_root: Path | None = None,
    out: Path = HERE / "results" / "scaling.json",
) -> None:
    """Measure time and memory along axes.

    Args:
        axes: which ones.
        most: of texts at a point.
        card: data card of the texts that others are made up from.
        data_root: folder in which data cards find their data.
        out: file of the results; the picture goes beside it.
    """
    material = load_material(card, data_root)
    points = kept(out)
    for name in axes:
        with tempfile.TemporaryDirectory() as place:
            points[name] = []
            for where, seconds, memory in AXES[name](material, Path(place), most):
                print(f"{name} {where}: {seconds:.3g} s, {memory:,.0f} MB", file=sys.stderr, flush=True)
                points[name].append((where, seconds, memory))
        points = {axis: points[axis] for axis in AXES if axis in points}
        rows = [
            Row(f"{axis}/{point[0]:,} ({unit})", point[column], unit)
            for axis, measured in points.items()
            for unit, column in (("s", 1), ("MB", 2))
            for point in measured
        ]
        write_results(out, rows, "python recipes/benchmarks/scaling.py")
        draw(points, out.with_suffix(".png"))
    print(out.with_suffix(".md").read_text("utf-8"))


if __name__ == "__main__":
    datasets.disable_progress_bars()
    disable_progress_bar()
    tyro.cli(main)
