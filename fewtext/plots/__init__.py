"""Pictures of results; needs the `plots` extra."""

from fewtext.errors import FewtextError

try:
    import matplotlib  # noqa: F401
except ImportError as error:
    raise FewtextError("pictures need matplotlib. Run `pip install 'fewtext[plots]'`.") from error

from fewtext.plots.accuracy import draw_accuracy
from fewtext.plots.confusion import draw_confusion
from fewtext.plots.coverage import draw_coverage
from fewtext.plots.history import draw_history
from fewtext.plots.map import draw_map
from fewtext.plots.reliability import draw_reliability
from fewtext.plots.shots import draw_shots

__all__ = [
    "draw_accuracy",
    "draw_confusion",
    "draw_coverage",
    "draw_history",
    "draw_map",
    "draw_reliability",
    "draw_shots",
]
