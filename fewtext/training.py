"""The one outer loop: any meta-learner, on one process or many, resumed where it stopped.

A meta-step takes episodes [step · B, (step + 1) · B), whoever computes them. Each process backpropagates its share,
one micro-batch at a time, and the gradients are summed once; so the number of processes changes nothing but speed,
and resuming is a matter of the step's number. There is no DistributedDataParallel wrapper: it would have to know
which parameters a batch uses, and it hides `adapt` and `predict`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

import torch
from accelerate import Accelerator
from tqdm import tqdm

from fewtext.checkpoint import Checkpoints
from fewtext.data.collate import Collator
from fewtext.data.sampler import EpisodeSampler
from fewtext.errors import TrainingError
from fewtext.learners.base import MetaLearner
from fewtext.metrics.scores import mean_ci
from fewtext.nn.matmul import fast_matmul
from fewtext.run import Run, TrainConfig, TrainHistory, identity
from fewtext.scoring import score_learner
from fewtext.tensors import ABSENT, EpisodeBatch


def meta_train(
    learner: MetaLearner,
    episodes: EpisodeSampler,
    config: TrainConfig | None = None,
    *,
    validation: EpisodeSampler | None = None,
    validation_episodes: int = 100,
    accelerator: Accelerator | None = None,
    checkpoints: Checkpoints | None = None,
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
        checkpoints: where to save and, if something is there, to resume; a resumed run ends with the same bits.
        progress: show a progress bar with loss, accuracy and the time left.
        on_step: called with step, loss and accuracy after each step, on every process.

    Raises:
        TrainingError: a meta-batch that the processes cannot share equally; a loss, gradient or weight that is not
            finite, found before any weight has changed; a checkpoint of another run.
    """
    config = config or TrainConfig()
    accelerator = accelerator or Accelerator()
    ranks, rank = accelerator.num_processes, accelerator.process_index
    if config.meta_batch % ranks or config.meta_batch < 1:
        raise TrainingError(
            f"meta_batch={config.meta_batch} cannot be shared by {ranks} processes. Make it a multiple of {ranks}."
        )
    learner.begin([len(texts.classes) for texts in episodes.sources])
    run = Run(
        learner.to(accelerator.device).train(), config, accelerator, identity(learner, episodes, validation, config)
    )
    if checkpoints is not None and (found := checkpoints.newest()) is not None:
        run.resume(found)
    prepared = accelerator.prepare_optimizer(run.optimizer)
    collator = Collator(episodes.sources, learner.encoder.tokenize)
    share, micro_batch = config.meta_batch // ranks, 1 if config.deterministic else config.micro_batch
    history = run.history

    def validate() -> None:
        assert validation is not None
        chosen = [validation[number] for number in range(validation_episodes)]
        words = Collator(validation.sources, learner.encoder.tokenize)
        scores = score_learner(learner, chosen, words, accelerator=accelerator)
        run.validated(*mean_ci(scores.accuracy))

    def batch_of(numbers: Sequence[int]) -> EpisodeBatch:
        if config.deterministic and learner.encoder.prefix is not None:
            learner.encoder.prefix.clear()  # its bits depend on which texts came together
        return collator([episodes[number] for number in numbers]).to(accelerator.device)

    checks = validation is not None and config.validate_every > 0
    threads = torch.get_num_threads()
    bar = tqdm(initial=run.step, total=config.steps, unit="step", disable=not (progress and rank == 0))
    bar.set_description(learner.name)
    try:
        if config.deterministic:
            torch.set_num_threads(1)
        with fast_matmul(run.fast, trained=learner.encoder.lora is None), bar:
            if checks and not history.validations:
                validate()
            while run.step < config.steps and not (checks and run.stale >= config.patience):
                first = run.step * config.meta_batch + rank * share
                prepared.zero_grad()
                for start in range(first, first + share, micro_batch):
                    numbers = range(start, min(start + micro_batch, first + share))
                    batch = batch_of(numbers)
                    with accelerator.autocast():
                        output = learner(batch)
                    part = len(numbers) / config.meta_batch
                    accelerator.backward(output.loss * part)
                    asked = batch.query.labels != ABSENT
                    hits = (output.logits.argmax(-1) == batch.query.labels) & asked
                    right = (hits.sum() / asked.sum()).item()
                    run.gradients.backpropagated(output.loss.item() * part, right * part)
                loss, right = run.gradients.reduce()
                accelerator.clip_grad_norm_(run.gradients.weights, config.clip)
                prepared.step()
                run.schedule.step()
                history.steps.append((run.step, loss, right))
                if on_step:
                    on_step(run.step, loss, right)
                run.step += 1
                bar.update()
                bar.set_postfix(loss=f"{loss:.3f}", acc=f"{right:.3f}", val=f"{run.top:.3f}" if checks else "-")
                if checks and (run.step % config.validate_every == 0 or run.step == config.steps):
                    validate()
                if checkpoints is not None and (run.step % config.checkpoint_every == 0 or run.step == config.steps):
                    if accelerator.is_main_process:
                        checkpoints.save(run.checkpoint())
                    accelerator.wait_for_everyone()
            if checks:
                run.put(run.best)
            else:
                history.best_step = run.step
            learner.eval()
            learner.end(batch_of([number]).support for number in count())
    finally:
        torch.set_num_threads(threads)
        run.optimizer.zero_grad()
    return history
