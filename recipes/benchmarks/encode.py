"""Encoding many texts: against sentence-transformers, and against the processor's own rate of bfloat16 products.

python recipes/benchmarks/speed.py --rows encode_fp32 encode_bf16 encode_of_peak
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness import Benchmark, Facts, Side, per_second, serve

DRAWS = 5  # of supports, for the accuracy at the end
WARM_UP = 64


def prepare(folder: Path, material: Any) -> None:
    """Write the texts, and which of them are the supports of each draw."""
    place = {text: row for row, text in enumerate(material.train.texts)}
    draws = [material.train.at_most(5, seed=seed) for seed in range(DRAWS)]
    material.write(folder, draws=[[place[text] for text in draw.texts] for draw in draws])


def ours_fp32(folder: Path) -> Side:
    """Fewtext in full precision, which is its default."""
    return _fewtext(folder, bf16=False)


def ours_bf16(folder: Path) -> Side:
    """Fewtext in bfloat16."""
    return _fewtext(folder, bf16=True)


def _fewtext(folder: Path, *, bf16: bool) -> Side:
    from fewtext import Encoder
    from fewtext.nn.matmul import fast_matmul

    inputs = json.loads((folder / "inputs.json").read_text("utf-8"))
    encoder = Encoder.from_pretrained(inputs["base"], bf16=bf16)

    def encode(texts: Sequence[str]) -> Any:
        with fast_matmul():
            return encoder.encode(texts)

    return _encoding(encode, inputs, folder / "ours.npz")


def sentence_transformers(folder: Path) -> Side:
    """The default of sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    inputs = json.loads((folder / "inputs.json").read_text("utf-8"))
    model = SentenceTransformer(inputs["base"], device="cpu")
    return _encoding(model.encode, inputs, folder / "peer.npz")


def _encoding(encode: Callable[[Sequence[str]], Any], inputs: Facts, file: Path) -> Side:
    texts, vectors = inputs["train"]["texts"], {}
    encode(texts[:WARM_UP])

    def trial() -> Facts:
        vectors["train"] = encode(texts)
        return {"amount": len(texts)}

    def finish() -> Facts:
        import numpy as np

        np.savez(file, train=vectors["train"], test=encode(inputs["test"]["texts"]))
        return {}

    return Side(trial, finish)


def compare(folder: Path) -> Facts:
    """Return how well the vectors agree, and the accuracy of logistic regression on either side's."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    inputs = json.loads((folder / "inputs.json").read_text("utf-8"))
    sides = [{part: _unit(values) for part, values in np.load(folder / f"{s}.npz").items()} for s in ("ours", "peer")]
    labels, truth = np.array(inputs["train"]["labels"]), np.array(inputs["test"]["labels"])
    accuracy = []
    for vectors in sides:
        heads = [
            LogisticRegression(C=100, max_iter=2000).fit(vectors["train"][d], labels[d]) for d in inputs["draws"]
        ]
        accuracy.append(float(np.mean([(head.predict(vectors["test"]) == truth).mean() for head in heads])))
    cosine = float((sides[0]["train"] * sides[1]["train"]).sum(axis=1).min())
    return {"cosine_min": cosine, "accuracy": accuracy[0], "peer_accuracy": accuracy[1]}


def _unit(vectors: Any) -> Any:
    import numpy as np

    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def bf16_flops(folder: Path) -> Side:
    """Fewtext in bfloat16, counted in the products that its tokens need."""
    from transformers import AutoConfig, AutoTokenizer

    inputs = json.loads((folder / "inputs.json").read_text("utf-8"))
    config, tokenizer = AutoConfig.from_pretrained(inputs["base"]), AutoTokenizer.from_pretrained(inputs["base"])
    wide, inner = config.hidden_size, config.intermediate_size
    lengths = [len(ids) for ids in tokenizer(inputs["train"]["texts"])["input_ids"]]
    linear = 2 * (4 * wide * wide + 2 * wide * inner)  # a token, a layer
    attention = 4 * wide  # a pair of tokens, a layer
    total = config.num_hidden_layers * sum(linear * length + attention * length**2 for length in lengths)
    side = _fewtext(folder, bf16=True)

    def trial() -> Facts:
        side.trial()
        return {"amount": total / 1e9}

    return Side(trial)


def bf16_peak(folder: Path) -> Side:
    """The best rate of bfloat16 products in the shapes of the encoder's linear layers."""
    import time

    import torch
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(json.loads((folder / "inputs.json").read_text("utf-8"))["base"])
    wide, inner = config.hidden_size, config.intermediate_size
    shapes = [(tokens, *pair) for tokens in (1024, 4096) for pair in ((wide, wide), (wide, inner), (inner, wide))]
    factors = [(torch.randn(n, k).bfloat16(), torch.randn(k, m).bfloat16()) for n, k, m in shapes]

    def trial() -> Facts:
        rates = []
        for (left, right), (n, k, m) in zip(factors * 5, shapes * 5, strict=True):
            start = time.process_time()
            for _ in range(10):
                torch.mm(left, right)
            rates.append(10 * 2 * n * k * m / 1e9 / (time.process_time() - start))
        return {"amount": max(rates), "cpu_s": 1.0}  # timed here, as not all shapes reach it

    trial()
    return Side(trial)


RATE: dict[str, Any] = {"prepare": prepare, "value": per_second, "more_is_better": True}
PEER: dict[str, Any] = {"peer": sentence_transformers, "against": "sentence-transformers", "unit": "texts/s"}
BENCHMARKS = (
    Benchmark("encode_fp32", ours=ours_fp32, target=2.0, compare=compare, **PEER, **RATE),
    Benchmark("encode_bf16", ours=ours_bf16, target=3.7, compare=compare, **PEER, **RATE),
    Benchmark(
        "encode_of_peak", bf16_flops, bf16_peak, against="torch.mm in bf16", unit="GFLOP/s", target=0.6, **RATE
    ),
)

if __name__ == "__main__":
    serve(globals())
