"""Names, labels and annotations of objects that the controller makes."""

from controller.experiment.profile import Profile
from controller.snapshot.types import role_of
from workloads.api.experiment import FrozenExperiment
from workloads.api.model import sha256_of
from workloads.api.tasks import ModelSource, RunnableTask

GROUP = "potstill.dev"
EXPERIMENT_LABEL = f"{GROUP}/experiment"
UID8_LABEL = f"{GROUP}/uid8"
ROLE_LABEL = f"{GROUP}/role"
TASK_ANNOTATION = f"{GROUP}/task"
CLOSED_ANNOTATION = f"{GROUP}/closed"
RETRY_ANNOTATION = f"{GROUP}/retry"
"""An annotation of an Experiment: each new value allows new attempts of units that were given up."""
GPUS_ANNOTATION = f"{GROUP}/gpus"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
KEPT_SECONDS = 3600
"""How long an ended Job stays for `kubectl logs`. The end of its log stays in the store."""
MANAGED_BY = {"app.kubernetes.io/part-of": "potstill", "app.kubernetes.io/managed-by": "potstill-controller"}


def job_name(frozen: FrozenExperiment, task: RunnableTask) -> str:
    """Returns the name of one attempt of one unit of one experiment: at most 45 characters, so that pods' names fit
    too.
    """
    return f"pexp-{frozen.uid8}-{role_of(task)}-{task.unit.digest[:12]}-{task.number}"


def prefetch_name(base: ModelSource, profile: Profile) -> str:
    """Returns the name for a base and a volume, which is the same for all experiments."""
    return f"pexp-prefetch-{sha256_of(f'{base.content}|{profile.weights_claim}'.encode())[:12]}"


def labels(frozen: FrozenExperiment, role: str) -> dict[str, str]:
    return {
        **MANAGED_BY,
        EXPERIMENT_LABEL: frozen.name,
        UID8_LABEL: frozen.uid8,
        ROLE_LABEL: role,
    }
