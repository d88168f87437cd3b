"""Expected calibration error: how far probabilities are from being right that often."""

import datasets
import evaluate
import numpy as np

from fewtext.metrics.scores import calibration_error


class CalibrationError(evaluate.Metric):
    """`compute(predictions, references)` with probabilities `[n, N]` as predictions → `calibration_error`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Expected calibration error over 15 bins of equal width.",
            citation="Guo et al. 2017, https://arxiv.org/abs/1706.04599",
            inputs_description="predictions: a probability per class. references: class numbers.",
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float64")),
                    "references": datasets.Value("int64"),
                }
            ),
        )

    def _compute(self, predictions: list[list[float]], references: list[int]) -> dict[str, float]:
        return {"calibration_error": calibration_error(np.asarray(predictions), np.asarray(references))}
