"""The CustomResourceDefinition, generated from the models of the spec.

Kubernetes requires a *structural* schema (apiextensions.k8s.io/v1): no $ref, no unions, no const, exclusiveMinimum as a
boolean, no additionalProperties beside properties. CEL rules state what may change in a live experiment: runs,
candidates, benchmarks and data sets may be added, and the gate, limits, suspend and deletionPolicy may change. Existing
runs, candidates, benchmarks and data sets may neither change nor be removed.
"""

import json
from typing import Any

import yaml

from controller.experiment.models import ExperimentSpec

GROUP = "potstill.dev"
VERSION = "v1alpha1"
KEYWORDS = (
    *("type", "description", "properties", "required", "items", "additionalProperties", "default", "enum", "pattern"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems"),
)
"""Keywords of a pydantic schema that the structural schema has too."""
COLUMNS = (
    ("Phase", ".status.phase", "string", 0),
    ("Training", ".status.training", "string", 0),
    ("Checkpoints", ".status.checkpoints", "string", 0),
    ("Evaluations", ".status.evaluations", "string", 0),
    ("Gate", ".status.gate", "string", 0),
    ("Finished", ".status.conditions[?(@.type=='Finished')].reason", "string", 1),
    ("Age", ".metadata.creationTimestamp", "date", 0),
)

KEEP_ANNOTATIONS = {
    "helm.sh/resource-policy": "keep",
    "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
    "kustomize.toolkit.fluxcd.io/prune": "disabled",
}
"""With these annotations Helm, Argo CD and Flux never delete the CRD. Its deletion would delete every Experiment."""
IMMUTABLE = ("base", "training", "epoch", "profile")
LONGEST_TEXT = 1 << 18
"""The greatest length of a text, in characters; etcd refuses objects of more than 1.5 MiB."""
NAMED_LISTS = ("runs", "candidates")


class _Dumper(yaml.SafeDumper):
    """Quotes n, N, y and Y. kubectl and helm read YAML 1.1, in which an unquoted field name `n` means false."""


def _text(dumper: _Dumper, data: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style='"' if data in ("n", "N", "y", "Y") else None)


_Dumper.add_representer(str, _text)


def crd_yaml() -> str:
    """`experiment_crd` as `kubectl apply -f` and helm read it."""
    return yaml.dump(experiment_crd(), Dumper=_Dumper, sort_keys=False, width=120)


def experiment_crd() -> dict[str, Any]:
    """The whole object, ready for `kubectl apply`.

    It has no value that the API server drops or rewrites (a priority of 0, a default of 0.0). If a field differed from
    the live object, server-side apply by another program (Helm, Argo CD, Flux) would report a conflict.
    """
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"experiments.{GROUP}", "annotations": dict(KEEP_ANNOTATIONS)},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "plural": "experiments",
                "singular": "experiment",
                "kind": "Experiment",
                "listKind": "ExperimentList",
                "shortNames": ["pexp"],
                "categories": ["potstill"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": name, "jsonPath": path, "type": kind, **({"priority": priority} if priority else {})}
                        for name, path, kind, priority in COLUMNS
                    ],
                    "schema": {"openAPIV3Schema": _schema()},
                }
            ],
        },
    }


def _schema() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "A fine-tuning experiment: runs to train, checkpoints to evaluate, a gate to pass.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "maxLength": 52, "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"}
                },
            },
            "spec": spec_schema(),
            "status": status_schema(),
        },
    }


def spec_schema() -> dict[str, Any]:
    """ExperimentSpec as a structural schema, with the rules for changes."""
    source = ExperimentSpec.model_json_schema(by_alias=True)
    spec = structural(source, source.get("$defs", {}))
    properties = spec["properties"]
    for name in NAMED_LISTS:
        _as_map(properties[name], f"this {name[:-1]} is part of a live experiment: add another under a new name")
    benchmarks = properties["evaluation"]["properties"]["benchmarks"]
    _as_map(benchmarks, "a benchmark in use cannot change: add another under a new name")
    properties["data"]["maxProperties"] = 32
    properties["data"]["additionalProperties"]["x-kubernetes-validations"] = [
        {"rule": "self == oldSelf", "message": "a data set in use cannot change: add another under a new name"}
    ]
    spec["x-kubernetes-validations"] = [*_spec_rules()]
    properties["evaluation"]["x-kubernetes-validations"] = [
        {"rule": _unchanged(name), "message": f"evaluation.{name} cannot change in a live experiment"}
        for name in ("sampling", "budgets", "engine")
    ]
    return without_list_defaults(spec)


