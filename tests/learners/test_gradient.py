"""First-order MAML against references in float64, and what its options do."""

from dataclasses import replace

import pytest
import torch
from torch.func import functional_call
from torch.nn import functional as F

from fewtext import Collator, Encoder, EpisodeSampler, EpisodeSpec, Lora, Prototypical
from fewtext.learners.gradient import FirstOrderMAML, GradientConfig

CONFIG = GradientConfig(inner_steps=2, inner_lr=0.3, head_lr=0.2, inner_loss="fit")


@pytest.fixture
def batch(toy, tiny):
    sampler = EpisodeSampler(toy, EpisodeSpec(ways=3, shots=2, queries=2), seed=4)
    return Collator([toy], tiny.tokenize)([sampler[n] for n in range(3)])


def learner_on(folder, config=CONFIG, *, kind=FirstOrderMAML, lora=True):
    encoder = Encoder.from_pretrained(folder, lora=Lora(rank=2) if lora else None).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in encoder.backbone.named_parameters():
            if "lora_B" in name:
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return kind(encoder, config).double()


def pieces(tokens, task):
    ids = tokens.ids.split(tokens.lengths.reshape(-1).tolist())
    width = tokens.lengths.shape[1]
    return ids[task * width : (task + 1) * width]


def embed(learner, texts, weights):
    """Embed texts one by one through the plain model: no packing, no task dimension."""
    vectors = []
    for ids in texts:
        inputs = {"input_ids": ids[None], "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
        hidden = functional_call(learner.encoder.backbone, weights, (), inputs).last_hidden_state
        vectors.append(F.normalize(hidden[0].mean(0), dim=-1))
    return torch.stack(vectors)


def reference_loss(learner, batch):
    """First-order MAML as one would write it for one task at a time, with a straight-through start."""
    scale, own = learner.log_scale.exp(), dict(learner.encoder.backbone.named_parameters())
    total = 0.0
    for task in range(len(batch.support.labels)):
        support, query = pieces(batch.support.tokens, task), pieces(batch.query.tokens, task)
        labels = batch.support.labels[task]
        fast = {name: own[name] for name in learner.fast}
        if learner.config.head_start == "learned":
            head = torch.stack([learner.start] * 3)
        else:
            examples, names = embed(learner, support, {}), embed(learner, pieces(batch.support.names, task), {})
            head = torch.stack([F.normalize(examples[labels == c].sum(0) + names[c], dim=-1) for c in range(3)])
        for step in range(learner.config.inner_steps):
            leaves = {name: value.detach().requires_grad_() for name, value in fast.items()}
            leaf = head.detach().requires_grad_()
            logits = scale * embed(learner, support, leaves) @ leaf.T
            inner = F.cross_entropy(logits, labels)
            gradients = torch.autograd.grad(inner, [leaf, *leaves.values()])
            sizes = learner.log_step_sizes[step].exp()
            head = head - sizes[0] * gradients[0]
            moves = zip(fast.items(), sizes[1:], gradients[1:], strict=True)
            fast = {name: value - size * gradient for (name, value), size, gradient in moves}
        logits = scale * embed(learner, query, fast) @ head.T
        total = total + F.cross_entropy(logits, batch.query.labels[task])
    return total / len(batch.support.labels)


@pytest.mark.parametrize("head_start", ["prototypes", "learned"])
def test_loss_and_meta_gradient_equal_the_reference_s(tiny_folder, batch, head_start):
    learner = learner_on(tiny_folder, replace(CONFIG, head_start=head_start))
    weights = {name: value for name, value in learner.named_parameters() if value.requires_grad}
    loss, expected = learner(batch).loss, reference_loss(learner, batch)
    torch.testing.assert_close(loss, expected, atol=0, rtol=1e-12)
    got = torch.autograd.grad(loss, list(weights.values()))
    wanted = torch.autograd.grad(expected, list(weights.values()))
    assert all(gradient.norm() > 0 for gradient in wanted)
    one, other = (torch.cat([gradient.reshape(-1) for gradient in gradients]) for gradients in (got, wanted))
    assert (one - other).norm() <= 1e-10 * other.norm()


def test_the_gradient_of_the_step_sizes_is_a_directional_derivative(tiny_folder, batch):
    learner = learner_on(tiny_folder, replace(CONFIG, inner_steps=1))
    (gradient,) = torch.autograd.grad(learner(batch).loss, [learner.log_step_sizes])
    direction, width = gradient / gradient.norm(), 1e-4
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            learner.log_step_sizes.add_(sign * width * direction)
            values.append(learner(batch).loss)
            learner.log_step_sizes.sub_(sign * width * direction)
    expected = (values[0] - values[1]) / (2 * width)
    torch.testing.assert_close(gradient.norm(), expected, rtol=1e-6, atol=0)


def test_full_weights_one_task_at_a_time_equal_the_reference(tiny_folder, batch):
    learner = learner_on(tiny_folder, lora=False)
    torch.testing.assert_close(learner(batch).loss, reference_loss(learner, batch), atol=0, rtol=1e-10)


def test_tasks_in_parallel_equal_one_task_at_a_time(tiny_folder, batch):
    learner = learner_on(tiny_folder)
    together = torch.autograd.grad(
        learner(batch).loss, [learner.encoder.get_parameter(f"backbone.{learner.fast[0]}")]
    )
    learner.encoder.transformer.packs = False
    alone = torch.autograd.grad(learner(batch).loss, [learner.encoder.get_parameter(f"backbone.{learner.fast[0]}")])
    torch.testing.assert_close(together, alone, atol=1e-12, rtol=1e-10)


def test_zero_steps_are_the_prototypical_learner(tiny_lora, toy):
    sampler = EpisodeSampler(toy, EpisodeSpec(ways=3, shots=2, queries=2), seed=4)
    batch = Collator([toy], tiny_lora.tokenize)([sampler[0], sampler[1]])
    learner, plain = FirstOrderMAML(tiny_lora, GradientConfig(inner_steps=0)), Prototypical(tiny_lora)
    with torch.no_grad():
        got = learner.predict(learner.adapt(batch.support), batch.query.tokens)
        expected = plain.predict(plain.adapt(batch.support), batch.query.tokens)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_more_steps_fit_the_support_better(tiny_lora, toy):
    sampler = EpisodeSampler(toy, EpisodeSpec(ways=3, shots=2, queries=2), seed=4)
    support = Collator([toy], tiny_lora.tokenize)([sampler[0], sampler[1]]).support
    losses = []
    for steps in (0, 2, 8):
        learner = FirstOrderMAML(
            tiny_lora, GradientConfig(inner_steps=steps, inner_lr=0.02, head_lr=0.02, inner_loss="fit")
        )
        with torch.no_grad():
            logits = learner.predict(learner.adapt(support), support.tokens)
        losses.append(F.cross_entropy(logits.mT, support.labels).item())
    assert losses[0] > losses[1] > losses[2]


def test_a_loss_after_every_step_is_their_weighted_mean(tiny_folder, batch):
    last, both, every = (
        learner_on(tiny_folder, replace(CONFIG, every_step=share))(batch).loss for share in (0.0, 0.5, 1.0)
    )
    torch.testing.assert_close(both, (last + every) / 2)
    assert not torch.isclose(last, every)


def test_step_sizes_are_learned_only_if_asked(tiny_folder):
    assert learner_on(tiny_folder).log_step_sizes.requires_grad
    assert not learner_on(tiny_folder, replace(CONFIG, learn_step_sizes=False)).log_step_sizes.requires_grad
