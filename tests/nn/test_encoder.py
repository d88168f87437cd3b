"""Vectors are those of the pretrained model, whatever texts and tasks share a forward pass."""

import json
import shutil
import time
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from conftest import WORDS, save_tiny_encoder
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.testing import assert_close
from transformers import (
    AutoModel,
    BertConfig,
    CamembertConfig,
    DistilBertConfig,
    ElectraConfig,
    MPNetConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from fewtext import Encoder, Lora
from fewtext.data.collate import ragged
from fewtext.errors import DataError
from fewtext.nn import encoder as encoder_module
from fewtext.tensors import Tokens

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}
CONFIGS = {
    "bert": BertConfig,
    "electra": ElectraConfig,
    "roberta": RobertaConfig,
    "xlm-roberta": XLMRobertaConfig,
    "camembert": CamembertConfig,
    "distilbert": DistilBertConfig,
    "mpnet": MPNetConfig,
}
OFFSET_BY_PAD = ("roberta", "xlm-roberta", "camembert")
TEXTS = [
    "where is my card",
    "refund",
    "book a room to renew my loan please",
    "slow internet",
    "one two three four five",
]


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory):
    """A folder with a tiny encoder of the type asked for; `pad` is its padding token's number."""
    made = {}

    def folder(kind, pad=0):
        if (kind, pad) not in made:
            path = save_tiny_encoder(tmp_path_factory.mktemp(kind) / "encoder", CONFIGS[kind](**SIZES))
            change(path / "config.json", pad_token_id=pad)
            made[kind, pad] = path
        return made[kind, pad]

    return folder


@pytest.fixture(scope="session", params=["bert", "distilbert"])
def unchanged(request, folder_of):
    """An encoder that no test changes: one that packs texts and one that does not."""
    return Encoder.from_pretrained(folder_of(request.param))


@pytest.fixture
def copy(tiny_folder, tmp_path):
    """The tiny encoder's folder, to be changed."""
    return shutil.copytree(tiny_folder, tmp_path / "encoder")


@pytest.fixture(params=["bert", "distilbert"])
def adapted(request, folder_of):
    """An encoder with LoRA: one that packs texts and one that does not."""
    return Encoder.from_pretrained(folder_of(request.param), lora=Lora(rank=2, alpha=4))


@pytest.fixture(params=["bert", "distilbert"])
def plain(request, folder_of):
    """An encoder without LoRA: one that packs texts and one that does not."""
    return Encoder.from_pretrained(folder_of(request.param))


def change(path, **values):
    config = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(config | values))


def rows_of(*lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [[2, *torch.randint(4, 40, (n - 2,), generator=generator).tolist(), 3] if n else [] for n in lengths]


def two_tasks():
    rows = rows_of(5, 9, 3, 7, 30, 0)
    return ragged([rows[:3], rows[3:]])


def task(tokens, number):
    pieces = tokens.ids.split(tokens.lengths.sum(1).tolist())
    return Tokens(pieces[number], tokens.lengths[[number]], tokens.text_ids[[number]])


def weights_per_task(encoder, names, tasks=2):
    """Draw weights around those of the encoder, different for each task."""
    generator = torch.Generator().manual_seed(7)
    weights = {}
    for name in names:
        own = encoder.backbone.get_parameter(name).detach()
        weights[name] = own + 0.2 * torch.randn((tasks, *own.shape), generator=generator).to(own.dtype)
    return weights


@contextmanager
def own_weights(encoder, weights):
    """Within this context the encoder really has these weights."""
    before = {name: encoder.backbone.get_parameter(name).detach().clone() for name in weights}
    with torch.no_grad():
        for name, value in weights.items():
            encoder.backbone.get_parameter(name).copy_(value)
        yield
        for name, value in before.items():
            encoder.backbone.get_parameter(name).copy_(value)


def tasks_alone(encoder, tokens, weights):
    vectors = []
    for number in range(len(tokens.lengths)):
        with own_weights(encoder, {name: value[number] for name, value in weights.items()}):
            vectors.append(encoder(task(tokens, number)))
    return torch.cat(vectors)


def seen_tokens(encoder):
    """Return a list that will hold, for each forward pass, how many tokens it was given."""
    seen = []

    def note(_module, _args, inputs):
        seen.append(int((inputs["input_ids"] != encoder.tokenizer.pad_token_id).sum()))

    encoder.backbone.register_forward_pre_hook(note, with_kwargs=True)
    return seen


def cosines(left, right):
    return (left * right).sum(-1) / np.linalg.norm(left, axis=-1) / np.linalg.norm(right, axis=-1)


@pytest.mark.parametrize(("kind", "pad"), [(kind, 0) for kind in CONFIGS] + [(kind, 1) for kind in OFFSET_BY_PAD])
def test_vectors_are_those_of_transformers_with_each_text_alone(folder_of, kind, pad):
    folder = folder_of(kind, pad)
    encoder, reference = Encoder.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    rows = rows_of(5, 2, 30, 9, 62, 3)
    with torch.no_grad():
        vectors = encoder(ragged([rows[:3], rows[3:]])).flatten(0, 1)
        alone = [reference(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0) for ids in rows]
    assert_close(vectors, torch.stack(alone), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_text_cut_to_the_maximum_length_can_be_encoded(folder_of, kind):
    encoder = Encoder.from_pretrained(folder_of(kind))
    assert np.isfinite(encoder.encode(["card " * 100])).all()


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.sampled_from([0, *range(2, 60)]), max_size=12))
def test_vector_of_a_text_does_not_depend_on_the_others(unchanged, lengths):
    text, *others = rows_of(11, *lengths)
    with torch.no_grad():
        alone = unchanged(ragged([[text]]))[0, 0]
        together = unchanged(ragged([[*others, text]]))[0, -1]
    assert_close(together, alone, rtol=0, atol=1e-6)


