"""What refining is worth over the number of texts per class, and whether `refine="auto"` knows.

    python recipes/benchmarks/refining.py --data-root data
    python recipes/benchmarks/refining.py --report-only

One default classifier, the same refined, and what `auto` makes of the two, on the same draws from the official
training part; all official test texts are asked. A draw of one set and number of texts is kept at once in
`results/refining_runs.jsonl`, every set's first draw before any second, so that it can be stopped and go on.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
import tyro
from full_label import split
from report import put_table, read
from tqdm import tqdm

from fewtext import Encoder, FewShotClassifier, Row, load_texts, write_results
from fewtext.metrics.scores import accuracy, mean_ci
from fewtext.nn.pretrained import MINILM

Run: TypeAlias = dict[str, Any]

RUNS = Path(__file__).parent / "results" / "refining_runs.jsonl"


def main(
    *,
    sets: tuple[str, ...] = ("banking77", "clinc150", "hwu64", "sst5", "cr"),
    shots: tuple[int, ...] = (1, 2, 3, 5, 10),
    seeds: int = 5,
    data_root: Path | None = None,
    base: str = MINILM,
    runs: Path = RUNS,
    report_only: bool = False,
) -> None:
    """Run what is missing, then write the report.

    Args:
        sets: data cards.
        shots: texts per class.
        seeds: draws of the texts.
        data_root: folder in which data cards find their data.
        base: hub id or folder of the encoder.
        runs: file that keeps the runs; the report stands beside it.
        report_only: run nothing.
    """
    done = {(run["seed"], run["set"], run["shots"]) for run in read(runs)}
    wanted = [] if report_only else [key for key in product(range(seeds), sets, shots) if key not in done]
    if wanted:
        torch.set_num_threads(1)
        encoder = Encoder.from_pretrained(base)
        parts = {name: split(load_texts(name, data_root=data_root)) for name in {name for _, name, _ in wanted}}
        for seed, name, count in tqdm(wanted, unit="run"):
            run = {"seed": seed, "set": name, "shots": count} | measure(encoder, *parts[name], count, seed)
            with runs.open("a", encoding="utf-8") as file:
                file.write(json.dumps(run) + "\n")
    found = read(runs)
    write_results(runs.with_name("refining.json"), rows_of(found), "python recipes/benchmarks/refining.py")
    if runs == RUNS:
        put_table(RUNS.parents[1] / "README.md", text_of(found), "refining.py")


def measure(encoder: Encoder, train: Any, test: Any, shots: int, seed: int) -> Run:
    """Return the test accuracy of the plain and the refined classifier, and whether `auto` kept the latter."""
    few, truth = train.at_most(shots, seed=seed), np.array(test.classes)[test.labels]

    def fitted(refine: bool | Literal["auto"]) -> FewShotClassifier:
        return FewShotClassifier(encoder, refine=refine).fit(few.texts, np.array(few.classes)[few.labels])

    auto = fitted("auto")
    kept = auto.facts_["refined"].get("kept", True)  # with fewer than three texts it does not ask
    found = {"plain": fitted(False), "refined": auto if kept else fitted(True)}
    return {name: accuracy(own.predict(test.texts), truth) for name, own in found.items()} | {"kept": kept}


def rows_of(runs: list[Run]) -> list[Row]:
    """Return the accuracy without refining, what it and `auto` gain, and how often `auto` keeps it."""
    rows = []
    for place, own in panels(runs).items():
        plain, half = mean_ci([run["plain"] for run in own])
        rows.append(Row(f"{place}/plain", plain, "accuracy", half, len(own)))
        for name, gains in gains_of(own).items():
            gain, half = mean_ci(gains)
            rows.append(Row(f"{place}/{name} − plain", gain, "points", half, len(own)))
        rows.append(Row(f"{place}/kept by auto", float(np.mean([run["kept"] for run in own])), "share", n=len(own)))
    return rows


def panels(runs: list[Run]) -> dict[str, list[Run]]:
    """Return the runs by set and number of texts."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(f"{run['set']}/{run['shots']}-shot", []).append(run)
    return found


def gains_of(own: list[Run]) -> dict[str, np.ndarray]:
    """Return what refining, and `auto`, gained in each draw, in points."""
    gains = 100 * np.array([run["refined"] - run["plain"] for run in own])
    return {"refined": gains, "auto": gains * np.array([run["kept"] for run in own])}


def text_of(runs: list[Run]) -> str:
    """Return the gains as a table: a row for each set, a column for each number of texts; in brackets, auto."""
    found = panels(runs)
    shots = sorted({run["shots"] for run in runs})
    lines = [f"| | {' | '.join(f'{count}' for count in shots)} |", "|---" * (1 + len(shots)) + "|"]
    for name in dict.fromkeys(run["set"] for run in runs):
        cells = [_cell(found.get(f"{name}/{count}-shot")) for count in shots]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(own: list[Run] | None) -> str:
    if own is None:
        return ""
    gains = gains_of(own)
    refined, auto = (mean_ci(gains[name]) for name in ("refined", "auto"))
    return f"{refined[0]:+.1f} ± {refined[1]:.1f} ({auto[0]:+.1f}, {sum(run['kept'] for run in own)} of {len(own)})"


if __name__ == "__main__":
    tyro.cli(main)
