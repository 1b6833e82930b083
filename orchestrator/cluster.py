"""Ray: started on this machine, closed to strangers, or joined where it runs; its nodes, and what they share."""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class ClusterError(RuntimeError):
    """A Ray cluster that cannot be used: the message says where, why, and what to do."""


class Node(NamedTuple):
    """A machine of the cluster, by Ray's id: its name, its cores and its GPUs."""

    id: str
    name: str
    cpus: int
    gpus: int


def start(slots: int, gpus: int | None) -> Any:
    """Import and start Ray on this machine: quiet, on loopback, with a token made for this session."""
    _close_to_strangers()
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # The switch's name is historical: it says that no other machine will join, and Ray then binds every port
    # to 127.0.0.1. Without it even `_node_ip_address="127.0.0.1"` listens on all interfaces.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    ray.init(
        address="local",
        num_cpus=slots,
        num_gpus=gpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=128 * 2**20,
    )
    return ray


def join(address: str) -> Any:
    """Import Ray and join the cluster at `host:port` (or "auto": the one that runs here), which has our token.

    Raises ClusterError where there is none, or where it takes another token.
    """
    _close_to_strangers()
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        said = str(error).strip().splitlines()
        why = said[0] if said else type(error).__name__
        remedy = "every node needs one token, in RAY_AUTH_TOKEN or ~/.ray/auth_token, and RAY_AUTH_MODE=token"
        raise ClusterError(f"--address {address}: no Ray cluster to join there ({why}); {remedy}") from error
    return ray


def _close_to_strangers() -> None:
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"


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


def check_shared(ray: Any, machines: Sequence[Node], data: Sequence[str], folder: Path | None) -> None:
    """Raise ClusterError where a machine lacks isoflop, or does not see the data files or the checkpoints' folder.

    The folder is written to here and read there: a folder of the same name is not the same folder.
    """
    probe = None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".shared-{secrets.token_hex(8)}"
        probe.touch()
    try:
        looks = {
            node: ray.remote(num_cpus=0, scheduling_strategy=on_node(node))(_unseen).remote(
                [*data, *([str(probe)] if probe else [])]
            )
            for node in machines
        }
        for node, look in looks.items():
            try:
                missing, numerics = ray.get(look, timeout=120)
            except ray.exceptions.RayError as error:
                why = (str(error).strip().splitlines() or [type(error).__name__])[-1]
                raise ClusterError(f"node {node.name} cannot run isoflop ({why}); install it there too") from error
            if numerics != _numerics():
                raise ClusterError(f"node {node.name} has another version of isoflop; install the same one there")
            if probe is not None and missing[-1:] == [str(probe)]:
                raise ClusterError(
                    f"node {node.name} does not see the checkpoints in {folder}; "
                    "give --checkpoints a folder that all nodes share"
                )
            if missing:
                raise ClusterError(f"node {node.name} does not see {missing[0]}; put it where all nodes see it")
    finally:
        if probe is not None:
            probe.unlink(missing_ok=True)


def _unseen(paths: list[str]) -> tuple[list[str], int]:
    """What of the paths is not there on this machine, and the version of its arithmetic."""
    return [path for path in paths if not Path(path).exists()], _numerics()


def _numerics() -> int:
    from trainer.spec import NUMERICS

    return NUMERICS
