"""scikit-learn's laws for estimators, by their names in `sklearn.utils.estimator_checks`, on texts.

Its own `check_estimator` skips almost all of them where the input is text. Those that need no data are run as they
are; the others are written again.
"""

import pickle

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.validation import check_is_fitted

from fewtext import FewShotClassifier
from fewtext.errors import DataError, EncoderError, LearnerError
from fewtext.learners import learner_class

TEXTS = [
    "where is my card",
    "my card has not arrived yet",
    "please block my card",
    "flight is late",
    "cancel the flight",
    "book the late flight",
    "pay the bill",
    "high bill",
    "two fee to pay",
]
LABELS = ["card"] * 3 + ["flight"] * 3 + ["bill"] * 3
OTHERS = ["my lost card", "one flight to cancel", "room", "high fee bill", "slow internet", "ten", "no signal", "pay"]
ANSWERS = ("predict", "predict_proba", "predict_top", "classify")
ATOL = 1e-6  # of probabilities: in float32 the texts that are encoded together decide about the last digit


@pytest.fixture(params=["linear", "prototype"])
def unfitted(request, tiny_folder):
    return FewShotClassifier(str(tiny_folder), method=request.param)


@pytest.fixture
def fitted(unfitted):
    return unfitted.fit(TEXTS, LABELS)


def same_answers(first, second, texts=OTHERS):
    assert first.predict(texts).tolist() == second.predict(texts).tolist()
    np.testing.assert_allclose(first.predict_proba(texts), second.predict_proba(texts), rtol=0, atol=ATOL)


@pytest.mark.parametrize(
    "law",
    [
        "check_do_not_raise_errors_in_init_or_set_params",
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_estimator_tags_renamed",
        "check_get_params_invariance",
        "check_mixin_order",
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_set_params",
        "check_valid_tag_types",
    ],
)
def test_check_as_scikit_learn_wrote_it(unfitted, law):
    getattr(estimator_checks, law)("FewShotClassifier", unfitted)


def test_check_estimator_cloneable(tiny, fitted):
    with pytest.raises(NotFittedError):
        clone(fitted).predict(TEXTS)
    assert clone(fitted).get_params() == fitted.get_params()
    learner = learner_class("fomaml")(tiny)
    assert clone(FewShotClassifier(tiny)).base is tiny  # an encoder is never copied
    assert clone(make_pipeline(FewShotClassifier(learner)))[0].base is learner


def test_check_fit_idempotent(fitted):
    first = fitted.predict(OTHERS), fitted.predict_proba(OTHERS)
    fitted.fit(TEXTS, LABELS)
    assert np.array_equal(fitted.predict(OTHERS), first[0])
    assert np.array_equal(fitted.predict_proba(OTHERS), first[1])


def test_check_methods_sample_order_invariance(fitted):
    order = np.random.default_rng(0).permutation(len(OTHERS))
    shuffled = [OTHERS[row] for row in order]
    assert (fitted.predict(shuffled) == fitted.predict(OTHERS)[order]).all()
    np.testing.assert_allclose(fitted.predict_proba(shuffled), fitted.predict_proba(OTHERS)[order], rtol=0, atol=ATOL)


def test_check_methods_subset_invariance(fitted):
    texts = [*OTHERS, *TEXTS]
    alone = np.concatenate([fitted.predict_proba([text]) for text in texts])
    np.testing.assert_allclose(fitted.predict_proba(texts), alone, rtol=0, atol=ATOL)
    assert fitted.predict(texts).tolist() == [fitted.predict([text])[0] for text in texts]


def test_check_dict_unchanged(fitted):
    before, supports = dict(vars(fitted)), fitted.supports_
    for method in ANSWERS:
        getattr(fitted, method)(OTHERS)
    assert list(fitted.stream(OTHERS))
    assert vars(fitted) == before
    assert fitted.supports_ is supports


def test_check_dont_overwrite_parameters(unfitted):
    before = dict(vars(unfitted))
    unfitted.fit(TEXTS, LABELS)
    after = {name: value for name, value in vars(unfitted).items() if not name.startswith("_")}
    assert after.keys() == before.keys()
    assert all(after[name] is value for name, value in before.items())


