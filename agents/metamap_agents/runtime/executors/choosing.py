"""Executors by name, as in the command line and configs."""

from __future__ import annotations

from metamap_agents.runtime.executors.local import LocalExecutor
from metamap_agents.runtime.executors.ray_cluster import RayExecutor
from metamap_envs.errors import MetaMapError, unknown_name

__all__ = ["EXECUTORS", "make_executor"]

EXECUTORS = ("local", "ray")


def make_executor(name: str = "local", workers: int = 0, ray_address: str | None = None) -> LocalExecutor | RayExecutor:
    """Create an executor; both kinds are context managers.

    Args:
        name: one of `EXECUTORS`.
        workers: jobs at a time; 0 takes all cores of this machine, or of the cluster.
        ray_address: of a running cluster; None starts a Ray on this machine.

    Raises:
        MetaMapError: unknown name, a negative number of workers, an address without Ray, Ray is not installed, or no
            cluster answers at the address.
    """
    if name not in EXECUTORS:
        raise unknown_name("executor", name, EXECUTORS)
    if name == "ray":
        return RayExecutor(ray_address, workers)
    if ray_address is not None:
        raise MetaMapError(f"the Ray address {ray_address!r} is for the executor 'ray', not for {name!r}")
    return LocalExecutor(workers)
