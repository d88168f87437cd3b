"""The figures that the README types out are those of the result files."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A figure stands as {file: row}, with the field after a dot where it is not the value: {speed: encode_fp32.ratio}.
FIGURE = re.compile(r"\{(\w+): ([^{}]+?)(?:\.(peer_value|ratio|accuracy|peer_accuracy))?\}")
HUNDRED = ("accuracy", "share", "macro-F1")  # units that are shown in percent
SENTENCES = """
AUROC {unknown: ONE/fewtext, AUROC} %, beside {unknown: ONE/frozen-logistic-regression-names, AUROC} with the
largest probability of logistic regression and {unknown: ONE/setfit, AUROC} with SetFit's

expected calibration error {unknown: ONE/fewtext, ECE}, {unknown: ONE/frozen-logistic-regression-names, ECE} and
{unknown: ONE/setfit, ECE} %

at 5 texts banking77 has {shots: banking77/5-shot/fewtext-plain} here

of six sets the nearest brings {transfer: all sources/test/nearest} points, the best
{transfer: all sources/test/best}, one at random {transfer: all sources/test/any}; where none is of the target's own
collection, {transfer: sources of other collections/test/nearest},
{transfer: sources of other collections/test/best} and {transfer: sources of other collections/test/any}

with {distill: banking77/10-shot/refined teacher, student of 0 layers/student − teacher} to
{distill: banking77/10-shot/plain teacher, student of 0 layers/student − teacher} points of its accuracy

| encoding, fp32 | {speed: encode_fp32} texts/s |
sentence-transformers, {speed: encode_fp32.peer_value} texts/s | {speed: encode_fp32.ratio} |

| {speed: encode_bf16} texts/s |
sentence-transformers, {speed: encode_bf16.peer_value} texts/s | {speed: encode_bf16.ratio} |

| fitting 77 classes of 5 texts | {speed: fit_plain} s, accuracy {speed: fit_plain.accuracy} % |
SetFit, {speed: fit_plain.peer_value} s, {speed: fit_plain.peer_accuracy} % | {speed: fit_plain.ratio} |

| the same with `refine=True` | {speed: fit_refined} s, accuracy {speed: fit_refined.accuracy} % |
SetFit, {speed: fit_refined.peer_value} s, {speed: fit_refined.peer_accuracy} % | {speed: fit_refined.ratio} |

| one text at a time, p95 | {speed: single_text_p95} ms |
sentence-transformers + logistic regression, {speed: single_text_p95.peer_value} ms | {speed: single_text_p95.ratio} |

| a meta-step of first-order MAML | {speed: inner_loop} s |
learn2learn's loop, {speed: inner_loop.peer_value} s | {speed: inner_loop.ratio} |

