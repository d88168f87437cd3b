"""RL² against numpy, its gradient against all that could have been answered, and whether it learns to learn."""

import importlib
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from fewtext import Collator, Encoder, EpisodeSampler, EpisodeSpec, Prototypical, TrainConfig, load_texts, meta_train
from fewtext.data.texts import class_disjoint
from fewtext.errors import LearnerError
from fewtext.learners.recurrent import RL2, RL2Config, Run
from fewtext.metrics.scores import mean_ci
from fewtext.tensors import ABSENT, Query, Tokens

BENCHMARKS = Path(__file__).parents[2] / "recipes" / "benchmarks"


def batch_of(toy, encoder, spec, *, names=True, numbers=range(2)):
    sampler = EpisodeSampler(toy, spec, seed=3)
    return Collator([toy], encoder.tokenize)([sampler[n] for n in numbers], names=names)


def grown(encoder, **settings):
    """A learner in float64 whose networks have something to say."""
    learner = RL2(encoder.double(), RL2Config(**settings)).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for network in (learner.policy, learner.cell):
            for weight in network.parameters():
                weight.copy_(0.5 * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return learner


def row(tokens: Tokens, place: int) -> Tokens:
    """One text of each task."""
    width = tokens.lengths.shape[1]
    pieces = tokens.ids.split(tokens.lengths.reshape(-1).tolist())
    return Tokens(torch.cat(pieces[place::width]), tokens.lengths[:, place, None], tokens.text_ids[:, place, None])


class Reference:
    """One task's hidden state, text by text and class by class, in numpy."""

    def __init__(self, learner, ways, dimension):
        self.weights = {name: value.detach().numpy() for name, value in learner.own_parameters().items()}
        self.plus, self.minus = np.zeros((2, ways, dimension))
        self.right, self.wrong = np.zeros((2, ways))

    def network(self, name, inputs):
        first, last = ((self.weights[f"{name}.{n}.weight"], self.weights[f"{name}.{n}.bias"]) for n in (0, 2))
        hidden = first[0] @ inputs + first[1]
        erf = torch.erf(torch.from_numpy(hidden) / 2**0.5).numpy()
        return last[0] @ (hidden * (1 + erf) / 2) + last[1]

    def signs(self, text, c):
        near, far = (text @ total / np.sqrt(total @ total + 0.01) for total in (self.plus[c], self.minus[c]))
        return [near, far, np.log(1 + self.right[c]), np.log(1 + self.wrong[c])]

    def logits(self, text):
        signs = [self.signs(text, c) for c in range(len(self.plus))]
        scale = np.exp(self.weights["log_scale"])
        return np.array([scale * own[0] + self.network("policy", own)[0] for own in signs])

    def observe(self, text, action, reward):
        exponentials = np.exp(self.logits(text) - self.logits(text).max())
        chances = exponentials / exponentials.sum()
        gates = []
        for c in range(len(self.plus)):
            gates.append(self.network("cell", [*self.signs(text, c), c == action, reward, chances[c]]))
        for c, (plus, minus) in enumerate(gates):
            self.plus[c] += (plus + (c == action and reward == 1)) * text
            self.minus[c] += (minus + (c == action and reward == 0)) * text
        self.right[action] += reward
        self.wrong[action] += 1 - reward


def test_a_stream_equals_that_of_numpy(toy, tiny):
    learner = grown(tiny)
    batch = batch_of(toy, tiny, EpisodeSpec(ways=3, shots=0, queries=4), names=False)
    with torch.no_grad():
        texts = torch.nn.functional.normalize(tiny(batch.query.tokens), dim=-1).numpy()
        state = learner.adapt(batch.support)
        references = [Reference(learner, 3, tiny.dimension) for _ in range(2)]
        for step in range(12):
            text, action = row(batch.query.tokens, step), torch.tensor([step % 3, (step + 1) % 2])
            reward = (action == batch.query.labels[:, step]).double()
            logits = learner.predict(state, text)
            for task, reference in enumerate(references):
                np.testing.assert_allclose(logits[task, 0], reference.logits(texts[task, step]), atol=1e-10)
                reference.observe(texts[task, step], int(action[task]), float(reward[task]))
            state = learner.observe(state, text, action, reward)
    for task, reference in enumerate(references):
        for name in ("plus", "minus", "right", "wrong"):
            np.testing.assert_allclose(state[name][task], getattr(reference, name), atol=1e-10)
    assert state["right"].sum() > 0 < state["wrong"].sum()


def test_untrained_supports_and_names_are_prototypes(toy, tiny):
    batch = batch_of(toy, tiny, EpisodeSpec(ways=5, shots=range(0, 4), queries=3), numbers=range(20))
    learner, plain = RL2(tiny), Prototypical(tiny)
    with torch.no_grad():
        got = learner.predict(learner.adapt(batch.support), batch.query.tokens)
        expected = plain.predict(plain.adapt(batch.support), batch.query.tokens)
    torch.testing.assert_close(got, expected, atol=0, rtol=0.01)  # short sums count a bit less


def test_supports_are_written_as_if_each_were_right_at_first_sight(toy, tiny):
    learner = grown(tiny)
    support = batch_of(toy, tiny, EpisodeSpec(ways=3, shots=2, queries=1), names=False).support
    empty = learner.adapt(support._replace(labels=torch.full_like(support.labels, ABSENT)))
    assert not empty["plus"].any()
    state, right = learner.adapt(support), torch.ones(2).double()
    each = [learner.observe(empty, row(support.tokens, n), support.labels[:, n], right) for n in range(6)]
    for name in ("plus", "minus", "right", "wrong"):
        torch.testing.assert_close(state[name], sum(one[name] for one in each), atol=1e-10, rtol=0)


def test_where_nothing_was_answered_nothing_is_learned(toy, tiny):
    learner, batch = grown(tiny), batch_of(toy, tiny, EpisodeSpec(ways=3, shots=1, queries=1))
    state = learner.adapt(batch.support)
    after = learner.observe(state, row(batch.query.tokens, 0), torch.tensor([ABSENT, 1]), torch.ones(2).double())
    for name in ("plus", "minus", "right"):
        assert torch.equal(after[name][0], state[name][0])
        assert not torch.equal(after[name][1], state[name][1])


def test_the_loss_is_that_of_its_definition(tiny):
    learner = RL2(tiny, RL2Config(runs=2, discount=0.5, entropy=0.1))
    actions = torch.tensor([[0, 1, 1], [1, 0, 0], [0, 0, ABSENT], [1, 1, ABSENT]])
    rewards = torch.tensor([[1, 0, 1], [0, 1, 1], [0, 1, 0], [1, 1, 0]]).double()
    logits = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0)).double()
    chances, losses = logits.softmax(-1).numpy(), []
    for run, other in ((0, 1), (1, 0), (2, 3), (3, 2)):
        terms = []
        for step in range(3 if run < 2 else 2):
            gain, baseline = (sum(0.5**n * r for n, r in enumerate(rewards[b, step:].tolist())) for b in (run, other))
            now = chances[run, step]
            terms.append(-(gain - baseline) * np.log(now[actions[run, step]]) + 0.1 * (now * np.log(now)).sum())
        losses.append(np.mean(terms))
    torch.testing.assert_close(learner._loss(Run(logits, actions, rewards)).item(), np.mean(losses))


