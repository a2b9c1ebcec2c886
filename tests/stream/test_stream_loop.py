"""The streaming loop on a tiny stream: what each stage does, what is undone, and that a stopped run goes on equal."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import tiny
from helpers.marks import some_slow
from helpers.tiny_stream import tiny_config
from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.executors import LocalExecutor
from metamap_agents.runtime.storage import read_json, write_json
from metamap_envs import MetaMapError, Task, get_family
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.stream import loop
from metamap_rl.stream.events import Activity, OnStream, StageDone, StreamEvent
from metamap_rl.stream.learners.base import list_learners
from metamap_rl.stream.run import StreamRun, open_run, plan_of, resume, start
from metamap_rl.stream.store import ArtifactStore


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An expert cache that the tests of this module fill and share."""
    return tmp_path_factory.mktemp("stream") / "zoo"


def run(
    out: Path,
    zoo: Path,
    tasks: list[Task] | None = None,
    *,
    stages: int | None = None,
    on_event: OnStream | None = None,
    **overrides: Any,
) -> StreamRun:
    """Run a stream in this process, to its end or until it is stopped on request after so many stages."""
    asked = iter([False] * (stages or 0) + [True])
    return start(
        tiny_config(**overrides),
        out,
        tasks=tasks,
        zoo=zoo,
        executor=LocalExecutor(1),
        num_threads=1,
        on_event=on_event,
        stop_requested=None if stages is None else lambda: next(asked),
    )


@pytest.fixture(scope="module")
def events() -> list[StreamEvent]:
    """What `done` told while it ran."""
    return []


@pytest.fixture(scope="module")
def done(zoo: Path, tmp_path_factory: pytest.TempPathFactory, events: list[StreamEvent]) -> StreamRun:
    """The tiny stream as it is, finished. Read only."""
    return run(tmp_path_factory.mktemp("stream") / "run", zoo, on_event=events.append)


def tasks(count: int, seed: int = 0) -> list[Task]:
    return get_family(tiny.FAMILY).sample("train", count, seed)


def test_every_stage_is_recorded_with_all_of_its_parts(done: StreamRun, events: list[StreamEvent]) -> None:
    rows = done.record.stages()
    assert done.finished
    assert [row.stage for row in rows] == [1, 2, 3, 4]
    assert all(row.decision == "trained" and row.expert_steps == 400 and row.expert_return is not None for row in rows)
    assert [row.segment for row in rows] == [0, 1, 2, 3]
    # 2 rollouts of 40 steps, then an episode of 50 for each of two policies.
    assert all(row.environment_steps == 2 * 40 + 2 * 50 for row in rows)
    assert all(0 < row.memory_bytes <= 200_000 for row in rows)
    assert rows[0].confidence is None, "nothing to compare with yet"
    assert not np.isnan(done.record.matrix("stream")).any()
    assert done.record.matrix("stream").shape == (5, 4)
    assert done.record.matrix("held-out").shape == (5, 1)
    assert {event.what for event in events if isinstance(event, Activity)} >= {
        "probe",
        "map",
        "check",
        "expert",
        "update",
    }
    assert [event.row for event in events if isinstance(event, StageDone)] == rows


def test_the_first_answer_is_phi_0_and_scores_are_against_experts_and_random_actions(done: StreamRun) -> None:
    first = done.record.evaluations(0)[0]
    reference = done.manifest["references"][first.task_id]
    assert first.mean_return == pytest.approx(reference["base"])
    assert first.score == pytest.approx(
        (first.mean_return - reference["random"]) / (reference["expert"] - reference["random"])
    )
    assert done.record.stages()[0].generated_return == pytest.approx(done.record.stages()[0].base_return)


def test_a_stopped_run_goes_on_to_the_same_record(done: StreamRun, zoo: Path, tmp_path: Path) -> None:
    part = run(tmp_path / "part", zoo, stages=2)
    assert not part.finished
    assert part.record.last_stage == 2
    gone_on = resume(tmp_path / "part", num_threads=2)
    assert gone_on.finished
    assert gone_on.record.comparable() == done.record.comparable()
    assert resume(tmp_path / "part").record.comparable() == done.record.comparable(), "nothing is left to do"


