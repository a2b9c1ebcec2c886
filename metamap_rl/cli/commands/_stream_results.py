"""Output of `metamap stream` about a run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from metamap_rl.cli.console import note, print_json, print_table, say
from metamap_rl.stream.events import Scores
from metamap_rl.stream.metrics import FORMULAS
from metamap_rl.stream.run import StreamRun
from metamap_rl.stream.status import Status, read_status
from metamap_rl.stream.watched import COLUMNS, cells, duration, megabytes

__all__ = ["finish", "print_run"]

_LEAST = ("seconds", "update", "expert steps", "old")  # columns of a stage, the first to be left out first


def finish(run: StreamRun, *, as_json: bool) -> int:
    """Print the result of a run and return the exit code."""
    finished, done, total, root = run.finished, run.record.last_stage, run.total, run.root
    print_run(run, as_json=as_json, with_stages=False)
    if finished:
        return 0
    note(f"stopped after stage {done} of {total}; `metamap stream resume {root}` goes on from there")
    return 2


def print_run(run: StreamRun, *, as_json: bool, with_stages: bool) -> None:
    """Print the state of a run and close it."""
    with run.record as record:
        status = read_status(record, run.total)
        if as_json:
            print_json(_document(run, status))
            return
        state = "finished" if status.done == status.total else "running" if status.alive else "stopped"
        say(
            f"{run.root}: {run.config.name}, learner {run.config.learner['name']}, {state}, "
            f"stages: {status.done} of {status.total}"
        )
        if with_stages and status.done:
            _print_stages(run)
        if run.config.evaluation.reference:
            _print_scores(status)
        else:
            say("no scores: evaluation.reference is false, so no reference returns of experts were measured")
        _print_costs(status, run.config.memory_bytes)
        _print_ends(status)


def _document(run: StreamRun, status: Status) -> dict[str, Any]:
    """State of a run as JSON."""
    return {
        "directory": run.root,
        "name": run.config.name,
        "learner": run.config.learner,
        "finished": status.done == status.total,
        "memory_budget": run.config.memory_bytes,
        **asdict(status),
        "stages": run.record.stages()[: status.done],  # one more may have come meanwhile
    }


def _print_stages(run: StreamRun) -> None:
    """One row per stage."""
    with run.record.still():
        seconds = {stage: sum(parts.values()) for stage, parts in run.record.timings().items()}
        rows = [cells(row, Scores.of(run.record, row.stage), seconds[row.stage]) for row in run.record.stages()]
    words = ("family", "decision", "update")
    print_table(COLUMNS, rows, right=[column for column in COLUMNS if column not in words], least=_LEAST)
    say()


def _print_scores(status: Status) -> None:
    """Metrics by formula, and curves."""
    when = "" if status.done == status.total else f", as if the stream ended after stage {status.done}"
    rows = [(name, _number(value), FORMULAS[name]) for name, value in status.metrics.items()]
    print_table(("metric", "value", f"formula{when}"), rows, right=("value",))
    say()
    columns = ("after stage", "AP(i)", *(f"GEN_{steps}(i)" for steps in status.gen))
    curves = [[None, *status.ap], *status.gen.values()]
    stages = _spread(status.done)
    print_table(columns, [(stage, *(_number(curve[stage]) for curve in curves)) for stage in stages], right=columns)
    say()


def _print_costs(status: Status, budget: int) -> None:
    """Decisions, steps, memory, time."""
    say("decisions: " + (", ".join(f"{name} {count}" for name, count in status.decisions.items()) or "none"))
    say(f"expert steps: {status.expert_steps:,} spent, {status.saved_steps:,} saved")
    say(f"other environment steps: {status.environment_steps:,}")
    say(f"memory: {megabytes(status.memory_bytes)} of {megabytes(budget)} MB, {status.memory_items} rollouts")
    spent = ", ".join(f"{what} {seconds:,.1f} s" for what, seconds in status.seconds.items())
    say(f"time: {duration(sum(status.seconds.values()))}" + (f" ({spent})" if spent else ""))


def _print_ends(status: Status) -> None:
    """The last notes and log entries."""
    for stage, text in status.notes[-3:]:
        say(f"note on stage {stage}: {text}")
    for when, text in status.log[-3:]:
        say(f"{when}: {text}")


def _spread(last: int, most: int = 8) -> list[int]:
    """At most so many evenly spaced stages from 0 to the last."""
    count = min(most, last + 1)
    return sorted({round(index * last / max(1, count - 1)) for index in range(count)})


def _number(value: float | None) -> str:
    return "-" if value is None else f"{round(value, 3) + 0.0:.3f}"  # + 0.0: not -0.000
