"""From a handful of labelled texts to a classifier that can be edited, explained, and knows what it does not know."""

from fewtext.classifier.answer import Answer as Answer
from fewtext.classifier.estimator import FewShotClassifier as FewShotClassifier