# One of a kind is enough for `make test`.
ALIKE = {"agem", "distillation", "joint", "l2", "nearest", "output-regularisation", "perfect-memory", "reservoir"}


@pytest.mark.parametrize("name", some_slow(list_learners(), ALIKE))
def test_every_learner_streams_and_resumes_to_the_bit(name: str, zoo: Path, tmp_path: Path) -> None:
    settings = {"learner": {"name": name}, "evaluation__every": 2, "experts__start": "phi-0", "stream__tasks": 3}
    whole = run(tmp_path / "whole", zoo, **settings)
    run(tmp_path / "part", zoo, stages=2, **settings)
    assert resume(tmp_path / "part", num_threads=1).record.comparable() == whole.record.comparable()


def test_a_cache_of_a_universal_policys_experts_trains_no_expert(tmp_path: Path) -> None:
    told = {**tiny.SETTINGS, "start": "parent"}
    settings = {"experts__start": "phi-0", "experts__overrides": told, "stream__tasks": 2, "evaluation__held_out": 0}
    ended = run(tmp_path / "run", tmp_path / "zoo", **settings)
    zoo = Zoo.open(tmp_path / "zoo" / tiny.FAMILY)
    assert "mean_parent" in zoo.base.record, "phi_0 was compared with the universal policy at the mean task"
    for row in ended.record.stages():
        task = Task.from_json(row.task)
        np.testing.assert_array_equal(zoo.get(task).phi, zoo.universal.expert_for(task))


def test_the_same_seeds_give_the_same_stream_and_another_learner_seed_another_mapper(
    done: StreamRun, zoo: Path, tmp_path: Path
) -> None:
    first, second = done.record.comparable(), run(tmp_path / "second", zoo).record.comparable()
    assert first == second
    other = run(tmp_path / "other", zoo, seeds__learner=1).record.comparable()
    assert [row["task"] for row in other["stages"]] == [row["task"] for row in first["stages"]]
    assert other["checkpoints"] != first["checkpoints"]


def test_experts_start_from_the_generated_policy_or_come_from_the_cache(zoo: Path, tmp_path: Path) -> None:
    cached = run(tmp_path / "cached", zoo, experts__start="phi-0", experts__overrides=tiny.SETTINGS)
    reference = {name: entry["expert"] for name, entry in cached.manifest["references"].items()}
    for row in cached.record.stages():
        task = Task.from_json(row.task)
        assert row.expert_return == pytest.approx(_expert_return(zoo, task))
        assert task.id in reference
    online = run(tmp_path / "online", zoo, experts__start="phi-hat", experts__budget=0.5)
    assert [row.expert_steps for row in online.record.stages()] == [200] * 4
    assert [row.full_steps for row in online.record.stages()] == [400] * 4


def _expert_return(zoo: Path, task: Task) -> float:
    return float(Zoo.open(zoo / tiny.FAMILY).get(task).returns.mean())


def test_a_policy_that_is_good_enough_is_served_without_training(zoo: Path, tmp_path: Path) -> None:
    again = [*tasks(2), tasks(1)[0]]
    done = run(
        tmp_path / "run",
        zoo,
        again,
        serve__enabled=True,
        serve__gap=0.0,
        serve__confidence=1e-9,
        experts__start="phi-0",
    )
    last = done.record.stages()[2]
    # With gap 0 it is enough not to be worse than the base policy.
    served = (
        last.generated_return is not None
        and last.base_return is not None
        and (last.generated_return >= last.base_return)
    )
    assert last.decision == ("served" if served else "trained")
    assert last.confidence is not None
    assert (last.expert_steps == 0) == served
    never = run(tmp_path / "never", zoo, again)
    assert all(row.decision == "trained" for row in never.record.stages())


def test_an_expert_is_used_again_while_the_task_stays(zoo: Path, tmp_path: Path) -> None:
    first, second = tasks(2)
    done = run(tmp_path / "run", zoo, [first, first, second, first])
    rows = done.record.stages()
    assert [row.decision for row in rows] == ["trained", "reused", "trained", "trained"]
    assert [row.segment for row in rows] == [0, 0, 1, 2]
    assert rows[1].expert_steps == 0