def test_the_gradient_is_that_of_the_expected_rewards(toy, tiny):
    learner = grown(tiny.requires_grad_(False), anonymous=1.0, runs=10_000, discount=1.0, entropy=0.0)
    batch = batch_of(toy, tiny, EpisodeSpec(ways=2, shots=1, queries=2), numbers=[0])
    _, order, _ = learner._draw(batch.query.tokens.ids, batch)
    weights = [weight for weight in learner.parameters() if weight.requires_grad]
    expected = torch.zeros(())
    for actions in product(range(2), repeat=4):
        state = learner.adapt(batch_of(toy, tiny, EpisodeSpec(2, 0, 2), names=False, numbers=[0]).support)
        chance, earned = torch.ones(()), 0
        for place, action in zip(order.tolist(), actions, strict=True):
            text, reward = row(batch.query.tokens, place), int(batch.query.labels[0, place]) == action
            chance = chance * learner.predict(state, text)[0, 0].softmax(-1)[action]
            state = learner.observe(state, text, torch.tensor([action]), torch.tensor([float(reward)]).double())
            earned += reward
        expected = expected + chance * earned
    wanted = torch.autograd.grad(-expected / 4, weights)
    got = torch.autograd.grad(learner(batch).loss, weights)
    one, other = (torch.cat([gradient.reshape(-1) for gradient in each]) for each in (got, wanted))
    assert (one - other).norm() < 0.02 * other.norm()


def test_the_accuracy_reported_is_the_reward_of_the_first_run(toy, tiny, monkeypatch):
    learner, batch = RL2(tiny), batch_of(toy, tiny, EpisodeSpec(ways=4, shots=1, queries=5))
    kept, answer = [], learner._answer
    monkeypatch.setattr(learner, "_answer", lambda *given: kept.append(answer(*given)) or kept[0])
    hits = learner(batch).logits.argmax(-1) == batch.query.labels
    assert torch.equal(hits.sum(1), kept[0].rewards.view(2, 8, 20)[:, 0].sum(1).long())
    assert 0 < hits.sum() < hits.numel()


