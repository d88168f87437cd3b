"""The corpus of hostile artifacts: every one must be refused with a FewtextError, soon and in little memory."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from attacking import ATTACKS as ATTACKS
from attacking import MANIFEST, Change, attack, content, edit, header, instead, tensors, without
from safetensors.torch import save
from torch import Tensor

ENCODER, HEAD, LEARNER = "encoder/model.safetensors", "head.safetensors", "learner.safetensors"
CANARY, ADAPTER = "canary.safetensors", "adapter/adapter_model.safetensors"
DESCRIPTION = "fewtext.json"
CONFIG, TOKENIZER, TOKENIZER_CONFIG = "encoder/config.json", "encoder/tokenizer.json", "encoder/tokenizer_config.json"

for line in Path(__file__).with_name("hostile_entries.txt").read_text("utf-8").splitlines()[2:]:
    style, file, keys, values = line.split(" ", 3)
    for value in values.split(" | "):
        for one in ("merged", "adapter") if style == "both" else (style,):
            change = edit(file, *keys.split("."), value=json.loads(value))
            attack(f"{one} {file} {keys} = {value:.60}", change, style=one)
for (
    key
) in "format_version fewtext_version style kind learner encoder labels settings facts canaries versions".split():
    attack(f"no {key}", without(DESCRIPTION, key))
attack("50,000 labels", edit(DESCRIPTION, "labels", value=list(map(str, range(50_000)))))
attack("100,000 canaries", edit(DESCRIPTION, "canaries", value=["what"] * 100_000))
attack("a long canary", edit(DESCRIPTION, "canaries", value=["x" * 100_000] * 8))
attack("other canaries", edit(DESCRIPTION, "canaries", value=["another text"] * 8))
attack("200,000 labels of the encoder", edit(CONFIG, "id2label", value=dict.fromkeys(map(str, range(200_000)), "x")))
for base in ("someone/huge", "someone/asks", None):
    named = edit("adapter_config.json", "base_model_name_or_path", value=base)
    attack(f"base {base}", named, edit(DESCRIPTION, "encoder", "id", value=base), style="adapter")
attack("no model type", without(CONFIG, "model_type"))


# Pickles, code, and files that are something else.
class Pickled:
    """What runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch fewtext-was-here",)


PICKLE = pickle.dumps(Pickled())
ARCHIVE = b"PK\x03\x04" + bytes(26) + b"archive/data.pkl" + PICKLE

for file in (HEAD, LEARNER, ENCODER, CANARY, ADAPTER):
    attack(f"pickle as {file}", content(file, PICKLE))
    attack(f"nothing in {file}", content(file, b""))
attack("archive of torch as weights", content(ENCODER, ARCHIVE))
attack("pickle instead of weights", instead(ENCODER, lambda *_: None), content("encoder/pytorch_model.bin", ARCHIVE))
for file in ("encoder/pytorch_model.bin", "pytorch_model.bin", "head.pkl", "encoder/1_Dense/pytorch_model.bin"):
    attack(f"pickle besides, {file}", content(file, PICKLE))
    attack(f"pickle besides, {file}, not in the manifest", content(file, PICKLE), signed=False)
attack("code besides", content("encoder/tokenizer_own.py", "import os"))
attack("adapter of peft in the encoder", content("encoder/adapter_config.json", '{"peft_type": "LORA"}'))
attack("the same, not in the manifest", content("encoder/adapter_config.json", "{}"), signed=False)
for file in (LEARNER, HEAD, DESCRIPTION, MANIFEST, CONFIG, TOKENIZER):
    attack(f"pipe as {file}", instead(file, lambda place, _: os.mkfifo(place)), signed=False)
    attack(f"folder as {file}", instead(file, lambda place, _: place.mkdir()), signed=False)
attack("pipe that nothing lists", instead(HEAD, lambda place, _: os.mkfifo(place)), style="adapter")
attack("folder as weights, behind the manifest", instead(ENCODER, lambda place, _: place.mkdir()))

# Ways out of the folder.
for file in (HEAD, "encoder", "adapter", TOKENIZER):
    attack(f"link that leads out, {file}", instead(file, lambda place, outside: place.symlink_to(outside)))
attack("link that leads in circles", instead("adapter", lambda place, _: place.symlink_to(place)))
attack("link to a folder within", lambda folder: (folder / "encoder/1_Dense").symlink_to(folder / "adapter"))
attack("link to a file of the system", lambda folder: (folder / "encoder/vocab.txt").symlink_to("/etc/passwd"))
for name in ("../out", "/etc/passwd", "encoder/../../out", "encoder\\..\\tokenizer", "C:/x", "encoder/tokenizer\0"):
    attack(f"manifest names {name!r}", edit(MANIFEST, name, value="0" * 64), signed=False)
