"""Episodes written to a file come back the same, for the very same texts only."""

import json

import numpy as np
import pytest

from fewtext.data.episode_file import FIELDS, read_episodes, write_episodes
from fewtext.data.sampler import EpisodeSampler, EpisodeSpec
from fewtext.data.texts import LabeledTexts
from fewtext.errors import EpisodeError


@pytest.fixture
def other():
    return LabeledTexts.of([f"other {row}" for row in range(12)], [f"o{row % 3}" for row in range(12)], name="other")


@pytest.fixture
def sampler(toy, other):
    return EpisodeSampler([toy, other], EpisodeSpec(ways=range(2, 4), shots=2, queries=2), seed=7)


def changed(texts, rows=None, labels=None):
    names = [texts.classes[label] for label in texts.labels]
    return LabeledTexts.of(rows or texts.texts, labels or names, name=texts.name)


def test_episodes_come_back_as_they_were_written(sampler, tmp_path):
    episodes = read_episodes(write_episodes(tmp_path / "episodes.json", sampler, 6), sampler.sources)
    assert [episode.source for episode in episodes] == [sampler[i].source for i in range(6)]
    for number, episode in enumerate(episodes):
        for key in FIELDS:
            assert np.array_equal(getattr(episode, key), getattr(sampler[number], key)), key
            assert getattr(episode, key).dtype == np.int64


def test_a_single_source_needs_no_list(toy, tmp_path):
    path = write_episodes(tmp_path / "episodes.json", EpisodeSampler(toy, EpisodeSpec(2, 0, 2)), 2)
    assert [len(episode.support) for episode in read_episodes(path, toy)] == [0, 0]


def test_missing_folders_are_made(toy, tmp_path):
    assert write_episodes(tmp_path / "a" / "b.json", EpisodeSampler(toy, EpisodeSpec(2, 1, 1)), 1).is_file()


def test_the_file_says_how_it_was_drawn_and_holds_no_text(sampler, tmp_path):
    written = write_episodes(tmp_path / "episodes.json", sampler, 3).read_text("utf-8")
    content = json.loads(written)
    assert (content["spec"], content["seed"]) == ("2-3-way 2-shot, 2 queries", 7)
    assert [source["name"] for source in content["sources"]] == ["toy", "other"]
    assert not any(text in written for texts in sampler.sources for text in texts.texts)


def test_episodes_of_another_kind_are_refused(toy, tmp_path):
    path = write_episodes(tmp_path / "episodes.json", EpisodeSampler(toy, EpisodeSpec(2, 1, 1)), 1)
    assert len(read_episodes(path, toy, EpisodeSpec(2, 1, 1))) == 1
    with pytest.raises(EpisodeError, match=r"episodes.json: written for 2-way 1-shot, 1 queries, not 3-way 1-shot"):
        read_episodes(path, toy, EpisodeSpec(3, 1, 1))


def test_texts_that_changed_are_refused(toy, tmp_path):
    path = write_episodes(tmp_path / "episodes.json", EpisodeSampler(toy, EpisodeSpec(2, 1, 1)), 1)
    with pytest.raises(EpisodeError, match=r"episodes.json: written for other texts than toy"):
        read_episodes(path, changed(toy, rows=["something else", *toy.texts[1:]]))


def test_labels_that_changed_are_refused(toy, tmp_path):
    path = write_episodes(tmp_path / "episodes.json", EpisodeSampler(toy, EpisodeSpec(2, 1, 1)), 1)
    with pytest.raises(EpisodeError, match="other texts"):
        read_episodes(path, changed(toy, labels=["class_7", *(toy.classes[label] for label in toy.labels[1:])]))


def test_sources_in_another_order_are_refused(sampler, tmp_path):
    path = write_episodes(tmp_path / "episodes.json", sampler, 1)
    with pytest.raises(EpisodeError, match="other texts than other, toy"):
        read_episodes(path, sampler.sources[::-1])


def test_a_source_too_few_is_refused(sampler, tmp_path):
    path = write_episodes(tmp_path / "episodes.json", sampler, 1)
    with pytest.raises(EpisodeError, match="other texts than toy"):
        read_episodes(path, sampler.sources[0])


@pytest.mark.parametrize(
    "content",
    ["", "not json", "[]", "{}", '{"sources": []}', '{"sources": [], "episodes": [{"source": 0}]}', "\udcff"],
)
def test_what_is_no_file_of_episodes_is_refused(content, toy, tmp_path):
    path = tmp_path / "other.json"
    path.write_text(content, "utf-8", errors="surrogateescape")
    with pytest.raises(EpisodeError, match=r"other.json: not a file of episodes"):
        read_episodes(path, toy)


def test_a_missing_file_is_refused_by_name(toy, tmp_path):
    with pytest.raises(EpisodeError, match=r"nothing.json: not a file of episodes \(FileNotFoundError"):
        read_episodes(tmp_path / "nothing.json", toy)
