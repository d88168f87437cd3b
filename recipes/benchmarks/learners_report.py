"""The report on the runs of learners.py: rows of results, and the leaderboard for the README."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from fewtext import Row
from fewtext.metrics.scores import mean_ci
from fewtext.scoring import NAMES, PROTOTYPES, REGRESSION

Run: TypeAlias = dict[str, Any]

FROZEN = "frozen"
BESIDE = f"{FROZEN} {PROTOTYPES}{NAMES}"  # what learners are compared with
HARDEST = f"{FROZEN} {REGRESSION}{NAMES}"  # the head of the frozen encoder that is hardest to beat
CONTROL = "multitask"  # no learning to learn
MARKS = {HARDEST: "†", CONTROL: "‡"}
COSTS = {
    "step_s": ("meta-step", "s"),
    "best_step": ("kept step", "steps"),
    "peak_mb": ("memory", "MB"),
    "own_parameters": ("own parameters", "numbers"),
}


def rows_of(runs: Sequence[Run]) -> list[Row]:
    """Return accuracy, the paired difference to the frozen encoder, and costs, of every learner on every set."""
    rows = []
    for place, scores in scores_by_place(runs).items():
        for name, own in scores.items():
            mean, half = mean_ci(own)
            rows.append(Row(f"{name}/{place}", mean, "accuracy", half, len(own)))
            for other in (BESIDE, HARDEST, CONTROL):
                if (gain := _gain(name, other, scores)) is not None:
                    rows.append(Row(f"{name}/{place} − {other}", gain[0], "points", gain[1], len(own)))
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
        f"| | {' | '.join(places)} | meta-step, s | kept step | adaptation, ms (1-/5-shot) | memory, MB |",
        "|---" * (5 + len(places)) + "|",
    ]
    for name in sorted(names, key=lambda name: (-gain[name], name)):
        cells = [_cell(name, scores[place]) for place in places]
        lines.append(f"| {name} | {' | '.join([*cells, *_costs(costs.get(name, []))])} |")
    return "\n".join(lines)


def _mean_gain(name: str, scores: dict[str, dict[str, np.ndarray]]) -> float:
    gains = [own[name].mean() - own[BESIDE].mean() for own in scores.values() if name in own and BESIDE in own]
    return float(np.mean(gains)) if gains else float("-inf")


def _gain(name: str, other: str, scores: dict[str, np.ndarray]) -> tuple[float, float] | None:
    """Return the paired difference in points and its interval; None where one has not run, or both are controls."""
    if name not in scores or other not in scores or name == other or name.startswith(FROZEN):
        return None
    return mean_ci(100 * (scores[name] - scores[other]))


def _cell(name: str, scores: dict[str, np.ndarray]) -> str:
    if name not in scores:
        return ""
    mean, half = mean_ci(scores[name])
    text = f"{100 * mean:.1f} ± {100 * half:.1f}"
    if (gain := _gain(name, BESIDE, scores)) is None:
        return text
    better = "**" if gain[0] > gain[1] else ""
    against = {mark: _gain(name, other, scores) for other, mark in MARKS.items()}
    marks = "".join(mark for mark, own in against.items() if own is not None and own[0] > own[1])
    return f"{text} ({better}{gain[0]:+.1f} ± {gain[1]:.1f}{better}){marks}"


def _costs(runs: Sequence[Run]) -> list[str]:
    if not runs or "step_s" not in runs[0]:
        return [""] * 4
    step, memory = (np.mean([run[key] for run in runs]) for key in ("step_s", "peak_mb"))
    one, five = (np.mean([run["adapt_ms"][shots] for run in runs]) for shots in ("1", "5"))
    kept = "/".join(f"{run['best_step']}" for run in sorted(runs, key=lambda run: run["set"]))
    return [f"{step:.2f}", kept, f"{one:.0f}/{five:.0f}", f"{memory:,.0f}"]
