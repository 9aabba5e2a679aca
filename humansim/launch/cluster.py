"""Ray's cluster: connecting to one, and what its nodes are."""

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from humansim import own
from humansim.errors import BadInput
from humansim.launch.packing import Place


@contextlib.contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """Ray for the time of the block: the cluster at the address, else at `RAY_ADDRESS`, else one on this machine.

    Raises:
        BadInput: there is no cluster at the address.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if (outside := _outside()) is not None:
        quiet["runtime_env"] = outside
    try:
        if address:
            _reached(address)
            ray.init(address, **quiet)
        else:
            ray.init("local", include_dashboard=False, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        if not address:
            raise
        first = str(error).strip().partition("\n")[0].rstrip(".")
        raise BadInput(
            f"no Ray cluster answers at {address}: {first}; start one, set RAY_AUTH_TOKEN if it wants a token, "
            "or leave out --address and RAY_ADDRESS to run on this machine"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _reached(address: str) -> None:
    """Tries whether anybody listens there: Ray itself takes minutes to find that nobody does.

    Raises:
        ConnectionError: nobody does.
    """
    host, colon, port = address.rpartition(":")
    if "//" in address or not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise ConnectionError(error.strerror or str(error)) from None


def _outside() -> dict[str, Any] | None:
    """What goes along to every worker for the parts from outside: their files and packages; None if there are none.

    Beside what `ray job submit` says is sent along, which Ray would refuse to add to.
    """
    paths, modules = own.carried()
    if not modules:
        return None
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")).get("runtime_env") or {}
    os.environ["RAY_OVERRIDE_JOB_RUNTIME_ENV"] = "1"  # of keys that both have: ours holds the job's
    return {
        "py_modules": [*job.get("py_modules", []), *map(str, paths)],
        "env_vars": {own.CARRIED: os.pathsep.join(modules)},
    }


def place() -> Place:
    """What the connected cluster's nodes are now."""
    nodes: list[dict[str, Any]] = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    have: list[dict[str, float]] = [node["Resources"] for node in nodes]
    gpus = int(sum(node.get("GPU", 0) for node in have))
    gpu_memory = 0
    if gpus:
        node = next(node["NodeID"] for node in nodes if node["Resources"].get("GPU"))
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        # It asks for no GPU: all may be taken by another sweep.
        remote: Any = ray.remote
        with contextlib.suppress(RayError):  # the node has died in between
            gpu_memory = ray.get(remote(num_cpus=0, scheduling_strategy=there)(_gpu_memory).remote())
    most = {kind: int(max((node.get(kind, 0) for node in have), default=0)) for kind in ("CPU", "memory")}
    of_cores = [int(node.get("memory", 0) / node["CPU"]) for node in have if node.get("CPU")]
    return Place(most["CPU"], most["memory"], min(of_cores, default=0), gpus, gpu_memory)


def first_place(waiting: Callable[[], None]) -> Place:
    """What there is as soon as there is a node that can run trials; an autoscaler is asked for one.

    Args:
        waiting: called once if there is none yet.
    """
    if (there := place()).cpus:
        return there
    waiting()
    request_resources(num_cpus=1)
    while not (there := place()).cpus:
        time.sleep(1)
    request_resources(num_cpus=0)  # from now on what is asked for is what trials want
    return there


def on_every_node(function: Callable[..., Any], *given: Any, patience: float = 60.0) -> dict[str, Any]:
    """What a function gives on each node of the cluster, by the node's name; as text why it gives nothing."""
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    task: Any = ray.remote(num_cpus=0, max_retries=0)(function)
    asked = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        cores, gpus = (node["Resources"].get(kind, 0) for kind in ("CPU", "GPU"))
        has = f"{cores:g} CPU{'' if cores == 1 else 's'}" + (
            f", {gpus:g} GPU{'' if gpus == 1 else 's'}" if gpus else ""
        )
        asked[f"{node['NodeManagerHostname']} ({node['NodeID'][:8]}: {has})"] = task.options(
            scheduling_strategy=there
        ).remote(*given)
    found: dict[str, Any] = {}
    for name, reference in asked.items():
        try:
            found[name] = ray.get(reference, timeout=patience)
        except Exception as error:
            found[name] = str(error).strip().rpartition("\n")[2] or type(error).__name__
    return found


def cpus() -> int:
    """Cores of all nodes."""
    return int(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call]


def _gpu_memory() -> int:
    """Bytes of this machine's first GPU."""
    import torch

    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0
