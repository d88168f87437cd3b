"""How alike classes are, by their prototypes: against numbers that are known by construction."""

import numpy as np
import pytest

from fewtext import LabeledTexts
from fewtext.similarity import Similarity, prototypes, similarities, similarity


def rows(*angles):
    """Directions in the plane of the first two of four numbers."""
    return np.array([[np.cos(angle), np.sin(angle), 0.0, 0.0] for angle in angles])


def test_classes_that_are_among_the_source_s_are_near():
    found = similarity(rows(0.0, 1.0), rows(0.0, 1.0, 2.0), "source")
    assert (found.source, found.classes) == ("source", 3)
    assert found.nearness == pytest.approx(1.0)
    assert found.confusion == pytest.approx(np.cos(1.0))


def test_nearness_is_the_mean_over_the_target_s_classes():
    found = similarity(rows(0.0, 1.5), rows(0.3, 3.4), "source")
    assert found.nearness == pytest.approx((np.cos(0.3) + np.cos(1.2)) / 2)


def test_what_differs_where_the_source_differs_is_shared():
    plane = rows(0.0, 1.0, 2.0, 3.0)
    assert similarity(rows(0.4, 2.2), plane, "same plane").shared == pytest.approx(1.0)
    across = np.array([[0, 0, 1.0, 0], [0, 0, 0, 1.0]])
    assert similarity(across, plane, "other plane").shared == pytest.approx(0.0, abs=1e-12)


def test_the_nearest_source_comes_first(tiny, toy):
    half = [row for row, label in enumerate(toy.labels) if label < 4]
    near = LabeledTexts.of([toy.texts[r] for r in half], [toy.classes[toy.labels[r]] for r in half], name="near")
    far = LabeledTexts.of(["pay pay pay", "slow slow slow"] * 3, ["x", "y"] * 3, name="far")
    found = similarities(near, [far, near], tiny)
    assert [own.source for own in found] == ["near", "far"]
    assert found[0].nearness == pytest.approx(1.0, abs=1e-5)
    assert prototypes(near, tiny).shape == (4, tiny.dimension)


@pytest.mark.parametrize(
    ("nearness", "gain", "verdict"),
    [(0.6, 2.24, "worth trying"), (0.4, 0.54, "of little use"), (0.1, -2.02, "may hurt")],
)
def test_near_sources_are_expected_to_help_and_far_ones_to_hurt(nearness, gain, verdict):
    found = Similarity("source", 10, nearness, shared=0.2, confusion=0.5)
    assert found.expected_gain == pytest.approx(gain, abs=0.01)
    assert found.verdict == verdict
