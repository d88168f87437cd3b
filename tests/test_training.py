"""The outer loop: it learns, it stops, it repeats itself, and the number of processes does not matter to it."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from fewtext import Encoder, EpisodeSampler, EpisodeSpec, Lora, Prototypical, TrainConfig, meta_train
from fewtext.data.card import DataCard
from fewtext.data.load import card_texts
from fewtext.errors import TrainingError

SPEC = EpisodeSpec(ways=4, shots=1, queries=3)


def trained(toy, folder, config=None, *, lora=True, **options):
    learner = Prototypical(Encoder.from_pretrained(folder, lora=Lora(rank=2) if lora else None))
    config = config or TrainConfig(steps=15, meta_batch=2, lr=5e-3, validate_every=0)
    history = meta_train(learner, EpisodeSampler(toy, SPEC, seed=0), config, progress=False, **options)
    return learner, history


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_training_lowers_the_loss(toy, tiny_folder, lora):
    _, history = trained(toy, tiny_folder, TrainConfig(steps=40, meta_batch=2, lr=2e-2, validate_every=0), lora=lora)
    first, last = history.steps[:5], history.steps[-5:]
    assert sum(loss for _, loss, _ in last) < 0.95 * sum(loss for _, loss, _ in first)
    assert history.best_step == 40


def test_only_adapters_and_the_learner_s_own_weights_change(toy, tiny_folder):
    fresh = Prototypical(Encoder.from_pretrained(tiny_folder, lora=Lora(rank=2))).state_dict()
    learner, _ = trained(toy, tiny_folder)
    changed = {name for name, value in learner.state_dict().items() if not torch.equal(value, fresh[name])}
    assert changed
    assert all("lora_" in name or name == "log_scale" for name in changed)


def test_the_same_seed_gives_the_same_weights(toy, tiny_folder):
    one, two = (trained(toy, tiny_folder)[0].state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_no_timing_has_a_say_in_the_bits_of_a_deterministic_run(toy, tiny_folder, monkeypatch):
    config = TrainConfig(steps=3, meta_batch=2, lr=5e-3, validate_every=0, deterministic=True)
    runs = []
    for pays in (True, False):
        monkeypatch.setattr("fewtext.run.onednn_pays", lambda pays=pays: pays)
        runs.append(trained(toy, tiny_folder, config)[0].state_dict())
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


def test_micro_batches_change_nothing_but_rounding(toy, tiny_folder):
    config = TrainConfig(steps=3, meta_batch=4, lr=5e-3, validate_every=0)
    one = trained(toy, tiny_folder, config)[0].state_dict()
    four = trained(toy, tiny_folder, TrainConfig(**vars(config) | {"micro_batch": 4}))[0].state_dict()
    for name in one:
        torch.testing.assert_close(one[name], four[name], atol=1e-4, rtol=1e-3)


def test_it_stops_early_and_keeps_the_weights_of_the_best_validation(toy, tiny_folder):
    validation = EpisodeSampler(toy, SPEC, seed=9)
    config = TrainConfig(steps=60, meta_batch=1, lr=1.0, validate_every=2, patience=2)  # absurd: it can only harm
    learner, history = trained(toy, tiny_folder, config, validation=validation, validation_episodes=20)
    assert len(history.steps) < 60
    best = max(history.validations, key=lambda entry: (entry[1], -entry[0]))
    assert history.best_step == best[0]
    if history.best_step == 0:
        fresh = Prototypical(Encoder.from_pretrained(tiny_folder, lora=Lora(rank=2))).state_dict()
        assert all(torch.equal(value, fresh[name]) for name, value in learner.state_dict().items())


@pytest.mark.parametrize("what", ["a weight", "the loss", "a gradient"])
def test_what_is_not_finite_is_found_before_any_weight_changes(toy, tiny_folder, monkeypatch, what):
    learner = Prototypical(Encoder.from_pretrained(tiny_folder, lora=Lora(rank=2)))
    weight = next(weight for weight in learner.encoder.parameters() if weight.requires_grad)
    if what == "a weight":
        with torch.no_grad():
            weight[0, 0] = float("nan")
    elif what == "the loss":
        forward = Prototypical.forward
        monkeypatch.setattr(Prototypical, "forward", lambda *given: scaled(forward(*given), float("inf")))
    else:
        weight.register_hook(lambda gradient: gradient * float("nan"))
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    with pytest.raises(TrainingError, match=f"{what} is NaN or infinite"):
        meta_train(learner, EpisodeSampler(toy, SPEC), TrainConfig(steps=2, validate_every=0), progress=False)
    for name, value in learner.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0, rtol=0, equal_nan=True)


def scaled(output, factor):
    output.loss = output.loss * factor
    return output


def test_an_exception_in_an_episode_leaves_weights_and_threads_as_they_were(toy, tiny_folder, monkeypatch):
    learner = Prototypical(Encoder.from_pretrained(tiny_folder, lora=Lora(rank=2)))
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    threads = torch.get_num_threads()

    def broken(*given):
        raise MemoryError("in the middle")

    monkeypatch.setattr(Prototypical, "_logits", broken)
    config = TrainConfig(steps=2, validate_every=0, deterministic=True)
    with pytest.raises(MemoryError):
        meta_train(learner, EpisodeSampler(toy, SPEC), config, progress=False)
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    assert all(weight.grad is None for weight in learner.parameters())
    assert torch.get_num_threads() == threads


def test_a_meta_batch_below_one_is_refused(toy, tiny_folder):
    with pytest.raises(TrainingError, match="meta_batch=0 cannot be shared by 1 processes"):
        trained(toy, tiny_folder, TrainConfig(meta_batch=0))


WORKER = """
import json, os, signal, sys, torch
from accelerate import Accelerator
from fewtext import Encoder, EpisodeSampler, EpisodeSpec, LabeledTexts, Lora, Prototypical, TrainConfig, meta_train
from fewtext.checkpoint import Checkpoints
from fewtext.errors import TrainingError
options = json.loads(sys.argv[1])
texts = LabeledTexts.of(*json.load(open(options["data"])))
accelerator = Accelerator(cpu=True)
rank = accelerator.process_index
torch.manual_seed(rank)  # processes must agree even if their random states do not
learner = Prototypical(Encoder.from_pretrained(options["base"], lora=Lora(rank=2), seed=rank))
sampler = EpisodeSampler(texts, EpisodeSpec(ways=4, shots=1, queries=3))
seen = []
sampler_get = EpisodeSampler.__getitem__
EpisodeSampler.__getitem__ = lambda self, n: (seen.append(n) if self.seed == 0 else None, sampler_get(self, n))[1]
validation = EpisodeSampler(texts, EpisodeSpec(ways=4, shots=1, queries=3), seed=9)

