"""The experiment of flights: RAPTOR, and the policies of zoos, on unseen quadrotors."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from helpers import tiny
from helpers.policies import base_of
from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.executors import make_executor
from metamap_envs import MetaMapError, get_family
from metamap_rl.adaptation.service.trial import PolicyController
from metamap_rl.evaluation.flights import fly, quadrotor_family, vehicles
from metamap_rl.evaluation.raptor import RaptorController
from metamap_rl.results.experiments import make_experiment, run_experiment, summarise_run
from metamap_rl.results.tables import TABLES

FOUND = "given what least squares find"
LAWS = ("controller, given the truth", f"controller, {FOUND}")
HOVER = quadrotor_family("quadrotor-hover")


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    made = Zoo.create(tmp_path / "zoo", HOVER.name, tiny.SEED)
    base = base_of(HOVER)
    made.put_base(base)
    made.put_universal(tiny.make_universal(base, HOVER.name))
    return tmp_path / "zoo"


def test_survival_and_errors_of_a_zoos_policies(zoo: Path, tmp_path: Path) -> None:
    changes = [
        f"zoos={{a: {zoo}}}",
        "raptor=false",
        "vehicles=6",
        "steps=30",
        "change_at=10",
        "conditions={payload: {payload: 0.3}, as drawn: null}",
    ]
    experiment = make_experiment("flights", None, changes)
    run_experiment("flights", experiment, tmp_path / "out", make_executor("local", 1))
    _, document, table = summarise_run(tmp_path / "out")
    assert table == TABLES["flights"](document)
    assert len(table) == 2 * 2 + 1 + 2 * 2 * 5  # pilots, and their differences to a rival
    assert set(document["conditions"]) == {"payload", "as drawn"}
    for pilots in document["conditions"].values():
        assert set(pilots) == {*LAWS, "a: base policy", "a: universal policy", f"a: universal policy, {FOUND}"}
        for found in pilots.values():
            rate, metres = found["survival"], found["metres"]
            assert 0.0 <= rate["low"] <= rate["estimate"] <= rate["high"] <= 1.0
            assert metres is None or metres["low"] <= metres["mean"] <= metres["high"]
            assert 0.0 < found["return"] < 30.0
    run_experiment("flights", experiment, tmp_path / "out", make_executor("local", 1))  # all there
    again = make_experiment("flights", None, [*changes, "steps=31"])
    with pytest.raises(MetaMapError, match="steps"):
        run_experiment("flights", again, tmp_path / "out", make_executor("local", 1))


def test_differences_are_of_vehicles_that_both_keep_in_the_air() -> None:
    experiment = make_experiment("flights", None, ["conditions={wind: {wind_x: 0.1}}", "law=false", "vehicles=4"])
    rival, found = f"controller, {FOUND}", "RAPTOR"
    flown = {
        rival: {"survived": [True, True, True, False], "metres": [0.1, 0.2, 0.3, None]},
        found: {"survived": [True, True, False, False], "metres": [0.3, 0.4, None, None]},
    }
    for one in flown.values():
        one["arms"], one["returns"] = one["metres"], [1.0] * 4
    documents = {f"wind, {pilot}": one for pilot, one in flown.items()}
    pilots = experiment.summary(documents, Path())["conditions"]["wind"]
    assert pilots[found]["minus"][rival]["metres"]["mean"] == pytest.approx(0.2)
    assert pilots[found]["minus"][rival]["survival"]["mean"] == pytest.approx(-0.25)
    assert pilots[rival]["minus"][found]["metres"]["mean"] == pytest.approx(-0.2)
    assert set(pilots[found]["minus"]) == {rival}


def test_each_vehicle_may_have_a_network_of_its_own(tmp_path: Path) -> None:
    changes = ["raptor=false", "law=false", "identified=false", "vehicles=2", "steps=20", "change_at=10"]
    changes += ["conditions={as drawn: null}", "specialists={rounds: 1, tasks: 2, last_steps: 5}"]
    experiment = make_experiment("flights", None, changes)
    run_experiment("flights", experiment, tmp_path / "out", make_executor("local", 1))
    _, document, _ = summarise_run(tmp_path / "out")
    assert set(document["conditions"]["as drawn"]) == {"a network of its own"}


def test_vehicles_change_in_what_may_appear_in_flight_and_in_nothing_else() -> None:
    before, after = vehicles(HOVER, "test-in", 5, 0, {"rotor_2": 0.6, "wind_y": -0.1})
    drawn, same = vehicles(HOVER, "test-in", 5, 0, None)
    assert drawn == same == HOVER.sample("test-in", 5, 0)
    sound = {name: HOVER.task()[name] for name in HOVER.in_flight}
    for first, second, as_drawn in zip(before, after, drawn, strict=True):
        assert first == HOVER.task({**dict(as_drawn.parameters), **sound})
        assert second == HOVER.task({**dict(first.parameters), "rotor_2": 0.6, "wind_y": -0.1})


def test_a_flight_ends_with_its_first_episode() -> None:
    tasks = HOVER.sample("train", 8, 0)
    found = fly(PolicyController(base_of(HOVER), 8), tasks, tasks, steps=150, change_at=0, seed=0)
    assert not found.survived.all()
    assert np.isnan(found.errors[~found.survived]).all()
    assert np.isfinite(found.arms[found.survived]).all()
    assert (found.returns[~found.survived] < 150.0).all()


def test_raptor_hovers_and_its_memory_is_that_of_the_episode() -> None:
    pytest.importorskip("foundation_policy", reason="the extra `raptor`")
    before, after = vehicles(HOVER, "test-in", 12, 0, {})
    found = fly(RaptorController(), before, after, steps=300, change_at=0, seed=3)
    assert found.survived.sum() >= 10
    assert np.nanmedian(found.errors) < 0.05
    one, other = RaptorController(), RaptorController()
    seen = np.random.default_rng(0).normal(0, 0.1, (5, 3, 22))
    everywhere = np.ones(3, dtype=np.bool_)
    for controller in (one, other):
        controller.reset(seen[0], everywhere)
    for observations in seen:
        one.act(observations)
    one.reset(seen[0], np.array([True, False, True]))
    first, fresh = one.act(seen[0]), other.act(seen[0])
    np.testing.assert_array_equal(first[[0, 2]], fresh[[0, 2]])
    assert (first[1] != fresh[1]).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["family=reacher-goal"], "'reacher-goal'.*'quadrotor-hover'"),
        (["family=quadrotor-hove"], "quadrotor-hover"),
        (["conditions={a: {mass: 1.0}}"], "payload.*'mass'"),
        (["conditions={a: {rotor_1: 2.0}}"], "rotor_1"),
        (["change_at=501"], "change_at.*500.*501"),
        (["raptor=false", "law=false", "identified=false"], "RAPTOR"),
        (["methods=[adaptor]"], "adapter"),
        (["split=tset-in"], "test-in"),
    ],
)
def test_bad_settings_are_refused_in_words(changes: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(MetaMapError, match=message):
        list(make_experiment("flights", None, changes).batches(tmp_path))


def test_zoos_and_mappers_of_other_families_are_refused(tmp_path: Path, tiny_zoo: Zoo) -> None:
    for setting in (f"zoos={{a: {tiny_zoo.root}}}", "mappers={a: reacher-goal}"):
        with pytest.raises(MetaMapError, match=r"quadrotor-hover.*reacher-goal"):
            list(make_experiment("flights", None, ["raptor=false", setting]).batches(tmp_path))


def test_raptor_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "foundation_policy", None)
    with pytest.raises(MetaMapError, match=r"pip install 'metamap-rl\[raptor\]'"):
        RaptorController()
    assert get_family("quadrotor-hover") is HOVER
