"""F1 averaged over classes; works without a network, unlike `evaluate.load("f1")`."""

import datasets
import evaluate
import numpy as np

from fewtext.metrics.scores import macro_f1


class MacroF1(evaluate.Metric):
    """`compute(predictions, references)` → `macro_f1`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="F1 averaged over the classes of the references, each counting the same.",
            citation="",
            inputs_description="predictions, references: class numbers.",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"macro_f1": macro_f1(np.asarray(predictions), np.asarray(references))}
