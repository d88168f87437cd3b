"""Every picture says what it is given, is the same each time, and refuses what does not fit together."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from fewtext import Row, plots
from fewtext.errors import DataError
from fewtext.plots.confusion import _neighbours
from fewtext.plots.coverage import _risk
from fewtext.plots.map import _colours, _plane
from fewtext.plots.reliability import _interval
from fewtext.plots.spread import spread
from fewtext.plots.style import short_names

CLASSES = ["card_arrival", "refund", "lost $5 & $10"]
TRUTH = np.array([0, 0, 0, 1, 1, 2, 2, 2])
GUESSES = np.array([0, 1, 1, 1, 1, 2, 0, 2])
UNKNOWN = np.arange(8) > 5
PROBABILITIES = 0.7 * np.eye(3)[GUESSES] + 0.1
OWNERS = [0, 0, 1, 1, 2, 2]
VECTORS = 4 * np.eye(3, 4)[[*OWNERS, *TRUTH]] + np.random.default_rng(0).normal(size=(14, 4))
MAP = (VECTORS[:6], OWNERS, VECTORS[6:], np.where(UNKNOWN, -1, TRUTH), CLASSES)
ROWS = [
    Row(f"banking77/test/{shots}-shot/{method}", 0.5 + 0.02 * shots + gain, "accuracy", ci95=0.02)
    for method, gain in (("fewtext", 0.1), ("frozen prototypes", 0.0))
    for shots in (10, 0, 1)
]
PICTURES = {
    "accuracy": (ROWS,),
    "confusion": (TRUTH, GUESSES, CLASSES),
    "coverage": ({"margin": np.arange(8.0), "other": -np.arange(8.0)}, TRUTH == GUESSES),
    "history": ([(0, 1.0, 0.5), (1, 0.5, 0.6)], [(1, 0.7, 0.1)]),
    "map": MAP,
    "reliability": ({"before": PROBABILITIES, "after": np.full((8, 3), 1 / 3)}, TRUTH),
    "shots": (ROWS,),
}
OPTIONS = {
    "coverage": {"unknown": UNKNOWN, "thresholds": {"margin": 3.0}},
    "map": {"guesses": GUESSES, "unknown": UNKNOWN},
}
SAID = {
    "accuracy": ["banking77/test/1-shot", "frozen prototypes", "62.0"],
    "confusion": [*CLASSES, "card_arrival → refund", " 2 of 3"],
    "coverage": [
        "margin: AURC 16.4 %\nfrom 3: 50.0 % answered, 0.0 % wrong",
        "margin: AUROC 0.0 %\nfrom 3: 50.0 % answered, 0.0 % rejected",
        "other: AUROC 100.0 %",
    ],
    "history": ["validation classes"],
    "map": [*CLASSES, "query guessed wrong (2)", "text of no class (2)"],
    "reliability": ["before: ECE 17.5 %, Brier score 0.585", "after: ECE 4.2 %, Brier score 0.667", "8 texts"],
    "shots": ["banking77/test", "fewtext", "frozen prototypes", "0", "1", "10"],
}


def draw(name, path, *given, **options):
    return getattr(plots, f"draw_{name}")(*(given or PICTURES[name]), path, **(OPTIONS.get(name, {}) | options))


@pytest.fixture
def drawn(monkeypatch):
    """The pictures of this test."""
    figures, save = [], Figure.savefig

    def keeping(figure, *given, **options):
        save(figure, *given, **options)
        figures.append(figure)

    monkeypatch.setattr(Figure, "savefig", keeping)
    return figures


@pytest.fixture
def said(monkeypatch):
    """What the pictures of this test say."""
    words, save = [], Figure.savefig

    def keeping(figure, *given, **options):
        save(figure, *given, **options)
        hidden = {text for axis in figure.axes if not axis.get_visible() for text in axis.findobj(Text)}
        words.extend(text.get_text() for text in figure.findobj(Text) if text not in hidden)

    monkeypatch.setattr(Figure, "savefig", keeping)
    return words


def test_every_picture_is_tried_here():
    assert sorted(PICTURES) == sorted(SAID) == sorted(name.removeprefix("draw_") for name in plots.__all__)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_says_what_it_is_given_and_is_the_same_each_time(name, tmp_path, said):
    path = draw(name, tmp_path / "picture.png")
    pixels = imread(path)
    assert draw(name, str(tmp_path / "again.png")).read_bytes() == path.read_bytes()
    assert pixels.shape[1] >= 600
    assert pixels.std() > 0.01
    assert set(SAID[name]) <= set(said)


@pytest.mark.parametrize(("kind", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")])
def test_the_suffix_says_which_kind_of_file_it_is(kind, start, tmp_path):
    once, again = (draw("shots", tmp_path / f"{n}.{kind}").read_bytes() for n in range(2))
    assert once == again
    assert once.startswith(start)


@pytest.mark.parametrize("name", PICTURES)
def test_another_kind_of_file_is_refused(name, tmp_path):
    with pytest.raises(DataError, match=r"must end in one of \.png, \.svg, \.pdf, got '\.xyz'"):
        draw(name, tmp_path / "picture.xyz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "given", "options", "message"),
    [
        ("confusion", (TRUTH, GUESSES[:7], CLASSES), {}, r"guesses: shape \[n\] with n=8 is needed, got \(7,\)"),
        (
            "confusion",
            (TRUTH, GUESSES, CLASSES[:2]),
            {},
            "truth: whole numbers from 0 to 1 are needed, got int64 from 0",
        ),
        ("confusion", (TRUTH - 1, GUESSES, CLASSES), {}, "truth: whole numbers from 0 to 2"),
        ("confusion", (TRUTH / 1, GUESSES, CLASSES), {}, "truth: whole numbers .* got float64"),
        ("confusion", (["refund"], ["refund"], CLASSES), {}, "truth: numbers of shape"),
        ("confusion", ([], [], CLASSES), {}, r"truth: numbers .* got float64 of shape \(0,\)"),
        ("map", (*MAP[:2], np.zeros((8, 5)), *MAP[3:]), {}, r"queries: shape \[Q, D\] with D=4 is needed"),
        ("map", (MAP[0], [0, 1], *MAP[2:]), {}, "support_labels: shape"),
        ("map", MAP, {"unknown": None}, "query_labels: whole numbers"),
        ("map", MAP, {"guesses": [0, 1]}, "guesses: shape"),
        ("shots", ([Row("banking77/5-way-1-shot/fewtext", 0.5, "accuracy")],), {}, "none of 1 rows is an accuracy"),
        ("reliability", (PROBABILITIES, TRUTH[:5]), {}, r"truth: shape \[n\] with n=8"),
        ("reliability", (PROBABILITIES[:, :2], TRUTH), {}, "truth: whole numbers from 0 to 1"),
        ("reliability", (5 * PROBABILITIES, TRUTH), {}, "probabilities from 0 to 1 with sum 1"),
        ("reliability", ({"a": PROBABILITIES, "b": PROBABILITIES[:3]}, TRUTH), {}, "b: shape"),
        ("reliability", ({}, TRUTH), {}, "probabilities: an empty mapping"),
        ("reliability", (np.where(PROBABILITIES > 0.5, np.nan, 0), TRUTH), {}, "8 values are not finite"),
        ("coverage", (np.arange(8), [True] * 3), {}, "right, scores: shape"),
        ("coverage", ({"a": np.arange(8)}, {"b": UNKNOWN}), {}, r"right: nothing of the names \['a'\]"),
        ("coverage", (np.arange(8), UNKNOWN), {"unknown": [True] * 8}, "unknown: all 8 texts are of no class"),
    ],
)
def test_what_does_not_fit_together_is_refused(name, given, options, message, tmp_path):
    with pytest.raises(DataError, match=message):
        draw(name, tmp_path / "picture.png", *given, **options)


def test_of_many_classes_those_with_errors_are_in_the_matrix(tmp_path, said):
    truth = np.arange(150)
    guesses = np.where(truth < 10, truth[::-1] - 140, truth)
    draw("confusion", tmp_path / "picture.png", truth, guesses, [f"class_{n}" for n in range(150)])
    assert "the 140 classes with the fewest errors are left out" in said
    assert {"class_0", "class_9", "class_0 → class_9"} <= set(said)
    assert "class_10" not in said


def test_without_errors_there_are_no_pairs(tmp_path, said):
    draw("confusion", tmp_path / "picture.png", TRUTH, TRUTH, CLASSES)
    assert "100.0 % of 8 texts right, 3 classes" in said


@pytest.mark.parametrize("sets", [1, 4])
def test_no_legend_lies_over_curves_of_reliability(sets, tmp_path, drawn):
    draw("reliability", tmp_path / "picture.png", {f"method {n}": PROBABILITIES for n in range(sets)}, TRUTH)
    (figure,) = drawn
    (legend,) = figure.legends
    assert len(legend.get_texts()) == sets
    box = legend.get_window_extent()
    assert box.y0 > 0
    assert 0 < box.x0 < box.x1 < figure.bbox.x1
    assert not any(box.overlaps(axis.get_tightbbox()) for axis in figure.axes)


@pytest.mark.parametrize(("sets", "columns"), [(1, 1), (2, 2), (3, 3), (4, 2), (6, 3)])
def test_sets_leave_no_place_empty(sets, columns, tmp_path, drawn):
    rows = [Row(f"set {n}/{shots}-shot/fewtext", 0.5, "accuracy") for n in range(sets) for shots in (1, 2)]
    draw("shots", tmp_path / "picture.png", rows)
    (figure,) = drawn
    assert len(figure.axes) == sets
    assert figure.axes[0].get_subplotspec().get_gridspec().ncols == columns


def test_all_queries_may_be_of_no_class(tmp_path, said):
    draw("map", tmp_path / "picture.png", *MAP, guesses=None, unknown=np.ones(8))
    assert "text of no class (8)" in said


def test_confused_classes_are_neighbours():
    counts = np.zeros((6, 6), dtype=int)
    for a, b, times in [(0, 5, 9), (1, 4, 8), (4, 5, 7)]:
        counts[a, b] = times
    assert _neighbours(counts) == [1, 4, 5, 0, 2, 3]


def test_boxes_are_moved_until_none_covers_another():
    centres, sizes = np.random.default_rng(0).uniform(0, 100, (40, 2)), np.tile([20.0, 3.0], (40, 1))
    centres[:5] = centres[0]
    places = spread(centres, sizes, (0, 0), (100, 100))
    gaps = np.abs(places[:, None] - places[None])[np.triu_indices(40, 1)]
    assert ((gaps > [19.99, 0]) | (gaps > [np.inf, 2.99])).any(axis=1).all()
    assert np.abs(places - centres).max() < 30
    assert (spread(centres[5:6], sizes[:1], (0, 0), (100, 100)) == centres[5:6]).all()


def test_classes_of_one_colour_are_far_apart():
    line = np.stack([np.arange(21.0), np.zeros(21)], axis=1)
    colours = np.array(_colours(line))
    assert len(set(colours[:7])) == 7
    assert all(np.diff(np.flatnonzero(colours == colour)).min() > 2 for colour in set(colours))


@pytest.mark.parametrize("rows", [1, 2, 10, 40])
def test_places_are_between_0_and_1_however_few(rows):
    vectors = np.random.default_rng(0).normal(size=(rows, 5))
    places, method = _plane(vectors, 0)
    assert places.shape == (rows, 2)
    assert places.min() == 0
    assert places.max() == pytest.approx(1 if rows > 1 else 0)
    assert ("t-SNE" in method) == (rows > 10)


def test_the_risk_of_texts_with_one_score_is_that_of_all_of_them():
    answered, wrong, cuts = _risk(np.array([0.5, 0.9, 0.5, 0.1]), np.array([False, True, True, False]))
    assert answered.tolist() == [0.25, 0.75, 1]
    assert wrong.tolist() == [0, pytest.approx(1 / 3), 0.5]
    assert cuts.tolist() == [0.9, 0.5, 0.1]


def test_the_interval_of_a_share_stays_between_0_and_1():
    low, high = _interval(np.array([0.0, 0.5, 1.0]), np.array([4, 100, 4]))
    assert low == pytest.approx([0, 0.0962, 0.4899], abs=1e-3)
    assert high == pytest.approx([0.4899, 0.0962, 0], abs=1e-3)


def test_names_are_shortened_in_the_middle_and_stand_on_one_line():
    (long, lines) = short_names(["transfer_not_received_by_recipient", "two\n lines"], most=20)
    assert (long, lines) == ("transfer_n…recipient", "two lines")
    assert len(long) == 20


def test_a_character_that_only_another_font_has_is_shown(tmp_path, said):
    name = "\N{ARC}"  # DejaVu Sans has none, DejaVu Sans Mono does; both come with matplotlib
    draw("confusion", tmp_path / "picture.png", TRUTH, GUESSES, [name, *CLASSES[1:]])
    assert name in said


def test_a_name_that_no_font_shows_is_a_number(tmp_path, said, caplog):
    draw("confusion", tmp_path / "picture.png", TRUTH, GUESSES, ["\u0378card", *CLASSES[1:]])
    assert {"#0", "#0 → refund"} <= set(said)
    assert "no installed font has \u0378" in caplog.text


def test_without_matplotlib_an_error_says_what_to_install():
    code = "import sys; sys.modules['matplotlib'] = None; import fewtext.plots"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "FewtextError: pictures need matplotlib. Run `pip install 'fewtext[plots]'`." in done.stderr
