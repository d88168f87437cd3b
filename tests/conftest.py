"""Shared by all tests: no network, tiny models from config, the real encoder, and the real data where they are."""

import os
import socket
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import datasets
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoModel, BertConfig, PreTrainedTokenizerFast

from fewtext import Encoder, LabeledTexts, Lora

WORDS = (  # what the tiny tokenizer knows
    "where is my card it has not arrived yet please block lost stolen refund money back flight late cancel the a to "
    "room book renew loan fee pay bill high slow internet signal no one two three four five six seven eight nine ten"
).split()
torch.set_num_threads(1)  # these models are so small that threads only wait for each other
SHARED = Path(os.environ.get("FEWTEXT_DATA_ROOT", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch):
    """Connections leave this machine in no test."""
    connect = socket.socket.connect

    def guarded(self, address):
        host = address[0] if isinstance(address, tuple) else "localhost"
        if host not in ("127.0.0.1", "::1", "localhost"):
            raise ConnectionError(f"a test tried to reach {host}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    """Nothing is left in the user's cache, and no data root of the user is looked at."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.delenv("FEWTEXT_DATA_ROOT", raising=False)


def save_tiny_encoder(folder, config=None):
    """Write a random encoder of two layers and a word tokenizer, as transformers would."""
    vocabulary = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys(WORDS)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    config = config or BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    config.vocab_size, config.pad_token_id = len(vocabulary), 0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModel.from_config(config)
        for weight in model.parameters():  # larger than the default, so that different texts differ clearly
            torch.nn.init.normal_(weight, std=0.3) if weight.dim() > 1 else None
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("tiny") / "encoder")


@pytest.fixture
def tiny(tiny_folder):
    """A random encoder, frozen or fully trainable."""
    return Encoder.from_pretrained(tiny_folder)


@pytest.fixture
def tiny_lora(tiny_folder):
    """A random encoder with LoRA whose second factor is not zero, so that adapters matter."""
    encoder = Encoder.from_pretrained(tiny_folder, lora=Lora(rank=2, alpha=4))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in encoder.backbone.named_parameters():
            if "lora_B" in name:
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return encoder


@pytest.fixture(scope="session")
def minilm():
    """The real encoder, from the `minilm` extra."""
    return Encoder.from_pretrained("sentence-transformers/all-MiniLM-L6-v2")


@pytest.fixture
def toy():
    """Eight classes of ten texts made of the tiny tokenizer's words."""
    generator = torch.Generator().manual_seed(0)
    texts, labels = [], []
    for label in range(8):
        for _ in range(10):
            own = (label * 5 + torch.randperm(5, generator=generator)[:3]).tolist()
            others = torch.randint(0, len(WORDS), (3,), generator=generator).tolist()
            texts.append(" ".join(WORDS[pick] for pick in [*own, *others]))
            labels.append(f"class_{label}")
    return LabeledTexts.of(texts, labels, name="toy")


def changed(encoder, seed=5):
    """Move all trainable weights, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in encoder.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return encoder


@pytest.fixture(params=["lfs", "regular"])
def hub(request):
    """A hub of our own, in memory."""
    from hub.server import Hub  # only here: most tests need no server

    return Hub(request.param)


@pytest.fixture
def endpoint(hub):
    """The address under which that hub answers."""
    from hub.server import running

    with running(hub) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def data_root():
    """Folder of the real data sets.

    They are not part of the repository, so a user's clone has none: tests that need them say so there, and the
    embedded corpus covers the same code. The project's CI has them.
    """
    if not SHARED.is_dir():
        pytest.skip(f"real data sets are not at {SHARED.name}; set FEWTEXT_DATA_ROOT to run this test")
    return SHARED
