"""The self-check: the base policy where D is too short, foreign or promises less, and otherwise the generated one."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers import tiny
from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.storage import load_arrays, read_json, save_arrays, write_json
from metamap_envs import MetaMapError, Rollout, get_family
from metamap_rl.adaptation.one_shot import AdaptedPolicy, adapt
from metamap_rl.cli import app
from metamap_rl.common.harm import Harm
from metamap_rl.data.rollout_files import save_rollout
from metamap_rl.evaluation.evaluate import evaluate_mappers
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.mapper.selfcheck import SelfCheck
from metamap_rl.probing.collecting import collect
from metamap_rl.probing.documents import probe_from_json
from metamap_rl.training.calibration import calibrate, least_steps, ridge
from metamap_rl.training.config import CalibrationConfig

FAMILY = get_family(tiny.FAMILY)
QUICK = CalibrationConfig(lengths=(1, 5, 20), usual_tasks=160, return_tasks=6, harm_tasks=6, hidden=16, updates=300)


@pytest.fixture(scope="module")
def moved(tiny_mapper: Mapper) -> Mapper:
    return tiny.moved(tiny_mapper)


@pytest.fixture(scope="module")
def calibrated(moved: Mapper) -> SelfCheck:
    return calibrate(moved, QUICK, num_threads=1)


def with_check(mapper: Mapper, check: SelfCheck, gain: float = 1.0, **changes: Any) -> Mapper:
    """The mapper with a check that expects so much of its policies, of which nothing can be said after 20 updates."""
    returns = np.zeros_like(check.returns)
    returns[:, -1] = [gain - 7.0, -7.0]
    other = copy.deepcopy(mapper)
    settings: dict[str, Any] = {"least_steps": 5, "noise": 0.1, "error": np.full_like(check.error, 0.5)} | changes
    other.check = replace(check, returns=returns, **settings)
    return other


@pytest.fixture(scope="module")
def mapper(moved: Mapper, calibrated: SelfCheck) -> Mapper:
    return with_check(moved, calibrated)


@pytest.fixture(scope="module")
def rollouts(mapper: Mapper) -> list[Rollout]:
    tasks = FAMILY.sample("test-in", 20, 3)
    found = collect(probe_from_json(mapper.probe), tasks, mapper.base, steps=30, seed=0, num_threads=1)
    return [found.rollout(task) for task in range(len(tasks))]


def shuffled(rollout: Rollout) -> Rollout:
    order = np.random.default_rng(0).permutation(len(rollout))
    return replace(rollout, next_observations=rollout.next_observations[order])


def noise(rollout: Rollout) -> Rollout:
    generator = np.random.default_rng(0)
    drawn = {
        name: generator.normal(size=getattr(rollout, name).shape).astype(np.float32)
        for name in ("observations", "next_observations", "rewards")
    }
    return replace(rollout, **drawn)


def frozen(rollout: Rollout) -> Rollout:
    first = np.tile(rollout.observations[:1], (len(rollout), 1))
    return replace(rollout, observations=first, next_observations=first)


def far_out(rollout: Rollout) -> Rollout:
    return replace(rollout, observations=100 * rollout.observations, next_observations=100 * rollout.next_observations)


def is_base(policy: AdaptedPolicy) -> bool:
    return bool((policy.phi == policy.base.phi).all()) and policy.adaptation.distance == 0.0


# ------------------------------------------------------------------------------------------------- when it falls back


def test_too_few_transitions_give_the_base_policy(mapper: Mapper, rollouts: list[Rollout]) -> None:
    policy = adapt(mapper, rollouts[0], steps=4)
    assert is_base(policy)
    assert policy.adaptation.fallback == "4 transitions are too few, at least 5 are needed"
    assert policy.adaptation.sentence() == f"the base policy is served: {policy.adaptation.fallback}"
    empty = adapt(mapper, rollouts[0], steps=0)
    assert is_base(empty)
    assert (empty.adaptation.fallback, empty.adaptation.confidence) == ("D has no transitions", 0.0)
    assert not is_base(adapt(mapper, rollouts[0], steps=5))
    assert not is_base(adapt(mapper, rollouts[0], steps=4, check=False))


@pytest.mark.parametrize("damage", [shuffled, noise, frozen, far_out])
@pytest.mark.parametrize("steps", [5, 30])
def test_foreign_transitions_give_the_base_policy(
    mapper: Mapper, rollouts: list[Rollout], damage: Callable[[Rollout], Rollout], steps: int
) -> None:
    policies = [adapt(mapper, damage(rollout.head(steps))) for rollout in rollouts]
    assert all(is_base(policy) == bool(policy.adaptation.fallback) for policy in policies)
    caught = [policy for policy in policies if "D is out of distribution" in policy.adaptation.fallback]
    assert len(caught) >= 19
    assert max(policy.adaptation.confidence or 0.0 for policy in caught) < 1.0
    assert not is_base(adapt(mapper, damage(rollouts[0]), check=False))


def test_transitions_of_the_family_give_the_generated_policy(mapper: Mapper, rollouts: list[Rollout]) -> None:
    served = [policy for policy in (adapt(mapper, rollout) for rollout in rollouts) if not policy.adaptation.fallback]
    assert len(served) >= 18
    for policy in served:
        about = policy.adaptation
        assert not is_base(policy)
        assert about.confidence is not None
        assert 0.9 < about.confidence <= 1.0, "a gain of two standard deviations is expected"
        assert about.predicted_return == pytest.approx(-6.0)
        assert about.predicted_base_return == pytest.approx(-7.0)
        assert "a return of -6.0 is expected, of the base policy -7.0" in about.sentence()


def test_a_lower_return_than_the_base_policys_gives_the_base_policy(
    moved: Mapper, calibrated: SelfCheck, rollouts: list[Rollout]
) -> None:
    worse = adapt(with_check(moved, calibrated, gain=-2.0), rollouts[0])
    assert is_base(worse)
    assert worse.adaptation.fallback == "a return of -9.0 is expected, below the base policy's -7.0"
    assert not is_base(adapt(with_check(moved, calibrated, gain=-0.4), rollouts[0])), "within the error"
    never = adapt(with_check(moved, calibrated, least_steps=None), rollouts[0])
    assert is_base(never)
    assert "did not find this mapper's policies safe" in never.adaptation.fallback


def test_without_a_check_nothing_is_checked(moved: Mapper, rollouts: list[Rollout]) -> None:
    about = adapt(moved, rollouts[0], steps=1).adaptation
    assert (about.confidence, about.fallback, about.predicted_return, about.predicted_base_return) == (
        None,
        "",
        None,
        None,
    )
    assert about.sentence() == "the generated policy is served, unchecked"
    assert about.distance > 0


# ------------------------------------------------------------------------------------------------------- calibration


def test_calibration_is_deterministic_and_leaves_the_generators_alone(moved: Mapper, calibrated: SelfCheck) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    again = calibrate(moved, QUICK, num_threads=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert again.describe() == calibrated.describe()
    for name, array in calibrated.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], array)
    other = calibrate(moved, replace(QUICK, seed=1), num_threads=1)
    assert not np.array_equal(other.limit, calibrated.limit)


def test_calibration_tells_what_it_found(calibrated: SelfCheck) -> None:
    record = calibrated.record
    assert record["config"]["usual_tasks"] == 160
    assert list(record["harm"]) == ["20"], (
        "no shorter D is tried once one is not harmless, and 6 tasks cannot show that"
    )
    harm = record["harm"]["20"]
    assert (harm["pairs"], harm["upper"] > harm["rate"], harm["worst_decile"] <= harm["mean"]) == (6, True, True)
    assert calibrated.least_steps is None


def test_between_calibrated_lengths_it_is_interpolated(calibrated: SelfCheck) -> None:
    for steps, expected in ((1, 0), (5, 1), (20, 2), (1000, 2)):
        assert calibrated.at("limit", steps) == pytest.approx(calibrated.limit[expected])
        np.testing.assert_allclose(calibrated.at("typical", steps), calibrated.typical[expected], rtol=1e-6)
    middle = calibrated.at("limit", 10)
    assert middle == pytest.approx(calibrated.limit[1:].mean(), rel=1e-6), "10 lies halfway from 5 to 20"


@pytest.mark.parametrize(
    ("passed", "least"),
    [([True] * 4, 1), ([False, True, True, True], 2), ([True, True, False, True], 10), ([True] * 3 + [False], None)],
)
def test_the_least_steps_pass_with_all_longer_ones(passed: list[bool], least: int | None) -> None:
    config = CalibrationConfig(lengths=(1, 2, 5, 10))
    harm = {True: Harm(64, 0.0, 0.03, 5.0, -4.0), False: Harm(64, 0.1, 0.16, 5.0, -4.0)}
    judged = {length: harm[good] for length, good in zip(config.lengths, passed, strict=True)}
    assert least_steps(config, judged) == least
    severe = Harm(64, 0.0, 0.03, 5.0, worst_decile=-5.1)
    assert least_steps(config, {**judged, 10: severe}) is None, "the worst tenth lose more than all gain"


def test_the_error_of_predicted_gains_is_that_of_tasks_left_out() -> None:
    generator = np.random.default_rng(0)
    inputs = np.column_stack([generator.normal(size=(12, 3)), np.ones(12)])
    targets = generator.normal(size=(12, 2))
    _, error = ridge(inputs, targets, 2.0)
    residuals = []
    for task in range(12):
        kept = np.arange(12) != task
        weights, _ = ridge(inputs[kept], targets[kept], 2.0)
        residuals.append(targets[task] - inputs[task] @ weights)
    gains = np.array(residuals) @ [1.0, -1.0]
    assert error == pytest.approx(np.sqrt(np.square(gains).mean()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"usual_tasks": 3}, "usual_tasks: expected .* >= 4, got 3"),
        ({"return_tasks": 1}, "return_tasks: expected .* >= 2, got 1"),
        ({"episodes": 1}, "episodes: expected .* >= 2, got 1"),
        (
            {"usual_tasks": 8, "return_tasks": 5, "harm_tasks": 1},
            "return_tasks: expected at most half of usual_tasks, 4, got 5",
        ),
        ({"false_alarms": 0.0}, r"false_alarms: expected .* > 0 and < 1, got 0.0"),
        ({"slack": 0.9}, "slack: expected .* >= 1, got 0.9"),
        ({"harm_limit": 1.0}, r"harm_limit: expected .* > 0 and < 1, got 1.0"),
        ({"harm_episodes": 1}, "harm_episodes: expected .* >= 2, got 1"),
        ({"usual_tasks": 100}, "harm_tasks: expected at most half of usual_tasks, 50, got 64"),
        ({"lengths": (2, 5)}, "lengths: expected ascending"),
        ({"lengths": (1, 5, 5)}, "lengths: expected ascending"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        CalibrationConfig(**settings)


# ----------------------------------------------------------------------------------------------------------- storage


def test_a_check_is_stored_with_its_mapper(mapper: Mapper, rollouts: list[Rollout], tmp_path: Path) -> None:
    mapper.save(tmp_path / "mapper")
    loaded = Mapper.load(tmp_path / "mapper")
    assert loaded.check is not None
    assert mapper.check is not None
    assert loaded.check.describe() == mapper.check.describe()
    for damage in (lambda rollout: rollout, noise):
        for steps in (0, 3, 30):
            rollout = damage(rollouts[0]).head(steps)
            assert loaded.judge(rollout) == mapper.judge(rollout)
    loaded.save(tmp_path / "again")
    for name in ("mapper.json", "mapper.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "mapper" / name).read_bytes()


def test_an_artifact_of_before_loads_without_a_check(moved: Mapper, rollouts: list[Rollout], tmp_path: Path) -> None:
    moved.save(tmp_path)
    manifest = read_json(tmp_path / "mapper.json")
    assert "check" not in manifest
    write_json(tmp_path / "mapper.json", {**manifest, "format_version": 1})
    old = Mapper.load(tmp_path)
    assert old.check is None
    np.testing.assert_array_equal(old.generate(rollouts[0]), moved.generate(rollouts[0]))


def test_a_damaged_check_is_reported(mapper: Mapper, tmp_path: Path) -> None:
    mapper.save(tmp_path)
    manifest = read_json(tmp_path / "mapper.json")
    arrays, metadata = load_arrays(tmp_path / "mapper.safetensors")

    def refused(message: str, changed: dict[str, Any] | None = None, **check: Any) -> None:
        write_json(tmp_path / "mapper.json", {**manifest, "check": {**manifest["check"], **check}})
        save_arrays(tmp_path / "mapper.safetensors", {**arrays, **(changed or {})}, metadata)
        with pytest.raises(MetaMapError, match=message):
            Mapper.load(tmp_path)

    refused("self-check: expected the keys lengths, hidden", extra=1)
    refused("self-check: least_steps: unexpected type, got 'few'", least_steps="few")
    refused("self-check: hidden: unexpected type, got True", hidden=True)
    refused(r"self-check: lengths: expected whole numbers, got \[1, 5, 'x'\]", lengths=[1, 5, "x"])
    refused(r"check\.typical: expected \(2, ", lengths=[1, 5])
    refused("self-check: lengths: expected ascending", lengths=[5, 1, 20])
    refused(r"check\.layers\.0\.weight: expected \(17, ", hidden=17)
    refused("check.limit holds values that are not finite", {"check.limit": np.full(3, np.nan, np.float32)})
    refused("self-check: limit: expected numbers above 0", {"check.limit": np.zeros(3, np.float32)})
    write_json(tmp_path / "mapper.json", {**manifest, "check": 3})
    with pytest.raises(MetaMapError, match="check: expected dict, got 3"):
        Mapper.load(tmp_path)
    write_json(tmp_path / "mapper.json", {name: value for name, value in manifest.items() if name != "check"})
    with pytest.raises(MetaMapError, match="unknown array 'check"):
        Mapper.load(tmp_path)


def test_a_saved_policy_keeps_what_the_check_said(mapper: Mapper, rollouts: list[Rollout], tmp_path: Path) -> None:
    for name, rollout in (("served", rollouts[0]), ("fallen back", noise(rollouts[0]))):
        policy = adapt(mapper, rollout)
        path = tmp_path / f"{name}.safetensors"
        policy.save(path)
        assert AdaptedPolicy.load(path).adaptation == policy.adaptation
    arrays, metadata = load_arrays(path)
    about = json.loads(metadata["about"])
    for name in ("confidence", "fallback", "predicted_return", "predicted_base_return"):
        del about["adaptation"][name]
    save_arrays(path, arrays, {**metadata, "about": json.dumps(about)})
    assert AdaptedPolicy.load(path).adaptation.sentence() == "the generated policy is served, unchecked"


# -------------------------------------------------------------------------------------------------------- evaluation


def test_the_evaluation_has_the_checked_mapper(mapper: Mapper, tiny_zoo: Zoo) -> None:
    experts = tiny_zoo.experts("test-in")
    found = evaluate_mappers([mapper], experts, lengths=(0, 1, 20), episodes=2, controls=False, num_threads=1)
    by_name = {(scores.method, scores.steps): scores.returns for scores in found.methods}
    assert list(by_name) == [
        ("mapper", 0),
        ("mapper", 1),
        ("mapper", 20),
        ("checked-mapper", 1),
        ("checked-mapper", 20),
    ]
    np.testing.assert_array_equal(by_name["checked-mapper", 1], found.paired_base[None])
    checked, mapped = by_name["checked-mapper", 20][0], by_name["mapper", 20][0]
    assert all(mine in (own, base) for mine, own, base in zip(checked, mapped, found.paired_base, strict=True))
    assert (checked == mapped).any()


# ------------------------------------------------------------------------------------------------------ command line


@pytest.fixture
def folder(mapper: Mapper, tmp_path: Path) -> str:
    mapper.save(tmp_path / "mapper")
    return str(tmp_path / "mapper")


PARAMETERS = ("--parameters", "goal_radius=0.1", "goal_angle=-1")


def test_adapt_says_what_it_did(
    folder: str, rollouts: list[Rollout], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_rollout(tmp_path / "noise.safetensors", noise(rollouts[0]))

    def said(*words: str) -> str:
        assert app.main(["adapt", folder, *words, "--episodes", "0"]) == 0
        lines = capsys.readouterr().out.splitlines()
        return next(line.removeprefix("served").strip() for line in lines if line.startswith("served "))

    def result(*words: str) -> dict[str, Any]:
        assert app.main(["adapt", folder, *words, "--episodes", "0", "--json"]) == 0
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document

    assert said(*PARAMETERS, "--steps", "3") == (
        "the base policy is served: 3 transitions are too few, at least 5 are needed"
    )
    assert "the base policy is served: D is out of distribution" in said(
        "--rollout", str(tmp_path / "noise.safetensors")
    )
    assert "the generated policy is served, confidence " in said(*PARAMETERS)
    assert said(*PARAMETERS, "--no-check") == "the generated policy is served, unchecked"

    served = result(*PARAMETERS)
    assert served["fallback"] == ""
    assert 0.9 < served["confidence"] <= 1.0
    assert (served["predicted_return"], served["predicted_base_return"]) == pytest.approx((-6.0, -7.0))
    short = result(*PARAMETERS, "--steps", "3")
    assert short["fallback"].startswith("3 transitions are too few")
    assert short["distance"] == 0.0
    assert result(*PARAMETERS, "--steps", "3", "--no-check")["distance"] > 0


def test_mapper_show_tells_of_the_check(
    folder: str, moved: Mapper, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(["mapper", "show", folder]) == 0
    assert "self-check needs 5 transitions or more" in " ".join(capsys.readouterr().out.split())
    assert app.main(["mapper", "show", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["check"]["least_steps"] == 5
    moved.save(tmp_path / "old")
    assert app.main(["mapper", "show", str(tmp_path / "old")]) == 0
    assert "self-check none" in " ".join(capsys.readouterr().out.split())


def test_bad_words_are_refused_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["mapper", "train", "z", "--out", "m", "--calibration-tasks", "3"], "--calibration-tasks: expected 0 or at"),
        (["mapper", "train", "z", "--out", "m", "--calibration-tasks", "-1"], "--calibration-tasks: expected 0 or at"),
    ):
        assert app.main(words) == 2
        captured = capsys.readouterr()
        assert message in captured.err
        assert (captured.out, captured.err.count("\n")) == ("", 1)
