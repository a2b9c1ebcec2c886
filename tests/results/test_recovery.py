"""The experiment of recovery after a change."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import tiny
from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.executors import make_executor
from metamap_envs import MetaMapError
from metamap_rl.results.experiments import make_experiment, run_experiment, summarise_run


def test_returns_after_a_change_by_zoo_and_policy(tmp_path: Path, tiny_zoo: Zoo) -> None:
    for name in ("a", "b"):
        zoo = Zoo.create(tmp_path / name, tiny.FAMILY, tiny.SEED)
        zoo.put_base(tiny_zoo.base)
        zoo.put_universal(tiny.make_universal(tiny_zoo.base))
    zoos = f"{{a: {tmp_path / 'a'}, b: {tmp_path / 'b'}}}"
    experiment = make_experiment(
        "recovery", None, [f"zoos={zoos}", "reference=b", "runs=3", "before=2", "after=4", "wrong_steps=[0, 3]"]
    )
    run_experiment("recovery", experiment, tmp_path / "out", make_executor("local", 1))
    _, document, table = summarise_run(tmp_path / "out")
    found = document["zoos"]["a"]["oracle"]
    assert found["own"] == found["reference's"] == document["zoos"]["b"]["oracle"]["reference's"]
    assert "own" not in document["zoos"]["b"]["oracle"]
    assert found["undisturbed"]["worst_decile"] <= found["undisturbed"]["mean"]
    assert found["own"]["0"]["mean"] != pytest.approx(found["own"]["3"]["mean"])
    assert len(table) == 2 + 2 + 2 * 2
    with pytest.raises(MetaMapError, match="unknown reference zoo 'c'"):
        list(make_experiment("recovery", None, [f"zoos={zoos}", "reference=c"]).batches(tmp_path))
