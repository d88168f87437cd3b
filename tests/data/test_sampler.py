"""The laws of episodes: exact sizes, no text on both sides, and episode i always the same."""

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fewtext.data.sampler import EpisodeSampler, EpisodeSpec, format_count, parse_count
from fewtext.data.texts import LabeledTexts, normalise
from fewtext.errors import EpisodeError

laws = settings(max_examples=100, deadline=None)


def corpus(sizes, word="text", repeats=0):
    """Classes of so many different texts; the first few of each also stand there in capitals."""
    rows = [(f"{word} {label} {row}", f"class {label}") for label, size in enumerate(sizes) for row in range(size)]
    rows += [
        (f" {word.upper()}  {label} {row}", f"class {label}") for label in range(len(sizes)) for row in range(repeats)
    ]
    texts, labels = zip(*rows, strict=True)
    return LabeledTexts.of(texts, labels, name=word)


@st.composite
def counts(draw, low, high):
    first = draw(st.integers(low, high))
    return draw(st.just(first) | st.integers(first, high).map(lambda last: range(first, last + 1)))


@st.composite
def specs(draw, ways, each):
    shots, queries = draw(
        st.tuples(counts(0, each), counts(1, each))
        | st.tuples(st.just("all"), counts(1, each))
        | st.tuples(counts(0, each), st.just("all"))
    )
    return EpisodeSpec(draw(counts(2, ways) | st.just("all")), shots, queries)


@st.composite
def episodes(draw):
    """A sampler of feasible episodes over texts with repetitions, and one of its episodes."""
    sizes = draw(st.lists(st.integers(8, 12), min_size=2, max_size=6))
    texts = corpus(sizes, repeats=draw(st.integers(0, 8)))
    sampler = EpisodeSampler(texts, draw(specs(len(sizes), 4)), seed=draw(st.integers(0, 2**32)))
    return sampler, sampler[draw(st.integers(0, 10**6))]


def per_class(labels, episode):
    return np.bincount(labels, minlength=len(episode.classes)).tolist()


def fits(count, numbers, everything):
    if count == "all":
        return numbers == everything
    return len(set(numbers)) == 1 and numbers[0] in (count if isinstance(count, range) else [count])


def different_texts(sampler, episode):
    own = sampler.sources[episode.source]
    return [
        len({normalise(text) for text, label in zip(own.texts, own.labels, strict=True) if label == wanted})
        for wanted in episode.classes
    ]


def contents(episode):
    return (episode.source, *(getattr(episode, key).tolist() for key in ("classes", "support", "query")))


def source_numbers(sampler, number):
    return [sampler[i].source for i in range(number)]


@laws
@given(episodes())
def test_an_episode_has_as_many_different_classes_as_the_spec_says(drawn):
    sampler, episode = drawn
    assert fits(sampler.spec.ways, [len(set(episode.classes.tolist()))], [len(sampler.classes())])
    assert len(set(episode.classes.tolist())) == len(episode.classes)


@pytest.mark.parametrize(("kind", "other"), [("shots", "queries"), ("queries", "shots")])
@laws
@given(episodes())
def test_every_class_has_as_many_texts_of_each_kind_as_the_spec_says(kind, other, drawn):
    sampler, episode = drawn
    labels = {"shots": episode.support_labels, "queries": episode.query_labels}
    taken = per_class(labels[other], episode)
    rest = [size - number for size, number in zip(different_texts(sampler, episode), taken, strict=True)]
    assert fits(getattr(sampler.spec, kind), per_class(labels[kind], episode), rest)


@laws
@given(episodes())
def test_a_text_never_stands_in_support_and_query(drawn):
    sampler, episode = drawn
    texts = sampler.sources[episode.source].texts
    rows = [*episode.support.tolist(), *episode.query.tolist()]
    assert len({normalise(texts[row]) for row in rows}) == len(rows)


@laws
@given(episodes())
def test_labels_are_positions_in_the_classes_of_the_episode(drawn):
    sampler, episode = drawn
    labels = sampler.sources[episode.source].labels
    assert labels[episode.support].tolist() == episode.classes[episode.support_labels].tolist()
    assert labels[episode.query].tolist() == episode.classes[episode.query_labels].tolist()


@laws
@given(episodes(), st.lists(st.integers(0, 10**6), min_size=1, max_size=5))
def test_an_episode_is_the_same_in_a_fresh_sampler_and_in_any_order(drawn, numbers):
    sampler, _ = drawn
    fresh = EpisodeSampler(sampler.sources[0], sampler.spec, seed=sampler.seed)
    first = [contents(sampler[number]) for number in numbers]
    assert [contents(fresh[number]) for number in reversed(numbers)] == first[::-1]


def test_all_shots_leave_only_the_queries():
    episode = EpisodeSampler(corpus([5, 7, 9]), EpisodeSpec(ways=3, shots="all", queries=2))[0]
    assert sorted(per_class(episode.support_labels, episode)) == [3, 5, 7]
    assert per_class(episode.query_labels, episode) == [2, 2, 2]