def test_more_texts_than_fit_one_padded_pass_keep_their_order(unchanged):
    rows = rows_of(*(2 + n % 17 for n in range(encoder_module.PADDED_ROWS + 8)))
    with torch.no_grad():
        together = unchanged(ragged([rows]))[0]
        alone = torch.cat([unchanged(ragged([[ids]]))[0] for ids in rows])
    assert_close(together, alone, rtol=0, atol=1e-5)


def test_absent_rows_are_zero_and_leave_the_others_as_they_are(unchanged):
    rows = rows_of(6, 4)
    vectors = unchanged(ragged([[rows[0], [], rows[1]]]))[0]
    assert not vectors[1].any()
    assert_close(vectors[[0, 2]], unchanged(ragged([rows]))[0], rtol=0, atol=1e-6)


def test_tasks_without_any_text_give_zeros(unchanged):
    assert torch.equal(unchanged(ragged([[[], []], [[], []]])), torch.zeros(2, 2, 16))


@pytest.mark.parametrize("every", [1, 2], ids=["all weights", "every second"])
def test_lora_weights_per_task_equal_each_task_alone_with_its_own(adapted, every):
    tokens, weights = two_tasks(), weights_per_task(adapted, adapted.task_weights[::every])
    assert_close(adapted(tokens, weights), tasks_alone(adapted, tokens, weights), rtol=0, atol=1e-5)


def test_lora_weights_per_task_make_the_same_text_differ_between_tasks(adapted):
    rows = rows_of(5, 9)
    with torch.no_grad():
        first, second = adapted(ragged([rows, rows]), weights_per_task(adapted, adapted.task_weights))
    assert (first - second).abs().amax(-1).min() > 0.01


def test_packed_tasks_with_lora_weights_share_one_pass(folder_of):
    encoder = Encoder.from_pretrained(folder_of("bert"), lora=Lora(rank=2))
    seen, tokens = seen_tokens(encoder), two_tasks()
    encoder(tokens, weights_per_task(encoder, encoder.task_weights))
    assert seen == [len(tokens.ids)]


def test_all_weights_per_task_equal_models_with_these_weights(plain):
    names = [name for name, _ in plain.backbone.named_parameters()]
    tokens, weights = two_tasks(), weights_per_task(plain, names)
    with torch.no_grad():
        vectors = plain(tokens, weights)
    assert_close(vectors, tasks_alone(plain, tokens, weights), rtol=0, atol=1e-5)


def test_other_weights_than_lora_may_be_given_per_task_beside_it(adapted):
    names = [name for name, _ in adapted.backbone.named_parameters() if "layer.1" in name]
    tokens, weights = two_tasks(), weights_per_task(adapted, names)
    with torch.no_grad():
        vectors = adapted(tokens, weights)
    assert_close(vectors, tasks_alone(adapted, tokens, weights), rtol=0, atol=1e-5)


