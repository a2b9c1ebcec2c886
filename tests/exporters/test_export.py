"""The registry of exporters, what is refused, and the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.synthetic import moved_mapper, pairs, rollout_of
from metamap_agents.experts.zoo import Zoo
from metamap_envs.errors import MetaMapError
from metamap_rl import AdaptedPolicy, Rollout, adapt, export, save_rollout
from metamap_rl.cli import main
from metamap_rl.exporters import EXPORTERS
from metamap_rl.probing.recording import record_policies


@pytest.fixture(scope="module")
def policy() -> AdaptedPolicy:
    return adapt(moved_mapper(), rollout_of(pairs(2, 5), 0))


@pytest.fixture(scope="module")
def rollout() -> Rollout:
    return rollout_of(pairs(2, 5), 0)


@pytest.mark.parametrize("name", EXPORTERS.names())
def test_an_exporter_says_what_it_writes(name: str) -> None:
    exporter = EXPORTERS.get(name)
    assert exporter.writes
    assert exporter.suffix == "" or exporter.suffix.startswith(".")
    assert exporter.__doc__


def test_the_format_is_that_of_the_name(policy: AdaptedPolicy, tmp_path: Path) -> None:
    assert "void policy" in export(policy, tmp_path / "one.h").read_text()
    with pytest.raises(MetaMapError, match=r"\.h"):
        export(policy, tmp_path / "one.c")


def test_what_a_format_does_not_hold_is_refused(policy: AdaptedPolicy, rollout: Rollout, tmp_path: Path) -> None:
    for source, to in [(policy, "minari"), (rollout, "c"), (moved_mapper(), "c"), (moved_mapper(), "sb3")]:
        with pytest.raises(MetaMapError, match="expected"):
            export(source, tmp_path / f"out{EXPORTERS.get(to).suffix}", to)
    for source in (object(), [], [rollout, policy], "reacher-goal"):
        with pytest.raises(MetaMapError, match="expected"):
            export(source, tmp_path / "out", "minari")  # type: ignore[arg-type]
    with pytest.raises(MetaMapError, match="did you mean 'onnx'"):
        export(policy, tmp_path / "out.onnx", "onx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("to", EXPORTERS.names())
def test_nothing_is_overwritten(to: str, policy: AdaptedPolicy, rollout: Rollout, tmp_path: Path) -> None:
    out = tmp_path / f"out{EXPORTERS.get(to).suffix}"
    out.write_text("mine")
    with pytest.raises(MetaMapError, match="already exists"):
        export(rollout if to == "minari" else policy, out, to)
    assert out.read_text() == "mine"


@pytest.mark.parametrize(("to", "library"), [("onnx", "onnx"), ("minari", "minari"), ("minari", "h5py")])
def test_a_missing_library_is_named(
    to: str, library: str, policy: AdaptedPolicy, rollout: Rollout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library == "h5py":
        pytest.importorskip("minari", reason="needs metamap-rl[minari]")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MetaMapError, match=rf"{library} is not installed: pip install 'metamap-rl\[{to}\]'"):
        export(rollout if to == "minari" else policy, tmp_path / f"out{EXPORTERS.get(to).suffix}", to)
    assert not list(tmp_path.iterdir())


# Minari ---------------------------------------------------------------------------------------------------------------


def episodes_in(folder: Path) -> list[object]:
    minari = pytest.importorskip("minari", reason="needs metamap-rl[minari]")
    pytest.importorskip("h5py", reason="needs metamap-rl[minari]")
    return list(minari.MinariDataset(folder / "data").iterate_episodes())


def test_a_rollout_is_a_data_set_of_its_episodes(tiny_zoo: Zoo, tmp_path: Path) -> None:
    pytest.importorskip("minari", reason="needs metamap-rl[minari]")
    experts = tiny_zoo.experts("test-in")[:2]
    tasks, phi = [one.task for one in experts], np.stack([one.phi for one in experts])
    rollouts = record_policies(tasks, tiny_zoo.base.policies(phi), episodes=2, seed=7)
    episodes = episodes_in(export([rollouts[0], rollouts[1].head(70)], tmp_path / "set", "minari"))
    assert [len(episode.rewards) for episode in episodes] == [50, 50, 50, 20]  # type: ignore[attr-defined]
    assert [bool(episode.truncations[-1]) for episode in episodes] == [True] * 4  # type: ignore[attr-defined]
    for name in ("actions", "rewards"):
        joined = np.concatenate([getattr(episode, name) for episode in episodes])
        assert np.array_equal(joined, np.concatenate([getattr(each.head(100), name) for each in rollouts])[:170])
    second = episodes[1].observations  # type: ignore[attr-defined]
    assert np.array_equal(second[:-1], rollouts[0].observations[50:])
    assert np.array_equal(second[1:], rollouts[0].next_observations[50:])


def test_recorded_returns_are_those_of_the_experts(tiny_zoo: Zoo) -> None:
    from metamap_agents.policy.evaluation import evaluate_policies

    experts = tiny_zoo.experts("test-in")
    tasks, phi = [one.task for one in experts], np.stack([one.phi for one in experts])
    found = record_policies(tasks, tiny_zoo.base.policies(phi), episodes=2, seed=7)
    expected = evaluate_policies(tasks, tiny_zoo.base.policies(phi), episodes=2, seed=7).returns
    assert np.allclose([each.rewards.reshape(2, -1).sum(axis=1) for each in found], expected, atol=1e-4)
    with pytest.raises(MetaMapError, match="at least 1"):
        record_policies(tasks, tiny_zoo.base.policies(phi), episodes=0, seed=7)


# the command ----------------------------------------------------------------------------------------------------------


def test_a_policy_of_adapt_is_exported(
    policy: AdaptedPolicy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "adapted"
    folder.mkdir()
    policy.save(folder / "policy.safetensors")
    out = tmp_path / "policy.h"
    assert main(["export", str(folder), "--to", "c", "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["bytes"] == out.stat().st_size
    assert main(["export", str(folder / "policy.safetensors"), "--to", "c"]) == 0
    assert Path("policy.h").read_bytes() == out.read_bytes()
    assert main(["export", str(folder), "--to", "c"]) == 2
    assert "already exists" in capsys.readouterr().err


def test_an_expert_of_a_zoo_is_exported(tiny_zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expert = tiny_zoo.experts("test-in")[0]
    out = tmp_path / "expert.safetensors"
    words = ["export", str(tiny_zoo.root), "--to", "safetensors", "--out", str(out)]
    assert main([*words, "--expert", expert.task.id]) == 0
    assert out.is_file()
    assert main([*words[:-1], str(tmp_path / "b.safetensors"), "--expert", "nope"]) == 2
    assert "unknown expert 'nope'" in capsys.readouterr().err


def test_what_is_no_source_is_one_sentence(
    rollout: Rollout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_rollout(tmp_path / "d.safetensors", rollout)
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "half.safetensors").write_bytes((tmp_path / "d.safetensors").read_bytes()[:200])
    for source in ("nope", "", str(tmp_path), str(tmp_path / "text.txt"), str(tmp_path / "half.safetensors")):
        assert main(["export", source, "--to", "c", "--out", str(tmp_path / "out.h")]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
    assert main(["export", str(tmp_path / "d.safetensors"), "--to", "c", "--out", str(tmp_path / "out.h")]) == 2
    assert not (tmp_path / "out.h").exists()
