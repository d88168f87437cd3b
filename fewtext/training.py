"""The one outer loop: any meta-learner, on one process or many.

A meta-step takes episodes [step · B, (step + 1) · B), whoever computes them. Each process backpropagates its share,
one micro-batch at a time, and the gradients are summed in one flat all-reduce; so the number of processes changes
nothing but the speed. There is no DistributedDataParallel wrapper: it would have to know which parameters a batch
uses, and it hides `adapt` and `predict`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup

from fewtext.data.collate import Collator
from fewtext.data.sampler import EpisodeSampler
from fewtext.errors import TrainingError
from fewtext.learners.base import MetaLearner
from fewtext.metrics.scores import mean_ci
from fewtext.nn.matmul import fast_matmul
from fewtext.scoring import score_learner
from fewtext.tensors import ABSENT


@dataclass(frozen=True)
class TrainConfig:
    """Settings of the outer loop.

    Attributes:
        steps: meta-steps at most.
        meta_batch: episodes per meta-step, over all processes.
        micro_batch: episodes per backward pass; more is faster on a GPU and takes more memory.
        lr: peak learning rate of the encoder's weights; by default 5e-4 for LoRA, 2e-5 for full fine-tuning.
        learner_lr: peak learning rate of the learner's own few weights (temperature and the like).
        warmup: share of the steps in which the learning rates rise; afterwards they fall along a cosine.
        weight_decay: of AdamW.
        clip: longest gradient (its norm over all weights).
        validate_every: steps between two validations; 0 for none.
        patience: validations without a better one before training stops.
    """

    steps: int = 120
    meta_batch: int = 4
    micro_batch: int = 1
    lr: float | None = None
    learner_lr: float = 1e-2
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    validate_every: int = 20
    patience: int = 3


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


def meta_train(
    learner: MetaLearner,
    episodes: EpisodeSampler,
    config: TrainConfig | None = None,
    *,
    validation: EpisodeSampler | None = None,
    validation_episodes: int = 100,
    accelerator: Accelerator | None = None,
    progress: bool = True,
    on_step: Callable[[int, float, float], None] | None = None,
) -> TrainHistory:
    """Meta-train a learner in place.

    Args:
        learner: what to train; it ends with the weights of its best validation, or the last ones without.
        episodes: training episodes.
        config: the outer loop's settings.
        validation: episodes of other classes, for early stopping.
        validation_episodes: how many of them, always the same.
        accelerator: where to run; one process on the default device if not given.
        progress: show a progress bar with loss, accuracy and the time left.
        on_step: called with step, loss and accuracy after each step, on every process.

    Raises:
        TrainingError: a meta-batch that the processes cannot share equally, or a loss that is not finite.
    """
    config = config or TrainConfig()
    accelerator = accelerator or Accelerator()
    ranks, rank = accelerator.num_processes, accelerator.process_index
    if config.meta_batch % ranks or config.meta_batch < 1:
        raise TrainingError(
            f"meta_batch={config.meta_batch} cannot be shared by {ranks} processes. Make it a multiple of {ranks}."
        )
    learner.to(accelerator.device).train()
    optimizer = torch.optim.AdamW(_groups(learner, config), weight_decay=config.weight_decay)
    schedule = get_cosine_schedule_with_warmup(optimizer, round(config.warmup * config.steps), config.steps)
    prepared = accelerator.prepare_optimizer(optimizer)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    _same_everywhere(weights, accelerator)
    collator = Collator(episodes.sources, learner.encoder.tokenize)
    history, best, stale = TrainHistory(), _copy(weights), 0
    share = config.meta_batch // ranks

    def validate(step: int) -> float:
        assert validation is not None
        chosen = [validation[number] for number in range(validation_episodes)]
        words = Collator(validation.sources, learner.encoder.tokenize)
        scores = score_learner(learner, chosen, words, accelerator=accelerator)
        history.validations.append((step, *mean_ci(scores.accuracy)))
        return history.validations[-1][1]

    checks = validation is not None and config.validate_every > 0
    top = validate(0) if checks else 0.0
    bar = tqdm(range(config.steps), desc=learner.name, unit="step", disable=not (progress and rank == 0))
    with fast_matmul(), bar:
        for step in bar:
            first = step * config.meta_batch + rank * share
            loss, right = 0.0, 0.0
            prepared.zero_grad()
            for start in range(first, first + share, config.micro_batch):
                numbers = range(start, min(start + config.micro_batch, first + share))
                batch = collator([episodes[number] for number in numbers]).to(accelerator.device)
                with accelerator.autocast():
                    output = learner(batch)
                part = len(numbers) / config.meta_batch
                accelerator.backward(output.loss * part)
                loss += output.loss.item() * part
                asked = batch.query.labels != ABSENT
                hits = (output.logits.argmax(-1) == batch.query.labels) & asked
                right += (hits.sum() / asked.sum()).item() * part
            loss, right = _sum_over_processes(weights, (loss, right), accelerator)
            if not torch.isfinite(torch.tensor(loss)):
                raise TrainingError(
                    f"step {step}: the loss is {loss}. Lower the learning rate; no weight was changed."
                )
            accelerator.clip_grad_norm_(weights, config.clip)
            prepared.step()
            schedule.step()
            history.steps.append((step, loss, right))
            if on_step:
                on_step(step, loss, right)
            bar.set_postfix(loss=f"{loss:.3f}", acc=f"{right:.3f}", val=f"{top:.3f}" if checks else "-")
            if checks and ((step + 1) % config.validate_every == 0 or step + 1 == config.steps):
                now = validate(step + 1)
                stale = 0 if now > top else stale + 1
                if now > top:
                    top, best, history.best_step = now, _copy(weights), step + 1
                if stale >= config.patience:
                    break
    if checks:
        _put(weights, best)
    else:
        history.best_step = config.steps
    learner.eval()
    return history


def _groups(learner: MetaLearner, config: TrainConfig) -> list[dict]:
    encoder = [weight for weight in learner.encoder.parameters() if weight.requires_grad]
    within = {id(weight) for weight in learner.encoder.parameters()}
    own = [weight for weight in learner.parameters() if weight.requires_grad and id(weight) not in within]
    lr = config.lr if config.lr is not None else 2e-5 if learner.encoder.lora is None else 5e-4
    groups = [{"params": encoder, "lr": lr}, {"params": own, "lr": config.learner_lr, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise TrainingError(f"{learner.name}: no weight is trainable. Add LoRA or unfreeze the encoder.")
    return groups


def _put(weights: list[Tensor], values: list[Tensor]) -> None:
    with torch.no_grad():
        for weight, value in zip(weights, values, strict=True):
            weight.copy_(value)


def _copy(weights: list[Tensor]) -> list[Tensor]:
    return [weight.detach().clone() for weight in weights]


def _same_everywhere(weights: list[Tensor], accelerator: Accelerator) -> None:
    """Give every process the first one's weights, in case they were drawn from different seeds."""
    if accelerator.num_processes > 1:
        values = broadcast_object_list([[weight.detach().cpu() for weight in weights]])[0]
        _put(weights, values)


def _sum_over_processes(weights: list[Tensor], numbers: tuple[float, ...], accelerator: Accelerator) -> list[float]:
    """Sum gradients and numbers over processes in one flat all-reduce; returns the summed numbers."""
    if accelerator.num_processes == 1:
        return list(numbers)
    grads = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
    scalars = torch.tensor(numbers, device=accelerator.device)
    flat: Any = accelerator.reduce(torch.cat([*(grad.reshape(-1) for grad in grads), scalars]), reduction="sum")
    pieces = flat.split([*(weight.numel() for weight in weights), len(numbers)])
    for weight, piece in zip(weights, pieces, strict=False):
        weight.grad = piece.view_as(weight)
    return pieces[-1].tolist()
