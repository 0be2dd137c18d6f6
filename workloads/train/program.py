"""A train task, from the order to the done marker."""

import logging
import platform
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from workloads.api import store_keys
from workloads.api.records import ExitCode, Progress, TrainRecord
from workloads.api.tasks import TrainTask
from workloads.api.units import NUMERICS
from workloads.data.end_token import EndToken, end_token
from workloads.data.files import BadData
from workloads.data.samples import TrainingData, prepare
from workloads.data.sources import localise_data
from workloads.models.weight_files import weights_size
from workloads.program import Context, ProgramError, other_version
from workloads.storage.base import Store
from workloads.storage.content_digest import cache_folder, localise_model
from workloads.storage.markers import Superseded, read_marker
from workloads.text.templates import BadTemplate
from workloads.text.tokenizer import BadTokenizer, load_tokenizer
from workloads.train.canary import canaries, canary_sequences
from workloads.train.loop import Training
from workloads.train.metrics import spikes, to_lines
from workloads.train.model import BadModel, check_fits
from workloads.train.preflight import preflight, special_tokens
from workloads.train.ranks import Ranks, join_ranks
from workloads.train.resume import Cursor, Resumed, newest_checkpoint_step, read_state
from workloads.train.schedule import BadSchedule, checkpoint_steps, total_steps
from workloads.train.trainer import TrainedParameters, Trainer

logger = logging.getLogger("potstill")
PACKAGES = ("potstill", "torch", "transformers", "tokenizers", "safetensors")


def train(task: TrainTask, store: Store, terminated: threading.Event, leader: Context[TrainTask] | None) -> None:
    """Runs on every rank; `leader`: rank 0's context. Raises ProgramError, Superseded, StoreError."""
    if read_marker(store, task.unit, store_keys.DONE) is not None:
        logger.info("%s is done already", task.unit)
        return
    with tempfile.TemporaryDirectory(prefix="potstill-train-") as name, join_ranks() as ranks:
        _make_deterministic(ranks.device)
        try:
            _train(task, store, terminated, leader, ranks, Path(name))
        except (BadData, BadTemplate, BadTokenizer) as error:
            raise ProgramError(ExitCode.BAD_DATA, type(error).__name__, str(error)) from error
        except (BadModel, BadSchedule) as error:
            raise ProgramError(ExitCode.BAD_CONFIGURATION, type(error).__name__, str(error)) from error


def _train(
    task: TrainTask,
    store: Store,
    terminated: threading.Event,
    leader: Context[TrainTask] | None,
    ranks: Ranks,
    folder: Path,
) -> None:
    inputs = task.inputs
    if inputs.numerics != NUMERICS[inputs.trainer]:
        raise other_version(inputs.numerics, NUMERICS[inputs.trainer])
    checkpoint_steps(inputs)
    _report(leader, "reading data")
    base = localise_model(task.base)
    tokenizer = load_tokenizer(base)
    end = end_token(base, tokenizer)
    paths = [localise_data(source, folder / "data") for source in task.sources]
    data = prepare(paths, inputs, tokenizer, end, cache_folder())
    check_fits(base, inputs.sequence_tokens, data.rows.largest)
    _report(leader, f"loading weights ({weights_size(base)})")
    trainer = _open_trainer(task, base, ranks)
    sequences = canary_sequences(data)
    before = trainer.log_probs(sequences)
    warnings = [*data.warnings]
    if inputs.type == "lora":  # full fine-tuning trains the rows of embedding and head that this check would warn about
        warnings += preflight(trainer, data, special_tokens(tokenizer, end))
    adapter = trainer.add_parameters()
    limit_tokens = trainer.micro_batch_tokens(data, adapter)
    warnings += trainer.warnings
    for warning in warnings:
        logger.warning("%s", warning)
    if leader is not None:
        leader.stop_if_terminated()
    behind = newest_checkpoint_step(store, task.unit)
    resumed = _resume(store, task, adapter, ranks, folder)
    training = Training(
        task=task,
        leader=leader,
        terminated=terminated,
        ranks=ranks,
        trainer=trainer,
        adapter=adapter,
        data=data,
        canaries=lambda: canaries(sequences, trainer.log_probs(sequences), before),
        micro_batch_tokens=limit_tokens,
        cursor=resumed.cursor if resumed else Cursor(),
        metrics=resumed.metrics if resumed else [],
        resumed=resumed.marker if resumed else None,
    )
    try:
        training.run()
    except Superseded as error:
        if behind <= training.started_at:
            raise
        raise ProgramError(
            ExitCode.BAD_DATA,
            "StatesLost",
            f"a checkpoint of step {behind} is committed but its resume state is lost, and training again from step "
            f"{training.started_at} gave other bits ({error}): raise `epoch` for a new training",
        ) from error
    if leader is not None:
        _finish(leader, training, data, end, warnings, folder)


