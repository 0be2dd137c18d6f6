"""Which Jobs the API server made, by its audit log: `control_plane(audit=JOB_CREATIONS)`."""

import json

from tests.cluster.harness.api import Object
from tests.cluster.harness.control_plane import ControlPlane

JOB_CREATIONS: list[Object] = [
    {"level": "Request", "verbs": ["create"], "resources": [{"group": "batch", "resources": ["jobs"]}]},
    {"level": "None"},
]
"""Rules of an audit policy."""
TASK = "potstill.dev/task"


def created_jobs(plane: ControlPlane, namespace: str) -> list[str]:
    """Keys of tasks for which a Job was made, one for each Job."""
    events = [json.loads(line) for line in plane.audit_log.read_text().splitlines() if line.endswith("}")]
    annotations = [
        event["requestObject"]["metadata"].get("annotations", {})
        for event in events
        if event["objectRef"]["namespace"] == namespace and event["responseStatus"]["code"] == 201
    ]
    return [found[TASK] for found in annotations if TASK in found]
