"""`potstill status`: the progress of an Experiment in the cluster."""

import io
import time
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from controller.cli.cluster import Cluster, Context, Kubeconfig, Name, Namespace, cluster_at, condition
from controller.cli.common import wide_console
from controller.cli.json_output import JsonTo, shows_text, write_json
from controller.terminal import plain_console, shown

POLL_SECONDS = 2.0
Json = dict[str, Any]


def status(
    name: Name,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Until it is finished.")] = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    json_to: JsonTo = None,
) -> None:
    """Show the progress of an Experiment in the cluster, as its controller reports it.

    Exit 0 unless it failed (1). Example: potstill status distill-16-02 --watch
    """
    cluster, console = cluster_at(kubeconfig, context, namespace), wide_console()
    if watch and shows_text(json_to):
        item = watch_until_finished(cluster, name, console)
    elif watch:
        item = watch_until_finished(cluster, name, plain_console(io.StringIO()))
    else:
        item = cluster.experiment(name)
    metadata = item["metadata"]
    body = {"experiment": {"name": metadata["name"], "namespace": metadata["namespace"]}, "status": item.get("status")}
    write_json(json_to, "status", body)
    if not watch and shows_text(json_to):
        console.print(render(item))
    ending = condition(item, "Finished")
    raise typer.Exit(1 if ending.get("status") == "True" and ending["reason"] != "Succeeded" else 0)


def watch_until_finished(cluster: Cluster, name: str, console: Console) -> Json:
    """Prints the status when it changes, until the Experiment has ended. Returns the Experiment.

    Without a terminal it prints each change as new lines.
    """
    with Live(console=console, auto_refresh=False) as live:
        while True:
            item = cluster.experiment(name)
            live.update(render(item), refresh=True)
            if condition(item, "Finished").get("status") == "True":
                return item
            time.sleep(POLL_SECONDS)


def render(item: Json) -> RenderableType:
    """Returns the phase and counts, a line for each run, and the conditions with their messages."""
    shown_status = item.get("status", {})
    phase = shown_status.get("phase", "Pending")
    phase += "" if shown_status.get("conditions") else " (no controller has looked at it yet)"
    head = f"{item['metadata']['namespace']}/{item['metadata']['name']}: {phase}"
    counts = [
        f"{key} {shown_status[key]}"
        for key in ("training", "checkpoints", "evaluations", "gate")
        if key in shown_status
    ]
    parts: list[RenderableType] = [shown(", ".join([head, *counts]))]
    if shown_status.get("runs"):
        table = Table("run", "state", "step", "checkpoints", "", box=None, pad_edge=False)
        for line in shown_status["runs"]:
            step = f"{line['done']}/{line['total']}" if line.get("total") else ""
            cells = (line["name"], line["state"], step, line["checkpoints"], line.get("message", ""))
            table.add_row(*map(shown, cells))
        parts.append(table)
    conditions = Table("condition", "status", "reason", "message", box=None, pad_edge=False)
    for one in shown_status.get("conditions", []):
        conditions.add_row(*(shown(one[key]) for key in ("type", "status", "reason", "message")))
    parts.append(conditions)
    parts += [shown(f"{key}: {shown_status[key]}") for key in ("manifest", "report") if key in shown_status]
    return Group(*parts)
