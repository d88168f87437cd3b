"""Write the golden artifacts of this version, once, when it is released: `python tests/golden/make.py`.

They are never made again: that they load, in all later versions, is what they are for.
"""

import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from conftest import save_tiny_encoder  # noqa: E402

from fewtext import Artifact, Encoder, FewShotClassifier, Lora, Prototypical  # noqa: E402

TEXTS = [
    "where is my card",
    "card not arrived",
    "refund the money",
    "money back please",
    "flight late",
    "book a room",
]
LABELS = ["card", "card", "refund", "refund", "travel", "travel"]
QUERIES = ["my card has not arrived yet", "cancel the flight", "pay the bill", "no signal"]


def main() -> None:
    """Write a classifier and a learner, and what the classifier answers."""
    place = HERE / version("fewtext")
    if place.exists():
        raise SystemExit(f"{place.name} is there already, and stays as it is.")
    with tempfile.TemporaryDirectory() as folder:
        encoder = Encoder.from_pretrained(save_tiny_encoder(Path(folder) / "tiny"), lora=Lora(rank=2))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name in encoder.task_weights:
                weight = encoder.backbone.get_parameter(name)
                weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))
        learner = Prototypical(encoder)
        Artifact("learner", learner, facts={"seed": 0}).save_pretrained(place / "learner")
        classifier = FewShotClassifier(learner).fit(TEXTS, LABELS)
        classifier.save_pretrained(place / "classifier")
        expected = torch.from_numpy(classifier.predict_proba(QUERIES)).log()
        save_file({"logits": expected}, place / "expected.safetensors")


if __name__ == "__main__":
    main()