def on_step(step, loss, right):
    if step == options["stop_after"]:
        raise KeyboardInterrupt
    if step == options["die_at"] and rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if step == options["nan_at"] and rank == 1:
        with torch.no_grad():
            learner.log_scale.fill_(float("nan"))

config = TrainConfig(steps=10, meta_batch=4, lr=5e-3, validate_every=5, checkpoint_every=2,
    deterministic=options["deterministic"])
try:
    history = meta_train(learner, sampler, config, validation=validation, validation_episodes=11, progress=False,
        accelerator=accelerator, on_step=on_step,
        checkpoints=Checkpoints(options["checkpoints"]) if options["checkpoints"] else None)
except TrainingError as error:
    torch.save({"error": str(error)}, f"{options['out']}-{rank}.pt")
    accelerator.end_training()
    sys.exit()
torch.save({"weights": learner.state_dict(), "steps": history.steps, "validations": history.validations,
    "seen": seen}, f"{options['out']}-{rank}.pt")
accelerator.end_training()
"""


def launched(
    processes,
    tiny_folder,
    toy,
    folder,
    *,
    deterministic=False,
    checkpoints=None,
    stop_after=None,
    die_at=None,
    nan_at=None,
):
    """Train the toy on so many CPU processes; returns what each of them saved."""
    (folder / "worker.py").write_text(WORKER)
    (folder / "data.json").write_text(json.dumps([list(toy.texts), [toy.classes[label] for label in toy.labels]]))
    places = {"base": tiny_folder, "data": folder / "data.json", "out": folder / f"out{processes}"}
    options = {name: str(place) for name, place in places.items()}
    options |= {"deterministic": deterministic, "stop_after": stop_after, "die_at": die_at, "nan_at": nan_at}
    options["checkpoints"] = str(checkpoints) if checkpoints else None
    flags = ["--num_processes", str(processes), "--num_machines", "1", "--mixed_precision", "no"]
    flags += ["--multi_gpu"] if processes > 1 else ["--cpu"]
    flags += ["--dynamo_backend", "no", "--num_cpu_threads_per_process", "1", "--main_process_port", "0"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *flags]
    command += [str(folder / "worker.py"), json.dumps(options)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"out{processes}-{rank}.pt", weights_only=True) for rank in range(processes)]


@pytest.mark.slow
def test_two_processes_train_the_same_weights_on_the_same_episodes(toy, tiny_folder, tmp_path):
    (alone,) = launched(1, tiny_folder, toy, tmp_path)
    first, second = launched(2, tiny_folder, toy, tmp_path)
    assert sorted(first["seen"] + second["seen"]) == sorted(alone["seen"])
    assert not set(first["seen"]) & set(second["seen"])
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name]), name
    one, two = (
        torch.cat([value.reshape(-1) for name, value in run["weights"].items() if "lora" in name])
        for run in (alone, first)
    )
    assert (one - two).norm() / one.norm() < 1e-6
    assert first["validations"] == second["validations"]
    assert [entry[0] for entry in first["validations"]] == [entry[0] for entry in alone["validations"]]


@pytest.mark.slow  # each process imports torch
@pytest.mark.parametrize("processes", [2, 4])
def test_deterministic_runs_on_several_processes_have_the_bits_of_one(toy, tiny_folder, tmp_path, processes):
    runs = [launched(number, tiny_folder, toy, tmp_path, deterministic=True)[0] for number in (1, processes)]
    for run in runs[1:]:
        assert run["steps"] == runs[0]["steps"]
        assert all(torch.equal(run["weights"][name], value) for name, value in runs[0]["weights"].items())


def test_the_real_encoder_learns_from_the_embedded_corpus(minilm):
    texts = card_texts(DataCard.read("everyday"))
    groups = DataCard.read("everyday").class_groups(1)
    train = texts.only(groups["train"])
    learner = Prototypical(Encoder.from_pretrained("sentence-transformers/all-MiniLM-L6-v2", lora=Lora(rank=4)))
    sampler = EpisodeSampler(train, EpisodeSpec(ways=6, shots=1, queries=2))
    history = meta_train(learner, sampler, TrainConfig(steps=20, meta_batch=1, validate_every=0), progress=False)
    losses = [loss for _, loss, _ in history.steps]
    assert sum(losses[-6:]) < sum(losses[:6])


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 4])
def test_a_run_saved_on_two_processes_goes_on_on_another_number(toy, tiny_folder, tmp_path, processes):
    """With deterministic sums the number of processes may change in the middle of a run."""
    (whole,) = launched(1, tiny_folder, toy, tmp_path, deterministic=True)
    place = tmp_path / "checkpoints"
    with pytest.raises(AssertionError, match=r"KeyboardInterrupt|failed"):
        launched(2, tiny_folder, toy, tmp_path, deterministic=True, checkpoints=place, stop_after=5)
    assert list(place.glob("step-*"))
    resumed = launched(processes, tiny_folder, toy, tmp_path, deterministic=True, checkpoints=place)[0]
    assert len(resumed["seen"]) < len(whole["seen"])
    assert all(torch.equal(resumed["weights"][name], value) for name, value in whole["weights"].items())


@pytest.mark.slow
@pytest.mark.parametrize("deterministic", [False, True])
def test_nan_on_one_process_stops_all_of_them_with_the_same_words(toy, tiny_folder, tmp_path, deterministic):
    first, second = launched(2, tiny_folder, toy, tmp_path, nan_at=3, deterministic=deterministic)
    assert (
        first == second == {"error": "a weight is NaN or infinite. Lower the learning rates; no weight was changed."}
    )


@pytest.fixture
def _own_accelerator_state():
    AcceleratorState._reset_state(reset_partial_state=True)  # it is one per process, and fixed by who comes first
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("_own_accelerator_state")
def test_half_precision_learns_too(toy, tiny_folder):
    accelerator = Accelerator(mixed_precision="bf16")
    config = TrainConfig(steps=40, meta_batch=2, lr=2e-2, validate_every=0)
    _, history = trained(toy, tiny_folder, config, accelerator=accelerator)
    assert sum(entry[1] for entry in history.steps[-5:]) < 0.95 * sum(entry[1] for entry in history.steps[:5])


@pytest.mark.slow
def test_when_one_process_dies_the_others_stop(toy, tiny_folder, tmp_path):
    start = time.monotonic()
    with pytest.raises(AssertionError):
        launched(2, tiny_folder, toy, tmp_path, die_at=3)
    assert time.monotonic() - start < 60 + 30  # the bound is 60 s; the rest is for starting Python twice
    assert not list(tmp_path.glob("out2-*.pt"))