def test_training_is_a_function_of_the_batch_s_texts(toy, tiny):
    learner, batch = RL2(tiny), batch_of(toy, tiny, EpisodeSpec(ways=4, shots=1, queries=3))
    before = torch.get_rng_state()
    numbered = batch.query.tokens._replace(text_ids=batch.query.tokens.text_ids + 7)  # as another collator would
    losses = [learner(batch).loss, learner(batch._replace(query=Query(numbered, batch.query.labels))).loss]
    assert torch.equal(*losses)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("anonymous", "same"), [(1.0, True), (0.0, False)])
def test_anonymous_streams_know_nothing(toy, tiny, anonymous, same):
    learner, batch = RL2(tiny, RL2Config(anonymous=anonymous)), batch_of(toy, tiny, EpisodeSpec(4, 1, 3))
    other = batch._replace(support=batch.support._replace(labels=batch.support.labels.flip(1)))
    assert torch.equal(learner(batch).loss, learner(other).loss) == same


def test_queries_that_are_not_there_are_no_part_of_the_stream(toy, tiny):
    learner = grown(tiny)
    texts = torch.randn(1, 4, tiny.dimension, generator=torch.Generator().manual_seed(0)).double()
    labels, luck = torch.tensor([[1, ABSENT, 0, ABSENT]]), torch.zeros(1, 4, 2)
    state = learner.adapt(batch_of(toy, tiny, EpisodeSpec(ways=2, shots=1, queries=1), numbers=[0]).support)
    padded, there = learner._answer(state, texts, labels, luck), [0, 2]
    alone = learner._answer(state, texts[:, there], labels[:, there], luck[:, there])
    for got, expected in zip(padded, alone, strict=True):
        torch.testing.assert_close(got[:, there], expected)
    assert padded.rewards[:, [1, 3]].sum() == 0


@pytest.fixture
def bandit(monkeypatch):
    """The benchmark, on shorter streams."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    module = importlib.import_module("bandit")
    for name, value in {"TEXTS": 8, "RIDGES": (0.1,), "WIDTHS": (0.03, 0.3, 1.0)}.items():
        monkeypatch.setattr(module, name, value)
    return module


@pytest.mark.slow  # it trains a learner from scratch
def test_it_learns_to_learn_and_earns_more_than_linear_bandits_on_unseen_classes(minilm, bandit):
    parts = class_disjoint(load_texts("everyday"), seed=1)
    seen, unseen = parts["train"].at_most(9), parts["validation"].at_most(14)
    encoder = Encoder.from_pretrained(minilm.source.folder).requires_grad_(False)
    torch.manual_seed(0)
    learner = RL2(encoder)
    with encoder.remembering():
        episodes = EpisodeSampler(seen, EpisodeSpec(ways=5, shots=1, queries=8), seed=0)
        meta_train(learner, episodes, TrainConfig(40, 4, 4, validate_every=0), progress=False)
    # Ridge and width are even those that suit the same streams best.
    found = bandit.measured({bandit.OWN: learner, bandit.UNTRAINED: RL2(encoder)}, unseen, unseen, 80)
    own = found.pop(bandit.OWN)
    assert len(found) == 5
    rise, leads = own[:, -13:].mean(1) - own[:, :13].mean(1), [(own - other).mean(1) for other in found.values()]
    for differences in (rise, *leads):
        mean, half_width = mean_ci(differences)
        assert mean > half_width


@pytest.mark.parametrize("one_right", [False, True])
def test_linear_bandits_are_those_of_their_definition(bandit, one_right):
    generator = np.random.default_rng(1)
    vectors, labels = generator.standard_normal((1, 30, 4)), generator.integers(5, size=(1, 30))
    got = bandit.linear(vectors, labels, 0.5, 0.7, sampled=False, one_right=one_right)
    seen, chance = [[] for _ in range(5)], np.random.default_rng(0)
    for text, label, reward in zip(vectors[0], labels[0], got[0], strict=True):
        scores = []
        for own in seen:
            rows, rewards = np.array([row for row, _ in own]).reshape(-1, 4), np.array([told for _, told in own])
            penalised = rows.T @ rows + 0.5 * np.eye(4)
            mean = text @ np.linalg.solve(penalised, rows.T @ rewards)
            scores.append(mean + 0.7 * np.sqrt(text @ np.linalg.solve(penalised, text)))
        action = int(np.argmax(scores + 1e-9 * chance.random(5)))
        assert reward == (action == label)
        for own in range(5):
            if own == action or (one_right and reward):
                seen[own].append((text, float(own == action and reward)))
    assert 0 < got.sum() < 30


def test_a_single_run_is_refused(tiny):
    with pytest.raises(LearnerError, match="runs=1"):
        RL2(tiny, RL2Config(runs=1))
