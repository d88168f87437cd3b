"""A linear layer with a weight per task, in place of those that peft creates."""

import peft
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.testing import assert_close

from fewtext import Lora
from fewtext.nn.backbone import attach_lora, load_backbone
from fewtext.nn.pretrained import locate
from fewtext.nn.task_linear import TaskLinear, allow_task_weights, rows_per_task


@pytest.fixture
def adapted(tiny_folder):
    backbone, _ = load_backbone(locate(tiny_folder))
    return attach_lora(backbone, Lora(rank=2), seed=0)


@pytest.fixture
def linear():
    return nn.Linear(4, 3, bias=False)


def test_state_dict_keys_do_not_change(adapted):
    before, saved = list(adapted.state_dict()), sorted(peft.get_peft_model_state_dict(adapted))
    allow_task_weights(adapted)
    assert list(adapted.state_dict()) == before
    assert sorted(peft.get_peft_model_state_dict(adapted)) == saved


def test_names_are_those_of_the_lora_weights(adapted):
    names = allow_task_weights(adapted)
    assert sorted(names) == sorted(name for name, _ in adapted.named_parameters() if "lora_" in name)


def test_parameters_of_the_adapter_are_kept_and_trainable(adapted):
    before = dict(adapted.named_parameters())
    for name in allow_task_weights(adapted):
        assert adapted.get_parameter(name) is before[name]
        assert adapted.get_parameter(name).requires_grad


def test_parameter_is_shared_with_the_linear(linear):
    assert TaskLinear.sharing(linear).weight is linear.weight


def test_one_weight_for_all_tasks_is_a_plain_linear(linear):
    rows = torch.randn(5, 2, 4)
    assert torch.equal(TaskLinear.sharing(linear)(rows), linear(rows))


@pytest.mark.parametrize("inner", [(), (2,), (2, 5)])
def test_weight_per_task_equals_a_loop_over_tasks(linear, inner):
    rows, weights = torch.randn(6, *inner, 4), torch.randn(3, 3, 4)
    out = functional_call(TaskLinear.sharing(linear), {"weight": weights}, (rows,))
    expected = [own @ weight.T for own, weight in zip(rows.chunk(3), weights, strict=True)]
    assert_close(out, torch.cat(expected))


def test_gradient_of_a_weight_per_task_comes_from_its_own_rows(linear):
    rows, weights = torch.randn(6, 4), torch.randn(3, 3, 4, requires_grad=True)
    out = functional_call(TaskLinear.sharing(linear), {"weight": weights}, (rows,))
    out[2:4].sum().backward()
    assert_close(weights.grad[1], rows[2:4].sum(0).expand(3, 4))
    assert not weights.grad[[0, 2]].any()


@pytest.mark.parametrize(("depth", "width"), [(4, 3), (3, 4)])
def test_tasks_may_have_different_numbers_of_rows(depth, width):
    sizes, layer = [1, 4, 0, 2], TaskLinear.sharing(nn.Linear(depth, width, bias=False))
    rows = torch.randn(1, 7, depth, requires_grad=True)
    weights = torch.randn(4, width, depth, requires_grad=True)
    with rows_per_task(sizes):
        out = functional_call(layer, {"weight": weights}, (rows,))
    pieces = zip(rows[0].split(sizes), weights, strict=True)
    expected = torch.cat([own @ weight.T for own, weight in pieces])[None]
    assert_close(out, expected)
    gradients = [torch.autograd.grad((value**3).sum(), (rows, weights)) for value in (out, expected)]
    assert_close(*gradients)
