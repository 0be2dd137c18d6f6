"""Writes a comparison as text and as JSON."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from pydantic import JsonValue
from rich.console import RenderableType
from rich.table import Table

from workloads.api.model import canonical_json
from workloads.results.changes import Change, ChangeGroup, UnitChange, grouped
from workloads.results.effects import Effect, Effects, NotCompared

NAMES_SHOWN = 6
DIGEST_SHOWN = 12
VALUE_SHOWN = 60
WORDS = {"changed": "again", "added": "added", "removed": "removed", "same": "the same"}
ALPHA = 0.05


@dataclass(frozen=True)
class ComparedManifests:
    """`fields`: the fields in which two files differ. `effects`: the differences between two manifests."""

    old: str
    new: str
    fields: tuple[Change, ...]
    units: tuple[UnitChange, ...]
    effects: Effects | None = None

    @property
    def differs(self) -> bool:
        units = any(unit.standing != "same" for unit in self.units)
        return bool(self.fields) or units or (self.effects is not None and _differ(self.effects))


def _differ(found: Effects) -> bool:
    """Returns whether the results differ or cannot be compared although all units are equal."""
    sides = found.only_old or found.only_new or found.only_old_benchmarks or found.only_new_benchmarks
    return bool(found.contradictory or found.compared or found.not_compared or sides)


def diff_json(compared: ComparedManifests) -> bytes:
    """Returns the whole comparison as canonical JSON with a final newline."""
    whole = asdict(compared) | {"differs": compared.differs, "schema_version": 1}
    return canonical_json(whole) + b"\n"


def diff_text(compared: ComparedManifests) -> Iterator[RenderableType]:
    yield f"{compared.old} -> {compared.new}"
    if not compared.differs:
        yield "nothing differs"
        return
    if compared.fields:
        yield _fields_table(compared.fields)
    yield _units_table(grouped(compared.units))
    if compared.effects is not None:
        yield from _effects(compared.effects)


def _fields_table(fields: Iterable[Change]) -> Table:
    table = Table("field", "old", "new", title="Fields that differ", title_justify="left", box=None)
    for change in fields:
        table.add_row(change.path, _side(change.old, change.old_stated), _side(change.new, change.new_stated))
    return table


def _units_table(groups: Iterable[ChangeGroup]) -> Table:
    columns = ("unit", "how many", "", "which", "because of")
    table = Table(*columns, title="Units of work", title_justify="left", box=None)
    for group in groups:
        reasons = "\n".join(_reason(change) for change in group.because)
        if group.standing == "changed" and not group.because:
            reasons = "unknown: generated again, or a source that the manifest does not contain"
        table.add_row(group.kind, str(len(group.names)), WORDS[group.standing], _names(group.names), reasons)
    return table


def _names(names: tuple[str, ...]) -> str:
    more = f", and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def _reason(change: Change) -> str:
    if change.old is None and change.new is None:
        return change.path
    return f"{change.path}: {_side(change.old, change.old_stated)} -> {_side(change.new, change.new_stated)}"


def _side(value: JsonValue, stated: bool) -> str:
    if not stated or value is None:
        return "not stated"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if text.startswith("sha256:"):
        return text[: len("sha256:") + DIGEST_SHOWN]
    return text if len(text) <= VALUE_SHOWN else f"{text[:VALUE_SHOWN]}..."


def _effects(found: Effects) -> Iterator[RenderableType]:
    if found.compared:
        yield _effects_table(found.compared)
        significant = sum(effect.adjusted_p < ALPHA for effect in found.compared)
        yield (
            f"{significant} of {len(found.compared)} differences are significant (*, 5% after Holm correction); "
            "intervals are 95%, not corrected, new - old, on the same problems"
        )
        if any(effect.again for effect in found.compared):
            yield "(again): the same prompts, generated a second time: differences are noise"
    if found.unchanged:
        yield f"the same verdicts, from the same units: {_names(tuple(' on '.join(one) for one in found.unchanged))}"
    if found.contradictory:
        names = _names(tuple(" on ".join(one) for one in found.contradictory))
        yield f"other verdicts from the same units: {names}: one manifest was edited, or a store is damaged"
    for only, side in (
        (found.only_old, "old"),
        (found.only_new, "new"),
        (found.only_old_benchmarks, "old, a benchmark"),
        (found.only_new_benchmarks, "new, a benchmark"),
    ):
        if only:
            yield f"only in the {side}: {_names(only)}"
    if not (found.compared or found.unchanged or found.not_compared):
        yield "no results were compared: the two share no model with results on the same benchmark"
    yield from _refused(found.not_compared)


def _effects_table(effects: tuple[Effect, ...]) -> Table:
    table = Table(title="Effects on results", title_justify="left", box=None)
    metrics = list(dict.fromkeys(effect.metric for effect in effects))
    for column in ("benchmark", "model", "budget", "n", *metrics):
        table.add_column(column, justify="right" if column in ("budget", "n") else "left")
    rows: dict[tuple[str, str, int], dict[str, Effect]] = {}
    for effect in effects:
        rows.setdefault((effect.benchmark, effect.model, effect.budget_tokens), {})[effect.metric] = effect
    for (benchmark, model, budget), cells in rows.items():
        first = next(iter(cells.values()))
        name = f"{model} (again)" if first.again else model
        shown = [_effect(cells[metric]) if metric in cells else "" for metric in metrics]
        table.add_row(benchmark, name, f"{budget:,}", str(first.difference.n), *shown)
    return table


def _effect(effect: Effect) -> str:
    """Returns text such as 73.0% -> 67.0%, -6.0 (-18.6 to +6.8)."""
    found = effect.difference
    span = f"{found.estimate * 100:+.1f} ({found.low * 100:+.1f} to {found.high * 100:+.1f})"
    return f"{found.second:.1%} -> {found.first:.1%}, {span}{' *' if effect.adjusted_p < ALPHA else ''}"


def _refused(refused: tuple[NotCompared, ...]) -> Iterator[str]:
    """Yields a line for each reason, with all evaluations that have this reason."""
    by_reason: dict[str, list[str]] = {}
    for item in refused:
        by_reason.setdefault("; ".join(item.reasons), []).append(f"{item.model} on {item.benchmark}")
    for reason, names in by_reason.items():
        yield f"not compared: {reason}: {_names(tuple(names))}"
