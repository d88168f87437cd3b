"""Joint training: with one source it is plain training, with several each source counts as it is told to."""

import pytest
import torch
from torch.nn import functional as F

from fewtext import Collator, Encoder, EpisodeSampler, EpisodeSpec, LabeledTexts, Lora, TrainConfig, meta_train
from fewtext.artifact import Artifact
from fewtext.errors import LearnerError
from fewtext.learners.multitask import Multitask, MultitaskConfig

SPEC = EpisodeSpec(ways=4, shots=1, queries=2)


@pytest.fixture
def two(toy):
    """The toy's classes in two sources."""
    halves = []
    for name, kept in (("left", range(3)), ("right", range(3, 8))):
        rows = [row for row, label in enumerate(toy.labels) if label in kept]
        halves.append(
            LabeledTexts.of([toy.texts[r] for r in rows], [toy.classes[toy.labels[r]] for r in rows], name=name)
        )
    return halves


def learner_on(folder, **settings):
    return Multitask(Encoder.from_pretrained(folder, lora=Lora(rank=2)), MultitaskConfig(**settings))


def texts_of(episodes, toy):
    rows = [row for episode in episodes for row in (*episode.support, *episode.query)]
    return [toy.texts[row] for row in rows], torch.tensor([int(toy.labels[row]) for row in rows])


def test_with_one_source_it_is_plain_training(tiny_folder, toy):
    episodes = EpisodeSampler(toy, SPEC, seed=3)
    config = TrainConfig(steps=5, meta_batch=2, lr=5e-3, warmup=0.0, clip=1e9)
    learner, plain = learner_on(tiny_folder), learner_on(tiny_folder)
    meta_train(learner, episodes, config, progress=False)
    plain.begin([8])
    own = [weight for weight in plain.encoder.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(
        [{"params": own, "lr": 5e-3}, {"params": [plain.log_scale, plain.heads], "lr": 1e-2, "weight_decay": 0.0}],
        weight_decay=0.01,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / 5)).item())
    )
    for step in range(5):
        texts, labels = texts_of([episodes[2 * step], episodes[2 * step + 1]], toy)
        tokens = Collator([toy], plain.encoder.tokenize).tokens([texts])
        vectors = F.normalize(plain.encoder(tokens)[0], dim=-1)
        logits = plain.log_scale.exp() * vectors @ F.normalize(plain.heads, dim=-1).T
        optimizer.zero_grad()
        F.cross_entropy(logits, labels).backward()
        optimizer.step()
        schedule.step()
    for (name, got), wanted in zip(learner.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5, msg=name)


def test_the_loss_is_the_weighted_sum_of_the_sources_losses(tiny_folder, two):
    spec = EpisodeSpec(ways=3, shots=1, queries=2)
    episodes = EpisodeSampler(two, spec, seed=0)
    numbers = [next(n for n in range(50) if episodes[n].source == source) for source in (0, 1)]
    learner = learner_on(tiny_folder, source_weights=(0.25, 3.0))
    learner.begin([3, 5])
    collator = Collator(two, learner.encoder.tokenize)
    each = []
    for source, number in enumerate(numbers):
        episode = episodes[number]
        rows = [*episode.support, *episode.query]
        tokens = collator.tokens([[two[source].texts[row] for row in rows]])
        heads = learner.heads.split([3, 5])[source]
        vectors = F.normalize(learner.encoder(tokens)[0], dim=-1)
        logits = learner.log_scale.exp() * vectors @ F.normalize(heads, dim=-1).T
        each.append(F.cross_entropy(logits, torch.from_numpy(two[source].labels[rows])))
    loss = learner(collator([episodes[number] for number in numbers])).loss
    torch.testing.assert_close(loss, (0.25 * each[0] + 3.0 * each[1]) / 2)


def test_the_heads_are_of_use_in_training_only(tiny_folder, toy, tmp_path):
    learner = learner_on(tiny_folder)
    meta_train(learner, EpisodeSampler(toy, SPEC), TrainConfig(steps=2, meta_batch=1), progress=False)
    Artifact("learner", learner).save_pretrained(tmp_path / "saved")
    again = Artifact.from_pretrained(tmp_path / "saved").learner
    batch = Collator([toy], learner.encoder.tokenize)([EpisodeSampler(toy, SPEC)[7]])
    with torch.no_grad():
        one, other = (own.predict(own.adapt(batch.support), batch.query.tokens) for own in (learner, again))
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert not hasattr(again, "heads")


def test_one_weight_per_source_is_needed(tiny_folder):
    with pytest.raises(LearnerError, match="2 for 3 sources"):
        learner_on(tiny_folder, source_weights=(1.0, 2.0)).begin([4, 5, 6])


def test_training_without_begin_says_so(tiny_folder, toy):
    learner = learner_on(tiny_folder)
    batch = Collator([toy], learner.encoder.tokenize)([EpisodeSampler(toy, SPEC)[0]])
    with pytest.raises(LearnerError, match="begin"):
        learner(batch)