| a meta-step of prototypical networks | {speed: prototypical_step} s |
one padded batch, {speed: prototypical_step.peer_value} s | {speed: prototypical_step.ratio} |
""".replace("ONE", "clinc150/5-shot/out-of-scope-texts")
METHODS = {
    "**fewtext**": "fewtext-plain",
    "**fewtext, `refine=True`**": "fewtext-refined",
    "logistic regression (C=100) on sentence-transformers": "frozen-logistic-regression",
    "the same with label names": "frozen-logistic-regression-names",
    "SetFit": "setfit",
    "FastFit, a quarter of its epochs": "fastfit-reduced",
}
SETS = ("banking77", "clinc150", "hwu64")
ALONE = ("banking77", "hwu64")  # that have one draw of FastFit's own recipe
PANELS = [f"{place}/{shots}-shot" for place in (*SETS, "sst5", "cr") for shots in (5, 10)]
NUMBERS = {2: "two", 8: "eight", 9: "nine", 10: "ten"}


@pytest.fixture(scope="module")
def readme():
    return " ".join((ROOT / "README.md").read_text("utf-8").split())


def row(file, name):
    rows = json.loads((ROOT / f"recipes/benchmarks/results/{file}.json").read_text("utf-8"))["rows"]
    return next(row for row in rows if row["name"] == name)


def figure(found):
    """As the README types a figure: a share in percent, with its interval; a time by its size."""
    file, name, field = found.groups()
    own = row(file, name)
    if field == "ratio":
        return f"{own['ratio']:.{1 if own['ratio'] < 10 else 0}f}"
    if field in ("accuracy", "peer_accuracy"):
        return f"{100 * own[field]:.1f}"
    value = own[field or "value"]
    if own["unit"] in (*HUNDRED, "points"):
        sure = "ci95" in own
        by, sign = (1, "+" if sure else "") if own["unit"] == "points" else (100, "")
        return f"{by * value:{sign}.1f}" + (f" ± {by * own['ci95']:.1f}" if sure else "")
    return f"{value:.1f}" if own["unit"].startswith("s per") or value < 10 or own["unit"] == "ms" else f"{value:.0f}"


@pytest.mark.parametrize("sentence", [" ".join(own.split()) for own in SENTENCES.split("\n\n")])
def test_a_sentence_has_the_figures_of_the_results(sentence, readme):
    expected = FIGURE.sub(figure, sentence).replace("-0.", "−0.")
    assert expected in readme


@pytest.mark.parametrize("heading", METHODS)
def test_the_table_of_classifiers_has_the_figures_of_the_results(heading, readme):
    cells = [
        FIGURE.sub(figure, f"{{full_label: {place}/5-shot/{method}}}, {{full_label: {place}/5-shot/{method}, fit}} s")
        for method in [METHODS[heading]]
        for place in SETS
    ]
    assert f"| {heading} | {' | '.join(cells)} |" in readme


def compared(ours, other):
    """Our smallest and largest lead over all panels, in points, and in how many of them it is certain."""
    rows = [row("full_label", f"{panel}/{ours} − {other}") for panel in PANELS]
    points = [own["value"] for own in rows]
    return min(points), max(points), NUMBERS.get(sum(own["value"] > own["ci95"] for own in rows))


def test_what_is_said_of_all_panels_holds(readme):
    least, most, _ = compared("fewtext-plain", "frozen-logistic-regression-names")
    said = f"equals logistic regression with label names (−{-least:.1f} to +{most:.1f} points in ten panels)"
    assert said in readme
    least, most, sure = compared("fewtext-refined", "frozen-logistic-regression-names")
    said = f"adds {least:.1f} to {most:.1f} points to that, with an interval above zero in {sure} of the ten"
    assert said in readme
    least, most, sure = compared("fewtext-refined", "setfit")
    said = f"is {least:.1f} to {most:.1f} points better than SetFit, in {sure} of the ten above zero, too"
    assert said in readme
    least, _, _ = compared("fewtext-refined", "fastfit-reduced")
    assert least > 0
    assert "With a quarter of its epochs it is behind everywhere." in readme


def test_what_is_said_of_fastfits_own_recipe_holds(readme):
    panels = [f"{place}/{shots}-shot" for place in ("sst5", "cr") for shots in (5, 10)]
    behind = [row("full_label", f"{panel}/fewtext-refined − fastfit-readme") for panel in panels]
    points = [-own["value"] for own in behind]
    sure = NUMBERS[sum(own["value"] < -own["ci95"] for own in behind)]
    times = [
        row("full_label", f"{panel}/fastfit-readme, fit")["value"]
        / row("full_label", f"{panel}/fewtext-refined, fit")["value"]
        for panel in (*panels, "hwu64/5-shot")
    ]
    lead = [row("full_label", f"{one}/5-shot/fewtext-refined − fastfit-readme")["value"] for one in ALONE]
    said = f"FastFit is {lead[0]:.1f} points behind refining on banking77 and {lead[1]:.1f} on hwu64, and takes"
    assert f"{said} {times.pop():.0f} times as long" in readme
    alone = [f"{100 * row('full_label', f'{one}/5-shot/fastfit-readme')['value']:.1f}" for one in ALONE]
    assert f"| FastFit | {alone[0]} | | {alone[1]}, 1327 s |" in readme
    said = f"it is {min(points):.1f} to {max(points):.1f} points ahead, in {sure} of four panels certainly, and takes"
    assert f"{said} {min(times):.0f} to {max(times):.0f} times as long" in readme


def test_what_is_said_of_labelling_holds(readme):
    rows = json.loads((ROOT / "recipes/benchmarks/results/labelling.json").read_text("utf-8"))["rows"]
    times = [row["value"] for row in rows if row["unit"] == "times"]
    assert len(times) == 4
    assert f"go {min(times):.1f} to {max(times):.1f} times as far as random ones" in readme
