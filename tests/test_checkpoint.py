"""Checkpoints: whole or not there, resumed to the same bits, refused where they do not belong."""

import multiprocessing
import os
import random
import resource
import shutil
import signal
import threading
import time

import pytest
import torch

from fewtext import Encoder, EpisodeSampler, EpisodeSpec, Lora, Prototypical, TrainConfig, meta_train
from fewtext.checkpoint import Checkpoint, Checkpoints, only_writer
from fewtext.errors import TrainingError

CONFIG = TrainConfig(steps=12, meta_batch=2, lr=5e-3, validate_every=4, checkpoint_every=3)
FORK = multiprocessing.get_context("fork")


def trained(toy, folder, place=None, config=CONFIG, seed=0, on_step=None):
    learner = Prototypical(Encoder.from_pretrained(folder, lora=Lora(rank=2)))
    spec = EpisodeSpec(ways=4, shots=1, queries=3)
    history = meta_train(
        learner,
        EpisodeSampler(toy, spec, seed=seed),
        config,
        validation=EpisodeSampler(toy, spec, seed=9),
        validation_episodes=6,
        checkpoints=Checkpoints(place) if place else None,
        progress=False,
        on_step=on_step,
    )
    return learner.state_dict(), history


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def entry(step, value=1.0):
    return Checkpoint(step, {"weights": {"w": torch.full((3,), value)}}, {"note": step})


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    Checkpoints(tmp_path).save(entry(7, 0.25))
    found = Checkpoints(tmp_path).newest()
    assert (found.step, found.state) == (7, {"note": 7})
    assert torch.equal(found.tensors["weights"]["w"], torch.full((3,), 0.25))


def test_the_newest_two_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (9, 10, 11):
        checkpoints.save(entry(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000011"]
    assert checkpoints.newest().step == 11


@pytest.mark.parametrize("name", ["weights.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "delete"])
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before_and_is_named(tmp_path, name, harm, caplog):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        place = checkpoints.save(entry(step))
    content = bytearray((place / name).read_bytes())
    if harm == "flip":
        content[len(content) // 2] ^= 1
    (place / name).write_bytes(content if harm == "flip" else content[: len(content) // 2])
    if harm == "delete":
        (place / name).unlink()
    assert checkpoints.newest().step == 1
    assert "step-00000002 cannot be used" in caplog.text


def test_what_a_killed_process_left_in_the_making_is_no_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(entry(1))
    shutil.copytree(tmp_path / "step-00000001", tmp_path / ".step-00000002-99")
    assert checkpoints.newest().step == 1
    checkpoints.save(entry(3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000003"]


@pytest.mark.parametrize("seed", range(8))
def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, seed):
    Checkpoints(tmp_path).save(entry(1))
    big = Checkpoint(2, {"weights": {"w": torch.zeros(50_000)}, "more": {"w": torch.zeros(50_000)}}, {})
    limit = random.Random(seed).randrange(100, 200_000)

    def child(queue):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            Checkpoints(tmp_path).save(big)
        except TrainingError as error:
            queue.put(str(error))
        else:
            queue.put("saved")

    queue = FORK.Queue()
    process = FORK.Process(target=child, args=(queue,))
    process.start()
    assert "cannot be written" in queue.get(timeout=60)
    process.join()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert Checkpoints(tmp_path).newest().step == 1


def test_a_run_resumed_after_each_checkpoint_ends_with_the_same_bits(toy, tiny_folder, tmp_path):
    expected, history = trained(toy, tiny_folder)

    class Stop(Exception):
        pass

    def stop_at(number):
        def check(step, loss, right):
            if step == number:
                raise Stop

        return check

    for number in (4, 8, 10):
        check = stop_at(number)
        with pytest.raises(Stop):
            trained(toy, tiny_folder, tmp_path, on_step=check)
    got, resumed = trained(toy, tiny_folder, tmp_path)
    assert same(expected, got)
    assert resumed == history


def test_a_finished_run_is_not_trained_again(toy, tiny_folder, tmp_path):
    expected, _ = trained(toy, tiny_folder, tmp_path)
    steps = []
    got, history = trained(toy, tiny_folder, tmp_path, on_step=lambda *entry: steps.append(entry))
    assert not steps
    assert same(expected, got)
    assert len(history.steps) == CONFIG.steps


@pytest.mark.parametrize("change", ["seed", "config"])
def test_the_checkpoint_of_another_run_is_refused(toy, tiny_folder, tmp_path, change):
    trained(toy, tiny_folder, tmp_path)
    other = {"seed": 5} if change == "seed" else {"config": TrainConfig(**vars(CONFIG) | {"lr": 1e-3})}
    with pytest.raises(TrainingError, match=r"is of another run: (episodes|loop) was"):
        trained(toy, tiny_folder, tmp_path, **other)


def test_runs_killed_at_any_moment_end_with_the_same_bits(toy, tiny_folder, tmp_path):
    start = time.perf_counter()
    expected, _ = trained(toy, tiny_folder)
    per_step = (time.perf_counter() - start) / CONFIG.steps
    config = TrainConfig(**vars(CONFIG) | {"checkpoint_every": 1})

    def child(place, done, fatal, delay):
        torch.set_num_threads(1)
        kill = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL))
        state, _ = trained(
            toy, tiny_folder, place, config, on_step=lambda step, *_: kill.start() if step == fatal else None
        )
        if fatal is not None:  # nobody escapes, however fast the machine and however far the run before came
            if kill.ident is None:
                kill.start()
            kill.join()
        torch.save(state, done)
        os._exit(0)

    dice = random.Random(0)
    for run in range(3):
        place, done = tmp_path / f"run{run}", tmp_path / f"done{run}.pt"
        fatal = sorted(dice.sample(range(CONFIG.steps), 2))
        for step in (*fatal, None):
            process = FORK.Process(target=child, args=(place, done, step, dice.uniform(0, 2) * per_step))
            process.start()
            process.join()
            assert process.exitcode == (0 if step is None else -signal.SIGKILL)
        assert same(expected, torch.load(done, weights_only=True)), run


def test_a_second_process_on_the_same_folder_is_refused_and_a_dead_one_does_not_block(tmp_path):
    def hold(ready):
        with only_writer(tmp_path):
            ready.set()
            time.sleep(60)

    ready = FORK.Event()
    process = FORK.Process(target=hold, args=(ready,))
    process.start()
    assert ready.wait(10)
    with pytest.raises(TrainingError, match="another process is writing there"), only_writer(tmp_path):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with only_writer(tmp_path):
        pass
