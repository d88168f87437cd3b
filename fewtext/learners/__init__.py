"""Meta-learners, one file each; every module here is imported, so that its learner registers itself."""

import importlib
import pkgutil

from fewtext.learners.base import LEARNERS, MetaLearner, MetaOutput, learner_class

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["LEARNERS", "MetaLearner", "MetaOutput", "learner_class"]