def test_check_estimators_overwrite_params(unfitted):
    unfitted.set_params(label_descriptions={"card": "lost card"}, classes=["card", "flight", "bill"])
    before = joblib.hash(unfitted.get_params())
    unfitted.fit(TEXTS, LABELS).add_class("room", ["book a room"])
    assert joblib.hash(unfitted.get_params()) == before


def test_check_estimators_fit_returns_self(unfitted):
    assert unfitted.fit(TEXTS, LABELS) is unfitted


def test_check_fit_check_is_fitted(unfitted):
    with pytest.raises(NotFittedError):
        check_is_fitted(unfitted)
    with pytest.raises(DataError):
        unfitted.fit(TEXTS, LABELS[:1])
    with pytest.raises(NotFittedError):
        check_is_fitted(unfitted)
    check_is_fitted(unfitted.fit(TEXTS, LABELS))


@pytest.mark.parametrize("method", ANSWERS)
def test_check_estimators_unfitted(unfitted, method):
    with pytest.raises(NotFittedError, match="Call fit"):
        getattr(unfitted, method)(TEXTS)


def test_check_classifiers_one_label(unfitted):
    with pytest.raises(DataError, match="only one class, 'card'"):
        unfitted.fit(TEXTS, ["card"] * len(TEXTS))


@pytest.mark.parametrize("kind", [str, object, "int8", int, bool, float])
@pytest.mark.parametrize("names", [("two", "one", "three"), ("b", "a")])
def test_check_classifiers_classes(unfitted, kind, names):
    if kind not in (str, object):
        names = (True, False) if kind is bool else range(1, 1 - len(names), -1)
    numbers = np.random.default_rng(0).permutation(np.arange(len(TEXTS)) % len(names))
    labels = np.array(names)[numbers].astype(kind)
    unfitted.set_params(C=1e4).fit(TEXTS, labels)
    assert unfitted.classes_.tolist() == sorted(names)
    assert unfitted.classes_.dtype.kind == np.array(names).astype("U" if kind is object else kind).dtype.kind
    guesses = unfitted.predict(TEXTS)
    assert guesses.dtype == unfitted.classes_.dtype
    if unfitted.method == "linear":
        assert guesses.tolist() == labels.tolist()


def test_check_estimators_empty_data_messages(fitted):
    for texts in ([], (), np.empty(0), np.empty((0, 3)), np.empty((3, 0)), iter([])):
        with pytest.raises(DataError, match=r"no texts|must be a list or one column"):
            clone(fitted).fit(texts, [])
        with pytest.raises(DataError, match=r"no texts|must be a list or one column"):
            fitted.predict(texts)


@pytest.mark.parametrize("bad", [np.nan, np.inf, None, 3.5, b"bytes", ["list"]])
def test_check_estimators_nan_inf(fitted, bad):
    texts = [*TEXTS[:-1], bad]
    with pytest.raises(DataError, match="text 8: a text must be a string, got"):
        clone(fitted).fit(texts, LABELS)
    for method in ANSWERS:
        with pytest.raises(DataError, match="text 8: a text must be a string, got"):
            getattr(fitted, method)(texts)


def test_check_supervised_y_no_nan(unfitted):
    for value in (np.nan, np.inf, -np.inf, None):
        with pytest.raises(DataError, match=r"label 8 is (missing|infinite)"):
            unfitted.fit(TEXTS, [*[1.0, 2.0] * 4, value])


def test_check_requires_y_none(unfitted):
    with pytest.raises(DataError, match="labels must be a list or one column, got NoneType"):
        unfitted.fit(TEXTS, None)


@pytest.mark.parametrize("base", ["folder", "encoder", "adapters", "fomaml"])
def test_check_estimators_pickle(base, tiny_folder, tmp_path, request):
    tiny = request.getfixturevalue("tiny_lora" if base == "adapters" else "tiny")
    made = {"folder": str(tiny_folder), "fomaml": learner_class("fomaml")(tiny)}.get(base, tiny)
    before = FewShotClassifier(made, method="prototype" if base == "fomaml" else "linear").fit(TEXTS, LABELS)
    joblib.dump(before, tmp_path / "classifier")
    for after in (pickle.loads(pickle.dumps(before)), joblib.load(tmp_path / "classifier")):
        same_answers(after, before)
        assert [answer.label for answer in after.classify(OTHERS)] == [a.label for a in before.classify(OTHERS)]
        again = clone(before).fit([*TEXTS, "book a room"], [*LABELS, "room"])
        same_answers(after.add_class("room", ["book a room"]), again)
    assert before.classes_.tolist() == ["bill", "card", "flight"]


