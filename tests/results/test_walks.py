"""The experiment of walks: policies of zoos on robots with a free body whose tasks change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import tiny
from helpers.policies import base_of
from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.executors import make_executor
from metamap_envs import MetaMapError, get_family
from metamap_rl.adaptation.service.trial import PolicyController
from metamap_rl.evaluation.service.trials import draw_trials, schedule_of
from metamap_rl.evaluation.walks import walk
from metamap_rl.results.experiments import make_experiment, run_experiment, summarise_run
from metamap_rl.results.tables import TABLES

ANT = get_family("ant-direction")


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    made = Zoo.create(tmp_path / "zoo", ANT.name, tiny.SEED)
    base = base_of(ANT)
    made.put_base(base)
    made.put_universal(tiny.make_universal(base, ANT.name))
    return tmp_path / "zoo"


def test_success_distance_and_shares_of_a_zoos_policies(zoo: Path, tmp_path: Path) -> None:
    changes = ["family=ant-direction", f"zoos={{a: {zoo}}}", "trials=6", "steps=30"]
    experiment = make_experiment("walks", None, changes)
    run_experiment("walks", experiment, tmp_path / "out", make_executor("local", 1))
    _, document, table = summarise_run(tmp_path / "out")
    assert table == TABLES["walks"](document)
    assert len(table) == 2 + 3 * 2
    assert table == TABLES["walks"](json.loads(json.dumps(document, sort_keys=True)))
    for pilots in document["conditions"].values():
        base, best = pilots["a: base policy"], pilots["a: universal policy"]
        assert 0.0 <= base["success"]["low"] <= base["success"]["estimate"] <= base["success"]["high"] <= 1.0
        assert base["distances"]["estimate"] >= 0.0
        for share, value in ((base["share_of_returns"], 0.0), (best["share_of_returns"], 1.0)):
            assert share is None or share["estimate"] == pytest.approx(value)
    run_experiment("walks", experiment, tmp_path / "out", make_executor("local", 1))  # all there
    again = make_experiment("walks", None, [*changes, "steps=31"])
    with pytest.raises(MetaMapError, match="steps"):
        run_experiment("walks", again, tmp_path / "out", make_executor("local", 1))


def test_a_walk_is_counted_up_to_its_first_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    def terminated(after: Any, values: Any) -> Any:
        return np.arange(len(after.qpos)) == 1  # the second falls at once, again and again

    monkeypatch.setattr(ANT, "terminated", terminated)
    trials = draw_trials(ANT, schedule_of("train", hazard=0.2, changes=()), steps=20, trials=3, entropy=[0])
    found = walk(PolicyController(base_of(ANT), 3), trials)
    assert found.succeeded.tolist() == [True, False, True]
    np.testing.assert_allclose(found.seconds, np.array([20, 1, 20]) * ANT.step_seconds)
    assert found.distances[1] < found.distances.max()
    assert (found.distances > 0).all()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (["family=cheetah-velocity", "zoos={}"], "free body"),
        (["family=ant-direction"], "expected a zoo or a mapper"),
        (["family=ant-goal", "zoos={a: ZOO}"], "expected one of 'ant-goal'"),
    ],
)
def test_bad_settings_are_refused(changes: list[str], match: str, zoo: Path, tmp_path: Path) -> None:
    experiment = make_experiment("walks", None, [change.replace("ZOO", str(zoo)) for change in changes])
    with pytest.raises(MetaMapError, match=match):
        list(experiment.batches(tmp_path))