def test_hidden_boundaries_are_found_by_the_detector_alone(zoo: Path, tmp_path: Path) -> None:
    first, second = tasks(2)
    hidden = run(tmp_path / "run", zoo, [first, first, second], boundaries="hidden")
    rows = hidden.record.stages()
    assert [row.true_boundary for row in rows] == [True, False, True]
    assert rows[0].boundary
    whole = hidden.record.comparable()
    run(tmp_path / "part", zoo, [first, first, second], stages=1, boundaries="hidden")
    assert resume(tmp_path / "part", num_threads=1).record.comparable() == whole, "the detector's state is kept"


def test_an_update_that_makes_the_validation_set_worse_is_rolled_back(zoo: Path, tmp_path: Path) -> None:
    # Steps so long that every update is a disaster, which the loss itself does not show as infinite.
    wild = {"update__learning_rate": 3.0, "update__warmup": 0}
    done = run(tmp_path / "run", zoo, **wild)
    rows = done.record.stages()
    assert any(row.accepted is False for row in rows)
    for row in rows:
        assert row.validation_before is not None
        assert row.validation_after is not None
        assert row.accepted == (row.validation_after <= row.validation_before)
    R = done.record.matrix("stream")
    for row in rows:
        if not row.accepted:
            assert np.array_equal(R[row.stage], R[row.stage - 1]), "the mapper is what it was"
    kept = run(tmp_path / "kept", zoo, accept__enabled=False, **wild)
    assert all(row.accepted is None for row in kept.record.stages())
    R = kept.record.matrix("stream")
    assert not any(np.array_equal(before, after) for before, after in pairwise(R)), "every update stays"


