"""One release a namespace: a Lease that names the release and its store, and that its controllers renew.

Two controllers of one release with one store may work at the same time, as they do for a moment in an upgrade: they do
no harm. Controllers of another release or with another store wait until the Lease has expired. A Lease has expired when
its record has not changed for its duration, measured by the waiting controller's clock, so that clocks of two machines
are never compared. A controller that ends leaves the Lease as it is, because another one of its release may be running.

With several replicas a second Lease names the pod that works. The other pods wait for it; the pod that works releases
it when it ends.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from controller.executors.kubernetes.api import Api, ApiError, ApiUnreachable

Json = dict[str, Any]
NAME = "potstill-controller"
logger = logging.getLogger("potstill.kubernetes")


@dataclass(frozen=True)
class LeasePace:
    """`renew_seconds` must be well below `duration_seconds`."""

    duration_seconds: int = 30
    renew_seconds: float = 10.0
    look_seconds: float = 2.0
    """The interval between two reads of a Lease that another controller holds."""


class NamespaceLease:
    """`run` takes and renews the Lease; the other methods may be called from any thread.

    `holder`: the text that the Lease records: release and store.
    """

    level = logging.ERROR
    """Log level of the message that another controller holds the Lease."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        holder: str,
        pace: LeasePace | None = None,
        clock: Callable[[], float] = time.monotonic,
        name: str = NAME,
    ) -> None:
        self._api = api
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._namespace = namespace
        self._name = name
        self._holder = holder
        self._pace = pace or LeasePace()
        self._clock = clock
        self._held_until = float("-inf")
        self._unguarded = False
        """Whether this controller works without the Lease, because it has no permission for Leases."""
        self._seen: tuple[str, float] = ("", 0.0)
        """The version of another controller's Lease, and the time at which it was first seen."""
        self._other = ""
        self._stop = threading.Event()
        self._changed = threading.Condition()

    @property
    def is_held(self) -> bool:
        """Returns whether rounds may run now. It returns False before another controller may take the Lease."""
        return self._unguarded or self._clock() < self._held_until

    @property
    def problem(self) -> str:
        """Returns why no round may run; "" if rounds may run."""
        if self.is_held:
            return ""
        return self._other or f"the Lease {self._namespace}/{self._name} is not held yet"

    def wait_held(self, seconds: float) -> bool:
        """Waits up to `seconds` for the Lease. Returns whether this controller holds it."""
        with self._changed:
            return self._changed.wait_for(lambda: self.is_held or self._stop.is_set(), seconds) and self.is_held

    def stop(self) -> None:
        self._stop.set()
        with self._changed:
            self._changed.notify_all()

    def run(self) -> None:
        """Runs until `stop`. Never raises."""
        while not self._stop.is_set():
            try:
                self.renew()
            except (ApiError, ApiUnreachable) as error:
                logger.warning("the Lease %s/%s was not renewed: %s", self._namespace, self._name, error)
            except Exception:
                logger.exception("the Lease %s/%s: this is a bug in Potstill", self._namespace, self._name)
            self._stop.wait(self._pace.renew_seconds if self.is_held else self._pace.look_seconds)

    def renew(self) -> None:
        """Takes or renews the Lease if no other controller holds it. Raises ApiError, ApiUnreachable."""
        began = self._clock()
        try:
            written = self._is_ours_to_write()
        except ApiError as error:
            if error.status == 403:
                self._work_without(error)
                return
            if error.status != 409:  # another controller wrote it at the same moment: the next `renew` reads it again
                raise
            return
        self._unguarded = False
        if not written:
            return
        self._other = ""
        self._held_until = began + self._pace.duration_seconds - self._pace.look_seconds
        with self._changed:
            self._changed.notify_all()

    def _is_ours_to_write(self) -> bool:
        """Writes the Lease unless another controller holds it. Returns whether it was written."""
        try:
            found = self._api.request("GET", f"{self._path}/{self._name}")
        except ApiError as error:
            if error.status != 404:
                raise
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self._name}}
            self._api.request("POST", self._path, body={**body, "spec": self._spec({})})
            return True
        spec = found.get("spec") or {}
        holder = spec.get("holderIdentity") or self._holder
        if holder != self._holder and not self._is_abandoned(found, spec, holder):
            return False
        self._api.request("PUT", f"{self._path}/{self._name}", body={**found, "spec": self._spec(spec)})
        return True

    def _is_abandoned(self, found: Json, spec: Json, holder: str) -> bool:
        version, now = str(found["metadata"]["resourceVersion"]), self._clock()
        if self._seen[0] != version:
            self._seen = (version, now)
        duration = spec.get("leaseDurationSeconds") or self._pace.duration_seconds
        if now - self._seen[1] >= duration:
            logger.info("the Lease %s/%s of %s was not renewed for %d s", self._namespace, self._name, holder, duration)
            return True
        message = self._held_by(holder, duration)
        if message != self._other:
            logger.log(self.level, "%s", message)
            self._other = message
        return False

    def _held_by(self, holder: str, duration: int) -> str:
        return (
            f"namespace {self._namespace} is served by {holder}, and this is {self._holder}: a namespace has one "
            f"release with one store. Remove one of the two; this one begins {duration} s after the other has ended"
        )

    def _spec(self, before: Json) -> Json:
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
        same = before.get("holderIdentity") == self._holder
        return {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": self._pace.duration_seconds,
            "acquireTime": before.get("acquireTime") if same else now,
            "renewTime": now,
            "leaseTransitions": (before.get("leaseTransitions") or 0) + (0 if same or not before else 1),
        }

    def _work_without(self, error: ApiError) -> None:
        if not self._unguarded:
            logger.warning("a second release in this namespace would not be noticed: %s", error)
        self._unguarded = True
        with self._changed:
            self._changed.notify_all()


class LeaderLease(NamespaceLease):
    """The Lease that one pod of a release with several replicas holds. `holder`: the pod's name."""

    level = logging.INFO

    def __init__(
        self,
        api: Api,
        namespace: str,
        pod: str,
        release: str,
        pace: LeasePace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(api, namespace, pod, pace, clock, f"potstill-leader-{release}")

    def give_up(self) -> None:
        """Releases the Lease, so that another pod may take it at once. Call it after the last round.

        An error is logged; the Lease then expires.
        """
        if not self.is_held:
            return
        try:
            found = self._api.request("GET", f"{self._path}/{self._name}")
            if (found.get("spec") or {}).get("holderIdentity") == self._holder:
                body = {**found, "spec": {**found["spec"], "holderIdentity": ""}}
                self._api.request("PUT", f"{self._path}/{self._name}", body=body)
        except (ApiError, ApiUnreachable) as error:
            logger.warning("the Lease %s/%s was not released: %s", self._namespace, self._name, error)

    def _held_by(self, holder: str, duration: int) -> str:
        return (
            f"standing by: pod {holder} is the leader; this pod takes over if the Lease is not renewed for {duration} s"
        )
