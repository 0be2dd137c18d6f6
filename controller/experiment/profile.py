"""A profile: the settings of the platform. On a cluster it comes from the chart's values; `potstill run` makes one."""

import logging
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from controller.experiment.errors import SpecError, SpecProblem, problems_of
from controller.experiment.models import SpecModel
from workloads.api.units import RegisteredName
from workloads.engines.registry import ENGINES
from workloads.engines.transformers.definition import TRANSFORMERS
from workloads.registry import RegistryError
from workloads.stages.base import ProfilePart
from workloads.storage.registry import is_in_store, remote_schemes

logger = logging.getLogger("potstill")

OWN_VOLUMES = ("tmp", "work", "cache", "weights", "shm", "store-keys", "ca-bundle")
"""Names of volumes that Potstill adds to pods."""


class ProfileEngine(SpecModel):
    """The engine in this profile's images. It is part of the digest of generated outputs."""

    name: RegisteredName = Field(TRANSFORMERS.name, description="The engine: transformers or vllm.")
    version: str = Field(description="Its version in the evaluate image.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="Of weights and activations.")
    flags: dict[str, str | int | float | bool] = Field({}, description="Flags that can change outputs.")

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            ENGINES.require(name)
        except RegistryError as error:
            raise ValueError(str(error)) from error
        return name


Quantity = Annotated[str, Field(pattern=r"^[1-9][0-9]*(\.[0-9]+)?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$")]
"""Bytes as Kubernetes writes them: 500Gi."""


class SizeLimits(SpecModel):
    """Size limits of a pod's emptyDir volumes. A pod that writes more is evicted."""

    tmp: Quantity = Field("2Gi", description="Of the volume at /tmp.")
    work: Quantity | None = Field(
        None,
        description="Of the volume at /work: states and adapters on their way to the store. Not given: 100Gi where "
        "adapters are trained or read, 50Gi where they are imported, else 4Gi.",
    )
    cache: Quantity | None = Field(
        None, description="Compiled code and, without weightsClaim, weights; not with cacheClaim. Not given: as work."
    )
    shm: Quantity = Field("8Gi", description="Shared memory of pods with GPUs: /dev/shm. It counts as memory.")


class RolePod(SpecModel):
    """Where and how the pods of one role run."""

    image: str | None = Field(
        None,
        description="By digest: registry/name@sha256:<64 hex>; or by a tag, not latest, that never changes.",
    )
    gpus: int = Field(0, ge=0, description="GPUs per pod.")
    nodes: int = Field(1, gt=0, description="Pods of one training, each with its GPUs.")
    resources: dict[str, Any] = Field({}, description="requests and limits, but for GPUs, of each container.")
    node_selector: dict[str, str] = Field({}, description="Labels of the nodes that it may run on.")
    tolerations: list[dict[str, Any]] = Field([], description="Taints of nodes that it may run on.")
    priority_class_name: str | None = Field(None, description="PriorityClass of the pods.")
    queue: str | None = Field(None, description="Kueue's LocalQueue.")
    runtime_class_name: str | None = Field(None, description="RuntimeClass: gvisor for grade, to sandbox code.")
    service_account_name: str | None = Field(None, description="In place of the profile's.")
    env: dict[str, str] = Field(
        {},
        description="Environment variables of every container. The one that executes candidates' code has them too: "
        "no secrets here.",
    )
    extra_env: list[dict[str, Any]] = Field(
        [],
        description="Further variables as Kubernetes has them (valueFrom, for example); not for the container that "
        "executes candidates' code.",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        None, description="Default: Kubernetes' own."
    )
    pod_labels: dict[str, str] = Field({}, description="Labels of the pods, beside Potstill's own.")
    pod_annotations: dict[str, str] = Field({}, description="Annotations of the pods, beside Potstill's own.")
    volumes: list[dict[str, Any]] = Field([], description="Further volumes of the pods, as Kubernetes has them.")
    volume_mounts: list[dict[str, Any]] = Field(
        [], description="Where those are mounted; not in the container that executes candidates' code."
    )
    affinity: dict[str, Any] = Field({}, description="Affinity of the pods, as Kubernetes has it.")
    topology_spread_constraints: list[dict[str, Any]] = Field(
        [], description="How the pods are spread over nodes or zones, as Kubernetes has it."
    )
    size_limits: SizeLimits = Field(SizeLimits(), description="Size limits of the pods' own volumes.")
    termination_grace_seconds: int = Field(
        120, gt=0, description="How long a pod that is ended has to save its state; large adapters need more."
    )

    @field_validator("pod_labels", "pod_annotations")
    @classmethod
    def _leaves_ours(cls, stated: dict[str, str]) -> dict[str, str]:
        ours = sorted(name for name in stated if name.partition("/")[0].endswith("potstill.dev"))
        if ours:
            raise ValueError(f"{ours[0]} is set by Potstill: take it out")
        return stated

    @field_validator("volumes")
    @classmethod
    def _have_names_of_their_own(cls, stated: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for volume in stated:
            if volume.get("name") in OWN_VOLUMES:
                raise ValueError(f"a volume {volume['name']} exists already: use another name than {OWN_VOLUMES}")
        return stated

    @field_validator("image")
    @classmethod
    def _says_which_version(cls, image: str | None) -> str | None:
        if image is not None and "@" not in image:
            _, _, tag = image.rpartition("/")[2].partition(":")
            if tag in ("", "latest"):
                raise ValueError(
                    f"{image} can be another image at the next pull; name it by digest (name@sha256:...) or version"
                )
        return image


class CaBundle(SpecModel):
    """Additional trusted CAs: of the store, of a model hub, or of a proxy that opens TLS."""

    config_map: str = Field(description="ConfigMap with PEM certificates.")
    key: str = Field("ca.crt", description="Its key.")


class Proxy(SpecModel):
    """The HTTP proxy for connections to the store and to a model hub."""

    https: str | None = Field(None, description="HTTPS_PROXY: URL of the proxy for https:// addresses.")
    http: str | None = Field(None, description="HTTP_PROXY: URL of the proxy for http:// addresses.")
    no_proxy: str | None = Field(
        None, description="NO_PROXY: names, suffixes and addresses reached directly, by commas."
    )

    @field_validator("https", "http")
    @classmethod
    def _has_no_password(cls, url: str | None) -> str | None:
        if url is not None and "@" in url:
            raise ValueError(
                "the URL holds a user name, and profiles are written into records and Jobs: take it out, and give the "
                "whole URL by extraEnv (HTTPS_PROXY with a secretKeyRef)"
            )
        return url


class StoreAccess(SpecModel):
    """The store that the profile's pods use."""

    url: str = Field(description="s3://bucket/prefix: one namespace's root.")
    endpoint: str | None = Field(None, description="For S3 servers that are not AWS.")
    region: str | None = Field(None, description="AWS region of the bucket.")
    secret: str | None = Field(
        None,
        description="Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for temporary keys, AWS_SESSION_TOKEN; "
        "none: the service account's role. Pods read it again when it changes.",
    )
    addressing_style: Literal["path", "virtual", "auto"] | None = Field(
        None,
        description="path: https://host/bucket; virtual: https://bucket.host. Not given: path with an endpoint, "
        "else auto.",
    )

    @field_validator("url")
    @classmethod
    def _is_reached_by_pods(cls, url: str) -> str:
        if not is_in_store(url):
            raise ValueError(f"must begin with {' or '.join(remote_schemes())}")
        return url


RENAMED = {"gatherSeconds": "batchWindowSeconds", "lingerSeconds": "idleTimeoutSeconds"}
"""Old and new names of renamed fields of a profile. This is the last version that accepts the old names in files."""


def _with_old_names(schema: dict[str, Any]) -> None:
    """Adds the old name of each field to the JSON schema, as an alternative to the new one."""
    for old, new in RENAMED.items():
        field = schema["properties"][new]
        schema["properties"][old] = {**field, "description": f"Old name of {new}.", "deprecated": True}
        schema["properties"][old].pop("title", None)
    schema["allOf"] = [{"not": {"required": [old, new]}} for old, new in RENAMED.items()]


class Profile(SpecModel):
    model_config = ConfigDict(json_schema_extra=_with_old_names)

    name: str = Field("local", description="The name in Experiments; the chart's key.")
    gpu: str = Field("cpu", description="Model name of the GPUs, as in the digest of generated outputs.")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="Default of trainings.")
    engine: ProfileEngine
    train: RolePod = Field(RolePod(), description="Pods of trainings.")
    evaluate: RolePod = Field(RolePod(), description="Pods that generate.")
    grade: RolePod = Field(RolePod(), description="Pods that grade; no GPU.")
    report: RolePod = Field(RolePod(), description="Pods that import, report, and fetch weights; no GPU.")
    weights_claim: str | None = Field(
        None,
        description="PersistentVolumeClaim for bases of s3:// and of the hub: one Job brings each there, trainings and "
        "evaluations read it. With more than one node: ReadWriteMany.",
    )
    cache_claim: str | None = Field(
        None,
        description="PersistentVolumeClaim for compiled code and fetched weights, written by several pods. With more "
        "than one node: ReadWriteMany.",
    )
    store: StoreAccess | None = None
    ca_bundle: CaBundle | None = None
    proxy: Proxy | None = None
    service_account_name: str | None = Field(None, description="Default of pods.")
    image_pull_secrets: list[str] = Field([], description="Secrets for the registry of the images.")
    directory: str | None = Field(
        None, description="Absolute path in all pods (image or weights volume) at which relative paths of specs start."
    )
    training_slots: int = Field(8, gt=0, description="Trainings of an experiment that run at one time.")
    evaluation_slots: int = Field(2, gt=0, description="Generating pods of an experiment that run at one time.")
    group_members: int = Field(64, gt=0, description="Largest number of evaluations in one generating pod at a time.")
    batch_window_seconds: float = Field(
        0, ge=0, description="How long evaluations wait for others before a generating pod starts for them."
    )
    idle_timeout_seconds: float = Field(0, ge=0, description="How long a generating pod without work is kept.")
    allow_unsandboxed: bool = Field(
        False, description="True: code benchmarks are graded without a sandbox from runtimeClassName."
    )
    train_tokens_per_second: float | None = Field(None, gt=0, description="Measured, per GPU: for plan's estimate.")
    generate_tokens_per_second: float | None = Field(None, gt=0, description="Measured, per GPU: for plan's estimate.")
    price_per_gpu_hour: float | None = Field(None, gt=0, description="In your currency: for plan's estimate.")

    @model_validator(mode="before")
    @classmethod
    def _takes_old_names(cls, stated: object) -> object:
        """Accepts old names, because profiles in experiments of earlier versions have them too."""
        if not isinstance(stated, dict):
            return stated
        for old, new in RENAMED.items():
            if old in stated and new in stated:
                raise ValueError(f"{old} is the old name of {new}: state {new} alone")
        return {RENAMED.get(name, name): value for name, value in stated.items()}

    def pod_of(self, part: ProfilePart) -> RolePod:
        """Returns where and how the pods of a stage with this part run."""
        pods: dict[ProfilePart, RolePod] = {
            "train": self.train,
            "evaluate": self.evaluate,
            "grade": self.grade,
            "report": self.report,
        }
        return pods[part]


def local_profile() -> Profile:
    """Returns a profile of one machine with CPU and the installed transformers engine.

    Raises SpecError if there is none.
    """
    try:
        engine = ProfileEngine(name=TRANSFORMERS.name, version=version(TRANSFORMERS.name))
    except PackageNotFoundError as error:
        problem = SpecProblem(
            (),
            "running here needs the local extra: uv tool install '.[local]' in the checkout",
        )
        raise SpecError("profile local", [problem]) from error
    return Profile(name="local", engine=engine, training_slots=1, evaluation_slots=1)


def load_profile(path: Path) -> Profile:
    """Reads a profile from a YAML file. Logs a warning for each old name of a field. Raises SpecError."""
    try:
        text = path.read_text(encoding="utf-8")
        profile = Profile.model_validate(yaml.safe_load(text), by_alias=True, by_name=False)
        for line, old in _old_names(text):
            logger.warning("%s: line %d: %s", path, line, renamed_message(old))
        return profile
    except ValidationError as error:
        raise SpecError(str(path), problems_of(error, Profile)) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpecError(str(path), [SpecProblem((), f"cannot be read: {error}")]) from error


def renamed_message(old: str) -> str:
    return f"{old} is now {RENAMED[old]}; the next version no longer reads the old name"


def _old_names(text: str) -> list[tuple[int, str]]:
    """Returns (line, name) of each old name of a field at the top level of the file."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    keys = [key for key, _ in root.value] if isinstance(root, yaml.MappingNode) else []
    return [(key.start_mark.line + 1, str(key.value)) for key in keys if key.value in RENAMED]
