"""Films of a benchmark: a probe, its mapping, and the policies side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from metamap_agents.runtime.storage import make_folder, write_json
from metamap_envs.errors import MetaMapError
from metamap_envs.task import Task
from metamap_rl.adaptation.filming import film_adaptation
from metamap_rl.bench.result import CellResult, find_results
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.stream.run import open_run

__all__ = ["film"]


def film(bench: Path, learner: str, *, on_film: Callable[[str], None] | None = None) -> list[Path]:
    """Record a held-out task of each family, with the mappers of a learner's first cell on each stream.

    Args:
        bench: folder of the benchmark.
        learner: name of the learner.
        on_film: called before each video.

    Returns:
        The files, ``videos/<stream>-<family>.mp4`` with a ``.json`` each, which names the renderer.

    Raises:
        MetaMapError: no finished cell of that learner with a mapper.
    """
    made: list[Path] = []
    seen: set[str] = set()
    for cell in find_results([bench]):
        if cell.learner == learner and cell.stream not in seen and (Path(cell.place) / "mappers").is_dir():
            seen.add(cell.stream)
            made += _of_cell(bench, cell, on_film or (lambda what: None))
    if not made:
        raise MetaMapError(f"{bench}: no finished cell of a learner {learner!r} with a mapper")
    return made


def _of_cell(bench: Path, cell: CellResult, on_film: Callable[[str], None]) -> list[Path]:
    run = open_run(cell.place)
    run.record.close()
    held_out = [Task.from_json(entry) for entry in run.manifest["held_out"]]
    tasks = {task.family: task for task in reversed(held_out)}
    made = []
    for folder in sorted((Path(cell.place) / "mappers").iterdir()):
        mapper = Mapper.load(folder)
        for family, task in sorted(tasks.items()):
            if family != mapper.family:
                continue
            on_film(f"{cell.stream}: {family}")
            path = bench / "videos" / f"{cell.stream}-{family}.mp4"
            caption = f"{task.describe()}: base policy, and the policy that {cell.learner} generates, on {cell.stream}"
            make_folder(path.parent)
            video = film_adaptation(path, mapper, task, steps=cell.map_steps, seed=cell.seed)
            write_json(path.with_suffix(".json"), {"family": family, "caption": caption, "renderer": video.renderer})
            made.append(path)
    return made