def _open_trainer(task: TrainTask, base: Path, ranks: Ranks) -> Trainer:
    """Raises BadModel, ContentError, StoreError."""
    inputs = task.inputs
    if inputs.trainer == "general":
        from workloads.train.general.trainer import GeneralTrainer

        start = None
        if inputs.start is not None:
            assert task.start is not None, "a task that starts from an adapter says where it is"
            start = localise_model(task.start.model_copy(update={"content": inputs.start}))
        return GeneralTrainer(base, inputs, ranks, start=start, sharding=task.sharding)
    from workloads.train.fast import FastTrainer

    return FastTrainer(base, inputs, ranks)


def _resume(store: Store, task: TrainTask, adapter: TrainedParameters, ranks: Ranks, folder: Path) -> Resumed | None:
    """Rank 0 reads the newest state; the other ranks get its vectors and cursor from rank 0.

    None: start from the beginning.
    """
    resumed = read_state(store, task.unit, folder) if ranks.leads else None
    cursor = ranks.share_text(resumed.cursor.to_json().decode() if resumed else "")
    if not cursor:
        return None
    adapter.restore(resumed.vectors if resumed else None, ranks)
    if resumed is not None:
        logger.info("resuming from %s", resumed.marker)
    return resumed or Resumed("", Cursor.model_validate_json(cursor), [], {})


def _finish(
    leader: Context[TrainTask],
    training: Training,
    data: TrainingData,
    end: EndToken,
    warnings: list[str],
    folder: Path,
) -> None:
    cursor, metrics = training.cursor, training.metrics
    path = folder / "metrics.jsonl"
    path.write_bytes(to_lines(metrics))
    record = TrainRecord(
        samples=leader.task.inputs.samples,
        steps=cursor.step,
        data=data.statistics,
        final_loss=metrics[-1].loss,
        train_seconds=cursor.train_seconds,
        tokens_per_second=cursor.tokens / cursor.train_seconds,
        device=_device_name(training.ranks.device),
        devices=training.ranks.count,
        versions=_versions((*PACKAGES, *training.trainer.packages)),
        trainer=leader.task.inputs.trainer,
        end_token=end.text,
        end_token_id=end.token_id,
        warnings=(*warnings, *spikes(metrics)),
    )
    leader.commit(store_keys.DONE, {path.name: path}, record, parent=store_keys.state_marker(cursor.step))


def _versions(packages: Sequence[str]) -> dict[str, str]:
    """Returns versions of Python and of each installed package (Potstill is not installed when it runs from its source
    tree).
    """
    found = {"python": platform.python_version()}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})"


def _make_deterministic(device: torch.device) -> None:
    """On a CPU the same task gives the same bits. On a GPU that would be slower, and is not guaranteed."""
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _report(leader: Context[TrainTask] | None, phase: str) -> None:
    if leader is not None:
        leader.stop_if_terminated()
        leader.progress(
            Progress(
                attempt=leader.task.number,
                updated=leader.now(),
                phase=phase,
                done=0,
                total=total_steps(leader.task.inputs),
                counted="steps",
            )
        )