def _as_map(schema: dict[str, Any], message: str) -> None:
    """Makes `schema` a list keyed by name whose items may not change. In its rules `oldSelf` is the old item of that
    name.

    Each field has a separate rule and each text a maximum length, because the API server limits the cost of a rule. A
    missing field equals its default: an older CRD wrote defaults into stored objects, this CRD does not.
    """
    schema["x-kubernetes-list-type"] = "map"
    schema["x-kubernetes-list-map-keys"] = ["name"]
    items = schema["items"]
    presence = []
    rules = []
    for name, field in items["properties"].items():
        if field["type"] == "string" and "enum" not in field:
            field.setdefault("maxLength", LONGEST_TEXT)
        if "default" in field:
            default = json.dumps(field["default"])
            new, old = (f"(has({it}.{name}) ? {it}.{name} : {default})" for it in ("self", "oldSelf"))
            rules.append({"rule": f"{new} == {old}", "message": message})
        elif name != "name":
            presence.append(f"has(self.{name}) == has(oldSelf.{name})")
            field["x-kubernetes-validations"] = [{"rule": "self == oldSelf", "message": message}]
    items["x-kubernetes-validations"] = [{"rule": " && ".join(presence), "message": message}, *rules]


def without_list_defaults(schema: dict[str, Any], in_list: bool = False) -> dict[str, Any]:
    """The schema without defaults inside lists. The description states the default; the models (pydantic) apply it.

    The server would write such a default into the items, and `kubectl apply` and Argo CD, which compare whole
    lists, would find a change in every object.
    """
    found = dict(schema)
    if in_list and "default" in found:
        default = found.pop("default")
        text = default if isinstance(default, str) else json.dumps(default)
        found["description"] = f"{found['description']} Default: {text}."
    if "properties" in found:
        found["properties"] = {
            name: without_list_defaults(field, in_list) for name, field in found["properties"].items()
        }
    if "items" in found:
        found["items"] = without_list_defaults(found["items"], in_list=True)
    if isinstance(found.get("additionalProperties"), dict):
        found["additionalProperties"] = without_list_defaults(found["additionalProperties"], in_list)
    return found


def _unchanged(name: str) -> str:
    return f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})"


def _spec_rules() -> list[dict[str, str]]:
    rules = [
        {"rule": _unchanged(name), "message": f"{name} cannot change in a live experiment: use a new experiment name"}
        for name in IMMUTABLE
    ]
    rules += [
        {
            "rule": f"!has(oldSelf.{name}) || "
            f"oldSelf.{name}.all(o, has(self.{name}) && self.{name}.exists(n, n.name == o.name))",
            "message": f"{name} can be added but not removed: their results are in the manifest",
        }
        for name in NAMED_LISTS
    ]
    rules.append(
        {
            "rule": "oldSelf.evaluation.benchmarks.all(o, self.evaluation.benchmarks.exists(n, n.name == o.name))",
            "message": "benchmarks can be added but not removed",
        }
    )
    rules.append(
        {
            "rule": "!has(oldSelf.data) || (has(self.data) && oldSelf.data.all(k, k in self.data))",
            "message": "data sets can be added but not removed",
        }
    )
    rules.append(
        {
            "rule": "(has(self.runs) && size(self.runs) > 0) || (has(self.candidates) && size(self.candidates) > 0)",
            "message": "runs and candidates are both empty: there is nothing to evaluate",
        }
    )
    return rules


