"""What a GPU does: texts encoded and meta-steps taken per second, and how many tasks fit into its memory.

    python recipes/benchmarks/gpu.py --data-root data --out gpu.json

Each row is a process of its own, so the memory of one is no matter to the next. Times are seconds on the wall, the
device synchronised. Without a GPU the file says "not measured". `--device cpu` takes the same steps on the processor,
to see that they can be taken.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import episodes
import inner_loop
from harness import Facts, Side, serve, started

HERE = Path(__file__).parent
VARIANTS: dict[str, Facts] = {
    "fp32": {"bf16": False, "compile": False},
    "bf16": {"bf16": True, "compile": False},
    "bf16, torch.compile": {"bf16": True, "compile": True},
}
TASKS_ON_CPU = 8  # a processor's memory is not to be filled


def encoding(folder: Path) -> Side:
    """Encode texts."""
    from fewtext import Encoder

    given = _given(folder)
    encoder = Encoder.from_pretrained(given["base"], bf16=given["bf16"]).to(given["device"])
    if given["compile"]:
        compile_model(encoder.backbone)

    def trial() -> Facts:
        encoder.encode(given["texts"])
        return {"amount": len(given["texts"])}

    trial()
    return Side(trial)


def fomaml(folder: Path) -> Side:
    """Take meta-steps of first-order MAML, 4 tasks each."""
    return _meta_steps(folder, inner_loop.fomaml)


def prototypical(folder: Path) -> Side:
    """Take meta-steps of prototypical networks, 4 tasks each."""
    return _meta_steps(folder, _prototypical)


def tasks_that_fit(folder: Path) -> Side:
    """Double the tasks of one backward pass of first-order MAML until memory ends."""
    import torch

    given = _given(folder)
    step = _meta_step(given, inner_loop.fomaml)

    def trial() -> Facts:
        fits, number = 0, episodes.TASKS
        try:
            while given["device"] != "cpu" or number <= TASKS_ON_CPU:
                step(number)
                fits, number = number, 2 * number
        except torch.cuda.OutOfMemoryError:
            pass
        return {"amount": fits, "wall_s": 1.0}

    return Side(trial)


def _prototypical(inputs: Facts, start: dict[str, Any], *, bf16: bool) -> Any:
    from fewtext import Prototypical

    return Prototypical(episodes.fewtext_encoder(inputs, start, bf16=bf16))


def _meta_steps(folder: Path, build: Callable[..., Any]) -> Side:
    step = _meta_step(_given(folder), build)

    def trial() -> Facts:
        step(episodes.TASKS)
        return {"amount": 1}

    trial()
    return Side(trial)


def _meta_step(given: Facts, build: Callable[..., Any]) -> Callable[[int], None]:
    """Return what takes a meta-step of so many tasks."""
    import torch

    inputs, start = episodes.read(Path(given["episodes"]))
    learner = build(inputs, start, bf16=given["bf16"]).to(given["device"])
    if given["compile"]:
        compile_model(learner.encoder.backbone)
    tasks = [task for batch in inputs["batches"] for task in batch]

    def step(number: int) -> None:
        (batch,) = episodes.fewtext_batches({"batches": [list(islice(cycle(tasks), number))]}, names=True)
        learner.zero_grad()
        learner(batch.to(given["device"])).loss.backward()
        if given["device"] != "cpu":
            torch.cuda.synchronize()

    return step


def compile_model(backbone: Any) -> None:
    """Compile the forward pass of this kind of model, so that copies made of it for bf16 are compiled as well."""
    import torch
    from transformers import PreTrainedModel

    kind: Any = next(type(module) for module in backbone.modules() if isinstance(module, PreTrainedModel))
    kind.forward = torch.compile(kind.forward, dynamic=True)


def _given(folder: Path) -> Facts:
    return json.loads((folder / "gpu.json").read_text("utf-8"))


def measure(material: Any, device: str, folder: Path) -> list[Facts]:
    """Return the rows; one that fails says why."""
    episodes.prepare(folder, material, targets=inner_loop.ATTENTION)
    shared = {"base": str(material.base), "texts": material.train.texts, "device": device, "episodes": str(folder)}
    rows = []
    for side, unit in ((encoding, "texts/s"), (fomaml, "meta-steps/s"), (prototypical, "meta-steps/s")):
        rows += [_row(side, name, unit, shared | variant, folder) for name, variant in VARIANTS.items()]
    return [*rows, _row(tasks_that_fit, "bf16", "tasks", shared | VARIANTS["bf16"], folder)]


def _row(side: Callable[[Path], Side], variant: str, unit: str, given: Facts, folder: Path) -> Facts:
    row: Facts = {"name": f"{side.__name__}/{variant}", "unit": unit}
    (folder / "gpu.json").write_text(json.dumps(given), "utf-8")
    try:
        with started(side, folder) as ask:
            ask("ready")
            trials = [ask("trial") for _ in range(1 if unit == "tasks" else 5)]
    except RuntimeError as error:  # torch.compile may not know a kernel, and the other rows are worth having
        row["note"] = next(line for line in reversed(str(error).splitlines()) if "rror" in line or "failed" in line)
    else:
        row["value"] = median(trial["amount"] / trial["wall_s"] for trial in trials)
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def main(
    *,
    card: str = "banking77",
    data_root: Path | None = None,
    device: str = "cuda",
    quick: bool = False,
    out: Path = HERE / "results" / "gpu.json",
) -> None:
    """Measure on a GPU, if there is one.

    Args:
        card: data card of the texts.
        data_root: folder in which data cards find their data.
        device: where to run.
        quick: a few texts only.
        out: file of the results.
    """
    import torch
    from material import load_material
    from report import header

    facts: Facts = header("python recipes/benchmarks/gpu.py") | {"device": "none", "note": "not measured", "rows": []}
    if device == "cpu" or torch.cuda.is_available():
        facts["device"] = "cpu" if device == "cpu" else torch.cuda.get_device_name(device)
        with tempfile.TemporaryDirectory() as folder:
            facts["rows"] = measure(load_material(card, data_root, quick=quick), device, Path(folder))
        del facts["note"]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    print(out.read_text("utf-8"))


if __name__ == "__main__":
    if len(sys.argv) == 3 and not sys.argv[1].startswith("-"):  # a side
        serve(globals())
    else:
        import tyro

        tyro.cli(main)
