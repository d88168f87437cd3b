"""Keep measured rows in `speed.json`, and the table in README.md up to date with it."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from fewtext.results import write_results

ROWS = (
    "encode_fp32",
    "encode_bf16",
    "encode_of_peak",
    "first_answer",
    "single_text_p95",
    "inner_loop",
    "inner_loop_upper_half",
    "prototypical_step",
    "fit_plain",
    "fit_refined",
    "edit",
    "predict_77",
    "predict_10000",
)
PEERS = ("sentence-transformers", "setfit")
EXTRAS = {  # what else a row says, and how
    "cosine_min": "smallest cosine {:.6f}",
    "accuracy": "accuracy {:.1%}",
    "peer_accuracy": "peer's {:.1%}",
    "gradient_difference": "gradients differ by {:.1e}",
    "p50_ms": "p50 {:.1f} ms",
    "peer_p50_ms": "peer's {:.1f} ms",
    "peak_mb": "memory {:,.0f} MB",
    "peer_peak_mb": "peer's {:,.0f} MB",
}


def keep(file: Path, measured: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put rows into the file, in place of older ones of the same name; returns all rows.

    Rows of another machine or of other versions are dropped: one table holds what can be compared.
    """
    now = header("make bench")
    commit = {"commit": now.pop("commit")} if "commit" in now else {}  # of each row, as rows are measured one by one
    old = json.loads(file.read_text("utf-8")) if file.is_file() else now | {"rows": []}
    if any(old[key] != now[key] for key in ("machine", "versions")):
        print("another machine or other versions: the rows before are dropped", file=sys.stderr)
        old = now | {"rows": []}
    rows = {row["name"]: row for row in [*old["rows"], *(row | commit for row in measured)]}
    kept = [rows[name] for name in ROWS if name in rows]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(now | {"rows": kept}, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return kept


def header(command: str) -> dict[str, Any]:
    """Return what every result file says about commit, machine and versions, the peers' among them."""
    with tempfile.TemporaryDirectory() as place:
        found = json.loads(write_results(Path(place) / "results.json", [], command).read_text("utf-8"))
    found["versions"] |= {name: _version(name) for name in PEERS}
    return found


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as a Markdown table; in every ratio, larger is better."""
    lines = ["| row | fewtext | peer | ratio (range) | target | |", "|---|---|---|---|---|---|"]
    for row in rows:
        extras = "; ".join(text.format(row[key]) for key, text in EXTRAS.items() if key in row)
        low, high = row["ratio_range"]
        cells = [
            f"{row['value']:.4g} {row['unit']}",
            f"{row['peer_value']:.4g}, {row['peer']}",
            f"{row['ratio']:.2f} ({low:.2f}–{high:.2f})",
            f"{row['target']:.2f}",
            extras,
        ]
        lines.append("| " + " | ".join([row["name"], *cells]) + " |")
    return "\n".join(lines)


def put_table(readme: Path, text: str, script: str) -> None:
    """Replace what stands between the marks of a script in the README."""
    begin, end = (f"<!-- {word}: made by {script} -->" for word in ("begin", "end"))
    before, _, rest = readme.read_text("utf-8").partition(begin)
    _, _, after = rest.partition(end)
    readme.write_text(f"{before}{begin}\n{text}\n{end}{after}", "utf-8")


def read(runs: Path) -> list[dict[str, Any]]:
    """Return the runs that a benchmark has kept, one in each line."""
    return [json.loads(line) for line in runs.read_text("utf-8").splitlines()] if runs.is_file() else []
