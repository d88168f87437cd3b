"""Few-shot text classification that learns to learn.

Names are imported when they are first used, so that `import fewtext` costs nothing. Its only effect is that
transformers, imported before or after, knows our model type.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import fewtext.autoclasses  # noqa: F401

if TYPE_CHECKING:
    from fewtext.artifact import Artifact as Artifact
    from fewtext.classifier import FewShotClassifier as FewShotClassifier
    from fewtext.data.card import DataCard as DataCard
    from fewtext.data.collate import Collator as Collator
    from fewtext.data.episode_file import read_episodes as read_episodes
    from fewtext.data.episode_file import write_episodes as write_episodes
    from fewtext.data.load import load_texts as load_texts
    from fewtext.data.sampler import Episode as Episode
    from fewtext.data.sampler import EpisodeSampler as EpisodeSampler
    from fewtext.data.sampler import EpisodeSpec as EpisodeSpec
    from fewtext.data.texts import LabeledTexts as LabeledTexts
    from fewtext.data.texts import class_disjoint as class_disjoint
    from fewtext.data.training_set import TrainingSet as TrainingSet
    from fewtext.distillation import distill as distill
    from fewtext.errors import FewtextError as FewtextError
    from fewtext.learners.base import MetaLearner as MetaLearner
    from fewtext.learners.prototypical import Prototypical as Prototypical
    from fewtext.nn.backbone import Lora as Lora
    from fewtext.nn.encoder import Encoder as Encoder
    from fewtext.results import Row as Row
    from fewtext.results import write_results as write_results
    from fewtext.run import TrainConfig as TrainConfig
    from fewtext.testing import meta_test as meta_test
    from fewtext.training import meta_train as meta_train

_HOMES = {
    "fewtext.artifact": ("Artifact",),
    "fewtext.classifier": ("FewShotClassifier",),
    "fewtext.data.card": ("DataCard",),
    "fewtext.data.collate": ("Collator",),
    "fewtext.data.episode_file": ("read_episodes", "write_episodes"),
    "fewtext.data.load": ("load_texts",),
    "fewtext.data.sampler": ("Episode", "EpisodeSampler", "EpisodeSpec"),
    "fewtext.data.texts": ("LabeledTexts", "class_disjoint"),
    "fewtext.data.training_set": ("TrainingSet",),
    "fewtext.distillation": ("distill",),
    "fewtext.errors": ("FewtextError",),
    "fewtext.learners.base": ("MetaLearner",),
    "fewtext.learners.prototypical": ("Prototypical",),
    "fewtext.testing": ("meta_test",),
    "fewtext.run": ("TrainConfig",),
    "fewtext.training": ("meta_train",),
    "fewtext.nn.backbone": ("Lora",),
    "fewtext.nn.encoder": ("Encoder",),
    "fewtext.results": ("Row", "write_results"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]  (type checkers see the imports above)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        from difflib import get_close_matches

        close = get_close_matches(name, __all__, n=1)
        hint = f". Did you mean {close[0]}?" if close else ""
        raise AttributeError(f"module 'fewtext' has no attribute {name!r}{hint}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
