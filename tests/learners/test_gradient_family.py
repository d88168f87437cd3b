"""MAML, ANIL, Meta-SGD and Reptile: each meta-gradient against what defines it, in float64."""

from dataclasses import replace

import pytest
import torch
from test_gradient import embed, learner_on, pieces
from torch.nn import functional as F

from fewtext import Collator, EpisodeSampler, EpisodeSpec
from fewtext.errors import LearnerError
from fewtext.learners.gradient import ANIL, MAML, FirstOrderMAML, GradientConfig, MetaSGD
from fewtext.learners.reptile import Reptile, ReptileConfig

CONFIG = GradientConfig(inner_steps=2, inner_lr=0.001, head_lr=0.05, inner_loss="fit")  # a random network is wild


@pytest.fixture
def batch(toy, tiny):
    sampler = EpisodeSampler(toy, EpisodeSpec(ways=3, shots=2, queries=2), seed=4)
    return Collator([toy], tiny.tokenize)([sampler[n] for n in range(2)])


def trained_weights(learner):
    return {name: value for name, value in learner.named_parameters() if value.requires_grad}


def slope(learner, batch, weights, direction, width=1e-6):
    """The directional derivative of the meta-loss, by central differences."""
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            for name, weight in weights.items():
                weight.add_(sign * width * direction[name])
        values.append(learner(batch).loss.detach())
    with torch.no_grad():
        for name, weight in weights.items():
            weight.add_(width * direction[name])
    return (values[0] - values[1]) / (2 * width)


def assert_exact(learner, batch, chosen, tolerance=1e-5):
    """The gradient by the chosen weights is what the loss does, along itself and along random directions."""
    weights = {name: value for name, value in trained_weights(learner).items() if chosen(name)}
    assert weights
    gradients = dict(zip(weights, torch.autograd.grad(learner(batch).loss, list(weights.values())), strict=True))
    generator = torch.Generator().manual_seed(0)
    noise = [{n: torch.randn(w.shape, generator=generator, dtype=w.dtype) for n, w in weights.items()} for _ in "ab"]
    for direction in (gradients, *noise):
        length = sum(part.square().sum() for part in direction.values()).sqrt()
        direction = {name: part / length for name, part in direction.items()}
        expected = sum((gradients[name] * direction[name]).sum() for name in weights)
        torch.testing.assert_close(slope(learner, batch, weights, direction), expected, rtol=tolerance, atol=1e-9)


@pytest.mark.parametrize("change", [{}, {"head_start": "learned"}, {"inner_loss": "leave_out"}])
@pytest.mark.parametrize("way", ["packed", "padded", "all weights"])
def test_maml_s_gradient_is_that_of_its_loss(tiny_folder, batch, change, way):
    config = replace(CONFIG, **change)
    learner = learner_on(tiny_folder, config, kind=MAML, lora=way != "all weights")
    if way == "padded":  # where PyTorch's own attention runs
        learner.encoder.transformer.packs = False
    assert_exact(learner, batch, lambda name: True)


def test_first_order_is_not_that(tiny_folder, batch):
    with pytest.raises(AssertionError):
        assert_exact(learner_on(tiny_folder, CONFIG), batch, lambda name: "lora" in name)


def test_maml_and_first_order_maml_adapt_alike(tiny_folder, batch):
    with torch.no_grad():
        one, other = (learner_on(tiny_folder, CONFIG, kind=kind)(batch).loss for kind in (MAML, FirstOrderMAML))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=0)


def test_full_precision_is_enough_for_second_order(tiny_folder, batch):
    exact, rough = learner_on(tiny_folder, CONFIG, kind=MAML), learner_on(tiny_folder, CONFIG, kind=MAML).float()
    wanted, got = (
        torch.cat(
            [
                g.reshape(-1).double()
                for g in torch.autograd.grad(own(batch).loss, list(trained_weights(own).values()))
            ]
        )
        for own in (exact, rough)
    )
    assert (got - wanted).norm() <= 1e-4 * wanted.norm()


def left_out_loss(learner, texts, labels, names, weights):
    """The loss of each text under prototypes without it, one by one."""
    examples, words = embed(learner, texts, weights), embed(learner, names, weights)
    rows = []
    for left, vector in enumerate(examples):
        kept = [[e for n, e in enumerate(examples) if labels[n] == c and n != left] for c in range(3)]
        prototypes = [F.normalize(torch.stack([*kept[c], words[c]]).sum(0), dim=-1) for c in range(3)]
        rows.append(torch.stack([learner.log_scale.exp() * vector @ prototype for prototype in prototypes]))
    return F.cross_entropy(torch.stack(rows), labels)


def test_examples_left_out_are_compared_with_prototypes_without_them(tiny_folder, batch):
    learner = learner_on(tiny_folder, replace(CONFIG, inner_loss="leave_out", inner_lr=0.01, head_lr=9.0))
    own, task = dict(learner.encoder.backbone.named_parameters()), 1
    supports, names = pieces(batch.support.tokens, task), pieces(batch.support.names, task)
    labels = batch.support.labels[task]
    body = {name: own[name].detach() for name in learner.fast}
    for sizes in learner.log_step_sizes.exp().tolist():
        leaves = {name: value.requires_grad_() for name, value in body.items()}
        moves = torch.autograd.grad(left_out_loss(learner, supports, labels, names, leaves), list(leaves.values()))
        body = {n: (v - sizes[1] * move).detach() for (n, v), move in zip(body.items(), moves, strict=True)}
    with torch.no_grad():
        state = learner.adapt(batch.support)
        examples, words = embed(learner, supports, body), embed(learner, names, body)
    for name in learner.fast:
        torch.testing.assert_close(state[name][task], body[name], rtol=1e-9, atol=1e-12)
    for c in range(3):
        prototype = F.normalize(
            sum(e for e, label in zip(examples, labels, strict=True) if label == c) + words[c], dim=-1
        )
        torch.testing.assert_close(state["head"][task, c], prototype, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("kind", "change"), [(ANIL, {}), (MAML, {"head_start": "learned"})])
