"""The classifier as transformers runs it pools padded batches as the encoder pools ragged ones."""

import pytest
import torch
from torch.testing import assert_close

from fewtext.nn.pooling import Pooler
from fewtext.nn.recipe import POOLINGS, Recipe
from fewtext.nn.sequence_classifier import FewtextForSequenceClassification, _cut, padded_pool
from fewtext.nn.sequence_config import FewtextConfig

LENGTHS = torch.tensor([[3, 5, 1, 7]])
TINY = {"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 20}


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("skip", [0, 2])
@pytest.mark.parametrize("mode", POOLINGS)
def test_padded_texts_are_pooled_as_ragged_ones(mode, skip, left):
    vectors = torch.randn(int(LENGTHS.sum()), 4, generator=torch.Generator().manual_seed(0))
    hidden, mask = torch.full((4, 7, 4), 9.0), torch.zeros(4, 7, dtype=torch.long)
    for row, piece in enumerate(vectors.split(LENGTHS[0].tolist())):
        place = slice(7 - len(piece), 7) if left else slice(0, len(piece))
        hidden[row, place], mask[row, place] = piece, 1
    expected = Pooler(Recipe(pooling=(mode,)), 4, skip=skip)(vectors, LENGTHS)[0]
    assert_close(padded_pool(hidden, mask, mode, skip), expected)


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="'sum' is not known"):
        padded_pool(torch.zeros(1, 1, 1), torch.ones(1, 1), "sum", 0)


def test_long_texts_lose_their_middle_and_keep_their_end():
    ids = torch.tensor([[2, 5, 6, 7, 8, 3], [2, 9, 3, 0, 0, 0]])
    cut, mask = _cut(ids, (ids > 0).long(), 4)
    assert cut.tolist() == [[2, 5, 6, 3], [2, 9, 3, 0]]
    assert mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]


def test_labels_give_a_loss():
    model = FewtextForSequenceClassification(FewtextConfig(encoder=TINY, num_labels=3)).eval()
    output = model(torch.tensor([[1, 2], [3, 4]]), labels=torch.tensor([0, 2]))
    assert output.logits.shape == (2, 3)
    assert_close(output.loss, torch.nn.functional.cross_entropy(output.logits, torch.tensor([0, 2])))
