"""The report on the runs of learners.py: rows of results, and the leaderboard for the README."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from fewtext import Row
from fewtext.metrics.scores import mean_ci
from fewtext.scoring import NAMES, PROTOTYPES

Run: TypeAlias = dict[str, Any]

FROZEN = "frozen"
BESIDE = PROTOTYPES + NAMES  # the head of the frozen encoder that learners are compared with
COSTS = {"step_s": ("meta-step", "s"), "peak_mb": ("memory", "MB"), "own_parameters": ("own parameters", "numbers")}


def rows_of(runs: Sequence[Run]) -> list[Row]:
    """Return accuracy, the paired difference to the frozen encoder, and costs, of every learner on every set."""
    rows = []
    for place, scores in scores_by_place(runs).items():
        frozen = scores.get(f"{FROZEN} {BESIDE}")
        for name, own in scores.items():
            mean, half = mean_ci(own)
            rows.append(Row(f"{name}/{place}", mean, "accuracy", half, len(own)))
            if frozen is not None and not name.startswith(FROZEN):
                mean, half = mean_ci(100 * (own - frozen))
                rows.append(Row(f"{name}/{place} − {FROZEN} {BESIDE}", mean, "points", half, len(own)))
    for run in runs:
        place = f"{run['learner']}/{run['set']}"
        rows += [Row(f"{place}/{word}", run[key], unit) for key, (word, unit) in COSTS.items() if key in run]
        rows += [Row(f"{place}/{shots}-shot/adaptation", ms, "ms") for shots, ms in run.get("adapt_ms", {}).items()]
    return rows


def scores_by_place(runs: Sequence[Run]) -> dict[str, dict[str, np.ndarray]]:
    """Return accuracies of episodes by `<set>/<k>-shot` and by learner, frozen heads among them."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for run in runs:
        for shots, heads in run["accuracy"].items():
            for name, values in heads.items():
                own = f"{FROZEN} {name}" if run["learner"] == FROZEN else name
                found.setdefault(f"{run['set']}/{shots}-shot", {})[own] = np.array(values)
    return found


def text_of(runs: Sequence[Run]) -> str:
    """Return the leaderboard: a row for each learner, a column for each set and number of shots, then costs."""
    scores, costs = scores_by_place(runs), {run["learner"]: [] for run in runs}
    for run in runs:
        costs[run["learner"]].append(run)
    places = sorted(scores)
    names = {name for own in scores.values() for name in own}
    gain = {name: _mean_gain(name, scores) for name in names}
    lines = [
        f"| | {' | '.join(places)} | meta-step, s | adaptation, ms (1-/5-shot) | memory, MB |",
        "|---" * (4 + len(places)) + "|",
    ]
    for name in sorted(names, key=lambda name: (-gain[name], name)):
        cells = [_cell(name, scores[place]) for place in places]
        lines.append(f"| {name} | {' | '.join([*cells, *_costs(costs.get(name, []))])} |")
    return "\n".join(lines)


def _mean_gain(name: str, scores: dict[str, dict[str, np.ndarray]]) -> float:
    frozen = f"{FROZEN} {BESIDE}"
    gains = [own[name].mean() - own[frozen].mean() for own in scores.values() if name in own and frozen in own]
    return float(np.mean(gains)) if gains else float("-inf")


def _cell(name: str, scores: dict[str, np.ndarray]) -> str:
    if name not in scores:
        return ""
    mean, half = mean_ci(scores[name])
    text, frozen = f"{100 * mean:.1f} ± {100 * half:.1f}", scores.get(f"{FROZEN} {BESIDE}")
    if frozen is None or name.startswith(FROZEN):
        return text
    mean, half = mean_ci(100 * (scores[name] - frozen))
    better = "**" if mean > half else ""
    return f"{text} ({better}{mean:+.1f} ± {half:.1f}{better})"


def _costs(runs: Sequence[Run]) -> list[str]:
    if not runs or "step_s" not in runs[0]:
        return ["", "", ""]
    step, memory = (np.mean([run[key] for run in runs]) for key in ("step_s", "peak_mb"))
    one, five = (np.mean([run["adapt_ms"][shots] for run in runs]) for shots in ("1", "5"))
    return [f"{step:.2f}", f"{one:.0f}/{five:.0f}", f"{memory:,.0f}"]
