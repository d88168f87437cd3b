"""Model cards: facts only, and nothing that came from elsewhere is alive in them."""

import re
from functools import cache

import pytest
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st

from fewtext.artifact.card import model_card, snippets

BASE = "sentence-transformers/all-MiniLM-L6-v2"
LORA = {"rank": 8, "alpha": 16, "targets": ["query", "value"], "from_layer": 0}
HOSTILE = (
    "one\n---\nlicense: mit¶---¶0---¶# heading\n\n- [ ] a\n> b¶yes¶null¶1e3¶a|b||c\\|d¶`a` ``b`` ```¶\\`a\\¶"
    "```\n<b>out</b>¶</td><script>alert(1)</script>¶<img src='x' onerror='alert(1)'>¶&lt;b&gt; &#60;i&#62; & more¶"
    "![x](http://evil.example/pixel.png)¶[click](javascript:alert(1))¶www.evil.org, http://evil.org, a@b.c¶"
    "{{ 7 * 7 }}{% raw %}¶$$\\href{javascript:alert(1)}{x}$$¶\u202egnp.exe\u202c\u2066x\u2069¶zero\u200bwidth\ufeff¶"
    "NUL\0 and \x1b[31mred¶lone \ud800 surrogate¶line\u2028and\u2029paragraph\x85"
).split("¶")
HOSTILE += ["", " ", "x" * 300]
PLACE = "banking77/5-way-1-shot"
RESULTS = [
    {"name": f"{PLACE}/prototypical", "value": 0.8123, "half": 0.0071, "unit": "accuracy", "n": 600},
    {"name": f"{PLACE}/frozen prototypes", "value": 0.79, "half": None, "unit": "accuracy", "n": 600},
    {"name": f"{PLACE}/difference", "value": 2.23, "half": 0.3, "unit": "points", "n": 600},
]
CARD = {"name": "banking77", "title": "BANKING77", "licence": "CC-BY-4.0", "publish_models": True}
CARD |= {"commercial_use": None, "language": ["en"], "hub": "mteb/banking77", "citation": "Casanueva et al. 2020"}
FACTS = {"data": {"sources": ["banking77/train"], "split": 3, "cards": [CARD]}, "results": RESULTS}
FACTS |= {"episodes": "5-way 1-shot", "loop": {"steps": 1234}, "seed": 20261, "hardware": "two cores"}
FACTS |= {"calibration": {"ECE": 0.031}, "confusable": [["lost_card", "stolen_card", 0.934]]}


def describe(labels=("a", "b"), kind="classifier", style="merged", facts=(), lora=None, base=BASE, config=()):
    made = {"format_version": 1, "fewtext_version": "0.1.0", "style": style, "kind": kind, "facts": dict(facts)}
    made["learner"] = {"name": "prototypical", "config": dict(config)}
    made["encoder"] = {"id": base, "revision": None, "sha256": "5" * 64, "lora": lora, "bf16": False}
    made |= {"settings": {"method": "linear"}, "versions": {"torch": "2.13.0"}}
    return made | {"labels": list(labels) if kind == "classifier" else []}


def everywhere(labels):
    """Return a description with names in every place that takes some."""
    names = [str(label) for label in labels]
    cards = [dict.fromkeys(CARD, name) | {"language": [name + "!"]} for name in names]
    facts = {
        "results": [{"name": name, "value": 0.5, "unit": "accuracy"} for name in names],
        "confusable": [[name, name, 0.5] for name in names],
        "data": {"sources": names, "cards": cards},
        "loop": {str(number): name for number, name in enumerate(names)},
        "rejection": dict.fromkeys(names, 1),
    }
    return describe(labels, facts=FACTS | facts, config={"distance": names})


def skeleton(text):
    """Return the body without what stands in code spans."""
    body = text.split("\n---\n", 1)[1].replace("```", "")
    assert not set(body) & set("<>\0\x1b\x85\r\u200b\u2028\u202e\u2066\ud800\ufeff")
    assert all(line.count("`") % 2 == 0 for line in body.splitlines())
    assert "|" not in "".join(re.findall(r"`([^`\n]+)`", body))
    return re.sub(r"`[^`\n]+`|\(empty\)", "·", body)


@cache
def harmless(*numbers):
    return skeleton(model_card(everywhere([f"name {number}" for number in numbers])))


def check(labels):
    text = model_card(everywhere(labels))
    text.encode("utf-8")
    card = ModelCard(text)
    assert card.content == text
    assert len(card.data.eval_results or ()) == len(labels)
    distinct = list(dict.fromkeys(map(str, labels)))
    assert skeleton(text) == harmless(*(distinct.index(str(label)) for label in labels))


NAMES = st.text(st.characters()) | st.lists(st.sampled_from(HOSTILE), min_size=1, max_size=3).map("".join)


@settings(max_examples=1000, deadline=None)
@given(st.lists(NAMES | st.integers() | st.booleans() | st.floats(), max_size=3))
def test_no_label_breaks_the_front_matter_or_comes_alive_in_the_body(labels):
    check(labels)


@pytest.mark.parametrize("label", HOSTILE)
def test_no_hostile_name_breaks_the_front_matter_or_comes_alive_in_the_body(label):
    check([label, "fine", label])


def test_a_markdown_reader_finds_no_html_link_or_image():
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"html": True}).enable("table")
    tokens = markdown.parse(ModelCard(model_card(everywhere(HOSTILE))).text)
    found = {token.type for block in tokens for token in [block, *(block.children or [])]}
    assert not found & {"html_block", "html_inline", "link_open", "image", "hr", "blockquote_open"}
    assert sum(token.type == "heading_open" for token in tokens) == 9
    assert sum(token.type == "td_open" for token in tokens) == len(HOSTILE) * (2 + 5 + 6 + 3)