def test_a_task_without_texts_gets_zeros_under_weights_per_task(adapted):
    weights = weights_per_task(adapted, adapted.task_weights)
    vectors = adapted(ragged([[[], []], rows_of(4, 6)]), weights)
    assert not vectors[0].any()
    assert vectors[1].any(-1).all()


@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_gradients_of_weights_per_task_come_from_their_own_task(folder_of, kind, lora):
    encoder = Encoder.from_pretrained(folder_of(kind), lora=Lora(rank=2) if lora else None).double()
    names = encoder.task_weights or [name for name, _ in encoder.backbone.named_parameters()]
    weights = {name: value.requires_grad_() for name, value in weights_per_task(encoder, names).items()}
    tokens, picks = two_tasks(), torch.randn(16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def gradients(vectors):
        loss = (vectors @ picks).sum()
        return torch.autograd.grad(loss, list(weights.values()), allow_unused=True, materialize_grads=True)

    together = gradients(encoder(tokens, weights)[0])
    alone = gradients(encoder(task(tokens, 0), {name: value[:1] for name, value in weights.items()}))
    assert sum(gradient[0].abs().sum() for gradient in together) > 0.1
    assert not any(gradient[1].any() for gradient in together)
    assert_close(together, alone)


def test_gradients_reach_every_lora_weight_of_the_encoder_itself(tiny_lora):
    (tiny_lora(two_tasks()) @ torch.randn(16)).sum().backward()
    weights = [tiny_lora.backbone.get_parameter(name) for name in tiny_lora.task_weights]
    assert all(weight.grad is not None and weight.grad.any() for weight in weights)


@pytest.mark.parametrize("lora", [Lora(), None])
def test_lora_alone_or_else_the_whole_backbone_is_trained(tiny_folder, lora):
    encoder = Encoder.from_pretrained(tiny_folder, lora=lora)
    trained = {name for name, weight in encoder.backbone.named_parameters() if weight.requires_grad}
    assert trained == set(encoder.task_weights if lora else dict(encoder.backbone.named_parameters()))


def test_a_dense_layer_after_pooling_is_not_trained(copy):
    (copy / "1_Dense").mkdir()
    change(copy / "1_Dense" / "config.json", in_features=16, out_features=3)
    save_file({"linear.weight": torch.ones(3, 16), "linear.bias": torch.ones(3)}, copy / "1_Dense/model.safetensors")
    (copy / "modules.json").write_text(json.dumps([{"type": "Pooling"}, {"type": "Dense", "path": "1_Dense"}]))
    encoder = Encoder.from_pretrained(copy)
    assert encoder.dimension == 3
    assert not any(weight.requires_grad for weight in encoder.pool.parameters())


def test_encode_keeps_the_order_of_the_texts(unchanged, monkeypatch):
    monkeypatch.setattr(encoder_module, "CHUNK_TOKENS", 16)
    alone = np.concatenate([unchanged.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(unchanged.encode(TEXTS), alone, rtol=0, atol=1e-6)


def test_encode_equals_forward(unchanged):
    with torch.no_grad():
        vectors = unchanged(ragged([unchanged.tokenize(TEXTS)]))[0]
    np.testing.assert_allclose(unchanged.encode(TEXTS), vectors.numpy(), rtol=0, atol=5e-6)  # two matrix libraries


def test_encode_of_no_texts_has_no_rows(unchanged):
    vectors = unchanged.encode([])
    assert vectors.shape == (0, 16)
    assert vectors.dtype == np.float32


def test_encode_splits_many_texts_into_passes_of_limited_size(tiny, monkeypatch):
    monkeypatch.setattr(encoder_module, "CHUNK_TOKENS", 32)
    seen = seen_tokens(tiny)
    tiny.encode(["where is my card"] * 20)
    assert sum(seen) == 20 * 6
    assert max(seen) <= 32


def test_remembered_vectors_equal_those_computed_anew(unchanged):
    rows = rows_of(5, 9, 3)
    tokens = ragged([[rows[0], rows[1], []], [rows[2], rows[0], rows[1]]], [[0, 1, -1], [2, 0, 1]])
    with torch.no_grad():
        anew = unchanged(tokens)
    with unchanged.remembering():
        first, second = unchanged(tokens), unchanged(tokens)
    assert_close(first, anew, rtol=0, atol=1e-6)
    assert torch.equal(second, first)


def test_remembering_encodes_each_text_once(tiny):
    rows, seen = rows_of(5, 9, 3), seen_tokens(tiny)
    with tiny.remembering():
        tiny(ragged([[rows[0], rows[1]], [rows[1], rows[0]]], [[0, 1], [1, 0]]))
        tiny(ragged([[rows[1], rows[2]]], [[1, 2]]))
        tiny(ragged([[rows[2], rows[0]]], [[2, 0]]))
    assert seen == [5 + 9, 3]


def test_texts_of_unknown_id_are_not_taken_for_one_another(tiny):
    tokens = ragged([rows_of(5, 9, 3)])
    with torch.no_grad():
        anew = tiny(tokens)
    with tiny.remembering():
        assert_close(tiny(tokens), anew, rtol=0, atol=1e-6)
        assert_close(tiny(ragged([rows_of(7, seed=5)])), tiny(ragged([rows_of(7, seed=5)], [[9]])), rtol=0, atol=1e-6)


def test_remembering_does_not_hide_weights_per_task(tiny_lora):
    rows = rows_of(5, 9)
    tokens, weights = ragged([rows, rows], [[0, 1], [0, 1]]), weights_per_task(tiny_lora, tiny_lora.task_weights)
    expected = tiny_lora(tokens, weights)
    with tiny_lora.remembering():
        tiny_lora(tokens)
        assert_close(tiny_lora(tokens, weights), expected)


def test_what_was_remembered_is_forgotten_even_after_an_exception(tiny):
    tokens = ragged([rows_of(5)], [[0]])

    def fail():
        with tiny.remembering():
            tiny(tokens)
            raise KeyError

    before = tiny(tokens)
    with pytest.raises(KeyError):
        fail()
    with torch.no_grad():
        tiny.backbone.encoder.layer[0].output.dense.weight.mul_(2.0)
    assert (tiny(tokens) - before).abs().max() > 0.01


def test_remembered_vectors_carry_no_gradient(tiny):
    with tiny.remembering():
        assert not tiny(two_tasks()._replace(text_ids=torch.arange(6).view(2, 3))).requires_grad


def test_tokens_are_those_of_the_tokenizer(tiny):
    assert tiny.tokenize(TEXTS) == tiny.tokenizer(TEXTS)["input_ids"]


def test_tokenize_of_no_texts_is_empty(tiny):
    assert tiny.tokenize([]) == []


@pytest.mark.parametrize(("limit", "cut"), [(8, 8), (None, 64), (5000, 64)])
def test_a_long_text_is_cut_and_keeps_its_last_special_token(copy, limit, cut):
    change(copy / "sentence_bert_config.json", max_seq_length=limit)
    encoder = Encoder.from_pretrained(copy)
    (ids,) = encoder.tokenize(["where is my card " * 50])
    assert len(ids) == encoder.max_length == cut
    assert ids[-1] == encoder.tokenizer.sep_token_id


def test_the_tokenizer_may_set_a_shorter_limit(copy):
    change(copy / "tokenizer_config.json", model_max_length=12)
    assert Encoder.from_pretrained(copy).max_length == 12


@pytest.mark.parametrize("text", ["\ud800", "card \udfff room", "\ud83d\ude00", "\x00"], ids=ascii)
def test_strange_characters_do_not_crash(tiny, text):
    (ids,) = tiny.tokenize([text])
    assert (ids[0], ids[-1]) == (2, 3)
    assert np.isfinite(tiny.encode([text])).all()


def test_a_lone_surrogate_leaves_the_words_around_it_as_they_are(tiny):
    (ids,) = tiny.tokenize(["card \ud800 room"])
    (plain,) = tiny.tokenize(["card ? room"])
    assert ids == plain


@pytest.mark.parametrize("value", [None, 3, b"card", ["card"], np.str_], ids=repr)
def test_what_is_not_a_string_is_a_data_error_that_names_the_row(tiny, value):
    with pytest.raises(DataError, match=f"text 1: a text must be a string, got {type(value).__name__}"):
        tiny.tokenize(["card", value])


@pytest.mark.parametrize(
    "text", ["card " * 200_000, "x" * 1_000_000, "\u4e2d" * 1_000_000], ids=["words", "one", "han"]
)
def test_a_text_of_a_million_characters_is_tokenised_quickly(minilm, text):
    start = time.perf_counter()
    (ids,) = minilm.tokenize([text])
    assert time.perf_counter() - start < 1
    assert len(ids) <= minilm.max_length


def test_the_prompt_is_put_before_every_text(copy, tiny):
    change(copy / "config_sentence_transformers.json", prompts={"ask": "where is my "}, default_prompt_name="ask")
    assert Encoder.from_pretrained(copy).tokenize(["card", "loan"]) == tiny.tokenize(
        ["where is my card", "where is my loan"]
    )


@pytest.mark.parametrize("lower", [True, False])
def test_texts_and_prompt_are_lower_cased_where_the_model_asks_for_it(copy, lower):
    change(copy / "tokenizer.json", normalizer=None)
    change(copy / "sentence_bert_config.json", do_lower_case=lower)
    change(copy / "config_sentence_transformers.json", prompts={"ask": "Where "}, default_prompt_name="ask")
    encoder = Encoder.from_pretrained(copy)
    words = encoder.tokenizer(["where card" if lower else "Where Card"])["input_ids"]
    assert encoder.tokenize(["Card"]) == words


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("modes", ["mean", "cls", ("max", "mean")], ids=str)
def test_a_model_saved_by_sentence_transformers_gives_the_same_vectors(tiny_folder, tmp_path, modes, include_prompt):
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    from sentence_transformers import SentenceTransformer

    pooling = modules.Pooling(16, modes, include_prompt=include_prompt)
    reference = SentenceTransformer(
        modules=[
            modules.Transformer(str(tiny_folder), max_seq_length=8),
            pooling,
            modules.Dense(pooling.get_embedding_dimension(), 5),
            modules.Normalize(),
        ],
        prompts={"ask": "where is "},
        default_prompt_name="ask",
        device="cpu",
    )
    reference.save(str(tmp_path / "saved"), create_model_card=False)
    encoder = Encoder.from_pretrained(tmp_path / "saved")
    assert encoder.dimension == 5
    np.testing.assert_allclose(encoder.encode(TEXTS), reference.encode(TEXTS), rtol=0, atol=1e-5)


@pytest.mark.parametrize("lora", [Lora(), None])
def test_dropout_is_off_in_train_mode(copy, lora):
    change(copy / "config.json", hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5)
    encoder = Encoder.from_pretrained(copy, lora=lora).eval().train()
    assert encoder.training
    with torch.no_grad():
        assert torch.equal(encoder(two_tasks()), encoder(two_tasks()))


def test_bf16_is_close_to_full_precision_and_keeps_its_weights(folder_of, unchanged):
    half = Encoder.from_pretrained(unchanged.source.folder, bf16=True)
    vectors, exact = half.encode(TEXTS), unchanged.encode(TEXTS)
    assert {weight.dtype for weight in half.parameters()} == {torch.float32}
    assert vectors.dtype == np.float32
    assert (vectors != exact).any()
    assert cosines(vectors, exact).min() >= 0.999


@pytest.mark.parametrize("lora", [Lora(), None])
def test_an_encoder_is_pretrained_until_the_backbone_itself_is_trained(tiny_folder, lora):
    encoder = Encoder.from_pretrained(tiny_folder, lora=lora)
    assert encoder.is_pretrained()
    with torch.no_grad():
        next(weight for weight in encoder.backbone.parameters() if weight.requires_grad).add_(0.1)
    assert encoder.is_pretrained() == (lora is not None)


def test_the_real_encoder_equals_sentence_transformers(minilm):
    library = pytest.importorskip("sentence_transformers")
    texts = [
        "Where is my card?",
        "card",
        "I WANT MY MONEY BACK!!!",
        "  leading and trailing spaces  ",
        "line\nbreaks\tand tabs",
        "a" * 120,
        "1234567890 +49 (0)30 1234-5678",
        "https://example.org/a/b?c=d&e=f#g",
        "😀👍🏽 thanks!! 🇩🇪",
        "Wo bleibt meine Überweisung, die ich am Donnerstag aufgegeben habe?",
        "Straßenbahnhaltestelle",
        "我的卡在哪里？我还没有收到它。",
        "カードはどこですか",
        "أين بطاقتي",
        "naïve café – “quoted” … ½ №",
        "e\u0301 and é",
        "\u200bzero\u200dwidth\ufeff",
        "It isn't what we'd've expected; isn't it?",
        "The refund has not arrived yet, " * 60,
        " ".join(WORDS * 12),
    ]
    reference = library.SentenceTransformer(str(minilm.source.folder), device="cpu")
    assert max(Counter(map(len, minilm.tokenize(texts)))) == 256
    assert cosines(minilm.encode(texts), reference.encode(texts)).min() >= 0.99999
