"""A LoRA layer with factors for each task, in place of that of peft."""

import peft
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.testing import assert_close

from fewtext import Lora
from fewtext.nn.backbone import attach_lora, load_backbone
from fewtext.nn.layout import rows_per_task
from fewtext.nn.pretrained import locate
from fewtext.nn.task_lora import TaskLora, allow_task_weights

DOWN, UP = "lora_A.default.weight", "lora_B.default.weight"


def randn(*shape, **options):
    return torch.randn(*shape, dtype=torch.float64, **options)


def adapted(kind=TaskLora):
    """A linear layer 4 → 3 with an adapter of rank 2 and factor 1.5 that is not zero."""
    torch.manual_seed(0)
    model = peft.get_peft_model(
        nn.Sequential(nn.Linear(4, 3)), peft.LoraConfig(r=2, lora_alpha=3, target_modules=["0"])
    )
    if kind is TaskLora:
        allow_task_weights(model)
    layer = model.base_model.model[0].double()
    assert type(layer) is kind
    with torch.no_grad():
        layer.get_parameter(UP).normal_()
    return layer


def factors(tasks):
    return {
        DOWN: randn(tasks, 2, 4, requires_grad=True),
        UP: randn(tasks, 3, 2, requires_grad=True),
    }


def one_by_one(layer, weights, pieces):
    """What each task's rows give with its own factors, by peft's layer."""
    layer.__class__ = peft.tuners.lora.Linear
    own = [{name: weight[task] for name, weight in weights.items()} for task in range(len(pieces))]
    out = torch.cat([functional_call(layer, task, (rows,)) for task, rows in zip(own, pieces, strict=True)])
    layer.__class__ = TaskLora
    return out


def test_state_dict_keys_do_not_change(tiny_folder):
    backbone, _ = load_backbone(locate(tiny_folder))
    adapted = attach_lora(backbone, Lora(rank=2), seed=0)
    before, saved = list(adapted.state_dict()), sorted(peft.get_peft_model_state_dict(adapted))
    for layer in adapted.modules():
        if isinstance(layer, TaskLora):
            layer.__class__ = peft.tuners.lora.Linear
    assert list(adapted.state_dict()) == before
    assert sorted(peft.get_peft_model_state_dict(adapted)) == saved


@pytest.mark.parametrize("inner", [(), (2,), (2, 5)])
def test_factors_for_all_tasks_give_what_peft_gives(inner):
    rows = randn(6, *inner, 4, requires_grad=True)
    results = []
    for layer in (adapted(), adapted(peft.tuners.lora.Linear)):
        out = layer(rows)
        names = [name for name, _ in layer.named_parameters() if "lora_" in name]
        assert len(names) == 2
        results.append([out, *torch.autograd.grad((out**3).sum(), [rows, *map(layer.get_parameter, names)])])
    assert_close(*results)


@pytest.mark.parametrize("switch", ["disable_adapters", "merge"])
def test_adapters_that_are_off_or_merged_are_left_to_peft(switch):
    layer, rows = adapted(), randn(6, 4)
    expected = layer(rows) if switch == "merge" else layer.base_layer(rows)
    layer.merge() if switch == "merge" else layer.enable_adapters(False)
    assert_close(layer(rows), expected)


@pytest.mark.parametrize("inner", [(), (2,), (2, 5)])
def test_factors_per_task_equal_a_loop_over_tasks(inner):
    layer, rows, weights = adapted(), randn(6, *inner, 4), factors(3)
    assert_close(functional_call(layer, weights, (rows,)), one_by_one(layer, weights, rows.chunk(3)))


def test_gradient_of_a_factor_comes_from_its_own_rows():
    layer, rows, weights = adapted(), randn(6, 4), factors(3)
    functional_call(layer, weights, (rows,))[2:4].sum().backward()
    assert all(weight.grad[1].any() and not weight.grad[[0, 2]].any() for weight in weights.values())


@pytest.mark.parametrize("twice", [False, True])
def test_tasks_may_have_different_numbers_of_rows(twice):
    sizes, layer, weights = [1, 4, 0, 2], adapted(), factors(4)
    rows = randn(1, 7, 4, requires_grad=True)
    with rows_per_task(sizes):
        out = functional_call(layer, weights, (rows,))
    expected = one_by_one(layer, weights, rows[0].split(sizes))[None]
    assert_close(out, expected)
    inputs = (rows, *weights.values())
    results = []
    for value in (out, expected):
        gradients = torch.autograd.grad((value**3).sum(), inputs, create_graph=twice)
        if twice:
            gradients = torch.autograd.grad(sum((own**2).sum() for own in gradients), inputs)
        results.append(gradients)
    assert_close(*results)


def test_several_adapters_add_up():
    layer, rows = adapted(), randn(6, 4)
    first = layer(rows) - layer.base_layer(rows)
    layer.update_layer("other", r=2, lora_alpha=2, config=peft.LoraConfig(r=2, lora_alpha=2))
    with torch.no_grad():
        layer.lora_B["other"].weight.normal_()
    layer.set_adapter(["other"])
    second = layer(rows) - layer.base_layer(rows)
    layer.set_adapter(["default", "other"])
    assert_close(layer(rows), layer.base_layer(rows) + first + second)
