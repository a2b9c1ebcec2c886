"""The experiment of adaptation in service."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers.service import service_mapper
from metamap_agents.runtime.executors import make_executor
from metamap_envs import MetaMapError
from metamap_rl.results.experiments import make_experiment, run_experiment, summarise_run
from metamap_rl.results.experiments.service import METHODS, shares


def test_a_run_goes_on_and_its_table_has_all_methods(tmp_path: Path) -> None:
    service_mapper().save(tmp_path / "mapper")
    methods = ["base policy", "adapter", "sliding window, 10", "window from the known change", "mapped once"]
    changes = [f"mapper={tmp_path / 'mapper'}", "runs=2", "tasks=2", "every=6", f"methods={methods}"]
    experiment = make_experiment("service", None, changes)
    run_experiment("service", experiment, tmp_path / "out", make_executor("local", 1))
    _, document, table = summarise_run(tmp_path / "out")
    assert list(document["methods"]) == methods
    assert len(table) == 2 + len(methods)
    done = []
    run_experiment("service", experiment, tmp_path / "out", make_executor("local", 1), lambda *what: done.append(what))
    assert done == []
    assert set(methods) < set(METHODS)


def test_an_oracle_needs_the_universal_policy() -> None:
    with pytest.raises(MetaMapError, match="universal"):
        METHODS["oracle, at once"](service_mapper(), 1)
    with pytest.raises(MetaMapError, match="adapter"):
        list(make_experiment("service", None, ["mapper=x", "methods=[adaptor, x]"]).batches(Path("out")))


def test_shares_are_ratios_of_sums() -> None:
    base, oracle = np.array([0.0, 10.0, 20.0]), np.array([10.0, 20.0, 50.0])
    share, low, high = shares(np.array([5.0, 15.0, 35.0]), base, oracle)
    assert share == pytest.approx(0.5)
    assert low == pytest.approx(0.5)
    assert high == pytest.approx(0.5)
