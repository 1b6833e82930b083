"""Ray: started on this machine, or a cluster that is joined; its nodes and what they must share."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.host.interrupts import Interrupts
from trainer.errors import UserError
from trainer.host.urls import Remote, RemoteError, is_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class ClusterError(UserError, RuntimeError):
    """A Ray cluster that cannot be used: the message says where, why, and what to do."""


class Node(NamedTuple):
    """A machine of the cluster, by Ray's id: its name, its cores and its GPUs."""

    id: str
    name: str
    cpus: int
    gpus: int


def start(slots: int, gpus: int | None) -> Any:
    """Import and start Ray on this machine: quiet, on loopback, with a token made for this session.

    Raises ClusterError if the caller has started or imported Ray before, or if it does not start.
    """
    if is_own():
        remedy = "pass address='auto' to train on it, or call ray.shutdown() first"
        raise ClusterError(f"Ray is initialised in this process already; {remedy}")
    ray = imported()
    try:
        with _undisturbed(ray):
            ray.init(
                address="local",
                num_cpus=slots,
                num_gpus=gpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=128 * 2**20,
            )
    except Exception as error:  # Ray waits 30 s for its own processes, then raises a bare Exception
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        remedy = "try again when the machine is less busy, or train with --executor inline"
        raise ClusterError(f"Ray does not start on this machine ({why}); {remedy}") from error
    return ray


def imported() -> Any:
    """Import Ray, which reads at its import how to start: on loopback, with a token made for this session."""
    if "ray" in sys.modules and os.environ.get("RAY_AUTH_MODE") != "token":
        why = "Ray was imported in this process before isoflop could secure it (a token, loopback only)"
        remedy = "restart Python and import it later, or call ray.init() and pass address='auto'"
        raise ClusterError(f"{why}; {remedy}")
    _close_to_strangers()
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # The switch's name is historical: it says that no other machine will join, and Ray then binds every port
    # to 127.0.0.1. Without it even `_node_ip_address="127.0.0.1"` listens on all interfaces.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    return ray


def join(address: str) -> Any:
    """Import Ray and join the cluster at `host:port` (or "auto": the one that runs here), which has our token.

    If the caller has initialised Ray in this process, that is used as it is. Raises ClusterError if there is no
    cluster, or if it takes another token.
    """
    if is_own():
        return sys.modules["ray"]
    _close_to_strangers()
    import ray

    try:
        with _undisturbed(ray):
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        said = str(error).strip().splitlines()
        why = said[0] if said else type(error).__name__
        remedy = "every node needs one token, in RAY_AUTH_TOKEN or ~/.ray/auth_token, and RAY_AUTH_MODE=token"
        raise ClusterError(f"--address {address}: no Ray cluster to join there ({why}); {remedy}") from error
    return ray


@contextlib.contextmanager
def _undisturbed(ray: Any) -> Iterator[None]:
    """Ctrl-C waits until Ray has started: half started, it brings the process down by a signal at its end."""
    interrupts = Interrupts(time.monotonic, lambda: None)
    _leave_stdout_alone(ray)
    with interrupts.watched():
        yield
    if interrupts.count:
        ray.shutdown()
        raise KeyboardInterrupt


def _leave_stdout_alone(ray: Any) -> None:
    """What Ray says of workers and machines that died it prints to stdout, into our JSON, whatever it is told."""
    inside = ray._private.worker  # noqa: SLF001 - there is no switch
    printed = getattr(inside, "print_to_stdstream", None)  # of Ray 2.60
    if printed is not None and not isinstance(printed, partial):
        inside.print_to_stdstream = partial(_to_stderr, printed)


def _to_stderr(printed: Callable[..., None], data: dict[str, Any], **more: Any) -> None:
    printed({**data, "is_err": True}, **more)


def _close_to_strangers() -> None:
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"


def is_own() -> bool:
    """Whether the caller has initialised Ray in this process before: it is then left running."""
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


def nodes(ray: Any) -> list[Node]:
    """The machines that are alive, the coordinator's own first where it is one of them."""
    here = ray.get_runtime_context().get_node_id()
    alive = [node for node in ray.nodes() if node["Alive"]]
    alive.sort(key=lambda node: node["NodeID"] != here)
    return [
        Node(
            node["NodeID"],
            f"{node['NodeManagerHostname']} ({node['NodeID'][:6]})",
            int(node["Resources"].get("CPU", 0)),
            int(node["Resources"].get("GPU", 0)),
        )
        for node in alive
    ]


def on_node(node: Node) -> Any:
    """The scheduling strategy of what must run on a machine and on no other."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node.id, soft=False)


def check_shared(ray: Any, machines: Sequence[Node], data: Sequence[str], checkpoints: Path | str | None) -> None:
    """Raise ClusterError where a machine lacks isoflop, or does not reach the data or the place for checkpoints.

    A folder is written to here and looked at there: a folder of the same name is not the same folder. Behind a URL
    each machine writes, reads and deletes for itself.
    """
    probe = None
    if checkpoints is not None and not is_url(checkpoints):
        probe = Path(checkpoints) / f".shared-{secrets.token_hex(8)}"
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
    try:
        looks = {
            node: ray.remote(num_cpus=0, scheduling_strategy=on_node(node))(_look).remote(
                list(data), probe or checkpoints
            )
            for node in machines
        }
        for node, look in looks.items():
            try:
                wrong, numerics = ray.get(look, timeout=120)
            except ray.exceptions.RayError as error:
                why = (str(error).strip().splitlines() or [type(error).__name__])[-1]
                raise ClusterError(f"node {node.name} cannot run isoflop ({why}); install it there too") from error
            if numerics != _numerics():
                raise ClusterError(f"node {node.name} has another version of isoflop; install the same one there")
            if wrong is not None:
                raise ClusterError(f"node {node.name} {wrong}")
    finally:
        if probe is not None:
            probe.unlink(missing_ok=True)


def _look(data: list[str], checkpoints: Path | str | None) -> tuple[str | None, int]:
    """What this machine does not reach, None where it reaches all, and the version of its arithmetic."""
    try:
        return _unseen(data, checkpoints), _numerics()
    except RemoteError as error:
        return f"does not reach {error}", _numerics()


def _unseen(data: list[str], checkpoints: Path | str | None) -> str | None:
    if isinstance(checkpoints, Path) and not checkpoints.exists():
        remedy = "give --checkpoints a folder that all nodes share, or a URL"
        return f"does not see the checkpoints in {checkpoints.parent}; {remedy}"
    if isinstance(checkpoints, str):
        Remote(checkpoints).check()
    for place in data:
        if is_url(place):
            Remote(place).reach()
        elif not Path(place).exists():
            return f"does not see {place}; put it where all nodes see it, or behind a URL"
    return None


def _numerics() -> int:
    from trainer.spec import NUMERICS

    return NUMERICS
