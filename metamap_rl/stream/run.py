"""Run directory of a stream: start, resume and read.

::

    config.yaml         the resolved config
    manifest.json       format and library versions, machine, every task of the stream, held-out tasks, references
    record.sqlite       one row per stage and per evaluation (WAL)
    artifacts/          memory, checkpoints and generated weights by hash
    experts/            the expert cache, unless another one is given
    mappers/<family>/   at the end: the mapper, for `metamap adapt` and `Mapper.load`
    tensorboard/        if enabled in the config
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from metamap_agents.policy.base import BasePolicy
from metamap_agents.runtime.executors import Executor, LocalExecutor
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import (
    claim_output,
    library_versions,
    make_folder,
    read_json,
    write_bytes,
    write_json,
)
from metamap_envs.errors import MetaMapError
from metamap_envs.identity import check_environments
from metamap_envs.registry import get_family
from metamap_envs.settings import Settings, parse
from metamap_envs.task import Task
from metamap_rl.probing.documents import probe_from_json
from metamap_rl.stream.config import StreamConfig, load_config, to_yaml
from metamap_rl.stream.embodied import EmbodiedMapper
from metamap_rl.stream.events import Activity, OnStream, StreamEvent
from metamap_rl.stream.kinds import Arrival
from metamap_rl.stream.learners.base import make_learner
from metamap_rl.stream.loop import run_stream
from metamap_rl.stream.memory import Memory
from metamap_rl.stream.plan import StreamPlan
from metamap_rl.stream.record import Record
from metamap_rl.stream.scoreboard import Reference
from metamap_rl.stream.session import Session
from metamap_rl.stream.shift import ShiftDetector
from metamap_rl.stream.store import ArtifactStore
from metamap_rl.stream.tensorboard import tensorboard

__all__ = [
    "FORMAT_VERSION",
    "StreamRun",
    "open_run",
    "plan_of",
    "read_base",
    "read_session",
    "resume",
    "start",
]

FORMAT_VERSION = 1
"""Version of the run directory; incremented with any change of its content."""

_CONFIG, _MANIFEST, _RECORD = "config.yaml", "manifest.json", "record.sqlite"
_BEFORE_MANIFEST = ("experts", _CONFIG, _RECORD, _MANIFEST)
"""Prefixes of the names of files that exist before the manifest."""


class _Task(Settings):
    """A task as of `Task.to_json`."""

    family: str
    parameters: dict[str, Any]
    split: str


class _Arrival(_Task):
    """A task with its boundary."""

    boundary: bool


class _Manifest(Settings):
    """Required keys of ``manifest.json``; further keys are allowed."""

    model_config = ConfigDict(extra="ignore")

    format_version: int
    versions: dict[str, Any]
    machine: dict[str, Any]
    arrivals: Annotated[list[_Arrival], Field(min_length=1)]
    held_out: list[_Task]
    environments: Annotated[dict[str, str], Field(default_factory=dict)]
    references: dict[str, Reference]
    zoo: str | None


@dataclass(frozen=True)
class StreamRun:
    """A run directory, open for reading."""

    root: Path
    config: StreamConfig
    manifest: dict[str, Any]
    record: Record

    @property
    def total(self) -> int:
        """Number of stages of the stream."""
        return len(self.manifest["arrivals"])

    @property
    def finished(self) -> bool:
        """Whether all stages are done."""
        return self.record.last_stage == self.total


def start(
    config: StreamConfig,
    out: str | Path,
    *,
    tasks: Iterable[Task] | None = None,
    zoo: str | Path | None = None,
    executor: Executor | None = None,
    num_threads: int = 0,
    on_event: OnStream | None = None,
    stop_requested: Callable[[], bool] | None = None,
) -> StreamRun:
    """Start a stream in a new directory.

    Args:
        config: config of the stream.
        out: the directory, which must be empty or new.
        tasks: tasks in place of ``config.stream``; an iterator is exhausted first.
        zoo: expert cache to share with other runs; default a folder in the directory.
        executor: executor for training missing experts; default processes on this machine.
        num_threads: threads of the simulator; 0 uses all cores.
        on_event: callback for events.
        stop_requested: called between stages; True stops the run, which can be resumed.

    Raises:
        MetaMapError: the directory is not empty, the cache is a file, an empty stream, or a stage failed and the config
            requires stopping.
    """
    root = _claim(Path(out))
    if zoo is not None and Path(zoo).is_file():
        raise MetaMapError(f"{zoo}: expected the folder of an expert cache, it is a file")
    plan = StreamPlan.of(config, root / "experts" if zoo is None else Path(zoo), tasks)
    make_folder(root)
    with ExitStack() as stack:
        executor = stack.enter_context(LocalExecutor()) if executor is None else executor
        plan.prepare(executor, on_event=on_event)
    if on_event is not None:
        on_event(Activity("references"))
    references = {
        name: asdict(reference)
        for board in plan.boards(num_threads)
        if board is not None
        for name, reference in board.references.items()
    }
    manifest = {
        "format_version": FORMAT_VERSION,
        "versions": library_versions(),
        "machine": describe_machine(torch_threads=1),
        "environments": plan.environments,
        "arrivals": [{**arrival.task.to_json(), "boundary": arrival.boundary} for arrival in plan.arrivals],
        "held_out": [task.to_json() for task in plan.held_out],
        "references": references,
        "zoo": None if zoo is None else str(Path(zoo).resolve()),
    }
    write_bytes(root / _CONFIG, to_yaml(config).encode())
    Record.create(root / _RECORD).close()
    write_json(root / _MANIFEST, manifest)  # last, since it makes the directory resumable
    return resume(root, num_threads=num_threads, on_event=on_event, stop_requested=stop_requested)


def resume(
    directory: str | Path,
    *,
    executor: Executor | None = None,
    num_threads: int = 0,
    on_event: OnStream | None = None,
    stop_requested: Callable[[], bool] | None = None,
) -> StreamRun:
    """Resume a run from its last finished stage; the result equals that of an uninterrupted run to the bit.

    Args:
        directory: directory of the run.
        executor: executor for training experts missing from the cache; default processes on this machine.
        num_threads: threads of the simulator; 0 uses all cores.
        on_event: callback for events.
        stop_requested: called between stages; True stops the run.

    Raises:
        MetaMapError: not a run directory, one of another version, one that another process is running, damaged files.
    """
    found = open_run(directory)
    found.record.close()
    with ExitStack() as stack:
        run = replace(found, record=stack.enter_context(Record.open(found.root / _RECORD)))
        watchers = [on_event] if on_event is not None else []
        if run.config.tensorboard:
            watchers.append(stack.enter_context(tensorboard(run.root / "tensorboard")))
        record = run.record
        record.log(f"going on after stage {record.last_stage}" if record.last_stage else "started")
        try:
            session = _session(run, executor, num_threads, on_event)
            finished = run_stream(session, on_event=_all(watchers), stop_requested=stop_requested)
        except MetaMapError as error:
            with suppress(MetaMapError):  # the disk may have failed
                record.log(f"stopped: {error}")
            raise
        if finished:
            _save_mappers(run, session)
        record.log("finished" if finished else f"stopped on request after stage {record.last_stage}")
    return open_run(directory)


def open_run(directory: str | Path) -> StreamRun:
    """Open a run directory for reading, also while it is running.

    Raises:
        MetaMapError: not a run directory, or one of another version.
    """
    root = Path(directory)
    if not (root / _MANIFEST).is_file():
        raise MetaMapError(
            f"{root}: not the directory of a stream, or of one that never came to its first stage: "
            f"there is no {_MANIFEST} in it"
        )
    manifest = read_json(root / _MANIFEST)
    if not isinstance(manifest, dict) or "format_version" not in manifest:
        raise MetaMapError(f"{root / _MANIFEST}: not the manifest of a stream, it has no format_version")
    if manifest["format_version"] != FORMAT_VERSION:
        raise MetaMapError(
            f"{root}: a stream of format version {manifest['format_version']!r}, this metamap_rl goes on with "
            f"version {FORMAT_VERSION}"
        )
    parse(_Manifest, manifest, str(root / _MANIFEST))
    return StreamRun(root, load_config(root / _CONFIG), manifest, Record.open(root / _RECORD, read_only=True))


def plan_of(run: StreamRun) -> StreamPlan:
    """The plan of a run."""
    coming = tuple(
        Arrival(Task.from_json({key: entry[key] for key in ("family", "parameters", "split")}), entry["boundary"])
        for entry in run.manifest["arrivals"]
    )
    held_out = tuple(Task.from_json(entry) for entry in run.manifest["held_out"])
    return StreamPlan.again(run.config, Path(run.manifest["zoo"] or run.root / "experts"), coming, held_out)


def read_base(run: StreamRun, embodiment: str) -> BasePolicy:
    """Read the base policy of an embodiment."""
    return plan_of(run).cache.base(embodiment)


def read_session(run: StreamRun, *, num_threads: int = 0) -> Session:
    """The state of a run after its last finished stage, for reading: mapper, learner, memory and scoreboards.

    Args:
        run: the run.
        num_threads: threads of the simulator; 0 uses all cores.

    Raises:
        MetaMapError: files are missing or damaged.
    """
    session = _blank_session(run, num_threads)
    last = run.record.checkpoint()
    if last is not None:
        session.restore(last[1])
    return session


# parts ----------------------------------------------------------------------------------------------------------------


def _claim(root: Path) -> Path:
    """Check that a run may start there: an empty folder, or the remains of a killed start.

    Raises:
        MetaMapError: the directory contains a run or other files.
    """
    if (root / _MANIFEST).is_file():
        raise MetaMapError(f"{root}: holds a stream already: `metamap stream resume` goes on with it")
    if root.is_dir() and all(path.name.lstrip(".").startswith(_BEFORE_MANIFEST) for path in root.iterdir()):
        claim_output(root, overwrite=True)
        for name in (_RECORD, f"{_RECORD}-wal", f"{_RECORD}-shm"):  # not the lock, which another process may hold
            (root / name).unlink(missing_ok=True)
        return root
    return claim_output(root)


def _all(watchers: list[OnStream]) -> OnStream:
    """Call all callbacks."""

    def tell(event: StreamEvent) -> None:
        for watcher in watchers:
            watcher(event)

    return tell


def _session(run: StreamRun, executor: Executor | None, num_threads: int, on_event: OnStream | None) -> Session:
    """A session restored from the record."""
    session = _blank_session(run, num_threads)
    if executor is not None:
        plan_of(run).prepare(executor, on_event=on_event)
    last = run.record.checkpoint()
    if last is not None:
        _, checkpoint = last
        for sentence in session.restore(checkpoint, drop_damaged=run.config.on_error == "continue"):
            run.record.log(sentence)
        session.collect_garbage()
    return session


def _blank_session(run: StreamRun, num_threads: int) -> Session:
    """A session before its first stage."""
    config, plan = run.config, plan_of(run)
    check_environments(run.manifest.get("environments", {}), str(run.root))
    boards = plan.boards(num_threads)
    references = {name: Reference(**entry) for name, entry in run.manifest["references"].items()}
    for board in boards:
        if board is not None:
            board.with_references(references)
    learner = make_learner(config.learner)
    return Session(
        config=config,
        arrivals=plan.arrivals,
        cache=plan.cache,
        probe=probe_from_json(config.probe),
        update=config.update,
        stream_board=boards[0],
        held_out_board=boards[1],
        record=run.record,
        store=ArtifactStore(run.root / "artifacts"),
        learner=learner,
        mapper=EmbodiedMapper(config.mapper, seed=config.seeds.learner),
        memory=Memory(learner.retention, config.memory_bytes),
        detector=ShiftDetector(),
        num_threads=num_threads,
        kept={row.phi_hat for row in run.record.stages() if row.phi_hat},
    )


def _save_mappers(run: StreamRun, session: Session) -> None:
    """Save the mapper of each family seen, as an ordinary mapper of that family."""
    families = dict.fromkeys(arrival.task.family for arrival in session.arrivals)
    for family in families:
        embodiment = get_family(family).embodiment
        if embodiment not in session.mapper:
            continue  # all of its stages failed or were served by phi_0
        mapper = copy.copy(session.mapper[embodiment])
        mapper.family = family
        mapper.record = {
            "stream": run.config.name,
            "learner": dict(run.config.learner),
            "stages": run.total,
            "training_tasks": len(session.memory.slots),
        }
        mapper.save(run.root / "mappers" / family, overwrite=True)