for path in ("../adapter", "/etc", "1_Dense/../..", "..", "\0"):
    listed = json.dumps([{"type": "sentence_transformers.models.Dense", "path": path}])
    attack(f"module path {path!r}", content("encoder/modules.json", listed))

# The manifest, and JSON.
attack("no manifest", lambda folder: (folder / MANIFEST).unlink(), signed=False)
attack("manifest of a list", content(MANIFEST, "[]"), signed=False)
attack("empty manifest", content(MANIFEST, "{}"), signed=False)
attack("manifest of numbers", edit(MANIFEST, HEAD, value=7), signed=False)
attack("manifest with foreign files", edit(MANIFEST, "setup.py", value="0" * 64), signed=False)
attack("manifest with missing files", edit(MANIFEST, "encoder/vocab.txt", value="0" * 64), signed=False)
attack("manifest without a file", without(MANIFEST, HEAD), signed=False)
attack("manifest of 5 MB", content(MANIFEST, '{"head.safetensors": "' + "0" * 5_000_000 + '"}'), signed=False)
for file in (DESCRIPTION, CONFIG, TOKENIZER_CONFIG, "encoder/modules.json"):
    attack(f"deep list in {file}", content(file, "[" * 100_000))
    attack(f"deep object in {file}", content(file, '{"a":' * 5000 + "1" + "}" * 5000))
    attack(f"5 MB in {file}", content(file, '{"a": "' + "x" * 5_000_000 + '"}'))
    attack(f"invalid UTF-8 in {file}", content(file, b'{"a": "\xff\xfe"}'))
    attack(f"number of 10,000 digits in {file}", content(file, '{"a": ' + "9" * 10_000 + "}"))
    attack(f"a word in {file}", content(file, '"word"'))
attack("description of 5 MB", edit(DESCRIPTION, "facts", "a", value="x" * 5_000_000))
for file, key in ((DESCRIPTION, "kind"), (MANIFEST, HEAD), (CONFIG, "model_type"), (TOKENIZER_CONFIG, "pad_token")):

    def twice(folder: Path, file: str = file, key: str = key) -> None:
        text = (folder / file).read_text("utf-8")
        (folder / file).write_text(f'{{"{key}": {json.dumps(json.loads(text)[key])}, ' + text.lstrip()[1:], "utf-8")

    attack(f"{key} twice in {file}", twice, signed=file != MANIFEST)

# Safetensors.
MANY = {str(number): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(50_000)}


def changed(**entry: Any) -> Any:
    return lambda found: json.dumps({name: old | entry if "dtype" in old else old for name, old in found.items()})


for file in (ENCODER, HEAD, ADAPTER):
    attack(
        f"truncated {file}", lambda folder, file=file: os.truncate(folder / file, (folder / file).stat().st_size - 8)
    )
    attack(f"trailing bytes in {file}", lambda folder, file=file: (folder / file).open("ab").write(b"PK\x03\x04"))
    attack(f"header said to be huge in {file}", content(file, struct.pack("<Q", 2**62) + b"{}"))
    attack(f"header of 50 MB in {file}", header(file, lambda found: json.dumps(found) + " " * 50_000_000))
    attack(f"header of 50,000 names in {file}", header(file, lambda found: json.dumps(found | MANY)))
    attack(f"overlapping offsets in {file}", header(file, changed(data_offsets=[0, 4])))
    attack(f"a name twice in {file}", header(file, lambda found: json.dumps(found)[:-1] + ', "x": 1, "x": 1}'))
    attack(f"shape that overflows in {file}", header(file, changed(shape=[2**62, 16])))
    attack(f"header that is not UTF-8 in {file}", header(file, lambda _: b'{"\xff": 1}'))
    attack(f"empty tensor in {file}", tensors(file, lambda found: found | {"x": torch.zeros(0, 10**9)}))


def spoiled(value: float) -> Any:
    """Put a value that is no number into the first tensor."""

    def change(found: dict[str, Tensor]) -> dict[str, Tensor]:
        found[min(found)].view(-1)[-1] = value
        return found

    return change


def every(change: Any) -> Any:
    return lambda found: {name: change(tensor) for name, tensor in found.items()}


