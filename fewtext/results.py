"""The one shape of every result file, and the table beside it."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

SHARES = ("accuracy", "macro-F1", "share")  # units shown in percent
PACKAGES = ("fewtext", "torch", "transformers", "peft", "accelerate", "datasets", "scikit-learn", "numpy")


@dataclass(frozen=True)
class Row:
    """One measured number.

    Attributes:
        name: what was measured, from general to special: `banking77/5-way-1-shot/prototypical`.
        value: the number.
        unit: its unit (`accuracy`, `points`, `s`, `texts/s`, …).
        ci95: half width of the 95 % confidence interval.
        n: how many episodes or runs the number averages.
        peer: what it is compared with.
        peer_value: the peer's number, measured in the same run.
        ratio: how many times better than the peer.
    """

    name: str
    value: float
    unit: str
    ci95: float | None = None
    n: int | None = None
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None

    def entries(self) -> dict[str, Any]:
        """Return the fields that apply."""
        present = {key: value for key, value in asdict(self).items() if value is not None}
        return {k: v for k, v in present.items() if not (isinstance(v, float) and math.isnan(v))}


def write_results(path: str | Path, rows: Sequence[Row], command: str | None = None) -> Path:
    """Write rows as JSON to `path` and as a table to the Markdown file beside it; returns the JSON's path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "command": command or " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit(),
        "machine": _machine(),
        "versions": versions(),
        "rows": [row.entries() for row in rows],
    }
    report = {key: value for key, value in report.items() if value is not None}
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
    path.with_suffix(".md").write_text(f"`{report['command']}`\n\n{table(rows)}\n", "utf-8")
    return path


def versions() -> dict[str, str]:
    """Return the versions of the packages that results depend on."""
    return {name: metadata.version(name) for name in PACKAGES} | {"python": platform.python_version()}


def table(rows: Iterable[Row]) -> str:
    """Return rows as Markdown tables that also read well in a terminal, one for each place they were measured in."""
    places: dict[str, list[Row]] = {}
    for row in rows:
        places.setdefault(row.name.rpartition("/")[0], []).append(row)
    return "\n\n".join(_table(place, measured) for place, measured in places.items())


def _table(place: str, rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        interval = _number(row, row.ci95)
        lines.append(
            {
                place: row.name.rpartition("/")[2],
                "value": _number(row, row.value) + (f" ± {interval.lstrip('+')}" if interval else ""),
                "unit": f"{row.unit}, %" if row.unit in SHARES else row.unit,
                "n": "" if row.n is None else str(row.n),
                "beside": "" if row.peer is None else f"{row.peer} {_number(row, row.peer_value)}".rstrip(),
                "ratio": "" if row.ratio is None else f"{row.ratio:.2f}x",
            }
        )
    columns = [key for key in lines[0] if any(line[key] for line in lines)]
    width = {key: max(len(key), *(len(line[key]) for line in lines)) for key in columns}
    head = "| " + " | ".join(key.ljust(width[key]) for key in columns) + " |"
    rule = "|" + "|".join("-" * (width[key] + 2) for key in columns) + "|"
    body = ["| " + " | ".join(line[key].ljust(width[key]) for key in columns) + " |" for line in lines]
    return "\n".join([head, rule, *body])


def _number(row: Row, value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    if row.unit in SHARES:
        return f"{100 * value:.1f}"
    if row.unit == "points":
        return f"{value:+.2f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _commit() -> str | None:
    here = Path(__file__).parent
    try:
        # Installed into the environment of another project, this file is not in that project's history.
        subprocess.run(["git", "ls-files", "--error-unmatch", __file__], cwd=here, capture_output=True, check=True)
        show = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        dirty = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None  # an installed package has no commit, only a version
    return show.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")


def hardware(device: Any = None) -> str:
    """Return the name of a GPU, given as a torch device, or else of this machine's processor."""
    if device is not None and device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def _machine() -> dict[str, Any]:
    return {"processor": hardware(), "cores": os.cpu_count(), "system": platform.system()}
