"""The controller's program: `python -m controller.executors.kubernetes.serve`. One controller for each namespace."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from kubernetes.config.config_exception import ConfigException

from controller.executors.kubernetes.api import CONTROLLER, connect
from controller.executors.kubernetes.health import Health, serve_health
from controller.executors.kubernetes.json_lines import JsonLines
from controller.executors.kubernetes.metrics import Metrics
from controller.executors.kubernetes.namespace_controller import RELEASE, Controller
from controller.executors.kubernetes.namespace_lease import LeaderLease
from controller.experiment.errors import SpecError
from controller.experiment.profile import Profile, load_profile
from workloads.storage.base import StoreError, open_store

logger = logging.getLogger("potstill")


def load_profiles(folder: Path) -> dict[str, Profile]:
    """Returns profiles by name: the files <name>.yaml of a mounted ConfigMap. Raises SpecError for a wrong file."""
    found = {path.stem: load_profile(path) for path in sorted(folder.glob("*.yaml"))}
    return {name: profile.model_copy(update={"name": name}) for name, profile in found.items()}


def main() -> int:
    """Runs until SIGTERM. Returns 1, after one line in the log, if it cannot start.

    Environment: POTSTILL_STORE, POTSTILL_PROFILES (a folder), POTSTILL_NAMESPACE, POTSTILL_HEALTH_PORT (8080),
    POTSTILL_EVALUATION_PODS (in each namespace; 0: no limit), POTSTILL_RELEASE (potstill), POTSTILL_LOG_LEVEL (info),
    POTSTILL_NAMESPACES (the namespaces to serve, separated by spaces; default: POTSTILL_NAMESPACE), POTSTILL_POD (the
    name of this pod, if the release has several).
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    level = os.environ.get("POTSTILL_LOG_LEVEL", "info").upper()
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        logger.setLevel(level)
        controllers, leader = _controllers()
        port = int(os.environ.get("POTSTILL_HEALTH_PORT", "8080"))
    except KeyError as error:
        logger.error("cannot start: the environment variable %s is not set", error.args[0])
        return 1
    except (SpecError, StoreError, ConfigException, ValueError, OSError) as error:
        logger.error("cannot start: %s", error)
        return 1
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    if leader is not None:
        threading.Thread(target=leader.run, name="leader", daemon=True).start()
    for controller in controllers:
        controller.start()
    health = serve_health(
        port,
        Health(
            lambda: _problems(c.problem() for c in controllers), lambda: _problems(c.unready() for c in controllers)
        ),
        controllers[0].metrics.registry,
    )
    ending.wait()
    logger.info("stopping: running rounds end first")
    _stop(controllers)
    if leader is not None:
        leader.stop()
        leader.give_up()
    health.shutdown()
    return 0


def _problems(problems: Iterable[str]) -> str:
    return "; ".join(problem for problem in problems if problem)


def _stop(controllers: list[Controller]) -> None:
    """Stops all controllers at the same time: together they have STOP_SECONDS."""
    threads = [threading.Thread(target=controller.stop) for controller in controllers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _controllers() -> tuple[list[Controller], LeaderLease | None]:
    """Makes the controllers from the environment.

    Raises KeyError, SpecError, StoreError, ConfigException, ValueError, OSError.
    """
    profiles = load_profiles(Path(os.environ["POTSTILL_PROFILES"]))
    store = open_store(os.environ["POTSTILL_STORE"])
    kubeconfig = os.environ.get("KUBECONFIG")
    api = connect(Path(kubeconfig) if kubeconfig else None, agent=CONTROLLER)
    own = os.environ["POTSTILL_NAMESPACE"]
    namespaces = os.environ.get("POTSTILL_NAMESPACES", "").split() or [own]
    release = os.environ.get("POTSTILL_RELEASE") or RELEASE
    pod = os.environ.get("POTSTILL_POD")
    leader = LeaderLease(api, own, pod, release) if pod else None
    metrics = Metrics()
    controllers = [
        Controller(
            api,
            store,
            profiles,
            namespace,
            evaluation_pods=int(os.environ.get("POTSTILL_EVALUATION_PODS", "0")),
            release=release,
            leader=leader,
            metrics=metrics,
        )
        for namespace in namespaces
    ]
    logger.info(
        "started; namespaces: %s; store: %s; profiles: %s",
        ", ".join(namespaces),
        store.url,
        ", ".join(profiles) or "none",
    )
    return controllers, leader


if __name__ == "__main__":
    sys.exit(main())
