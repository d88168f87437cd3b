"""What an encoder makes of the texts: what it does not read, what it does not know, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fewtext.doctor.findings import Finding, Sheet, found
from fewtext.nn.encoder import Encoder

KNOWN = 0.98  # share of known tokens below which an encoder is the wrong one for a text
# Of training, measured with all-MiniLM-L6-v2 on a CPU: the time of a token, in that of encoding one; the numbers held
# for a token, layer and hidden unit; and the bytes that it takes however little it trains.
STEP, HELD, ALWAYS = 3.5, 28, 300 * 2**20


@dataclass(frozen=True)
class Estimate:
    """What fitting to the supports would take on this machine, as far as encoding them tells.

    Attributes:
        fit: seconds of fitting.
        refine: seconds of fitting with `refine=True`; None where texts may have several labels.
        predict: seconds of classifying 1,000 texts of the same length.
        memory: bytes of main memory, of fitting and of classifying.
        refine_memory: the same with `refine=True`.
    """

    fit: float
    refine: float | None
    predict: float
    memory: int
    refine_memory: int | None


def examine_tokens(sheet: Sheet, encoder: Encoder, tokens: Sequence[Sequence[int]]) -> list[Finding]:
    """Return the texts that the encoder does not read in full, or that have words it does not know.

    Args:
        sheet: n texts.
        encoder: what would read them.
        tokens: of each, as `Encoder.tokenize` gives them.
    """
    report, unknown = encoder.report(sheet.texts), encoder.tokenizer.unk_token_id
    cut = [row for row, ids in enumerate(tokens) if len(ids) == encoder.max_length]
    cut.sort(key=lambda row: -len(sheet.texts[row]))
    long = [sheet.example([row], f"{len(sheet.texts[row]):,} characters") for row in cut]
    share = np.array([list(ids).count(unknown) / max(1, len(ids)) for ids in tokens])
    worst = [int(row) for row in np.argsort(-share, kind="stable") if share[row] > 1 - KNOWN]
    strange = [sheet.example([row], f"{share[row]:.0%} of its tokens") for row in worst]
    lost = (
        f"{report.limit:,} tokens are read, and the longest has {report.longest:,} or more: put first what decides."
    )
    known = (
        f"{report.unknown / max(1, report.tokens):.2%} of all tokens are unknown: mend the texts, or change the base."
    )
    return [
        *found("texts that are cut", "warning" if 20 * len(cut) > len(tokens) else "note", lost, long),
        *found("texts with unknown tokens", "note", known, strange),
    ]


def estimate(
    encoder: Encoder,
    texts: Sequence[int],
    names: Sequence[int],
    *,
    second: float,
    memory: int,
    steps: int,
    ways: int,
    shots: int,
) -> Estimate:
    """Return what fitting would take.

    Args:
        encoder: the base.
        texts: tokens of each of the supports.
        names: tokens of each class's name.
        second: seconds that encoding one token takes.
        memory: bytes that encoding takes, all included.
        steps: training steps of refining.
        ways: classes in one of them, with a name each.
        shots: texts of each of these.
    """
    config = encoder.backbone.config
    fit = second * (sum(texts) + sum(names))
    step = ways * (shots * float(np.mean(texts)) + float(np.mean(names)))
    held = 4 * HELD * step * config.hidden_size * config.num_hidden_layers
    predict = 1000 * second * float(np.mean(texts))
    return Estimate(fit, fit + STEP * second * step * steps, predict, memory, memory + ALWAYS + int(held))
