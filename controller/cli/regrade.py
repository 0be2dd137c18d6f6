"""`potstill regrade`: grades outputs in the store with the grader of this version. Nothing is trained or generated."""

import sys
from pathlib import Path

import typer

from controller.cli.common import DEFAULT_STORE, ExperimentFile, ProfileFile, StoreUrl, frozen_from, store_at
from controller.cli.run import EXIT_CODES
from controller.local_runner import run_local
from workloads.api import store_keys
from workloads.api.evaluation_matrix import checkpoint_of, evaluation_matrix, generate_inputs, train_unit
from workloads.api.units import unit_of
from workloads.storage.markers import list_markers, read_marker
from workloads.untrusted import printable
from workloads.words import count_of


def regrade(path: ExperimentFile, store: StoreUrl = DEFAULT_STORE, profile: ProfileFile = None) -> None:
    """Grade all outputs with this version's grader. Nothing is trained or generated.

    Exit 4 if some outputs are not generated yet. Example: potstill regrade experiment.yaml
    """
    frozen, opened = frozen_from(Path(path), profile), store_at(store)
    markers = {train_unit(run): {m.name: m for m in list_markers(opened, train_unit(run))} for run in frozen.runs}
    missing: dict[tuple[str, str], str] = {}
    for evaluation in evaluation_matrix(frozen, markers):
        run = evaluation.model.run
        checkpoint = checkpoint_of(evaluation, markers[train_unit(run)]) if run else None
        has_weights = run is None or checkpoint is not None
        if (
            not has_weights
            or read_marker(opened, unit_of(generate_inputs(frozen, evaluation, checkpoint)), store_keys.OUTPUTS) is None
        ):
            missing.setdefault((evaluation.model.id, evaluation.benchmark.name), evaluation.id)
    if missing:
        first = next(iter(missing.values()))
        print(f"{count_of(len(missing), 'evaluation')} without outputs (first: {first}); potstill run generates them")
        raise typer.Exit(4)
    final = run_local(frozen, opened, live=sys.stdout.isatty())
    print(printable(f"{final.outcome}: {final.message}"))
    raise typer.Exit(EXIT_CODES[final.outcome])
