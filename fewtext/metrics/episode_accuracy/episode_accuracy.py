"""Mean accuracy over episodes with its 95 % confidence interval.

Works as a class, as `evaluate.load("<this folder>")`, and as a Space; none of them needs a network here.
"""

import datasets
import evaluate
import numpy as np

from fewtext.metrics.scores import accuracy, mean_ci


class EpisodeAccuracy(evaluate.Metric):
    """`compute(predictions, references, episodes)` → `accuracy`, `ci95`, `episodes`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Accuracy per episode, averaged over episodes, with the half width of its 95 % interval.",
            citation="",
            inputs_description="predictions, references: class numbers. episodes: number of each query's episode.",
            features=datasets.Features(
                {
                    "predictions": datasets.Value("int64"),
                    "references": datasets.Value("int64"),
                    "episodes": datasets.Value("int64"),
                }
            ),
        )

    def _compute(self, predictions: list[int], references: list[int], episodes: list[int]) -> dict[str, float]:
        guesses, truth, which = map(np.asarray, (predictions, references, episodes))
        values = [accuracy(guesses[which == number], truth[which == number]) for number in np.unique(which)]
        mean, half_width = mean_ci(values)
        return {"accuracy": mean, "ci95": half_width, "episodes": len(values)}
