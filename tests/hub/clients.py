"""Push and pull with transformers, peft and datasets, in a process of its own, and print what came back as JSON.

They read HF_ENDPOINT when they are imported. Arguments: a folder with a tiny encoder and its tokenizer;
the hub's mode.
"""

import json
import sys

import torch
from datasets import Dataset, load_dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModel, AutoTokenizer

BASE, ADAPTER, DATA = "tester/base", "tester/adapter", "tester/texts"


def states(model, tokenizer):
    """What a model makes of two texts."""
    batch = tokenizer(["where is my card", "cancel the flight please"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        return model.eval()(**batch).last_hidden_state


def main(folder, mode):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    model.push_to_hub(BASE)
    tokenizer.push_to_hub(BASE)
    pulled = AutoModel.from_pretrained(BASE), AutoTokenizer.from_pretrained(BASE)
    found = {"base": torch.equal(states(*pulled), states(model, tokenizer))}

    model.name_or_path = BASE
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["query"], init_lora_weights=False))
    adapted.push_to_hub(ADAPTER)
    again = PeftModel.from_pretrained(AutoModel.from_pretrained(BASE), ADAPTER)
    expected = states(adapted, tokenizer)
    found["adapter"] = torch.equal(states(again, tokenizer), expected)
    found["adapter matters"] = not torch.equal(states(pulled[0], tokenizer), expected)

    if mode == "lfs":  # datasets throws its file away once it is uploaded, and cannot put it in a commit
        texts = Dataset.from_dict({"text": ["block my card", "book a room"], "label": [0, 1]})
        texts.push_to_hub(DATA)
        found["texts"] = load_dataset(DATA, split="train").to_dict() == texts.to_dict()
    print(json.dumps(found))  # noqa: T201


main(*sys.argv[1:])
