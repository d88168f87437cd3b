"""The whole road on the embedded corpus, in two to three minutes on two cores and without a model hub.

    python recipes/demo.py

Meta-trains prototypes + LoRA on some services' intents, meta-tests on services never seen, adapts a classifier to
them from 5 texts a class, saves and reloads it, and classifies a few sentences. Everything lands in `demo/`.
"""

from __future__ import annotations

import logging
from pathlib import Path

import datasets
import numpy as np
import tyro
from transformers.utils.logging import disable_progress_bar

from fewtext import EpisodeSampler, EpisodeSpec, FewShotClassifier, Row, write_results
from fewtext.jobs.options import Data, Episodes
from fewtext.jobs.test import Test, test
from fewtext.jobs.train import Train, train
from fewtext.learners.prototypical import PrototypicalConfig
from fewtext.metrics.scores import accuracy
from fewtext.plots import draw_accuracy
from fewtext.results import table
from fewtext.run import TrainConfig

OUT = Path("demo")
SENTENCES = [
    "three weeks and my letterbox is still empty",
    "the cash machine swallowed it and gave me nothing",
    "could we push my check-up to next Thursday?",
    "it's freezing in here",
]


def main(*, steps: int = 60, episodes: int = 300) -> None:
    """Run the demo with so many meta-steps and test episodes."""
    data = Data(card=("everyday",))
    parts = {part: texts[0] for part, texts in data.parts().items()}
    print(
        f"{len(parts['train'].classes)} intents to learn from, {len(parts['test'].classes)} others to be tested on."
    )
    print("\n1. Meta-training")
    options = Train(
        data=data,
        episodes=Episodes(ways="12", shots="1", queries="3"),
        loop=TrainConfig(steps=steps, validate_every=15),
        out=OUT / "base",
        resume=True,
    )
    train("prototypical", PrototypicalConfig(), options)

    print("\n2. Meta-testing on unseen intents, beside the untrained encoder")
    rows = test(Test(str(OUT / "base"), data=data, number=episodes, out=OUT / "base"))
    print(table(row for row in rows if row.unit != "macro-F1"))

    print("\n3. Adapting: 5 texts for each unseen intent")
    episode = EpisodeSampler(parts["test"], EpisodeSpec(ways="all", shots=5, queries="all"), seed=0)[0]
    texts, labels = np.array(parts["test"].texts), np.array(parts["test"].classes)[parts["test"].labels]
    support, query = episode.support, episode.query
    scores = {}
    for name, base in (("untrained", None), ("meta-trained", OUT / "base")):
        classifier = FewShotClassifier(base).fit(texts[support], labels[support])
        scores[name] = accuracy(classifier.predict(texts[query]), labels[query])
    untrained, trained = scores.values()
    name = f"{parts['test'].name}/{len(episode.classes)} classes, 5-shot classifier"
    rows.append(Row(name, trained, "accuracy", None, len(query), "untrained base", untrained, trained / untrained))
    print(table(rows[-1:]))

    print("\n4. Saving, reloading, classifying")
    folder = classifier.save_pretrained(OUT / "classifier")
    reloaded = FewShotClassifier.from_pretrained(folder)
    probabilities = reloaded.predict_proba(SENTENCES)
    assert np.allclose(probabilities, classifier.predict_proba(SENTENCES), atol=1e-6)
    for sentence, best in zip(SENTENCES, probabilities, strict=True):
        print(f"  {best.max():.2f}  {reloaded.classes_[best.argmax()]:<22} {sentence}")

    write_results(OUT / "results.json", rows, command="make demo")
    draw_accuracy(rows, OUT / "accuracy.png")
    print(f"\nResults: {OUT}/results.json, {OUT}/accuracy.png; classifier: {folder}; learner: {OUT}/base")


if __name__ == "__main__":
    datasets.disable_progress_bars()
    disable_progress_bar()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("fewtext").setLevel(logging.INFO)
    tyro.cli(main)