def structural(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Rewrites a pydantic JSON schema without the keywords that Kubernetes refuses. The
    patterns of patternProperties are left out, because the controller checks those names.
    """
    if "$ref" in schema:
        target = definitions[schema["$ref"].rsplit("/", 1)[-1]]
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    if "anyOf" in schema:
        (inner,) = [option for option in schema["anyOf"] if option != {"type": "null"}]
        rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
        return structural({**inner, **rest}, definitions)
    if "const" in schema:
        schema = {**schema, "enum": [schema["const"]]}
    kept = {key: value for key, value in schema.items() if key in KEYWORDS}
    if isinstance(named := schema.get("patternProperties"), dict):
        (kept["additionalProperties"],) = named.values()
    if "properties" in kept:
        kept.pop("additionalProperties", None)
        kept["properties"] = {name: structural(item, definitions) for name, item in kept["properties"].items()}
    elif isinstance(kept.get("additionalProperties"), dict):
        kept["additionalProperties"] = structural(kept["additionalProperties"], definitions)
    if "items" in kept:
        kept["items"] = structural(kept["items"], definitions)
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in kept:
            kept[bound], kept[exclusive] = kept[exclusive], True
    default = kept.get("default")
    if not isinstance(default, bool | int | float | str):
        kept.pop("default", None)
    elif isinstance(default, float) and default.is_integer():
        kept["default"] = int(default)
    if "description" in kept:
        kept["description"] = " ".join(str(kept["description"]).split())
    return kept


def status_schema() -> dict[str, Any]:
    text = {"type": "string"}
    count = {"type": "integer"}
    condition = {
        "type": "object",
        "required": ["type", "status", "lastTransitionTime", "reason", "message"],
        "properties": {
            "type": {"type": "string", "maxLength": 316, "description": "Accepted, Ready, Finished and others."},
            "status": {
                "type": "string",
                "enum": ["True", "False", "Unknown"],
                "description": "Whether the condition is met. Unknown: the controller cannot find out now.",
            },
            "observedGeneration": {
                "type": "integer",
                "format": "int64",
                "minimum": 0,
                "description": "metadata.generation of the spec that this condition describes.",
            },
            "lastTransitionTime": {"type": "string", "format": "date-time", "description": "Time of its last change."},
            "reason": {"type": "string", "minLength": 1, "maxLength": 1024, "description": "One word, for programs."},
            "message": {
                "type": "string",
                "maxLength": 32768,
                "description": "The state and its cause in words, for people.",
            },
        },
    }
    run = {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {**text, "description": "Name of the run or candidate."},
            "state": {
                **text,
                "description": "waiting, pending (its task is not running yet), running, done or failed.",
            },
            "message": {**text, "description": "The cause of the state."},
            "done": {**count, "description": "Optimizer steps done."},
            "total": {**count, "description": "Optimizer steps in all."},
            "checkpoints": {**text, "description": "Committed checkpoints / expected checkpoints."},
        },
    }
    return {
        "type": "object",
        "description": "Counts, one line per run, and URLs; its size does not depend on the number of evaluations.",
        "default": {"phase": "Pending"},
        "properties": {
            "observedGeneration": {
                "type": "integer",
                "format": "int64",
                "description": "metadata.generation of the spec that this status describes.",
            },
            "phase": {
                **text,
                "description": "Pending, Running, Suspending, Suspended, Refused or the reason of condition Finished.",
            },
            "training": {**text, "description": "Runs that are done / all runs: 2/4."},
            "checkpoints": {**text, "description": "Committed checkpoints / expected checkpoints."},
            "evaluations": {**text, "description": "Graded evaluations / all evaluations."},
            "gate": {**text, "description": "NotFinished, then Pass, Fail, NotEnoughEvidence or NotEvaluable."},
            "store": {**text, "description": "Root of the store."},
            "manifest": {**text, "description": "URL of the manifest."},
            "report": {**text, "description": "URL of the report's folder."},
            "retried": {
                **text,
                "description": "The last value of the annotation potstill.dev/retry that the controller acted on.",
            },
            "revision": {**count, "description": "1 at acceptance; each later addition to the spec adds 1."},
            "counts": {
                "type": "object",
                "description": "Committed results. If the store holds fewer later, it has lost some.",
                "properties": {
                    "checkpoints": {**count, "description": "Checkpoints committed."},
                    "outputs": {**count, "description": "Evaluations whose outputs are committed."},
                    "grades": {**count, "description": "Evaluations whose grades are committed."},
                },
            },
            "runs": {
                "type": "array",
                "description": "A line for each run and candidate.",
                "items": run,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
            },
            "conditions": {
                "type": "array",
                "description": "Standard Kubernetes conditions, usable with kubectl wait --for=condition=Finished.",
                "items": condition,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
        },
    }
