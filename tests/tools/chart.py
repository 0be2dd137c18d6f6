"""The chart, rendered by Helm. `python -m tests.tools.chart`: it lints, renders, and refuses wrong values."""

import subprocess
import sys
from pathlib import Path

from tests.tools.programs import program

CHARTS = Path(__file__).parents[2] / "charts"
CHART = CHARTS / "potstill"
CRDS = CHARTS / "potstill-crds"
IMAGE = f"registry.example/potstill-controller@sha256:{'0' * 64}"
VALUES = (
    f"image.reference={IMAGE}",
    "store.url=s3://bucket/prefix",
    "profiles.default.engine.name=vllm",
    "profiles.default.engine.version=0.32.0",
)
"""The smallest valid set."""
OPTIONS = (
    "imagePullSecrets={registry}",
    "store.endpoint=https://s3.example:9000",
    "store.region=eu-west-1",
    "store.secret=store",
    "networkPolicies.storePort=9000",
    "podDisruptionBudget.trainings=true",
    "metrics.dashboard=true",
    "metrics.serviceMonitor=true",
    "metrics.serviceMonitorLabels.release=prometheus",
    "controller.nodeSelector.pool=cpu",
    "controller.evaluationPods=4",
    "controller.logLevel=debug",
    "controller.replicas=2",
    "controller.tolerations[0].operator=Exists",
    "controller.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight=1",
    "controller.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.topologyKey=zone",
    "controller.topologySpreadConstraints[0].maxSkew=1",
    "controller.topologySpreadConstraints[0].topologyKey=zone",
    "controller.topologySpreadConstraints[0].whenUnsatisfiable=ScheduleAnyway",
    "controller.priorityClassName=system-cluster-critical",
    "controller.podLabels.team=ml",
    "controller.podAnnotations.note=ours",
    "controller.extraEnv[0].name=EXTRA",
    "controller.extraEnv[0].value=stated",
    "controller.extraVolumes[0].name=extra",
    "controller.extraVolumes[0].configMap.name=extra",
    "controller.extraVolumeMounts[0].name=extra",
    "controller.extraVolumeMounts[0].mountPath=/extra",
    "controller.serviceAccountAnnotations.role=controller",
    "workloads.serviceAccountAnnotations.role=workloads",
    "image.pullPolicy=Always",
    "store.addressingStyle=virtual",
    "caBundle.inline=-----BEGIN CERTIFICATE-----",
    "proxy.https=http://proxy.example:3128",
    "proxy.noProxy=.lab.example",
    "networkPolicies.nodeMetadata=true",
    "networkPolicies.extraEgress[0].ports[0].port=3128",
    "metrics.prometheusRule=true",
    "metrics.prometheusRuleLabels.release=prometheus",
    "profiles.h200.gpu=NVIDIA-H200",
    "profiles.h200.engine.version=0.32.0",
    "profiles.h200.weightsClaim=weights",
    "profiles.h200.train.gpus=8",
)
"""All options that are off by default."""
WRONG = {
    "an image tagged latest": "image.reference=registry.example/potstill-controller:latest",
    "no store": "store.url=",
    "a store that is not a bucket": "store.url=https://bucket.example",
    "a limit that is not a number of pods": "controller.evaluationPods=-1",
    "a value that does not exist": "storage.url=s3://bucket",
    "a profile's misspelt field": "profiles.default.train.gpu=8",
    "a profile without an engine": "profiles.bare.gpu=NVIDIA-H200",
    "a number of controllers that is none": "controller.replicas=-1",
    "a namespace that is not a name": "controller.namespaces={Team_A}",
    "a log level that is none": "controller.logLevel=loud",
    "an addressing style that is none": "store.addressingStyle=hosts",
    "a proxy's password": "proxy.https=http://lab:password@proxy.example:3128",
    "a proxy that is not a URL": "proxy.https=proxy.example",
    "CAs that are not certificates": "caBundle.inline=trust me",
    "a variable without a name": "controller.extraEnv[0].value=1",
}


class RefusedError(Exception):
    """Helm refused the values; the message is its output."""


def render(*values: str, chart: Path = CHART, release: str = "potstill") -> str:
    """Returns the chart's objects as YAML, tests included. Raises RefusedError."""
    command = [str(program("helm")), "template", release, str(chart), "--namespace", "team", *_set(values)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RefusedError(done.stderr)
    return done.stdout


def lint(*values: str, chart: Path = CHART) -> None:
    """Runs the linter. Raises CalledProcessError."""
    subprocess.run([str(program("helm")), "lint", "--strict", str(chart), *_set(values)], check=True)


def _set(values: tuple[str, ...]) -> list[str]:
    return [f"--set={value}" for value in values]


def main() -> int:
    for values in (VALUES, (*VALUES, *OPTIONS)):
        lint(*values)
        render(*values)
    lint(chart=CRDS)
    taken = []
    for name, value in WRONG.items():
        try:
            render(*VALUES, value)
        except RefusedError:
            continue
        taken.append(name)
    if taken:
        print(f"the chart takes {', '.join(taken)}", file=sys.stderr)
    return 1 if taken else 0


if __name__ == "__main__":
    sys.exit(main())