def test_leaving_out_needs_an_encoder_that_adapts_and_prototypes(tiny_folder, kind, change):
    with pytest.raises(LearnerError, match="leave_out"):
        learner_on(tiny_folder, replace(CONFIG, inner_loss="leave_out", **change), kind=kind)


def test_anil_leaves_the_body_as_it_is(tiny_folder, batch):
    learner = learner_on(tiny_folder, CONFIG, kind=ANIL)
    state = learner.adapt(batch.support)
    assert state.keys() == {"head", "class_mask"}
    one = {name: value[:1] for name, value in state.items()}
    assert learner.linear(one)[0] == {}
    logits = learner.predict(state, batch.query.tokens)
    bare = learner.log_scale.exp() * F.normalize(learner.encoder(batch.query.tokens), dim=-1) @ state["head"].mT
    assert torch.equal(logits, bare)


def test_anil_s_gradient_is_that_of_its_loss(tiny_folder, batch):
    assert_exact(learner_on(tiny_folder, CONFIG, kind=ANIL), batch, lambda name: True)


@pytest.mark.parametrize("inner_loss", ["fit", "leave_out"])
def test_meta_sgd_s_step_sizes_get_the_exact_gradient(tiny_folder, batch, inner_loss):
    learner = learner_on(tiny_folder, replace(CONFIG, inner_loss=inner_loss), kind=MetaSGD)
    idle = {"step_factors.0"} if inner_loss == "leave_out" else set()  # the head takes no steps there
    assert_exact(learner, batch, lambda name: name.startswith("step_factors") and name not in idle)


def test_meta_sgd_has_a_step_size_for_every_weight_and_may_step_uphill(tiny_folder, batch):
    learner = learner_on(tiny_folder, CONFIG, kind=MetaSGD)
    own = dict(learner.encoder.backbone.named_parameters())
    shapes = [factor.shape for factor in learner.step_factors]
    assert shapes == [(learner.encoder.dimension,), *(own[name].shape for name in learner.fast)]
    start, end = learner.states(batch.support)[:2]
    with torch.no_grad():
        for factor in learner.step_factors:
            factor.neg_()
    uphill = learner.states(batch.support)[1]
    for name in ("head", *learner.fast):
        torch.testing.assert_close(end[name] - start[name], start[name] - uphill[name], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("inner_loss", "head_start"), [("leave_out", "prototypes"), ("fit", "prototypes"), ("fit", "learned")]
)
def test_reptile_s_gradient_is_the_way_back_from_where_adaptation_ends(tiny_folder, batch, inner_loss, head_start):
    config = ReptileConfig(3, inner_lr=0.001, head_lr=0.05, head_start=head_start, inner_loss=inner_loss)
    learner = learner_on(tiny_folder, config, kind=Reptile)
    own, tasks = dict(learner.encoder.backbone.named_parameters()), len(batch.support.labels)
    scale, (head_lr, inner_lr) = learner.log_scale.detach().exp(), learner.log_step_sizes[0, :2].exp().tolist()
    expected = {name: torch.zeros_like(own[name]) for name in learner.fast}
    start_gradient = torch.zeros(learner.encoder.dimension, dtype=torch.float64)
    for task in range(tasks):
        supports, names = pieces(batch.support.tokens, task), pieces(batch.support.names, task)
        texts = [*supports, *pieces(batch.query.tokens, task)]
        labels = torch.cat([batch.support.labels[task], batch.query.labels[task]])
        if head_start == "learned":
            head = torch.stack([learner.start] * 3).detach()
        else:
            with torch.no_grad():
                examples, words = embed(learner, supports, {}), embed(learner, names, {})
            given = batch.support.labels[task]
            head = torch.stack([F.normalize(examples[given == c].sum(0) + words[c], dim=-1) for c in range(3)])
        body = {name: own[name].detach() for name in learner.fast}
        for _ in range(3):
            leaves = {name: value.requires_grad_() for name, value in body.items()}
            leaf = head.requires_grad_()
            if inner_loss == "fit":
                loss = F.cross_entropy(scale * embed(learner, texts, leaves) @ leaf.T, labels)
            else:
                loss = left_out_loss(learner, texts, labels, names, leaves) + 0 * leaf.sum()  # the head stays
            moves = torch.autograd.grad(loss, [leaf, *leaves.values()])
            head = (head - head_lr * moves[0]).detach()
            body = {n: (v - inner_lr * move).detach() for (n, v), move in zip(body.items(), moves[1:], strict=True)}
        for name in learner.fast:
            expected[name] += (own[name].detach() - body[name]) / tasks
        if head_start == "learned":
            start_gradient += (learner.start.detach() - head.mean(0)) / tasks
    learner(batch).loss.backward()
    for name in learner.fast:
        assert expected[name].norm() > 0
        torch.testing.assert_close(own[name].grad, expected[name], rtol=0, atol=1e-12)
    if head_start == "learned":
        torch.testing.assert_close(learner.start.grad, start_gradient, rtol=0, atol=1e-12)
