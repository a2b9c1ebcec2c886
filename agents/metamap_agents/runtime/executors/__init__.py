"""Where jobs run: in processes on this machine, or on a Ray cluster. The results are the same, to the bit."""

from __future__ import annotations

from metamap_agents.runtime.executors.choosing import EXECUTORS, make_executor
from metamap_agents.runtime.executors.local import LocalExecutor
from metamap_agents.runtime.executors.protocol import Executor, LostJobError
from metamap_agents.runtime.executors.ray_cluster import RayExecutor

__all__ = ["EXECUTORS", "Executor", "LocalExecutor", "LostJobError", "RayExecutor", "make_executor"]
