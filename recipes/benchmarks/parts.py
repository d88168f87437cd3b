"""What our side of a row spends its time on, to see how far it is from its limit and what the rest is made of.

    python recipes/benchmarks/parts.py --rows encode_fp32 inner_loop --data-root data

Writes `results/parts.json` and the second table of README.md: shares of one trial's time on the wall, on one core.
The profiler makes short operations look longer than they are.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import encode
import fit
import inner_loop
import predict
import prototypical_step
from harness import Facts, Side, serve, started

RESULTS = Path(__file__).parent / "results" / "parts.json"
ROWS = {
    row.name: row for module in (encode, inner_loop, prototypical_step, fit, predict) for row in module.BENCHMARKS
}
PARTS = {  # first match wins
    "products": ("linear", "aten::mm", "aten::addmm"),
    "attention": ("bmm", "softmax", "masked_fill"),
    "GELU": ("gelu",),
    "layer norm": ("layer_norm",),
    "copies": ("copy_", "cat", "index", "gather", "clone", "scatter"),
}
REST, OUTSIDE = "other operations", "outside PyTorch"


def profiled(folder: Path) -> Side:
    """Our side of a row, under PyTorch's profiler."""
    from torch.profiler import ProfilerActivity, profile

    side = ROWS[json.loads((folder / "row.json").read_text("utf-8"))].ours(folder)

    def trial() -> Facts:
        with profile(activities=[ProfilerActivity.CPU]) as found:
            begin = time.perf_counter()
            side.trial()
            total = time.perf_counter() - begin
        seconds = dict.fromkeys([*PARTS, REST], 0.0)
        for event in found.key_averages():
            seconds[part_of(event.key)] += event.self_cpu_time_total / 1e6
        seconds[OUTSIDE] = max(0.0, total - sum(seconds.values()))
        return {"parts": {name: value / sum(seconds.values()) for name, value in seconds.items()}}

    return Side(trial)


def part_of(operation: str) -> str:
    """Return the part an operation of PyTorch belongs to."""
    return next((part for part, words in PARTS.items() if any(word in operation.lower() for word in words)), REST)


def table(rows: dict[str, dict[str, float]]) -> str:
    """Return a Markdown table of shares."""
    columns = [*PARTS, REST, OUTSIDE]
    lines = ["| row | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, parts in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{parts[column]:.0%}" for column in columns) + " |")
    return "\n".join(lines)


def main(
    *,
    rows: tuple[str, ...] = tuple(name for name in ROWS if name != "encode_of_peak"),
    card: str = "banking77",
    data_root: Path | None = None,
    quick: bool = False,
) -> None:
    """Profile rows.

    Args:
        rows: which ones.
        card: data card of the texts.
        data_root: folder in which data cards find their data.
        quick: a few texts only; keep nothing.
    """
    from material import load_material
    from report import header, put_table

    material = load_material(card, data_root, quick=quick)
    shares: dict[str, Any] = {}
    for name in rows:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            ROWS[name].prepare(folder, material)
            (folder / "row.json").write_text(json.dumps(name), "utf-8")
            with started(profiled, folder) as ask:
                ask("ready")
                ask("trial")  # the profiler warms up
                shares[name] = ask("trial")["parts"]
        print(name, file=sys.stderr, flush=True)
    if not quick:
        RESULTS.parent.mkdir(exist_ok=True)
        facts = header("python recipes/benchmarks/parts.py") | {"rows": shares}
        RESULTS.write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
        put_table(RESULTS.parents[1] / "README.md", table(shares), "parts.py")
    print(table(shares))


if __name__ == "__main__":
    if sys.argv[1:2] == [profiled.__name__]:
        serve(globals())
    else:
        import tyro

        tyro.cli(main)
