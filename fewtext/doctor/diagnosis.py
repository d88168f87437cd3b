"""Everything that was found, as plain data and for a terminal."""

from __future__ import annotations

import shutil
import textwrap
from dataclasses import dataclass

from fewtext.doctor.findings import Finding, Place
from fewtext.doctor.tokens import Estimate

NARROWEST, LABEL = 60, 32  # columns of a line, and most of a label


@dataclass(frozen=True)
class Diagnosis:
    """What was examined and found; `dataclasses.asdict` makes it plain data, `str` lines for a terminal.

    Attributes:
        name: of the data.
        texts: how many there are to learn from.
        classes: how many classes they have.
        others: texts that are held out or out of scope.
        findings: the worst first.
        estimate: what fitting would take; None without an encoder.
    """

    name: str
    texts: int
    classes: int
    others: int
    findings: tuple[Finding, ...]
    estimate: Estimate | None

    @property
    def errors(self) -> int:
        """How many of the findings are errors."""
        return sum(finding.severity == "error" for finding in self.findings)

    def __str__(self) -> str:
        width = max(NARROWEST, shutil.get_terminal_size().columns)
        others = f" and {self.others:,} held out or out of scope" if self.others else ""
        blocks = [[f"{self.name}: {self.texts:,} texts of {self.classes:,} classes{others}"]]
        blocks += [_finding(finding, width) for finding in self.findings]
        if not self.findings:
            blocks[0].append("Nothing is wrong with them.")
        if self.estimate is not None:
            blocks.append(_costs(self.estimate))
        return "\n\n".join("\n".join(block) for block in blocks)


def _finding(finding: Finding, width: int) -> list[str]:
    lines = [f"{finding.severity}: {finding.name}: {finding.count:,}", *_wrapped(finding.advice, width)]
    rest = finding.count - len(finding.examples)
    more = [f"and {rest:,} more"] if rest else []
    places = [place for example in finding.examples for place in example.places]
    if not places:
        return lines + _wrapped("; ".join([example.note for example in finding.examples] + more), width)
    where = max(len(_where(place)) for place in places)
    label = min(LABEL, max(len(place.label) for place in places))
    for number, example in enumerate(finding.examples, 1):
        mark = f"{number}."
        if example.note:
            lines += textwrap.wrap(example.note, width, initial_indent=f"  {mark:<4}", subsequent_indent=6 * " ")
            mark = ""
        for place in example.places:
            text = " ".join(place.text.split())
            line = f"  {mark:<4}{_where(place):<{where}}  {_cut(place.label, label):<{label}}  {text}"
            lines.append(_cut(line.rstrip(), width))
            mark = ""
    return lines + [f"  {line}" for line in more]


def _costs(costs: Estimate) -> list[str]:
    rows = {"fit": f"{_seconds(costs.fit)}, {costs.memory / 2**30:.1f} GiB"}
    if costs.refine is not None and costs.refine_memory is not None:
        rows["fit with refine=True"] = f"{_seconds(costs.refine)}, {costs.refine_memory / 2**30:.1f} GiB"
    rows["predict 1,000 texts"] = _seconds(costs.predict)
    return ["About, on this machine:", *(f"  {name:<22}{text}" for name, text in rows.items())]


def _where(place: Place) -> str:
    return f"{place.part} {place.row}".strip()


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="  ")


def _seconds(value: float) -> str:
    return f"{value / 60:.0f} min" if value >= 99 else f"{value:.2g} s"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
