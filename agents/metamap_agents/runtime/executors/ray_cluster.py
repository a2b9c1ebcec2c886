"""Run jobs on a Ray cluster, or on a Ray started on this machine. Ray is imported when an executor is created."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from types import TracebackType
from typing import Any, Self

from metamap_agents.runtime.executors.processes import environment
from metamap_agents.runtime.executors.protocol import RETRIES, Result
from metamap_agents.runtime.executors.work import Backlog, Job, count_workers, pack, perform, unpack
from metamap_envs.errors import MetaMapError

__all__ = ["RayExecutor"]

_OBJECT_STORE_BYTES = 256 * 2**20
"""Shared memory of a Ray that is started here: experts are small, and containers often have little of it."""

_CONNECT_SECONDS = 5.0


class RayExecutor:
    """Runs jobs as Ray tasks of one CPU each.

    Only the process that made the executor needs the disk: arguments and results travel through Ray's object store.

    A process has one connection to Ray. Where there is one already it is used, and left as it is by `close`.

    Args:
        address: of a running cluster, as ``host:port``, ``ray://host:port`` or ``auto``; None starts a Ray on this
            machine, which ends with this process.
        workers: jobs at a time; 0 takes all cores of this machine, or of the cluster.
        retries: how often a job is run again whose process or machine died.

    Raises:
        MetaMapError: Ray is not installed, a negative number of workers, no cluster answers at the address, or one
            of another version of Python or Ray.
    """

    def __init__(self, address: str | None = None, workers: int = 0, *, retries: int = RETRIES) -> None:
        cores = count_workers(workers)
        self._ray = _import_ray()
        self.retries = retries
        self._limit = workers
        self._terminated = signal.getsignal(signal.SIGTERM)  # Ray sets its own
        self._owner = not self._ray.is_initialized()
        if not self._owner:
            _check_connection(self._ray, address)
        elif address is None:
            self._limit = 0  # it has no more CPUs than that
            _start(self._ray, cores)
        else:
            _connect(self._ray, address)
        # Retries are counted here, not by Ray, so that a job has as many of them as with local processes.
        self._perform = self._ray.remote(num_cpus=1, max_retries=0)(_perform)

    def run(
        self, function: Callable[..., Result], jobs: Iterable[tuple[Any, ...]], *, share: tuple[Any, ...] = ()
    ) -> Iterator[tuple[int, Result]]:
        """See `Executor.run`."""
        dumps = self._ray.cloudpickle.dumps  # what a script defines itself travels too
        common = self._ray.put(pack(function, share, dumps))
        backlog = Backlog(function, jobs, self.retries)
        pending: dict[Any, Job] = {}
        try:
            while True:
                room = self._room()
                while len(pending) < room and (job := backlog.draw()) is not None:
                    pending[self._perform.remote(common, dumps(job.arguments))] = job
                if not pending:
                    return
                for reference in self._ray.wait(list(pending))[0]:
                    job = pending.pop(reference)
                    answer, how = self._fetch(reference)
                    if answer is not None:
                        yield job.index, unpack(answer)
                    else:
                        backlog.died(job, how)
        finally:
            if self._ray.is_initialized():
                for reference in pending:
                    self._ray.cancel(reference, force=True)

    def close(self) -> None:
        """Leave the cluster; end the Ray that was started here."""
        if self._owner and self._ray.is_initialized():
            self._ray.shutdown()
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, self._terminated)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _room(self) -> int:
        """Number of submitted jobs: one for each CPU (machines join and leave), and a few that wait."""
        if self._limit:
            return self._limit
        cpus = int(self._ray.cluster_resources().get("CPU", 0))
        return cpus + 1 + cpus // 8

    def _fetch(self, reference: Any) -> tuple[bytes | None, str]:
        """Return the answer of a finished job, or how its process died.

        Raises:
            MetaMapError: the worker cannot import this package.
        """
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference), ""
        except errors.RayTaskError as error:  # not the job's own, which `perform` returns
            raise MetaMapError(
                f"a Ray worker could not begin a job ({error.cause}); every machine of the cluster needs the same "
                "installation of metamap-rl"
            ) from error
        except (
            errors.WorkerCrashedError,
            errors.OutOfMemoryError,
            errors.NodeDiedError,
            errors.LocalRayletDiedError,
            errors.ObjectLostError,
        ) as error:
            return None, type(error).__name__


def _perform(common: bytes, arguments: bytes) -> bytes:
    """`perform`, in a Ray worker."""
    return perform(common, arguments, import_module("ray.cloudpickle").dumps)


def _import_ray() -> Any:
    try:
        ray = import_module("ray")
        import_module("ray.exceptions")
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise MetaMapError("Ray is not installed: pip install 'metamap-rl[ray]'") from None
    return ray


def _start(ray: Any, cores: int) -> None:
    """Start a Ray on this machine. Its workers have the import path of this process and no output."""
    settings = {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # older releases warn that this will be the default
    }
    with environment(**settings):
        try:
            ray.init(
                address="local",
                num_cpus=cores,
                num_gpus=0,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                object_store_memory=_OBJECT_STORE_BYTES,
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise MetaMapError(f"Ray cannot start on this machine: {_first_line(error)}") from error


def _connect(ray: Any, address: str) -> None:
    """Join a running cluster as a driver."""
    _check_address(address)
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
        )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        token = "token" in f"{error} {error.__cause__}".lower()
        hint = "; it asks for a token: with one of your own, set RAY_AUTH_MODE=token" if token else ""
        raise MetaMapError(f"cannot join the Ray cluster at {address!r}: {_first_line(error)}{hint}") from error


def _first_line(error: Exception) -> str:
    """Return the first line of one of Ray's messages."""
    return str(error).strip().partition("\n")[0].rstrip(".")


def _check_address(address: str) -> None:
    """Check that the address answers; Ray itself takes minutes to notice that it does not.

    Raises:
        MetaMapError: not an address, or nobody answers.
    """
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise MetaMapError(f"the address of a Ray cluster must be host:port, ray://host:port or auto, got {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise MetaMapError(
            f"no Ray cluster answers at {address!r} ({error}); `ray start --head` starts one and prints its address"
        ) from None


def _check_connection(ray: Any, address: str | None) -> None:
    """Check that the address is that of the cluster this process is connected to."""
    connected = ray.get_runtime_context().gcs_address
    if address not in (None, "auto", connected):
        raise MetaMapError(f"this process is connected to the Ray cluster at {connected!r} already, not to {address!r}")
