"""Replays of a benchmark: base policy, generated policy and expert side by side, for the player in the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from metamap_agents.policy.base import BasePolicy
from metamap_agents.runtime.storage import make_folder, read_json, write_json
from metamap_agents.runtime.torch_state import torch_threads
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.registry import get_family
from metamap_envs.settings import Settings, parse
from metamap_envs.task import Task
from metamap_rl.adaptation.service.trial import PolicyController, run_trial
from metamap_rl.bench.result import CellResult, find_results
from metamap_rl.play.trials import PolicyLane, replay_of_policies
from metamap_rl.stream.run import open_run, read_session
from metamap_rl.stream.scoreboard import Scoreboard, embodiment_of
from metamap_rl.stream.session import Session

__all__ = ["FOLDER", "Choice", "Replay", "find_replays", "record"]

FOLDER = "replays"
"""Folder of a benchmark in which `record` writes, and `metamap report` looks."""

_FORMAT = "metamap-replay-1"


class Replay(Settings):
    """A recording of one task of a cell.

    Attributes:
        format: of the file.
        stream: of the cell.
        learner: of the cell.
        order: of the cell.
        seed: of the cell.
        family: of the task.
        caption: what is shown.
        document: what the player plays.
    """

    format: Annotated[str, Field(pattern=_FORMAT)]
    stream: str
    learner: str
    order: int
    seed: int
    family: str
    caption: str
    document: dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """Which cells to record.

    Attributes:
        learner: of the cells.
        stream: of the cell; None for one of each stream.
        order: of the cells.
        seed: of the cells.
    """

    learner: str = "replay"
    stream: str | None = None
    order: int = 0
    seed: int = 0

    def among(self, cells: Iterable[CellResult]) -> list[CellResult]:
        """The matching cell of each stream.

        Raises:
            MetaMapError: none matches.
        """
        left = list(cells)
        for name, wanted in vars(self).items():
            found = list(dict.fromkeys(str(getattr(cell, name)) for cell in left))
            if wanted is not None and str(wanted) not in found:
                raise unknown_name(name, str(wanted), found, of="the finished cells")
            left = [cell for cell in left if wanted in (None, getattr(cell, name))]
        return left


def record(bench: Path, choice: Choice, *, on_replay: Callable[[str], None] | None = None) -> list[Path]:
    """Record one held-out task of each family, with the policies of the chosen cells after the last stage.

    A family's task is the first whose expert is better than the base policy, else the first.

    Args:
        bench: folder of the benchmark.
        choice: which cells.
        on_replay: called before each recording.

    Returns:
        The files, ``replays/<stream>-<learner>-order<o>-seed<s>-<family>.json``.

    Raises:
        MetaMapError: no such finished cell, one of a learner without generated policies, or its experts are gone.
    """
    made = []
    for cell in choice.among(find_results([bench])):
        for family, replay in _of_cell(cell, on_replay or (lambda what: None)):
            name = f"{cell.stream}-{cell.learner}-order{cell.order}-seed{cell.seed}-{family}.json"
            path = bench / FOLDER / name.replace("/", "-")
            make_folder(path.parent)
            write_json(path, replay.model_dump())
            made.append(path)
    return made


def find_replays(roots: Iterable[Path]) -> list[Replay]:
    """Replays below some folders.

    Raises:
        MetaMapError: a file that is none.
    """
    return [
        parse(Replay, read_json(path), str(path)) for root in roots for path in sorted(root.glob(f"**/{FOLDER}/*.json"))
    ]


def _of_cell(cell: CellResult, on_replay: Callable[[str], None]) -> Iterable[tuple[str, Replay]]:
    """One replay for each family of a cell."""
    if not (Path(cell.place) / "record.sqlite").is_file():
        raise MetaMapError(
            f"learner {cell.learner!r}: expected a learner of `metamap stream list`, whose policies are generated and "
            "kept; those of `sb3:` and of users' learners are not"
        )
    run = open_run(cell.place)
    try:
        session = read_session(run, num_threads=1)
    finally:
        run.record.close()
    if not session.cache.root.is_dir():
        raise MetaMapError(f"{cell.place}: its experts were at {session.cache.root}, where nothing is any more")
    board = session.held_out_board or session.stream_board
    for family in dict.fromkeys(task.family for task in board.tasks):
        on_replay(f"{cell.stream}: {cell.learner}, {family}")
        task = _chosen(board, family)
        about = f"{family}, {task.describe()}: {cell.learner} after the last stage of {cell.stream}"
        sentence = f"{cell.learner}, after {len(cell.tasks)} stages of {cell.stream}, maps D of a task it has not seen"
        lanes = _lanes(session, board, task)
        document = replay_of_policies(get_family(family), task, lanes, transitions=board.steps, sentence=f"{sentence}.")
        yield (
            family,
            Replay(
                format=_FORMAT,
                stream=cell.stream,
                learner=cell.learner,
                order=cell.order,
                seed=cell.seed,
                family=family,
                caption=f"{about}, from {board.steps} transitions.",
                document=document | {"scenes": {str(number): scene for number, scene in document["scenes"].items()}},
            ),
        )


def _chosen(board: Scoreboard, family: str) -> Task:
    """The first task of a family with a gap to close, else its first."""
    tasks = [task for task in board.tasks if task.family == family]
    better = [task for task in tasks if (known := board.references.get(task.id)) is not None and known.better]
    return (better or tasks)[0]


def _lanes(session: Session, board: Scoreboard, task: Task) -> list[PolicyLane]:
    """What base policy, generated policy and, if there is one, the task's expert do, from the same start."""
    base = session.cache.base(embodiment_of(task))
    with torch_threads(1):
        generated = board.generate(session.map, task)
    weights = {
        "base": ("base policy", base.phi),
        "generated": (f"generated policy: from {board.steps} transitions", generated),
    }
    if session.cache.zoo(task.family).has(task):
        weights["expert"] = ("expert: trained on this task", session.cache.expert(task).phi)
    return [_lane(key, title, base, phi, task, board.episode_seed) for key, (title, phi) in weights.items()]


def _lane(key: str, title: str, base: BasePolicy, phi: Any, task: Task, seed: int) -> PolicyLane:
    tasks = [[task]] * get_family(task.family).horizon
    trial = run_trial(PolicyController(base, 1, lambda _: phi), tasks, seeds=[seed], positions=True)
    return PolicyLane(key, title, trial)