KINDS = st.sampled_from(["learner", "classifier"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*FACTS, *CARD, "cards"]), inner),
    max_leaves=9,
)


@settings(max_examples=100, deadline=None)
@given(KINDS, st.dictionaries(st.sampled_from([*FACTS, "texts", "base", "rejection", "licence"]), JSON))
def test_facts_of_any_shape_give_a_card(kind, facts):
    text = model_card(describe(kind=kind, facts=facts))
    text.encode("utf-8")
    assert ModelCard(text).content == text


@pytest.mark.parametrize("kind", ["learner", "classifier"])
@pytest.mark.parametrize(("style", "lora"), [("merged", LORA), ("adapter", LORA), ("adapter", None)])
def test_front_matter(kind, style, lora):
    entries = ModelCard(model_card(describe(kind=kind, style=style, lora=lora, facts=FACTS))).data.to_dict()
    merged = {"classifier": "transformers", "learner": "sentence-transformers"}[kind]
    assert entries["library_name"] == (merged if style == "merged" else "peft" if lora else "fewtext")
    assert entries["pipeline_tag"] == {"classifier": "text-classification", "learner": "feature-extraction"}[kind]
    assert entries["base_model_relation"] == {"merged": "finetune", "adapter": "adapter"}[style]
    assert entries["base_model"] == BASE
    assert (entries["datasets"], entries["language"]) == (["mteb/banking77"], ["en"])
    assert entries["tags"] == ["fewtext", "few-shot", "meta-learning", "prototypical"]
    assert "license" not in entries  # that of the data is not that of the model


def test_what_is_known_is_said_and_own_results_are_in_the_model_index():
    text = model_card(describe(facts=FACTS))
    assert f"| `{PLACE}` | `prototypical` | `accuracy, %` | `81.2 ± 0.7` | 600 |" in text
    assert "| `frozen prototypes` | `accuracy, %` | `79.0` | 600 |" in text
    assert "| `difference` | `points` | `2.23 ± 0.3` | 600 |" in text
    (result,) = ModelCard(text).data.eval_results
    assert (result.dataset_type, result.dataset_config) == ("mteb/banking77", "5-way-1-shot")
    assert (result.metric_value, result.metric_args) == (0.8123, {"ci95": 0.0071, "n": 600})
    for words in ("`5-way 1-shot`", "Seed: 20261", "`steps` 1234", "`two cores`", "`ECE` 0.031", "`CC-BY-4.0`"):
        assert words in text
    assert ModelCard(model_card(describe(facts={"licence": "Apache-2.0"}))).data.license == "apache-2.0"


@pytest.mark.parametrize("kind", ["learner", "classifier"])
def test_what_is_not_known_is_left_out_or_said_to_be_so(kind):
    text = model_card(describe(kind=kind, base=None))
    assert set(ModelCard(text).data.to_dict()) == {"library_name", "pipeline_tag", "tags"}
    for words in ("Seed", "Hardware", "Episodes", "Revision", "confused", "None"):
        assert words not in text
    assert "## Data and licence\n\nNot known." in text
    assert "## Results\n\nNot measured." in text
    assert ("- Calibration: `not measured`\n- Rejection: `none" in text) is (kind == "classifier")


def test_a_classifier_names_the_data_of_its_base_too():
    text = model_card(describe(facts={"texts": 6, "base": FACTS}))
    assert ModelCard(text).data.datasets == ["mteb/banking77"]
    assert "| `BANKING77` | `CC-BY-4.0` | `en` | not known | yes |" in text
    assert "- Meta-training, sources: `banking77/train`\n" in text
    assert "Not measured." in text  # its results are not the classifier's


def test_many_labels_are_counted():
    text = model_card(describe(range(10_000)))
    assert "| `49` | `49` |\n\nand 9,950 more, 10,000 in all\n" in text
    assert len(text) < 10_000


SECRETS = ["/home/bob/x", "in '/home/bob'", "~/bob", "C:\\bob", "\\\\host\\bob", "file:///bob", "hf_" + "bob" * 11]


@pytest.mark.parametrize("secret", SECRETS)
def test_no_path_of_this_machine_and_no_token(secret):
    text = model_card(everywhere([secret, "fine"]) | {"settings": {"base": secret}}, repo_id=secret)
    text += model_card(describe(base=secret, lora=LORA, style="adapter", kind="learner", facts={"licence": secret}))
    assert "bob" not in text


@pytest.mark.parametrize("label", ["Science & Art", "yes/no", "r/python", "C++/C#", "§ 5", "می‌خواهم", "https://x.y"])
def test_ordinary_labels_are_shown_as_they_are(label):
    assert f"| `{label}` |" in model_card(describe([label]))


@pytest.mark.parametrize("kind", ["learner", "classifier"])
@pytest.mark.parametrize(("style", "lora"), [("merged", LORA), ("adapter", LORA), ("adapter", None)])
def test_snippets_are_whole_programs(kind, style, lora):
    description = describe(kind=kind, style=style, lora=lora)
    own = ["sentence-transformers"] if style == "merged" else ["peft"] if lora else []
    own += ["transformers"] if (kind, style) == ("classifier", "merged") else []
    found = snippets(description, "me/my-model")
    assert sorted(found) == sorted(["fewtext", *own])
    for name, code in found.items():
        compile(code, name, "exec")
        assert '"me/my-model"' in code
        assert code in model_card(description, "me/my-model")
