"""Streams: continual learning of a mapper, task after task."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from metamap_rl.cli.command import Command
from metamap_rl.cli.console import say
from metamap_rl.cli.usage import Metavar, Positional

if TYPE_CHECKING:
    from metamap_agents.runtime.executors import LocalExecutor, RayExecutor
    from metamap_rl.stream.config import StreamConfig
    from metamap_rl.stream.view import StreamView

__all__ = ["COMMANDS", "ORDER", "ListStreams", "ResumeStream", "RunStream", "ShowStatus"]

ORDER = 50

_RESUMABLE = (
    "finished stages and experts are kept: `metamap stream resume DIR` goes on from there, "
    "or the same command where no stage had begun"
)


@dataclass(frozen=True, kw_only=True)
class _Running(Command):
    """Common flags of commands that run a stream."""

    if_stopped: ClassVar[str] = _RESUMABLE

    executor: Literal["local", "ray"] = "local"
    """Executor of expert training: local processes or Ray."""

    ray_address: Annotated[str | None, Metavar("ADDRESS")] = None
    """Address of a running Ray cluster, such as `auto` or ray://host:10001; default: start a local Ray."""

    workers: int = 0
    """Number of processes that train experts; 0 uses all cores."""

    def _executor(self) -> LocalExecutor | RayExecutor:
        from metamap_agents.runtime.executors import make_executor

        return make_executor(self.executor, self.workers, self.ray_address)


@dataclass(frozen=True, kw_only=True)
class RunStream(_Running):
    """Run a stream from a YAML file or a preset, in a new directory.

    Each stage: probe, map, check, train an expert if the generated policy is not good enough, update, evaluate, save.
    Ctrl-C finishes the running stage and saves, a second one stops at once; `metamap stream resume` continues either.
    """

    name: ClassVar[str] = "run"

    config: Annotated[Positional[str], Metavar("CONFIG")]
    """A YAML file, or the name of a preset as in `metamap stream list`."""

    out: Annotated[Path, Metavar("DIR")]
    """Directory of the run; must be empty or new."""

    learner: Annotated[str | None, Metavar("NAME")] = None
    """Learner in place of the config's, with default settings."""

    set: Annotated[tuple[str, ...], Metavar("KEY=VALUE")] = ()
    """Override settings of the config, such as update.updates=100 boundaries=hidden."""

    zoo: Annotated[Path | None, Metavar("DIR")] = None
    """Expert cache, which runs may share; default: in the run's directory."""

    seed: int = 0
    """Offset to the config's seeds.learner: another learner on the same stream of the same tasks."""

    def next_command(self) -> str | None:
        """See `Command`."""
        return f"metamap report {quote(str(self.out))} --out report.html"

    def run(self) -> int:
        """Run the stream, print the result."""
        from metamap_rl.cli.commands._stream_results import finish
        from metamap_rl.stream.run import start

        config = config_of(self.config, self.set, self.learner, self.seed)
        with _watched(self.json) as (view, stop), self._executor() as executor:
            run = start(
                config, self.out, zoo=self.zoo, executor=executor, on_event=view, stop_requested=stop.is_requested
            )
        return finish(run, as_json=self.json)


@dataclass(frozen=True, kw_only=True)
class ShowStatus(Command):
    """Show the state of a running or finished stream.

    Scores are (J - J_random) / (J_expert - J_random): 0 is random actions, 1 the task's expert. In the table, return
    is that of the generated policy, then the expert's; score that of the stage's task before and after the stage; old
    and held-out are means over tasks.
    """

    name: ClassVar[str] = "status"

    directory: Annotated[Positional[Path], Metavar("DIR")]
    """Directory of the run."""

    def run(self) -> int:
        """Print it."""
        from metamap_rl.cli.commands._stream_results import print_run
        from metamap_rl.stream.run import open_run

        print_run(open_run(self.directory), as_json=self.json, with_stages=True)
        return 0


