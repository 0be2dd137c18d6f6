"""JSON schemas for kubeconform, made from an API server's description of its kinds: no schema is fetched from anywhere."""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.cluster.harness import ControlPlane
from tests.tools.programs import program

KIND = "x-kubernetes-group-version-kind"
LOCATION = "{{ .ResourceKind }}{{ .KindSuffix }}.json"


def write_schemas(plane: ControlPlane, folder: Path, versions: Iterable[str]) -> None:
    """A file for each kind of these versions (v1, apps/v1). Fields that the server does not know are errors."""
    for version in versions:
        path = f"/openapi/v3/{'apis' if '/' in version else 'api'}/{version}"
        parts = _strict(plane.api.get(path))["components"]["schemas"]
        suffix = "".join(f"-{word.partition('.')[0]}" for word in version.split("/"))
        for name, schema in parts.items():
            for kind in schema.get(KIND, []):
                whole = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": parts}}
                (folder / f"{kind['kind'].lower()}{suffix}.json").write_text(json.dumps(whole))


def _strict(node: Any) -> Any:
    """Returns a schema that allows only stated fields, except where the server keeps unknown ones."""
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    found = {key: _strict(value) for key, value in node.items()}
    if isinstance(found.get("properties"), dict) and "x-kubernetes-preserve-unknown-fields" not in found:
        found.setdefault("additionalProperties", False)
    return found


def kubeconform(schemas: Path, text: str, *flags: str) -> list[dict[str, Any]]:
    """Returns what kubeconform found for each object of the YAML text: kind, name, status, msg."""
    command = [
        str(program("kubeconform")),
        "-output=json",
        "-verbose",
        f"-schema-location={schemas}/{LOCATION}",
        *flags,
    ]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)["resources"]
    return [item for item in found if item["status"] != "statusEmpty"]
