"""The state of one meta-training run: its settings, what has happened, and what a checkpoint must hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor
from transformers import get_cosine_schedule_with_warmup

from fewtext.checkpoint import Checkpoint
from fewtext.data.sampler import EpisodeSampler
from fewtext.errors import TrainingError
from fewtext.learners.base import MetaLearner
from fewtext.nn.matmul import onednn_is_exact, onednn_pays
from fewtext.parallel import GradientSum


@dataclass(frozen=True)
class TrainConfig:
    """Settings of the outer loop.

    Attributes:
        steps: meta-steps at most.
        meta_batch: episodes per meta-step, over all processes.
        micro_batch: episodes per backward pass; more is faster on a GPU and takes more memory.
        lr: peak learning rate of the encoder's weights; by default 5e-4 for LoRA, 2e-5 for full fine-tuning.
        learner_lr: peak learning rate of the learner's own weights; by default what suits it.
        warmup: share of the steps in which the learning rates rise; afterwards they fall along a cosine.
        weight_decay: of AdamW.
        clip: longest gradient (its norm over all weights).
        validate_every: steps between two validations; 0 for none.
        patience: validations without a better one before training stops.
        deterministic: add the gradients episode by episode, on one thread per process, so that any number of
            processes gives the same bits.
        checkpoint_every: steps between two checkpoints, where there is a place for them.
    """

    steps: int = 120
    meta_batch: int = 4
    micro_batch: int = 1
    lr: float | None = None
    learner_lr: float | None = None
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    validate_every: int = 20
    patience: int = 3
    deterministic: bool = False
    checkpoint_every: int = 20


@dataclass
class TrainHistory:
    """What happened: loss and accuracy `(step, loss, accuracy)` of each meta-step, accuracy of each validation.

    Attributes:
        steps: `(step, loss, accuracy)`.
        validations: `(step, accuracy, ci95)`; step 0 is before training.
        best_step: the step whose weights the learner has now.
    """

    steps: list[tuple[int, float, float]] = field(default_factory=list)
    validations: list[tuple[int, float, float]] = field(default_factory=list)
    best_step: int = 0


class Run:
    """Everything that changes while training, and that a checkpoint must hold."""

    def __init__(
        self, learner: MetaLearner, config: TrainConfig, accelerator: Accelerator, identity: dict[str, Any]
    ) -> None:
        self.accelerator, self.identity = accelerator, identity
        names = {id(weight): name for name, weight in learner.named_parameters()}
        groups = _groups(learner, config)
        self.weights = {names[id(weight)]: weight for group in groups for weight in group["params"]}
        self.gradients = GradientSum(list(self.weights.values()), accelerator, ordered=config.deterministic)
        self.optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
        self.config = config
        self.schedule = self._schedule()
        # A timing decides which library multiplies: the first process decides for all, and for resumed runs. Two
        # whole runs may still differ in that, so where bits count, exactness alone decides.
        self.fast = broadcast_object_list([onednn_is_exact() if config.deterministic else onednn_pays()])[0]
        self.step, self.stale, self.top = 0, 0, float("-inf")
        self.history, self.best = TrainHistory(), self.copy()

    def _schedule(self, last_step: int = -1) -> Any:
        warmup, steps = round(self.config.warmup * self.config.steps), self.config.steps
        return get_cosine_schedule_with_warmup(self.optimizer, warmup, steps, last_epoch=last_step)

    def validated(self, accuracy: float, half_width: float) -> None:
        """Note a validation, and keep the weights if it is the best so far."""
        self.history.validations.append((self.step, accuracy, half_width))
        self.stale = 0 if accuracy > self.top else self.stale + 1
        if accuracy > self.top:
            self.top, self.best, self.history.best_step = accuracy, self.copy(), self.step

    def copy(self) -> dict[str, Tensor]:
        """Return a copy of the weights."""
        return {name: weight.detach().clone() for name, weight in self.weights.items()}

    def put(self, values: Mapping[str, Tensor]) -> None:
        """Replace the weights by these values."""
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(values[name])

    def checkpoint(self) -> Checkpoint:
        """Return all of this, for a file."""
        moments = {
            f"{name}|{key}": value
            for name, weight in self.weights.items()
            for key, value in self.optimizer.state[weight].items()
        }
        scaler = self.accelerator.scaler
        state = {
            "identity": self.identity,
            "history": asdict(self.history),
            "stale": self.stale,
            "top": None if self.top == float("-inf") else self.top,
            "fast": self.fast,
            "scaler": None if scaler is None else scaler.state_dict(),
        }
        return Checkpoint(self.step, {"weights": self.weights, "best": self.best, "optimizer": moments}, state)

    def resume(self, found: Checkpoint) -> None:
        """Go on where a checkpoint was taken.

        Raises:
            TrainingError: it is a checkpoint of another run.
        """
        state = found.state
        if different := [key for key, value in self.identity.items() if state["identity"].get(key) != value]:
            key = different[0]
            raise TrainingError(
                f"the checkpoint of step {found.step} is of another run: {key} was {state['identity'].get(key)}, now "
                f"it is {self.identity[key]}. Choose another output folder, or the settings of that run."
            )
        self.put(found.tensors["weights"])
        self.best = {name: value.to(self.accelerator.device) for name, value in found.tensors["best"].items()}
        for name, weight in self.weights.items():
            keys = ("step", "exp_avg", "exp_avg_sq")
            moments = {key: found.tensors["optimizer"][f"{name}|{key}"] for key in keys}
            self.optimizer.state[weight] = moments | {key: moments[key].to(weight.device) for key in keys[1:]}
        self.schedule = self._schedule(last_step=found.step - 1)
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        history = state["history"]
        self.history.steps[:] = [tuple(entry) for entry in history["steps"]]
        self.history.validations[:] = [tuple(entry) for entry in history["validations"]]
        self.history.best_step = history["best_step"]
        self.step, self.stale, self.fast = found.step, state["stale"], state["fast"]
        self.top = float("-inf") if state["top"] is None else state["top"]


def identity(
    learner: MetaLearner, episodes: EpisodeSampler, validation: EpisodeSampler | None, config: TrainConfig
) -> dict[str, Any]:
    """Return what must be the same for a run to be resumed."""
    lora = learner.encoder.lora
    facts = {
        "learner": {"name": learner.name, **asdict(learner.config)},
        "encoder": {
            "sha256": learner.encoder.source.sha256,
            "lora": lora and asdict(lora),
            "bf16": learner.encoder.bf16,
        },
        "episodes": _drawn(episodes),
        "validation": validation and _drawn(validation),
        "loop": {key: value for key, value in asdict(config).items() if key != "checkpoint_every"},
    }
    return json.loads(json.dumps(facts))  # as a file would give it back


def _drawn(episodes: EpisodeSampler) -> dict[str, Any]:
    return {
        "spec": str(episodes.spec),
        "seed": episodes.seed,
        "chances": episodes.chances.tolist(),
        "excluded": dict(episodes.excluded),
        "data": [texts.fingerprint() for texts in episodes.sources],
    }


def _groups(learner: MetaLearner, config: TrainConfig) -> list[dict]:
    encoder = [weight for weight in learner.encoder.parameters() if weight.requires_grad]
    within = {id(weight) for weight in learner.encoder.parameters()}
    own = [weight for weight in learner.parameters() if weight.requires_grad and id(weight) not in within]
    lr = config.lr if config.lr is not None else 2e-5 if learner.encoder.lora is None else 5e-4
    own_lr = config.learner_lr if config.learner_lr is not None else learner.own_lr
    groups = [{"params": encoder, "lr": lr}, {"params": own, "lr": own_lr, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise TrainingError(f"{learner.name}: no weight is trainable. Add LoRA or unfreeze the encoder.")
    return groups
