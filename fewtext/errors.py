"""The errors fewtext raises: each message says what, where, got, need, and what to change."""


class FewtextError(Exception):
    """Root of every error fewtext raises on purpose."""


class DataError(FewtextError, ValueError):
    """Texts, labels, a data card or a data file cannot be used as they are."""


class EpisodeError(FewtextError, ValueError):
    """The data cannot supply the episodes that were asked for."""


class EncoderError(FewtextError, RuntimeError):
    """A pretrained encoder cannot be found, read or trusted."""


class LearnerError(FewtextError, ValueError):
    """A meta-learner is unknown, or is asked for something it cannot do."""


class TrainingError(FewtextError, RuntimeError):
    """Meta-training cannot start or go on."""


class ArtifactError(FewtextError, RuntimeError):
    """A saved learner or classifier is incomplete, damaged, or from another version."""


class PredictionError(FewtextError, RuntimeError):
    """Classifying a file cannot start or go on."""


class HubError(ArtifactError):
    """The hub cannot be used, or does not let us."""


class PushConflictError(HubError):
    """Somebody else changed the repository between reading and writing it."""
