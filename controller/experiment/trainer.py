"""Chooses the trainer of a training when the experiment is accepted, so that it is part of the unit's digest."""

import json
from pathlib import Path as FilePath
from typing import Any, Literal

from controller.experiment.errors import Path, SpecError, SpecProblem
from controller.experiment.models import ExperimentSpec
from controller.experiment.validate import nearest
from workloads.api.tasks import ModelSource
from workloads.api.units import ALL_LINEAR, KINDS, Lora
from workloads.models import FAMILIES, architecture_of, has_fast_trainer
from workloads.models.fits import context_tokens, too_long, why_not_trained
from workloads.text.tokenizer import BadTokenizer, opening_of


def base_config(base: ModelSource) -> dict[str, Any] | None:
    """Returns the base's config.json; None if it is not on this machine. Downloads nothing.

    It is read from a directory or from the hub's cache.
    """
    path = _config_path(base.location)
    if path is None:
        return None
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return config if isinstance(config, dict) else None


def base_architecture(base: ModelSource) -> str | None:
    """Returns the architecture in the base's config.json; None if it is not on this machine, like `base_config`."""
    config = base_config(base)
    return None if config is None else architecture_of(config)


def base_opening(base: ModelSource) -> tuple[int, ...]:
    """Returns the tokens that the base's tokenizer puts before every text; () if its tokenizer is not on this
    machine.
    """
    path = _config_path(base.location)
    try:
        return () if path is None else opening_of(path.parent)
    except BadTokenizer:
        return ()


def check_base(config: dict[str, Any] | None, spec: ExperimentSpec) -> None:
    """Raises SpecError with the `base_problems` of a base's config.json, if it is on this machine."""
    if config is not None and (problems := base_problems(config, spec)):
        raise SpecError("experiment", problems)


def base_problems(config: dict[str, Any], spec: ExperimentSpec) -> list[SpecProblem]:
    """Returns what a base's config.json shows: it cannot be trained, or samples or budgets exceed its context."""
    limit = context_tokens(config)
    problems: list[SpecProblem] = []
    if limit is not None and spec.evaluation.budgets[-1] >= limit:
        message = (
            f"the largest is {spec.evaluation.budgets[-1]}, and the base's context has {limit} tokens, prompt included"
        )
        problems.append(SpecProblem(("spec", "evaluation", "budgets"), message))
    trained = [(index, run) for index, run in enumerate(spec.runs) if run.checkpoints is None]
    if trained and config.get("architectures") and (reason := why_not_trained(config)) is not None:
        problems.append(SpecProblem(("spec", "base", "model"), f"it cannot be trained: {reason}"))
    for index, run in trained:
        sequence_tokens = run.sequence_tokens or spec.training.sequence_tokens or 0
        if (message_ := too_long(config, sequence_tokens)) is not None:
            problems.append(SpecProblem(("spec", "runs", index, "sequenceTokens"), message_))
    return problems


def choose_trainer(
    stated: Literal["auto", "fast", "general"],
    architecture: str | None,
    lora: Lora | None,
    place: Path,
    *,
    starts: bool = False,
) -> Literal["fast", "general"]:
    """Returns the trainer: with auto the fast one if it supports the run.

    The general trainer trains all weights (no `lora`), and `starts` from an existing adapter. For an unknown
    architecture the fast trainer is chosen; the training refuses it if it is not supported. Raises SpecError if fast is
    stated and does not support the run, or if the architecture lacks a target.
    """
    if lora is None:
        if stated == "fast":
            message = "is fast, which trains adapters only, and the method is full: state general or auto"
            raise SpecError("experiment", [SpecProblem((*place, "trainer"), message)])
        return "general"
    check_targets(architecture, lora, place)
    with_experts = trains_experts(architecture, lora)
    if with_experts and lora.dropout:
        message = (
            "must be 0 where experts are trained, as peft has none for them; or leave the experts out of the target"
        )
        raise SpecError("experiment", [SpecProblem((*place, "lora", "dropout"), message)])
    if starts:
        if with_experts:
            message = "has the experts, and adapters of experts cannot be trained further: leave them out of the target"
            raise SpecError("experiment", [SpecProblem((*place, "lora", "target"), message)])
        if stated == "fast":
            message = "is fast, which trains new adapters only: state general or auto to start from one"
            raise SpecError("experiment", [SpecProblem((*place, "trainer"), message)])
        return "general"
    is_known = architecture is None or has_fast_trainer(architecture)
    if stated == "general" or (stated == "auto" and not (is_known and lora.is_plain)):
        return "general"
    if stated == "fast" and not is_known:
        message = f"is fast, which trains {fast_titles()}; the base is a {architecture}: state general or auto"
        raise SpecError("experiment", [SpecProblem((*place, "trainer"), message)])
    if not lora.is_plain:
        message = f"is fast, which has targets {', '.join(KINDS)} and no dropout or rslora: state general or auto"
        raise SpecError("experiment", [SpecProblem((*place, "trainer"), message)])
    return "fast"


