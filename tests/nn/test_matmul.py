"""The faster matrix product is as exact, and its switch never leaks."""

import pytest
import torch

from fewtext.nn import matmul
from fewtext.nn.matmul import fast_matmul


@pytest.fixture
def switch():
    settings = torch.backends.mkldnn.matmul
    before = settings.fp32_precision
    yield settings
    settings.fp32_precision = before


@pytest.fixture
def pays(monkeypatch):
    monkeypatch.setattr(matmul, "onednn_pays", lambda: True)


@pytest.mark.parametrize("before", ["none", "ieee"])
def test_switch_is_restored_after_the_scope(switch, pays, before):
    switch.fp32_precision = before
    with fast_matmul(trained=True):
        assert switch.fp32_precision == "bf16"
    assert switch.fp32_precision == before


def test_switch_is_restored_after_an_exception(switch, pays):
    before = switch.fp32_precision
    with pytest.raises(KeyError), fast_matmul(trained=True):
        raise KeyError
    assert switch.fp32_precision == before


def test_an_inner_scope_leaves_the_outer_one_as_it_was(switch, pays):
    with fast_matmul(trained=True):
        with fast_matmul():
            pass
        assert switch.fp32_precision == "bf16"


def test_switch_is_not_touched_where_the_other_path_does_not_pay(switch, monkeypatch):
    monkeypatch.setattr(matmul, "onednn_pays", lambda: False)
    before = switch.fp32_precision
    with fast_matmul(trained=True):
        assert switch.fp32_precision == before


def test_switch_of_the_whole_process_is_not_touched_for_weights_that_stay_as_they_are(switch, pays):
    before = switch.fp32_precision
    with fast_matmul():
        assert switch.fp32_precision == before
        assert matmul.is_fast()
    assert not matmul.is_fast()


def test_the_trial_leaves_the_switch_as_it_was(switch):
    switch.fp32_precision = "ieee"
    matmul.onednn_pays.__wrapped__()
    assert switch.fp32_precision == "ieee"


def test_a_path_that_is_not_exact_is_not_taken(switch, monkeypatch):
    monkeypatch.setattr(matmul, "TOLERANCE", 0.0)
    monkeypatch.setattr(matmul, "onednn_is_exact", matmul.onednn_is_exact.__wrapped__)
    assert not matmul.onednn_pays.__wrapped__()


@pytest.mark.parametrize(("rows", "inner", "columns"), [(1024, 384, 1536), (7, 33, 5), (64, 4096, 64)])
def test_products_in_the_scope_are_exact(rows, inner, columns):
    generator = torch.Generator().manual_seed(3)
    left, right = torch.randn(rows, inner, generator=generator), torch.randn(inner, columns, generator=generator)
    exact = left.double() @ right.double()
    with fast_matmul(trained=True):
        product = left @ right
    assert (product - exact).norm() / exact.norm() < 1e-5


def test_gradients_in_the_scope_are_exact():
    generator = torch.Generator().manual_seed(4)
    left, right = (torch.randn(128, 128, generator=generator) for _ in range(2))
    weight = right.clone().requires_grad_()
    with fast_matmul(trained=True):
        ((left @ weight) ** 2).sum().backward()
    exact = 2 * left.double().T @ (left.double() @ right.double())
    assert (weight.grad - exact).norm() / exact.norm() < 1e-5
