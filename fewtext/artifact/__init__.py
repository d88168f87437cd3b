"""Artifacts: a trained learner or a fitted classifier as a folder of safetensors and JSON, here or on the hub."""

from fewtext.artifact.layout import LAYOUT as LAYOUT
from fewtext.artifact.pull import describe as describe
from fewtext.artifact.pull import is_artifact as is_artifact
from fewtext.artifact.pull import locate_artifact as locate_artifact
from fewtext.artifact.store import Artifact as Artifact