def test_all_queries_are_what_the_shots_leave():
    episode = EpisodeSampler(corpus([5, 7, 9]), EpisodeSpec(ways=3, shots=2, queries="all"))[0]
    assert per_class(episode.support_labels, episode) == [2, 2, 2]
    assert sorted(per_class(episode.query_labels, episode)) == [3, 5, 7]


def test_all_ways_are_the_classes_that_have_enough_texts():
    sampler = EpisodeSampler(corpus([5, 2, 6]), EpisodeSpec(ways="all", shots=2, queries=3))
    assert sorted(sampler[0].classes.tolist()) == [0, 2]
    assert sampler.classes() == ["class 0", "class 2"]


def test_a_zero_shot_episode_has_queries_only():
    episode = EpisodeSampler(corpus([3, 3]), EpisodeSpec(ways=2, shots=0, queries=2))[0]
    assert (len(episode.support), len(episode.support_labels), len(episode.query)) == (0, 0, 4)


def test_every_number_of_a_range_is_drawn():
    spec = EpisodeSpec(ways=range(2, 5), shots=range(1, 4), queries=range(2, 4))
    sampler = EpisodeSampler(corpus([9] * 6), spec)
    drawn = [sampler[i] for i in range(200)]
    assert {len(episode.classes) for episode in drawn} == {2, 3, 4}
    assert {per_class(episode.support_labels, episode)[0] for episode in drawn} == {1, 2, 3}
    assert {per_class(episode.query_labels, episode)[0] for episode in drawn} == {2, 3}


def test_ways_beyond_the_classes_there_are_end_at_those():
    sampler = EpisodeSampler(corpus([4] * 3), EpisodeSpec(ways=range(2, 20), shots=1, queries=1))
    assert {len(sampler[i].classes) for i in range(50)} == {2, 3}


def test_every_class_stands_at_every_position():
    sampler = EpisodeSampler(corpus([3] * 4), EpisodeSpec(ways=3, shots=1, queries=1))
    drawn = np.array([sampler[i].classes for i in range(200)])
    assert [set(drawn[:, position].tolist()) for position in range(3)] == [{0, 1, 2, 3}] * 3


def test_every_text_is_drawn_on_either_side():
    sampler = EpisodeSampler(corpus([4, 4]), EpisodeSpec(ways=2, shots=1, queries=1))
    drawn = [sampler[i] for i in range(200)]
    assert {row for episode in drawn for row in episode.support.tolist()} == set(range(8))
    assert {row for episode in drawn for row in episode.query.tolist()} == set(range(8))


def test_other_seeds_and_other_numbers_are_other_episodes():
    samplers = [EpisodeSampler(corpus([20] * 10), seed=seed) for seed in range(3)]
    drawn = [contents(sampler[i]) for sampler in samplers for i in range(3)]
    assert len({str(content) for content in drawn}) == 9


def test_episodes_below_zero_do_not_exist():
    with pytest.raises(IndexError, match="-1"):
        EpisodeSampler(corpus([20] * 5))[-1]


def test_mixed_sources_all_appear_but_an_episode_draws_from_one():
    sources = [corpus([6] * 3, "one"), corpus([6] * 3, "two")]
    sampler = EpisodeSampler(sources, EpisodeSpec(ways=2, shots=2, queries=2))
    assert set(source_numbers(sampler, 50)) == {0, 1}
    assert max(max(contents(sampler[i])[2]) for i in range(50)) < len(sources[0])


def test_without_weights_a_source_is_drawn_in_proportion_to_its_usable_classes():
    sources = [corpus([4] * 9 + [1] * 9, "one"), corpus([4] * 3, "two")]
    drawn = source_numbers(EpisodeSampler(sources, EpisodeSpec(ways=2, shots=2, queries=2)), 1000)
    assert np.mean(drawn) == pytest.approx(0.25, abs=0.05)


def test_weights_say_how_often_a_source_is_drawn():
    sources = [corpus([4] * 9, "one"), corpus([4] * 3, "two")]
    drawn = source_numbers(EpisodeSampler(sources, EpisodeSpec(2, 2, 2), weights=[1, 4]), 1000)
    assert np.mean(drawn) == pytest.approx(0.8, abs=0.05)


def test_a_source_of_weight_zero_is_never_drawn():
    sources = [corpus([4] * 3, "one"), corpus([4] * 3, "two")]
    assert set(source_numbers(EpisodeSampler(sources, EpisodeSpec(2, 2, 2), weights=[0, 1]), 100)) == {1}


@pytest.mark.parametrize("weights", [[1], [1, 1, 1], [1, -1], [0, 0], [float("nan"), 1]])
def test_weights_that_make_no_sense_are_refused(weights):
    with pytest.raises(EpisodeError, match="2 numbers ≥ 0 are needed"):
        EpisodeSampler([corpus([4] * 3, "one"), corpus([4] * 3, "two")], EpisodeSpec(2, 2, 2), weights=weights)


