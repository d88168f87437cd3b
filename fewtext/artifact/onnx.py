"""A saved classifier as ONNX, for browsers and other languages; needs the `onnx` extra.

The files are where transformers.js looks for them. They take what the tokenizer beside `config.json` makes of texts,
which also cuts long ones: the graph does not.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer

from fewtext.artifact.layout import LAYOUT
from fewtext.artifact.verify import CANARIES, TOLERANCE, check_files
from fewtext.errors import ArtifactError
from fewtext.files import read_json, sha256, whole_or_absent, write_json
from fewtext.nn.sequence_classifier import FewtextForSequenceClassification

FLOAT32, INT8 = "model.onnx", "model_quantized.onnx"
INPUTS, AXES = ["input_ids", "attention_mask"], {0: "batch", 1: "length"}
OPSET = 17  # the first with layer norms; what came later makes nothing faster, and older runtimes lack it
MOST_BYTES = 2**31  # of one file, by protobuf
BATCH = 32


def export_onnx(folder: Path, *, int8: bool = False) -> list[Path]:
    """Write a merged classifier as ONNX into its folder, and check that it answers as before; returns the files.

    Args:
        folder: of the classifier; its manifest will list the files.
        int8: write a second, smaller file with rounded weights; what that costs, `onnx_labels` helps to find out.

    Raises:
        ArtifactError: not a merged classifier, damaged, too large, other answers, or the extra is missing.
    """
    _packages()
    if not (folder / LAYOUT.weights_index).is_file():
        raise ArtifactError(
            f"{folder.name}: no classifier that can be exported. Save one with style='merged' and a linear head."
        )
    check_files(folder)
    model: Any = FewtextForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    if (size := sum(4 * weight.numel() for weight in model.parameters())) >= MOST_BYTES:
        raise ArtifactError(f"{folder.name}: {size / 2**30:.1f} GiB of weights; one ONNX file holds less than 2.")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    plain, rounded = (folder / LAYOUT.onnx / name for name in (FLOAT32, INT8))
    plain.parent.mkdir(exist_ok=True)
    with whole_or_absent(plain) as staging:
        _trace(model.eval(), tokenizer, staging)
        _check(model, tokenizer, staging, folder.name)
    if int8:
        with whole_or_absent(rounded) as staging:
            _quantise(plain, staging)
    paths = [plain, rounded] if int8 else [plain]
    signed = {path.relative_to(folder).as_posix(): sha256(path) for path in paths}
    write_json(folder / LAYOUT.manifest, read_json(folder / LAYOUT.manifest) | signed)
    return paths


def onnx_labels(folder: Path, texts: Sequence[str], *, int8: bool = False) -> np.ndarray:
    """Return the class numbers `[n]` that an exported file gives for texts; arguments as those of `onnx_logits`."""
    return onnx_logits(folder, texts, int8=int8).argmax(axis=1)


def onnx_logits(folder: Path, texts: Sequence[str], *, int8: bool = False) -> np.ndarray:
    """Return the logits `[n, N]` that an exported file gives for texts.

    Args:
        folder: of the classifier.
        texts: any number.
        int8: ask the file with rounded weights.

    Raises:
        ArtifactError: no such file, or the extra is missing.
    """
    path = folder / LAYOUT.onnx / (INT8 if int8 else FLOAT32)
    if not path.is_file():
        raise ArtifactError(f"{folder.name}: {LAYOUT.onnx}/{path.name} is missing. Export it first.")
    session = _session(path, torch.get_num_threads())
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    logits = np.zeros((len(texts), session.get_outputs()[0].shape[1]), np.float32)
    order = np.argsort([len(text) for text in texts], kind="stable")
    for start in range(0, len(texts), BATCH):
        rows = order[start : start + BATCH]
        (logits[rows],) = session.run(None, _inputs(tokenizer, [texts[int(row)] for row in rows]))
    return logits


def _packages() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise ArtifactError("ONNX needs packages of its own. Run `pip install 'fewtext[onnx]'`.") from error
    return onnx, onnxruntime


def _trace(model: Any, tokenizer: Any, path: Path) -> None:
    """Write the file with PyTorch's older exporter: the newer takes ten times as long, and leaves local paths."""
    example = _inputs(tokenizer, CANARIES[:2])
    with warnings.catch_warnings():  # of what tracing may get wrong: `_check` finds whether it did
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # pyright: ignore[reportPrivateImportUsage]
        warnings.filterwarnings("ignore", "Exporting aten::index|To copy construct from a tensor", UserWarning)
        warnings.simplefilter("ignore", DeprecationWarning)  # that it is the older exporter
        torch.onnx.export(
            model,
            tuple(torch.from_numpy(example[name]) for name in INPUTS),
            path,
            input_names=INPUTS,
            output_names=["logits"],
            dynamic_axes={**dict.fromkeys(INPUTS, AXES), "logits": {0: AXES[0]}},
            opset_version=OPSET,
            dynamo=False,
        )


def _check(model: Any, tokenizer: Any, path: Path, name: str) -> None:
    """Raise where the file's logits are not the model's: each text alone, all in one batch, and a long one."""
    session = _session(path, threads=1)
    for texts in (*([text] for text in CANARIES), CANARIES, [" ".join(CANARIES * 4)]):
        inputs = _inputs(tokenizer, texts)
        with torch.no_grad():
            expected = model(**{key: torch.from_numpy(value) for key, value in inputs.items()}).logits.numpy()
        difference = np.abs(session.run(None, inputs)[0] - expected).max() / max(1, np.abs(expected).max())
        if not difference <= TOLERANCE:
            raise ArtifactError(
                f"{name}: as ONNX it answers differently (by {difference:.1e} of the largest logit, "
                f"{TOLERANCE:.0e} is allowed), so it was not written. PyTorch cannot export this kind of encoder."
            )


def _quantise(source: Path, path: Path) -> None:
    """Write a file with int8 weights, scaled per channel: one scale per matrix is less than half as exact."""
    onnx, _ = _packages()
    from onnxruntime.quantization import quantize_dynamic

    graph, root, handler = onnx.load(source), logging.getLogger(), logging.NullHandler()
    # Without this, advice to optimise the graph first is logged; that makes it neither smaller nor faster.
    onnx.helper.set_model_props(graph, {"onnx.quant.pre_process": "onnxruntime.quant"})
    root.addHandler(handler)  # to a root logger without any, onnxruntime's first line would add one that prints
    try:
        quantize_dynamic(graph, path, per_channel=True)
    finally:
        root.removeHandler(handler)


def _session(path: Path, threads: int) -> Any:
    _, onnxruntime = _packages()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _inputs(tokenizer: Any, texts: Sequence[str]) -> dict[str, np.ndarray]:
    tokens = tokenizer(list(texts), padding=True, truncation=True, return_tensors="np")
    return {name: tokens[name].astype(np.int64) for name in INPUTS}