def trains_experts(architecture: str | None, lora: Lora) -> bool:
    """Returns whether the target includes the experts of a mixture, by name or as part of all-linear."""
    family = FAMILIES.get(architecture or "")
    has_experts = family is not None and family.experts is not None
    return "experts" in lora.target or (has_experts and ALL_LINEAR in lora.target)


def check_sharding(
    stated: Literal["auto", "always", "never"],
    trainer: Literal["fast", "general"],
    gpus: int,
    place: Path,
    *,
    with_experts: bool = False,
) -> None:
    """Raises SpecError if `always` is stated and the trainer cannot divide the weights, or there is only one GPU.

    `with_experts`: the run trains adapters of experts, which sharding does not support.
    """
    if stated != "always":
        return
    if trainer == "fast":
        message = "is always, and the fast trainer does not divide weights: state trainer: general, or sharding: auto"
        raise SpecError("experiment", [SpecProblem((*place, "sharding"), message)])
    if gpus == 1:
        message = "is always, and one GPU trains: give the profile's train pods more GPUs, or state sharding: auto"
        raise SpecError("experiment", [SpecProblem((*place, "sharding"), message)])
    if with_experts:
        message = "is always, and a sharded model has no adapters of experts: leave the experts out of lora.target"
        raise SpecError("experiment", [SpecProblem((*place, "sharding"), message)])


def check_targets(architecture: str | None, lora: Lora, place: Path) -> None:
    """Raises SpecError for a target that the architecture does not have. None: it is not known here."""
    family = FAMILIES.get(architecture or "")
    if ALL_LINEAR in lora.target and len(lora.target) > 1:
        raise SpecError("experiment", [SpecProblem((*place, "lora", "target"), f"{ALL_LINEAR} goes alone")])
    if family is None:
        kinds = [target for target in lora.target if target in KINDS]
        if architecture is not None and kinds:
            message = (
                f"has {kinds[0]}, and which layers these are in a {architecture} is not known here: state "
                f"{ALL_LINEAR}, or names of its linear modules"
            )
            raise SpecError("experiment", [SpecProblem((*place, "lora", "target"), message)])
        return
    names = {*family.attention, *family.feed_forward, ALL_LINEAR}
    for target in lora.target:
        if target not in family.kinds and target not in names:
            known = [*family.kinds, *sorted(names)]
            message = f"a {architecture} has no {target}{nearest(target, known)}; it has {', '.join(known)}"
            raise SpecError("experiment", [SpecProblem((*place, "lora", "target"), message)])


def fast_titles() -> str:
    """The families that the fast trainer knows, in words."""
    return " and ".join(family.title for family in FAMILIES.values() if family.fast)


def _config_path(location: str) -> FilePath | None:
    if not location.startswith("hub://"):
        path = FilePath(location) / "config.json"
        return path if "://" not in location and path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    name, _, revision = location.removeprefix("hub://").partition("@")
    found = try_to_load_from_cache(name, "config.json", revision=revision)
    return FilePath(found) if isinstance(found, str) else None