def test_check_readonly_memmap_input(unfitted, tmp_path):
    joblib.dump((np.array(TEXTS), np.array(LABELS)), tmp_path / "data")
    texts, labels = joblib.load(tmp_path / "data", mmap_mode="r")
    assert isinstance(texts, np.memmap)
    same_answers(unfitted.fit(texts, labels), clone(unfitted).fit(TEXTS, LABELS))


def test_check_classifier_data_not_an_array(unfitted):
    class Column:
        def __getitem__(self, row):
            return TEXTS[row]

        def __iter__(self):
            return iter(TEXTS)

    same_answers(unfitted.fit(Column(), iter(LABELS)), clone(unfitted).fit(TEXTS, LABELS))


def test_check_decision_proba_consistency(fitted):
    texts = [*OTHERS, *TEXTS]
    chances = fitted.predict_proba(texts)
    np.testing.assert_allclose(chances.sum(axis=1), 1, atol=ATOL)
    assert (fitted.classes_[chances.argmax(axis=1)] == fitted.predict(texts)).all()
    labels, best = fitted.predict_top(texts, 2)
    assert (labels[:, 0] == fitted.predict(texts)).all()
    np.testing.assert_allclose(best, -np.sort(-chances, axis=1)[:, :2], rtol=0, atol=ATOL)


def test_check_pipeline_consistency(fitted):
    pipeline = make_pipeline(clone(fitted)).fit(TEXTS, LABELS)
    assert pipeline.score(OTHERS, LABELS[:8]) == fitted.score(OTHERS, LABELS[:8])
    assert np.array_equal(pipeline.predict_proba(OTHERS), fitted.predict_proba(OTHERS))


@pytest.mark.parametrize("name", list(FewShotClassifier().get_params()))
def test_check_param_validation(unfitted, name):
    wrong = {"base": ["nobody/nothing"], "C": [0, -1.0, np.nan, np.inf], "coverage": [0, 1.5, np.nan]}
    wrong |= {"method": ["magic"], "refine": ["often"], "names": ["yes"], "device": ["abacus"]}
    wrong |= {"classes": ["card", [*LABELS, None]], "label_descriptions": [["lost"], {"card": 5}, {"boat": "ship"}]}
    said = {"base": "neither a folder", "classes": "label", "label_descriptions": "description of 'card'"}
    for value in (object(), *wrong.get(name, [])):
        unfitted.set_params(**{name: value})
        with pytest.raises((DataError, EncoderError, LearnerError), match=f"{name}|{said.get(name)}"):
            unfitted.fit(TEXTS, LABELS)


@pytest.mark.parametrize("number", [np.float32, np.float64, np.int64])
def test_parameters_may_be_numpy_s(unfitted, tmp_path, number):
    unfitted.set_params(C=number(7), names=np.True_, refine=np.False_, windows=np.False_).fit(TEXTS, LABELS)
    assert FewShotClassifier.from_pretrained(unfitted.save_pretrained(tmp_path / "c")).get_params()["C"] == 7


def test_check_fit2d_1sample(unfitted):
    with pytest.raises(DataError, match="only one class"):
        unfitted.fit(TEXTS[:1], LABELS[:1])
    with pytest.raises(DataError, match=r"one string where several texts are expected. Write \[text\]"):
        unfitted.fit(TEXTS[0], LABELS[:1])


def test_a_repr_is_short_and_tells_no_text(tiny, tiny_folder):
    classifier = FewShotClassifier(tiny, C=3).fit(TEXTS, LABELS)
    assert " ".join(repr(classifier).split()) == f"FewShotClassifier(C=3, base=Encoder({str(tiny_folder)!r}))"
    assert not any(text in repr(classifier) + classifier._repr_html_() for text in TEXTS)
