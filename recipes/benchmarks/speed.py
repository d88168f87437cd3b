"""Measure fewtext beside its peers, one row at a time, and write one table.

    make bench
    python recipes/benchmarks/speed.py --rows encode_fp32 inner_loop --data-root data

Rows measured on the same machine with the same versions are kept in `results/speed.json`; the table in README.md is
made from it.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import answer
import datasets
import encode
import fit
import inner_loop
import predict
import prototypical_step
import tyro
from harness import measure
from material import load_material
from report import keep, put_table, table
from transformers.utils.logging import disable_progress_bar

from fewtext.nn.pretrained import MINILM

RESULTS = Path(__file__).parent / "results" / "speed.json"
MODULES = (encode, answer, inner_loop, prototypical_step, fit, predict)
BENCHMARKS = {row.name: row for module in MODULES for row in module.BENCHMARKS}


def main(
    *,
    rows: tuple[str, ...] = tuple(BENCHMARKS),
    repeats: int = 5,
    slow_repeats: int = 1,
    card: str = "banking77",
    data_root: Path | None = None,
    base: str = MINILM,
    quick: bool = False,
    out: Path = RESULTS,
) -> None:
    """Measure rows and put them into the table.

    Args:
        rows: which rows to measure.
        repeats: trials of each side.
        slow_repeats: trials of a peer that takes minutes.
        card: data card of the texts.
        data_root: folder in which data cards find their data.
        base: hub id or folder of the encoder.
        quick: measure on a few texts, to see that everything runs; keep nothing.
        out: file of the results.
    """
    if unknown := sorted(set(rows) - set(BENCHMARKS)):
        raise SystemExit(f"no row {unknown[0]!r}. Rows: {', '.join(BENCHMARKS)}.")
    material = load_material(card, data_root, base, quick=quick)
    measured = []
    for name in rows:
        benchmark = BENCHMARKS[name]
        with tempfile.TemporaryDirectory() as place:
            say(f"{name}: preparing")
            benchmark.prepare(Path(place), material)
            row = measure(benchmark, Path(place), repeats, slow_repeats, say)
        measured.append(row | {"data": material.train.name, "date": f"{datetime.now(UTC):%Y-%m-%d}"})
        if not quick:  # row by row, so that an interruption costs one
            kept = keep(out, measured[-1:])
            if out == RESULTS:
                put_table(RESULTS.parents[1] / "README.md", table(kept), "speed.py")
    print(table(measured))


def say(message: str) -> None:
    """Show progress where it does not mix with the results."""
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    datasets.disable_progress_bars()
    disable_progress_bar()
    tyro.cli(main)
