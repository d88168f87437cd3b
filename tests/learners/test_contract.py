"""What every registered learner promises; a new learner file is tested here without a change."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from fewtext import Artifact, Collator, EpisodeSampler, EpisodeSpec, FewShotClassifier
from fewtext.jobs.options import Data, Episodes
from fewtext.jobs.train import Train
from fewtext.learners import LEARNERS
from fewtext.run import TrainConfig
from fewtext.tensors import ABSENT, EpisodeBatch, Query, Support, TaskState, Tokens

TASKS = 3


@pytest.fixture(params=sorted(LEARNERS))
def learner(request, tiny_lora):
    torch.manual_seed(0)
    kind = LEARNERS[request.param]
    config = kind.Config()
    if hasattr(config, "inner_lr"):  # large steps on a random network would blow rounding up
        config = replace(config, inner_lr=0.001)
    learner = kind(tiny_lora, config)
    learner.begin([8])
    return learner


@pytest.fixture
def batch(toy, tiny):
    sampler = EpisodeSampler(toy, EpisodeSpec(ways=4, shots=2, queries=3), seed=0)
    return Collator([toy], tiny.tokenize)([sampler[n] for n in range(TASKS)])


def logits_of(learner, episodes: EpisodeBatch):
    with torch.no_grad():
        return learner.predict(learner.adapt(episodes.support), episodes.query.tokens)


def tokens_of(tokens: Tokens, keep) -> Tokens:
    """Reorder or drop rows: `keep(task)` gives the rows of each task, -1 for an absent one."""
    pieces = tokens.ids.split(tokens.lengths.reshape(-1).tolist())
    width = tokens.lengths.shape[1]
    chosen = [[(task, row) for row in keep(task)] for task in range(len(tokens.lengths))]
    ids = [pieces[task * width + row] for rows in chosen for task, row in rows if row >= 0]
    lengths = torch.tensor(
        [[0 if row < 0 else int(tokens.lengths[task, row]) for task, row in rows] for rows in chosen]
    )
    text_ids = torch.tensor(
        [[-1 if row < 0 else int(tokens.text_ids[task, row]) for task, row in rows] for rows in chosen]
    )
    return Tokens(torch.cat(ids), lengths, text_ids)


def one_task(episodes: EpisodeBatch, task: int) -> EpisodeBatch:
    def own(tokens):
        start = int(tokens.lengths[:task].sum())
        stop = start + int(tokens.lengths[task].sum())
        return Tokens(tokens.ids[start:stop], tokens.lengths[task : task + 1], tokens.text_ids[task : task + 1])

    support, query, *_ = episodes
    part = slice(task, task + 1)
    return EpisodeBatch(
        Support(own(support.tokens), support.labels[part], own(support.names), support.class_mask[part]),
        Query(own(query.tokens), query.labels[part]),
    )


def test_logits_have_a_row_per_query_and_a_column_per_class(learner, batch):
    assert logits_of(learner, batch).shape == (TASKS, 12, 4)


def test_every_state_tensor_starts_with_the_tasks(learner, batch):
    state: TaskState = learner.adapt(batch.support)
    assert state
    assert "weight" not in state  # by this name a classifier knows a linear head of its own
    assert {len(tensor) for tensor in state.values()} == {TASKS}
    assert {tensor.dtype for tensor in state.values()} <= {torch.float32, torch.bool}  # what an artifact may hold


def test_the_loss_is_finite_and_teaches_something(learner, batch):
    loss = learner(batch).loss
    assert loss.shape == ()
    assert loss.isfinite()
    loss.backward()
    gradients = [weight.grad for weight in learner.parameters() if weight.grad is not None]
    assert any(gradient.abs().sum() > 0 for gradient in gradients)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_tasks_do_not_see_each_other(learner, batch):
    together = logits_of(learner, batch)
    for task in range(TASKS):
        torch.testing.assert_close(logits_of(learner, one_task(batch, task))[0], together[task], atol=1e-4, rtol=1e-4)


def test_renumbering_the_classes_renumbers_the_answers(learner, batch):
    order = torch.tensor([2, 0, 3, 1])
    support, query, *_ = batch
    labels = torch.argsort(order)[support.labels]
    names = tokens_of(support.names, lambda task: order.tolist())
    renumbered = EpisodeBatch(Support(support.tokens, labels, names, support.class_mask), query)
    expected = logits_of(learner, batch)[:, :, order]
    torch.testing.assert_close(logits_of(learner, renumbered), expected, atol=1e-4, rtol=1e-4)


def test_the_order_of_the_support_and_absent_rows_do_not_matter(learner, batch):
    support, query, *_ = batch
    rows = [*reversed(range(support.labels.shape[1])), -1, -1]
    absent = torch.full((TASKS, 2), ABSENT)
    shuffled = Support(
        tokens_of(support.tokens, lambda task: rows),
        torch.cat([support.labels.flip(1), absent], dim=1),
        support.names,
        support.class_mask,
    )
    got = logits_of(learner, EpisodeBatch(shuffled, query))
    torch.testing.assert_close(got, logits_of(learner, batch), atol=1e-4, rtol=1e-4)


def test_a_class_that_is_not_there_is_never_the_answer(learner, batch):
    mask = batch.support.class_mask.clone()
    mask[:, 3] = False
    kept = batch.support.labels != 3
    support = batch.support._replace(class_mask=mask, labels=batch.support.labels.where(kept, ABSENT))
    assert (logits_of(learner, batch._replace(support=support)).argmax(-1) != 3).all()


def test_one_task_s_state_survives_a_file(learner, batch):
    with torch.no_grad():
        state = {name: tensor[:1].contiguous() for name, tensor in learner.adapt(batch.support).items()}
    query = one_task(batch, 0).query.tokens
    with torch.no_grad():
        expected, got = learner.predict(state, query), learner.predict(load(save(state)), query)
    torch.testing.assert_close(got, expected, atol=0, rtol=0)


def test_the_same_input_gives_the_same_answer(learner, batch):
    torch.testing.assert_close(logits_of(learner.train(), batch), logits_of(learner.train(), batch), atol=0, rtol=0)


def test_adapting_leaves_the_learner_as_it_was(learner, batch):
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    logits_of(learner, batch)
    for name, value in learner.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_it_serves_as_the_base_of_a_classifier_that_is_saved_and_loaded(learner, tmp_path):
    texts = ["where is my card", "card not arrived", "refund the money", "money back", "flight late", "cancel flight"]
    labels = ["card", "card", "refund", "refund", "flight", "flight"]
    Artifact("learner", learner).save_pretrained(tmp_path / "base")
    classifier = FewShotClassifier(tmp_path / "base", method="prototype").fit(texts, labels)
    expected = classifier.predict_proba(texts)
    assert expected.shape == (6, 3)
    own = FewShotClassifier(learner, method="prototype").fit(texts, labels).predict_proba(texts)
    np.testing.assert_allclose(own, expected, atol=1e-4)
    again = FewShotClassifier.from_pretrained(classifier.save_pretrained(tmp_path / "saved"))
    np.testing.assert_allclose(again.predict_proba(texts), expected, atol=1e-4)
    names = FewShotClassifier(learner, method="prototype", classes=["card", "flight"]).fit()
    assert set(names.predict(texts)) <= {"card", "flight"}


def test_its_settings_are_flags_beside_those_of_training(learner):
    others = {field.name for kind in (Train, Data, Episodes, TrainConfig) for field in fields(kind)}
    assert not others & {field.name for field in fields(learner.Config)}  # the command gives them no prefix
