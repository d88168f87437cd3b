"""Meta-training as a job: the seed decides everything, the first weights of a learner's networks too."""

import torch
from safetensors.torch import load_file

from fewtext.jobs.train import Train, train
from fewtext.learners import learner_class
from fewtext.run import TrainConfig


def trained(folder, out, *, seed=0, noise=0):
    """Return the own weights of a learner with networks after one step."""
    torch.manual_seed(noise)  # whatever the process did before
    loop = TrainConfig(steps=1, meta_batch=1, validate_every=0)
    options = Train(base=str(folder), loop=loop, seed=seed, out=out)
    train("rl2", learner_class("rl2").Config(), options)
    return load_file(out / "learner" / "learner.safetensors")


def test_the_seed_decides_a_learner_s_own_weights(tiny_folder, tmp_path):
    one, same, other = (
        trained(tiny_folder, tmp_path / str(number), seed=seed, noise=number) for number, seed in enumerate((0, 0, 1))
    )
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert any(not torch.equal(value, other[name]) for name, value in one.items())