for file in (ENCODER, HEAD, LEARNER, CANARY, ADAPTER):
    attack(f"NaN in {file}", tensors(file, spoiled(float("nan"))))
    attack(f"infinity in {file}", tensors(file, spoiled(float("inf"))))
    attack(f"int8 in {file}", tensors(file, every(lambda tensor: tensor.to(torch.int8))))
    attack(f"float64 in {file}", tensors(file, every(lambda tensor: tensor.double())))
    attack(f"wrong shapes in {file}", tensors(file, every(lambda tensor: torch.stack([tensor, tensor]))))
    attack(f"missing tensor in {file}", tensors(file, lambda found: dict(sorted(found.items())[1:])))
    attack(f"tensor too many in {file}", tensors(file, lambda found: found | {"more": torch.zeros(3)}))
for file in (ENCODER, HEAD, CANARY):
    attack(f"other values in {file}", tensors(file, every(lambda tensor: tensor * 1.5 + 0.1)))
attack("NaN in an adapter of a base", tensors("adapter_model.safetensors", spoiled(float("nan"))), style="adapter")
attack("other values in a learner", tensors(LEARNER, every(lambda tensor: tensor + 1)), style="adapter")
attack("values beyond all bounds", tensors(LEARNER, every(lambda tensor: tensor + 1e30)), style="adapter")
WIDE = {"x": torch.zeros(1, 65_536), "y": torch.zeros(65_536, 1)}
attack(
    "sizes that two long tensors make believable",
    tensors(ENCODER, lambda found: found | WIDE),
    edit(CONFIG, "hidden_size", value=65_536),
    edit(CONFIG, "vocab_size", value=65_536),
)


# Modules of sentence-transformers.
def modules(kind: str, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> tuple[Change, ...]:
    listed = [
        {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
        {"type": kind, "path": "2_Dense"},
    ]
    return (
        content("encoder/modules.json", json.dumps(listed)),
        content("encoder/2_Dense/config.json", json.dumps(config)),
        content("encoder/2_Dense/model.safetensors", save(dict(weights))),
    )


DENSE = {"in_features": 16, "out_features": 16, "activation_function": "torch.nn.modules.activation.Tanh"}
LINEAR = {"linear.weight": torch.zeros(16, 16), "linear.bias": torch.zeros(16)}
attack("unknown module", *modules("os.system", DENSE, LINEAR))
attack("unknown activation", *modules("x.Dense", DENSE | {"activation_function": "os.system"}, LINEAR))
attack("huge dense layer", *modules("x.Dense", DENSE | {"in_features": 10**8}, LINEAR))
attack("dense layer that fits nothing", *modules("x.Dense", DENSE, {"linear.weight": torch.zeros(3, 3)}))
attack("NaN in a dense layer", *modules("x.Dense", DENSE, LINEAR | {"linear.bias": torch.full((16,), torch.nan)}))
attack("module without a type", content("encoder/modules.json", '[{"path": "x"}]'))
attack("modules of words", content("encoder/modules.json", '["os.system"]'))
for prompt in (7, "x" * 100_000, ["x"], None):
    named = json.dumps({"prompts": {"q": prompt}, "default_prompt_name": "q"})
    attack(f"prompt {prompt!s:.10}", content("encoder/config_sentence_transformers.json", named))

# The tokenizer.
DOUBLE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
BYTES = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": False}
ENDLESS = {"type": "Replace", "pattern": {"Regex": "(([a-z ,:])+.)+[A-Z]([a-z])+$"}, "content": "b"}
LONG = {"id": "[SEP]", "ids": [3] * 100_000, "tokens": ["x"] * 100_000}
for name, part, value in (
    ("a normaliser that doubles texts 40 times", "normalizer", {"type": "Sequence", "normalizers": [DOUBLE] * 40}),
    ("splitting that doubles texts 40 times", "pre_tokenizer", {"type": "Sequence", "pretokenizers": [BYTES] * 40}),
    ("a normaliser that adds 1 MB", "normalizer", {"type": "Prepend", "prepend": "x" * 1_000_000}),
    ("a pattern that never ends", "normalizer", ENDLESS),
):
    attack(name, edit(TOKENIZER, part, value=value))
attack("100,000 tokens at the end", edit(TOKENIZER, "post_processor", "special_tokens", "[SEP]", value=LONG))
REPEATED = [{"Sequence": {"id": "A", "type_id": 0}}] * 1000
attack("a text 1,000 times", edit(TOKENIZER, "post_processor", "single", value=REPEATED))
attack("broken tokenizer", content(TOKENIZER, '{"version": "1.0"'))
attack("tokenizer of nothing", content(TOKENIZER, "{}"))
attack("deep tokenizer", content(TOKENIZER, "[" * 100_000))
