"""The model card of an artifact: a README.md of facts only; what is not known is left out, or said to be so.

Hub pages render HTML and load images, and names of labels, data sets and results may come from anyone. So every value
stands in a code span that nothing in it can end, and what looks like a place on this machine or a token is left out.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from fewtext.artifact.writing import library
from fewtext.results import SHARES

EXAMPLE = "your-name/your-model"
MOST, LONGEST = 50, 160  # rows of a table, the rest is counted; characters of a value
CARD = ("title", "licence", "language", "commercial_use", "publish_models", "citation")
CARD_HEAD = ("Data set", "Licence", "Language", "Commercial use", "Models may be public", "Citation")
MADE = ("episodes", "loop", "seed", "best_step", "texts", "shots", "hardware", "seconds", "distilled")
HUB_ID = re.compile(r"(?!.*(--|\.\.))[a-zA-Z0-9_][\w.-]{0,95}(/[a-zA-Z0-9_][\w.-]{0,95})?", re.ASCII)
LANGUAGE, SLUG = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*|multilingual"), re.compile(r"[a-z0-9][a-z0-9_.+-]{0,63}")
JOINERS = "\u200c\u200d"  # the only invisible characters that words and emoji are written with
PRIVATE = re.compile(rf"(^|[\s\"'(\[{{=:,;|>\ufffd{JOINERS}])(~?/[^\s/]|[A-Za-z]:[\\/]|\\\\\w)|file:/|\bhf_\w{{16}}")
HARMLESS = str.maketrans({"`": "ˋ", "|": "¦", "<": "&lt;", ">": "&gt;"})
CLASSIFIER = """\
from fewtext import FewShotClassifier

classifier = FewShotClassifier.from_pretrained({repo})
print(classifier.predict(["a text to classify", "and another one"]))
"""
LEARNER = """\
from fewtext import FewShotClassifier

texts, labels = ["where is my card", "I want my money back"], ["card", "refund"]
classifier = FewShotClassifier(base={repo}).fit(texts, labels)
print(classifier.predict(["the post has not brought my card"]))
"""
PIPELINE = """\
import fewtext  # makes the type of model known; no code is downloaded
from transformers import pipeline

classify = pipeline("text-classification", model={repo})
print(classify(["a text to classify", "and another one"]))
"""
PEFT = """\
from peft import PeftModel
from transformers import AutoModel, AutoTokenizer

encoder = PeftModel.from_pretrained(AutoModel.from_pretrained({base}), {repo})
tokens = AutoTokenizer.from_pretrained({repo})("a text to encode", return_tensors="pt")
print(encoder(**tokens).last_hidden_state.shape)  # one vector per token
"""
SENTENCES = """\
from pathlib import Path

from huggingface_hub import snapshot_download
from sentence_transformers import SentenceTransformer

