"""Meta-testing: accuracy on episodes of unseen classes, always beside the frozen encoder on the same episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from accelerate import Accelerator

from fewtext.data.collate import Collator
from fewtext.data.sampler import Episode, EpisodeSampler, EpisodeSpec, format_count
from fewtext.data.texts import LabeledTexts
from fewtext.learners.base import MetaLearner
from fewtext.metrics.scores import mean_ci
from fewtext.nn.encoder import Encoder
from fewtext.results import Row
from fewtext.scoring import NAMES, PROTOTYPES, REGRESSION, TRANSDUCTIVE, Scores, score_heads, score_learner


def meta_test(
    learner: MetaLearner,
    texts: LabeledTexts | Sequence[LabeledTexts],
    spec: EpisodeSpec | None = None,
    *,
    frozen: Encoder,
    episodes: int | Sequence[Episode] = 600,
    seed: int = 0,
    all_way: int = 10,
    accelerator: Accelerator | None = None,
    progress: bool = True,
) -> list[Row]:
    """Measure a learner on fixed episodes of unseen classes.

    Args:
        learner: what to measure.
        texts: texts of classes not seen in meta-training.
        spec: what an episode consists of; 5-way 1-shot with 5 queries per class by default.
        frozen: the encoder as it was before meta-training.
        episodes: how many, or episodes read from a file.
        seed: of the episodes.
        all_way: further episodes with all classes at once; 0 for none.
        accelerator: shares the learner's episodes among processes.
        progress: show progress bars.

    Returns:
        Accuracy and macro-F1 of the learner (and, as "transductive", after it has seen all queries of an episode,
        where it can learn from them), of logistic regression on the learner's encoder, and of the frozen encoder's
        prototypes and logistic regression, each with and without class names; then the paired differences to the
        frozen encoder, in points. Each with its 95 % confidence interval.

    Raises:
        EpisodeError: the texts cannot supply such episodes.
    """
    sampler = EpisodeSampler(texts, spec or EpisodeSpec(shots=1, queries=5), seed=seed)
    chosen = [sampler[number] for number in range(episodes)] if isinstance(episodes, int) else list(episodes)
    place = "+".join(source.name for source in sampler.sources)
    ways, shots = format_count(sampler.spec.ways), format_count(sampler.spec.shots)
    rows = _rows(learner, frozen, sampler, chosen, f"{place}/{ways}-way-{shots}-shot", accelerator, progress)
    if all_way and ways != "all":
        wide = EpisodeSampler(texts, replace(sampler.spec, ways="all"), seed=seed)
        chosen = [wide[number] for number in range(all_way)]
        ways = f"{len(chosen[0].classes)}-way (all)" if len(wide.sources) == 1 else "all-way"
        rows += _rows(learner, frozen, wide, chosen, f"{place}/{ways}-{shots}-shot", accelerator, progress)
    return rows


def _rows(
    learner: MetaLearner,
    frozen: Encoder,
    sampler: EpisodeSampler,
    episodes: Sequence[Episode],
    place: str,
    accelerator: Accelerator | None,
    progress: bool,
) -> list[Row]:
    """Return the result rows of one set of episodes."""
    own: dict[str, Scores] = {}
    collator = Collator(sampler.sources, learner.encoder.tokenize)
    with learner.encoder.remembering():  # over both runs, so that no text is encoded twice
        for kind, suffix in product(("", TRANSDUCTIVE) if learner.transductive else ("",), ("", NAMES)):
            name = learner.name + kind + suffix
            if suffix or all(len(episode.support) for episode in episodes):
                own[name] = score_learner(
                    learner,
                    episodes,
                    collator,
                    names=bool(suffix),
                    transductive=bool(kind),
                    accelerator=accelerator,
                    progress=name if progress else None,
                )
    for name, scores in score_heads(learner.encoder, episodes, sampler.sources, progress=progress).items():
        if name.startswith(REGRESSION):
            own[f"{learner.name}, {name}"] = scores
    heads = score_heads(frozen, episodes, sampler.sources, progress=progress)
    peers = {f"frozen {name}": scores for name, scores in heads.items()}
    rows = []
    for unit, pick in (("accuracy", lambda scores: scores.accuracy), ("macro-F1", lambda scores: scores.macro_f1)):
        for name, scores in (own | peers).items():
            mean, half = mean_ci(pick(scores))
            rows.append(Row(f"{place}/{name}", mean, unit, half, len(episodes)))
    for name, scores in own.items():
        suffix = NAMES if name.endswith(NAMES) else ""
        alike = (REGRESSION,) if REGRESSION in name else (PROTOTYPES, REGRESSION)
        for peer in (f"frozen {head}{suffix}" for head in alike):
            mean, half = mean_ci(100 * (scores.accuracy - peers[peer].accuracy))
            rows.append(Row(f"{place}/{name} − {peer}", mean, "points", half, len(episodes)))
    return rows