@pytest.mark.parametrize("on_error", ["stop", "continue"])
def test_an_expert_that_diverges_stops_the_stream_or_is_left_out(
    on_error: str, zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loop._expert

    def diverging(session: Any, stage: int, *rest: Any) -> Any:
        if stage == 2:
            raise MetaMapError("training diverged")
        return real(session, stage, *rest)

    monkeypatch.setattr(loop, "_expert", diverging)
    if on_error == "stop":
        with pytest.raises(MetaMapError, match=r"stage 2 .*goal_radius.*diverged"):
            run(tmp_path / "run", zoo, on_error=on_error)
        assert open_run(tmp_path / "run").record.last_stage == 1, "what was done is kept"
        monkeypatch.undo()
        assert resume(tmp_path / "run", num_threads=1).finished
        return
    done = run(tmp_path / "run", zoo, on_error=on_error)
    rows = done.record.stages()
    assert [row.decision for row in rows] == ["trained", "failed", "trained", "trained"]
    assert "diverged" in rows[1].detail
    assert "diverged" in done.record.notes()[2][0]
    R = done.record.matrix("stream")
    assert np.array_equal(R[1], R[2]), "a failed stage changes nothing"


def test_real_divergence_is_named(zoo: Path, tmp_path: Path) -> None:
    wild = {**tiny.SETTINGS, "learning_rate": 1e30}
    done = run(
        tmp_path / "run",
        tmp_path / "zoo",
        tasks(2),
        experts__start="phi-hat",
        experts__overrides=wild,
        evaluation__reference=False,
        on_error="continue",
    )
    assert all(row.decision == "failed" and "diverged" in row.detail for row in done.record.stages())


@pytest.mark.parametrize("on_error", ["stop", "continue"])
def test_a_damaged_memory_file_is_named_or_dropped(on_error: str, zoo: Path, tmp_path: Path) -> None:
    run(tmp_path / "run", zoo, stages=2, stream__tasks=3, on_error=on_error).record.close()
    store = ArtifactStore(tmp_path / "run" / "artifacts")
    item = next(path for path in sorted(store.root.glob("*.safetensors")) if "features" in store.get(path.stem)[0])
    item.write_bytes(item.read_bytes()[:-4] + b"\0\1\2\3")
    if on_error == "stop":
        with pytest.raises(MetaMapError, match=r"memory: .*" + item.stem[:12]):
            resume(tmp_path / "run")
        assert open_run(tmp_path / "run").record.last_stage == 2
    else:
        done = resume(tmp_path / "run", num_threads=1)
        assert done.finished
        assert any("dropped" in entry.text for entry in done.record.entries())


def test_artifacts_that_nothing_needs_any_more_are_removed(done: StreamRun) -> None:
    store = ArtifactStore(done.root / "artifacts")
    names = {path.stem for path in store.root.glob("*.safetensors")}
    generated = {row.phi_hat for row in done.record.stages()}
    assert generated <= names
    # the last checkpoint, one base policy, the memory's items and the generated weights
    assert len(names) == 2 + done.record.stages()[-1].memory_items + len(generated)


def test_the_mappers_of_a_finished_stream_are_ordinary_mappers(done: StreamRun, zoo: Path) -> None:
    mapper = Mapper.load(done.root / "mappers" / tiny.FAMILY)
    assert mapper.family == tiny.FAMILY
    assert mapper.record["stream"] == "tiny"
    # It does what the record says: R[T, 0] again, from the same D on the same episodes.
    board = plan_of(done).boards(num_threads=1)[0]
    row = board.measure(lambda embodiment, features: mapper(features).detach().numpy(), 4, [0])[0]
    assert row.mean_return == pytest.approx(done.record.matrix("stream", value="mean_return")[-1, 0], rel=1e-5)


def test_tensorboard_on_request(zoo: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run(tmp_path / "run", zoo, tasks(1), tensorboard=True)
    assert any((tmp_path / "run" / "tensorboard").iterdir())


def test_a_stream_without_references_has_returns_but_no_scores(zoo: Path, tmp_path: Path) -> None:
    done = run(tmp_path / "run", zoo, tasks(2), evaluation__reference=False)
    assert done.manifest["references"] == {}
    assert np.isnan(done.record.matrix("stream")).all()
    assert not np.isnan(done.record.matrix("stream", value="mean_return")).any()


def test_an_empty_stream_an_occupied_directory_and_another_version_are_refused(zoo: Path, tmp_path: Path) -> None:
    with pytest.raises(MetaMapError, match="no tasks"):
        run(tmp_path / "empty", zoo, [])
    assert not (tmp_path / "empty").exists()
    run(tmp_path / "run", zoo, tasks(1))
    with pytest.raises(MetaMapError, match="resume"):
        run(tmp_path / "run", zoo, tasks(1))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file.txt").write_text("something")
    with pytest.raises(MetaMapError, match="already exists"):
        run(tmp_path / "other", zoo, tasks(1))
    manifest = read_json(tmp_path / "run" / "manifest.json")
    write_json(tmp_path / "run" / "manifest.json", {**manifest, "format_version": 99})
    with pytest.raises(MetaMapError, match=r"version 99.*version 1"):
        resume(tmp_path / "run")
    with pytest.raises(MetaMapError, match="not the directory of a stream"):
        open_run(tmp_path / "nowhere")


def test_a_start_that_was_killed_early_can_be_made_again(zoo: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("half")
    (tmp_path / "run" / "record.sqlite").write_text("half")
    assert run(tmp_path / "run", zoo, tasks(1)).finished


def test_nothing_about_the_task_but_its_rollout_reaches_the_mapper(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tasks that differ in their split alone, so in id and nothing else, end in the same mapper."""
    one = tasks(3)
    two = [Task(task.family, task.parameters, "custom") for task in one]
    first, second = (run(tmp_path / str(index), zoo, made) for index, made in enumerate((one, two)))
    assert [row.phi_hat for row in first.record.stages()] == [row.phi_hat for row in second.record.stages()]


def test_scores_at_several_lengths_are_those_of_each_by_itself(tmp_path: Path, zoo: Path) -> None:
    several = run(tmp_path / "several", zoo, stream__tasks=2, evaluation__lengths=[5, 20])
    one = run(tmp_path / "one", zoo, stream__tasks=2, evaluation__lengths=[20])
    for split in ("next", "lengths"):
        rows = [row for row in several.record.evaluations() if row.split == split]
        assert {row.steps for row in rows} == {5, 20}
        assert [row for row in rows if row.steps == 20] == [r for r in one.record.evaluations() if r.split == split]
