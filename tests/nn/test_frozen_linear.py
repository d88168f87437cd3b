"""A frozen linear gives what a plain one gives, follows its weight, and steps aside where that is trained."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.testing import assert_close

from fewtext.nn import frozen_linear
from fewtext.nn.frozen_linear import FrozenLinear, _Packed, freeze_linears
from fewtext.nn.matmul import fast_matmul


@pytest.fixture(params=[True, False], ids=["bias", "no bias"])
def linear(request):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(24, 40, bias=request.param).requires_grad_(False)


@pytest.fixture
def frozen(linear):
    return FrozenLinear.sharing(linear)


def rows(*shape):
    return torch.randn(*shape, 24, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [(7,), (1,), (0,), (2, 5), (1, 3, 2)])
def test_product_is_that_of_a_plain_linear(linear, frozen, shape):
    with fast_matmul(True):
        assert_close(frozen(rows(*shape)), linear(rows(*shape)))


def test_parameters_and_their_names_are_those_of_the_linear(linear, frozen):
    assert frozen.weight is linear.weight
    assert frozen.bias is linear.bias
    assert frozen.state_dict().keys() == linear.state_dict().keys()


def test_gradient_of_the_input_is_that_of_a_plain_linear(linear, frozen):
    gradients = []
    for layer in (linear, frozen):
        given = rows(7).requires_grad_()
        with fast_matmul(True):
            (layer(given) ** 3).sum().backward()
        gradients.append(given.grad)
    assert_close(*gradients)


def test_it_can_be_differentiated_twice(linear, frozen):
    seconds = []
    for layer in (linear, frozen):
        given = rows(3).requires_grad_()
        with fast_matmul(True):
            (first,) = torch.autograd.grad((layer(given) ** 3).sum(), given, create_graph=True)
            seconds.append(torch.autograd.grad((first**2).sum(), given)[0])
    assert_close(*seconds)


def test_it_follows_a_weight_that_changes(linear, frozen):
    with fast_matmul(True):
        frozen(rows(7))
        linear.weight.mul_(2)
        assert_close(frozen(rows(7)), linear(rows(7)))
        linear.load_state_dict({name: value + 1 for name, value in linear.state_dict().items()})
        assert_close(frozen(rows(7)), linear(rows(7)))


def test_it_is_packed_once(frozen, monkeypatch):
    packs = []
    monkeypatch.setattr(frozen_linear, "_Packed", lambda *given: packs.append(1) or _Packed(*given))
    with fast_matmul(True):
        for _ in range(3):
            frozen(rows(7))
    assert packs == [1]


def test_a_trained_weight_gets_its_gradient(linear, frozen):
    linear.requires_grad_(True)
    with fast_matmul(True):
        frozen(rows(7)).sum().backward()
    assert_close(linear.weight.grad, rows(7).sum(0).expand(40, 24))


def test_a_task_s_own_weight_is_used_as_it_is(linear, frozen):
    own = torch.randn(40, 24)
    with fast_matmul(True), torch.no_grad():
        frozen(rows(7))
        product = functional_call(frozen, {"weight": own}, (rows(7),))
    expected = rows(7) @ own.T + (0 if linear.bias is None else linear.bias)
    assert_close(product, expected)


def test_autocast_computes_in_bfloat16(linear, frozen):
    with fast_matmul(True), torch.autocast("cpu", dtype=torch.bfloat16):
        product, expected = frozen(rows(7)), linear(rows(7))
    assert product.dtype == expected.dtype == torch.bfloat16
    assert_close(product, expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(linear, frozen, dtype):
    frozen.to(dtype)
    with fast_matmul(True):
        assert_close(frozen(rows(7).to(dtype)), nn.functional.linear(rows(7).to(dtype), frozen.weight, frozen.bias))


def test_it_can_be_copied_and_pickled_after_use(frozen):
    with fast_matmul(True):
        product = frozen(rows(7))
        for other in (copy.deepcopy(frozen), pickle.loads(pickle.dumps(frozen))):
            assert_close(other(rows(7)), product)


def test_plain_linears_are_replaced_and_others_left():
    class Own(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(Own(2, 2), nn.Linear(2, 2)))
    freeze_linears(model)
    assert [type(module) for module in model.modules() if isinstance(module, nn.Linear)] == [
        FrozenLinear,
        Own,
        FrozenLinear,
    ]
