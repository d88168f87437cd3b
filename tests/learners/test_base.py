"""The registry of learners and the loss they share."""

import pytest
import torch

from fewtext import MetaLearner
from fewtext.errors import LearnerError
from fewtext.learners.base import learner_class, query_loss
from fewtext.tensors import ABSENT


def test_an_unknown_learner_is_named_with_the_closest_one():
    with pytest.raises(LearnerError, match=r"'prototypcal'. Did you mean prototypical\?"):
        learner_class("prototypcal")


def test_a_name_is_given_once():
    with pytest.raises(LearnerError, match="taken by Prototypical"):

        class Twin(MetaLearner, name="prototypical"):
            pass


def test_the_loss_counts_each_task_the_same_and_skips_absent_queries():
    logits = torch.log(torch.tensor([[[0.5, 0.5], [0.5, 0.5]], [[0.25, 0.75], [0.9, 0.1]]]))
    labels = torch.tensor([[0, 1], [0, ABSENT]])
    expected = (torch.log(torch.tensor(2.0)) + torch.log(torch.tensor(4.0))) / 2
    torch.testing.assert_close(query_loss(logits, labels), expected)