repo = {repo}
folder = repo if Path(repo).is_dir() else snapshot_download(repo, allow_patterns="encoder/*")
print(SentenceTransformer(folder + "/encoder").encode(["a text to encode"]).shape)  # one vector per text
"""


def model_card(description: Mapping[str, Any], repo_id: str = EXAMPLE) -> str:
    """Return the card's text.

    Args:
        description: what `fewtext.json` holds; any of its `facts` may be missing.
        repo_id: where the artifact will be on the hub.
    """
    own = _checked(description)
    facts, classifies = own["facts"], own["kind"] == "classifier"
    code = snippets(own, _hub_id(repo_id) or EXAMPLE)
    certain = {"Calibration": "not measured", "Rejection": "none: every text gets a label"}
    certain |= {name: facts[name.lower()] for name in certain if facts.get(name.lower())}
    results = _table(("Where", "What", "Unit", "Value ± 95 %", "n"), list(map(_result, facts["results"])))
    sections = {
        "How to load it": "\n\n".join(f"With {name}:\n\n```python\n{code[name]}```" for name in code),
        "Labels": _table(("Output", "Label"), [[str(n), str(label)] for n, label in enumerate(own["labels"])]),
        "Data and licence": _data(facts),
        "Results": results or "Not measured.",
        "Calibration and rejection": _points(certain) if classifies else "",
        "Labels that are easily confused": _table(("Label", "Label", "Cosine similarity"), facts["confusable"]),
        "Limits": _limits(facts["languages"]),
        "How it was made": _making(own),
    }
    body = "\n\n".join(f"## {name}\n\n{text}" for name, text in sections.items() if text)
    title = "Text classifier" if classifies else "Learner for few-shot text classification"
    return f"---\n{_front_matter(own).to_yaml()}\n---\n\n# {title}\n\n{_summary(own)}\n\n{body}\n"


def snippets(description: Mapping[str, Any], repo_id: str = EXAMPLE) -> dict[str, str]:
    """Return the code that loads the artifact, by the library that does.

    Args:
        description: what `fewtext.json` holds.
        repo_id: a hub id; the artifact's folder does as well.
    """
    repo, encoder, classifies = json.dumps(repo_id), description["encoder"], description["kind"] == "classifier"
    found = {"fewtext": (CLASSIFIER if classifies else LEARNER).format(repo=repo)}
    if description["style"] == "merged":
        found |= {"transformers": PIPELINE.format(repo=repo)} if library(description) == "transformers" else {}
        found["sentence-transformers"] = SENTENCES.format(repo=repo)
    elif encoder["lora"] and _hub_id(encoder["id"]):
        base = ", revision=".join(json.dumps(name) for name in (encoder["id"], encoder["revision"]) if name)
        found["peft"] = PEFT.format(repo=repo, base=base)
    return found


def _checked(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description as a file would give it back, with lists of what they should be in its facts."""
    own = json.loads(json.dumps(description))
    facts = own["facts"]
    base = dict(*_all(dict, [facts.get("base")]))  # of a classifier: how its base was meta-trained
    data = [dict(*_all(dict, [part.get("data")])) for part in (facts, base)]
    cards = list({str(card): card for part in data for card in _all(dict, part.get("cards"))}.values())
    codes = dict.fromkeys(code for card in cards for code in _all(str, card.get("language")))
    facts |= {"cards": cards, "languages": [code for code in codes if LANGUAGE.fullmatch(code)]}
    facts |= {"data": data[0], "base": base | data[1]}
    rows = [row for row in _all(dict, facts.get("results")) if _is_number(row.get("value"))]
    facts["results"] = [row | {"name": _plain(row.get("name"))} for row in rows]  # checked before it is taken apart
    pairs = _all(list, facts.get("confusable"))
    facts["confusable"] = [[*map(str, pair[:2]), pair[2]] for pair in pairs if len(pair) == 3]
    return own


def _front_matter(own: dict[str, Any]) -> ModelCardData:
    facts, base, learner = own["facts"], _hub_id(own["encoder"]["id"]), own["learner"]["name"]
    classifies, merged = own["kind"] == "classifier", own["style"] == "merged"
    licence, results = _plain(facts.get("licence") or "").lower(), _eval_results(facts)
    return ModelCardData(
        language=facts["languages"] or None,
        license=licence if SLUG.fullmatch(licence) else None,
        library_name=library(own),
        pipeline_tag="text-classification" if classifies else "feature-extraction",
        base_model=base,
        base_model_relation=("finetune" if merged else "adapter") if base else None,
        datasets=sorted({hub for card in facts["cards"] if (hub := _hub_id(card.get("hub")))}) or None,
        tags=["fewtext", "few-shot", "meta-learning", *([learner] if SLUG.fullmatch(learner) else [])],
        model_name=f"fewtext {own['kind']}" if results else None,
        eval_results=results or None,
    )


def _eval_results(facts: dict[str, Any]) -> list[EvalResult]:
    """Return the accuracies of the artifact itself, not of the frozen encoder beside it."""
    hub = {str(card.get("name")): _hub_id(card.get("hub")) for card in facts["cards"]}
    rows = [row for row in facts["results"] if row.get("unit") == "accuracy" and "/frozen" not in row["name"]]
    found = []
    for row in rows[:MOST]:
        place, _, what = row["name"].rpartition("/")
        data, _, config = (place.lstrip("/") or "unknown").partition("/")
        numbers = {key: value for key, value in (("ci95", row.get("half")), ("n", row.get("n"))) if _is_number(value)}
        more: dict[str, Any] = {"dataset_config": config or None, "metric_name": what, "metric_args": numbers or None}
        found.append(EvalResult("text-classification", hub.get(data) or data, data, "accuracy", row["value"], **more))
    return found