@dataclass(frozen=True, kw_only=True)
class ResumeStream(_Running):
    """Resume a stopped or killed stream from its last finished stage.

    The final record equals that of a run that was never stopped, to the bit, timings excepted.
    """

    name: ClassVar[str] = "resume"

    directory: Annotated[Positional[Path], Metavar("DIR")]
    """Directory of the run."""

    seed: int = 0
    """Unused: seeds are in the run's config."""

    def run(self) -> int:
        """Run the remaining stages, print the result."""
        from metamap_rl.cli.commands._stream_results import finish
        from metamap_rl.stream.run import resume

        with _watched(self.json) as (view, stop), self._executor() as executor:
            run = resume(self.directory, executor=executor, on_event=view, stop_requested=stop.is_requested)
        return finish(run, as_json=self.json)


@dataclass(frozen=True, kw_only=True)
class ListStreams(Command):
    """List presets, kinds of streams and learners."""

    name: ClassVar[str] = "list"

    def next_command(self) -> str | None:
        """See `Command`."""
        return "metamap stream run smoke --out runs/smoke"

    def run(self) -> int:
        """Print them."""
        from metamap_rl.cli.console import print_json, print_table

        choices = _choices()
        if self.json:
            print_json(choices)
            return 0
        for title, texts in choices.items():
            print_table((title, "what it is"), list(texts.items()))
            say()
        return 0


# Ctrl-C ---------------------------------------------------------------------------------------------------------------


class _Stop:
    """Whether the user has requested the end of the run by Ctrl-C."""

    def __init__(self, view: StreamView) -> None:
        self._view = view
        self._requested = False

    def is_requested(self) -> bool:
        """Whether an end was requested; queried between stages."""
        return self._requested

    def handle(self, number: int, frame: object) -> None:
        """Take the first Ctrl-C as a request; stop at once at the second, or while there is no stage to finish."""
        if self._requested or not self._view.watched.running:
            raise KeyboardInterrupt
        self._requested = True
        self._view.stopping()


@contextmanager
def _watched(silent: bool) -> Iterator[tuple[StreamView, _Stop]]:
    """Show a run during the block; Ctrl-C requests its end."""
    from metamap_envs.errors import MetaMapError
    from metamap_rl.cli.console import note
    from metamap_rl.stream.view import StreamView

    view = StreamView(silent=silent)
    stop = _Stop(view)
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # a background job of a script ignores Ctrl-C
        signal.signal(signal.SIGINT, stop.handle)
    try:
        with view:
            yield view, stop
    except MetaMapError:
        if view.watched.running:
            note(_RESUMABLE)
        raise
    finally:
        signal.signal(signal.SIGINT, before)


# config ---------------------------------------------------------------------------------------------------------------


def config_of(reference: str, settings: Sequence[str], learner: str | None, seed: int) -> StreamConfig:
    """The config from the flags."""
    from metamap_envs.errors import MetaMapError
    from metamap_rl.stream.config import load_config

    overrides: dict[str, Any] = {} if learner is None else {"learner": {"name": learner}}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not key or not equals:
            raise MetaMapError(f"--set: expected KEY=VALUE, got {setting!r}")
        if key in overrides:
            raise MetaMapError(f"--set has {key!r} twice")
        overrides[key] = value
    config = load_config(reference, overrides)
    return load_config(reference, {**overrides, "seeds.learner": config.seeds.learner + seed}) if seed else config


def _choices() -> dict[str, dict[str, str]]:
    """First docstring lines of the choices, by kind and name."""
    from metamap_rl.cli.outline import first_line
    from metamap_rl.stream.config import list_presets, load_config
    from metamap_rl.stream.kinds import STREAMS
    from metamap_rl.stream.learners.base import LEARNERS, list_learners

    return {
        "preset": {name: load_config(name).description for name in list_presets()},
        "kind": {name: first_line(STREAMS.get(name).__doc__) for name in STREAMS.names()},
        "learner": {name: first_line(LEARNERS.get(name).__doc__) for name in list_learners()},
    }


COMMANDS = (RunStream, ShowStatus, ResumeStream, ListStreams)