def test_repeated_texts_count_once():
    sampler = EpisodeSampler(corpus([6, 6], repeats=4), EpisodeSpec(ways=2, shots="all", queries=1))
    assert sampler.excluded == {"duplicate": 8}
    assert len(sampler[0].support) == 10


def test_a_text_under_two_labels_is_left_out_of_both():
    texts = LabeledTexts.of(["a1", "a2", "Both", "b1", "b2", "both "], ["a", "a", "a", "b", "b", "b"])
    sampler = EpisodeSampler(texts, EpisodeSpec(ways=2, shots="all", queries=1))
    assert sampler.excluded == {"two labels": 2}
    assert sorted([*sampler[0].support, *sampler[0].query]) == [0, 1, 3, 4]


def test_a_text_of_two_sources_belongs_to_the_first():
    first, second = corpus([4, 4]), corpus([2, 6], repeats=0)
    more = LabeledTexts.of([*second.texts, "x", "y"], ["a"] * 2 + ["b"] * 6 + ["a"] * 2)
    sampler = EpisodeSampler([first, more], EpisodeSpec(ways=2, shots=1, queries=1), weights=[0, 1])
    drawn = {more.texts[row] for i in range(50) for row in [*sampler[i].support, *sampler[i].query]}
    assert sampler.excluded == {"other source": 6}
    assert drawn == {"x", "y", "text 1 4", "text 1 5"}


def test_excluded_texts_never_appear_in_any_spelling():
    test = LabeledTexts.of(["TEXT 0  0", "Text 1 3", "unrelated"], ["p", "q", "r"])
    sampler = EpisodeSampler(corpus([4, 4]), EpisodeSpec(ways=2, shots="all", queries=1), exclude=[test])
    assert sampler.excluded == {"excluded": 2}
    assert sorted([*sampler[0].support, *sampler[0].query]) == [1, 2, 3, 4, 5, 6]


def test_classes_that_lose_too_many_texts_are_not_drawn():
    sampler = EpisodeSampler(corpus([4, 4, 4]), EpisodeSpec(2, 2, 2), exclude=[LabeledTexts.of(["text 1 0"], ["x"])])
    assert sampler.classes() == ["class 0", "class 2"]


def test_an_impossible_spec_is_refused_with_its_numbers():
    with pytest.raises(EpisodeError) as refusal:
        EpisodeSampler(corpus([9, 9, 6, 2], "mine"), EpisodeSpec(ways=3, shots=3, queries=5))
    assert str(refusal.value) == (
        "mine: 2 of 4 classes have the 8 different texts that shots=3 + queries=5 need; ways=3 is impossible. "
        "Lower ways to 2, or queries to 3."
    )


def test_any_source_that_is_too_small_is_named():
    with pytest.raises(EpisodeError, match="small: 0 of 2 classes"):
        EpisodeSampler([corpus([9, 9], "large"), corpus([2, 2], "small")], EpisodeSpec(2, 2, 2))


@laws
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), specs(8, 6))
def test_the_advice_of_a_refusal_works(sizes, spec):
    texts, message = corpus(sizes), ""
    try:
        EpisodeSampler(texts, spec)
    except EpisodeError as error:
        message = str(error)
    assume(message)
    advice = re.findall(r"(ways|shots \+ queries|queries) to (\d+)", message)
    assert advice or "Give more classes or more texts" in message
    for what, number in advice:
        ways, shots, queries = spec.ways, spec.shots, spec.queries
        if what == "ways":
            ways = int(number)
        elif what == "queries":
            queries = int(number)
        else:
            shots, queries = int(number) - 1, 1
        assert len(EpisodeSampler(texts, EpisodeSpec(ways, shots, queries))[0].query) >= 2


@pytest.mark.parametrize(
    "counts",
    [
        {"ways": 1},
        {"ways": range(1, 5)},
        {"ways": range(5, 5)},
        {"shots": -1},
        {"shots": range(-1, 3)},
        {"queries": 0},
        {"queries": range(0, 3)},
        {"shots": "all", "queries": "all"},
    ],
    ids=str,
)
def test_a_spec_that_cannot_be_an_episode_is_refused(counts):
    with pytest.raises(EpisodeError):
        EpisodeSpec(**counts)


def test_a_spec_reads_like_a_paper():
    assert str(EpisodeSpec(range(5, 11), 1, "all")) == "5-10-way 1-shot, all queries"


@laws
@given(st.one_of(st.just("all"), counts(0, 50)))
def test_a_count_is_read_back_as_it_was_written(count):
    assert parse_count(format_count(count)) == count


def test_the_end_of_a_written_range_is_included():
    assert list(parse_count("5-7")) == [5, 6, 7]


@pytest.mark.parametrize("text", ["", "a", "-1", "5-", "-5", "10-5", "1.5", "5 - 10", "All", "5\n", "1-2-3"])
def test_what_is_no_count_is_refused(text):
    with pytest.raises(EpisodeError, match=re.escape(repr(text))):
        parse_count(text)