def _summary(own: dict[str, Any]) -> str:
    texts, base, learner = own["facts"].get("texts"), _hub_id(own["encoder"]["id"]), _known(own["learner"]["name"])
    encoder = f"the encoder {_known(base)}" if base else "an encoder that the hub has no name for"
    if own["kind"] != "classifier":
        return f"A few labelled texts per class make a classifier of it: {encoder}, meta-trained with {learner}."
    fitted = f", fitted on {texts} labelled texts." if _is_number(texts) else "."
    return f"It gives each text one of {len(own['labels'])} labels: a head on {encoder}{fitted}"


def _data(facts: dict[str, Any]) -> str:
    known = _points({"Texts": facts["data"].get("sources"), "Class split": facts["data"].get("split")})
    table = _table(CARD_HEAD, [list(map(card.get, CARD)) for card in facts["cards"]])
    licence = f"This model's own licence, which need not be that of the data: {_known(facts.get('licence'))}."
    return "\n\n".join(filter(None, [known, table, "" if known or table else "Not known.", licence]))


def _result(row: dict[str, Any]) -> list[Any]:
    place, _, what = row["name"].rpartition("/")
    unit, share = row.get("unit"), row.get("unit") in SHARES
    numbers: list[Any] = [value for value in (row["value"], row.get("half")) if _is_number(value)]
    shown = " ± ".join(f"{100 * value:.1f}" if share else f"{value:.4g}" for value in numbers)
    return [place, what, f"{unit}, %" if share else unit, shown, row.get("n")]


def _limits(languages: list[str]) -> str:
    spoken = f"in {_known(languages)}" if languages else "whose language was not recorded"
    return (
        "- A handful of texts says little about a class. Measure it on labelled texts of your own.\n"
        f"- It learned from texts {spoken}. Expect less on other languages, and on texts of another kind.\n"
        "- It repeats what is one-sided in its data and in its encoder. Let it decide nothing about people by itself."
    )


def _making(own: dict[str, Any]) -> str:
    facts, base, learner, encoder = own["facts"], own["facts"]["base"], own["learner"], own["encoder"]
    return _points(
        {"Learner": learner["name"], "Its settings": learner["config"], "The classifier's settings": own["settings"]}
        | {name.replace("_", " ").capitalize(): facts.get(name) for name in MADE}
        | {f"Meta-training, {name.replace('_', ' ')}": base.get(name) for name in ("sources", "split", *MADE)}
        | {"Style": own["style"], "Encoder": encoder["id"] or "not on the hub", "Its revision": encoder["revision"]}
        | {"Its sha256": encoder["sha256"], "LoRA": encoder["lora"], "bfloat16": encoder["bf16"]}
        | {"fewtext": own["fewtext_version"], "Format": own["format_version"], "Versions": own["versions"]}
    )


def _all(kind: type, values: Any) -> list[Any]:
    return [value for value in values if isinstance(value, kind)] if isinstance(values, list) else []


def _hub_id(value: Any) -> str | None:
    return value if isinstance(value, str) and HUB_ID.fullmatch(value) and not PRIVATE.search(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15  # NaN is not


def _table(head: tuple[str, ...], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *([_known(value) for value in row] for row in rows[:MOST])] if rows else []
    more = f"\n\nand {len(rows) - MOST:,} more, {len(rows):,} in all" if len(rows) > MOST else ""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + more


def _points(values: dict[str, Any]) -> str:
    return "\n".join(f"- {name}: {_known(values[name])}" for name in values if values[name] not in (None, [], {}))


def _known(value: Any) -> str:
    """Return any JSON value as Markdown: what is not a number, in code spans that nothing in it can end."""
    if value is None or isinstance(value, bool):
        return {None: "not known", True: "yes", False: "no"}[value]
    if _is_number(value):
        return f"{value}" if isinstance(value, int) else f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{_known(key)} {_known(value[key])}" for key in list(value)[:MOST])
    if isinstance(value, list):
        return ", ".join(map(_known, value[:MOST])) + " …" * (len(value) > MOST)
    text = re.sub(r"&(?=#?\w+;)", "&amp;", _plain(value)).translate(HARMLESS)
    return f"`{text}`" if text else "(empty)"


def _plain(value: Any) -> str:
    """Return a value as one line of visible characters, cut where it is long."""
    line = " ".join(str(value)[:1000].split())
    line = "".join("\ufffd" if unicodedata.category(c)[0] == "C" and c not in JOINERS else c for c in line)
    return "(left out)" if PRIVATE.search(line) else line[: LONGEST - 1] + "…" if len(line) > LONGEST else line
