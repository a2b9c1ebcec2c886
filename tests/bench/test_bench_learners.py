"""Learners from elsewhere: taken in, refused, counted."""

from __future__ import annotations

import importlib
import inspect
import pickle
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import yaml

from helpers import tiny
from helpers.tiny_bench import bench
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.settings import parse
from metamap_rl.bench.adding import add_learner, try_learner
from metamap_rl.bench.config import open_bench
from metamap_rl.bench.contract import N_STEPS
from metamap_rl.bench.entry import ExternalSettings, make_external
from metamap_rl.bench.sb3 import ALGORITHMS
from metamap_rl.bench.worlds import CountedEnv, FamilyWorld

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "my-learner"


def test_a_learner_of_ones_own_is_tried_and_taken_in(tmp_path: Path) -> None:
    (tmp_path / "bench.yaml").write_text(yaml.safe_dump(bench().model_dump(mode="json")))
    assert add_learner(EXAMPLE, tmp_path) == "random-search"
    config = open_bench(tmp_path)
    assert config.external("random-search") == ExternalSettings(
        entry="random_search:RandomSearch",
        folder="learners/random-search",
        steps=4000,
        points=2,
        settings={"noise": 0.3},
    )
    assert (tmp_path / "learners" / "random-search" / "random_search.py").is_file()
    with pytest.raises(MetaMapError, match="has a learner 'random-search' already"):
        add_learner(EXAMPLE, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("def save", "def store", "it has no save"),
        ("np.tanh(padded @ self.weights.T)", "padded", r"expected finite actions \[2, 2\], .* \(reacher-goal\)"),
        ("np.tanh(padded @ self.weights.T)", "np.log(-np.ones((2, self.weights.shape[0])))", "expected finite actions"),
        ("steps // horizon", "2 + steps", "learn took .* environment steps of 64"),
        ("noise=0.3", "loudness=0.3", "cannot be made with these settings"),
        ("class RandomSearch", "class Other", "no RandomSearch"),
        ("import numpy as np", "import nunpy as np", "cannot be imported"),
        ("steps // horizon", "1 // 0", r"fails in a trial with ZeroDivisionError: .* \(random_search\.py, line \d+\)"),
    ],
)
def test_a_learner_that_does_not_do_what_is_asked_is_refused(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    text = (EXAMPLE / "random_search.py").read_text()
    assert old in text
    (tmp_path / "random_search.py").write_text(text.replace(old, new))
    settings = ExternalSettings(
        entry="random_search:RandomSearch", folder=str(tmp_path), settings={"noise": 0.3}, steps=64, points=1
    )
    with np.errstate(invalid="ignore"), pytest.raises(MetaMapError, match=sentence):
        try_learner(settings)


def test_learners_do_not_get_each_others_modules(tmp_path: Path) -> None:
    text = (EXAMPLE / "random_search.py").read_text()
    learners = []
    for name in ("one", "two"):
        (tmp_path / name / "parts").mkdir(parents=True)
        (tmp_path / name / "utils.py").write_text(f"class Helper:\n    name = {name!r}\n")
        (tmp_path / name / "parts" / "inner.py").write_text(f"NAME = {name!r}\n")  # a package without __init__.py
        beside = "import utils\nfrom parts import inner\n"
        main = text.replace("import numpy as np", f"import numpy as np\n{beside}")
        (tmp_path / name / "learner.py").write_text(f"{main}\n    helper, inner = utils.Helper(), inner\n")
        settings = ExternalSettings(entry="learner:RandomSearch", folder=str(tmp_path / name))
        learners.append(cast(Any, make_external(settings, 0)))
        assert pickle.dumps(learners[-1].helper)  # finds the class by the name of its module
    assert [learner.helper.name for learner in learners] == ["one", "two"]
    assert [learner.inner.NAME for learner in learners] == ["one", "two"]


def test_an_unknown_algorithm_teaches() -> None:
    with pytest.raises(MetaMapError, match="did you mean 'ppo'"):
        make_external(ExternalSettings(sb3="ppi"), 0)
    with pytest.raises(MetaMapError, match="PPO: unknown setting 'learning_tempo'"):
        try_learner(ExternalSettings(sb3="ppo", settings={"learning_tempo": 1}))
    with pytest.raises(MetaMapError, match="either sb3 or entry"):
        parse(ExternalSettings, {"steps": 3}, "learner")


@pytest.mark.parametrize(("algorithm", "n_steps"), N_STEPS.items())
def test_the_length_of_a_rollout_that_is_not_given_is_the_librarys(algorithm: str, n_steps: int) -> None:
    kind = getattr(importlib.import_module(ALGORITHMS[algorithm]), algorithm.upper())
    assert inspect.signature(kind).parameters["n_steps"].default == n_steps
    ExternalSettings(sb3=algorithm, steps=n_steps, points=1)
    with pytest.raises(ValueError, match="would never learn"):
        ExternalSettings(sb3=algorithm, steps=n_steps - 1, points=1)


def steps_taken(algorithm: str, steps: int, **settings: Any) -> list[int]:
    """Environment steps on each of two tasks, each learnt in two parts."""
    learner = make_external(ExternalSettings(sb3=algorithm, steps=steps, settings=settings), 0)
    taken = []
    for task in get_family(tiny.FAMILY).sample("train", 2, 0):
        env = CountedEnv(FamilyWorld(task))
        learner.learn(env, steps // 2)
        learner.learn(env, steps - steps // 2)
        taken.append(env.steps)
    return taken


@pytest.mark.parametrize(
    ("algorithm", "steps", "settings", "taken"),
    [
        ("ppo", 300, {"n_steps": 32, "n_envs": 2, "batch_size": 32}, 4 * 64),
        ("sac", 61, {"learning_starts": 20, "n_envs": 3}, 60),
        ("ars", 950, {"n_delta": 2}, 4 * 4 * 50),  # episodes of 50 steps
        ("ars", 950, {"n_delta": 1, "n_envs": 2, "n_eval_episodes": 3}, 2 * 2 * 4 * 50),
    ],
)
def test_what_an_algorithm_takes_is_counted_and_within_its_budget(
    algorithm: str, steps: int, settings: dict[str, Any], taken: int
) -> None:
    assert steps_taken(algorithm, steps, **settings) == [taken, taken]


@pytest.mark.parametrize(
    ("algorithm", "steps", "settings", "sentence"),
    [
        ("ars", 799, {}, r"n_delta x .* = 8 x 100 = 800 .* steps of at least 800, or n_delta of at most 7$"),
        ("sac", 100, {}, "learning_starts is 100, and steps is 100 .* learning_starts of at most 99$"),
        ("sac", 200, {"train_freq": 201}, "train_freq of at most 200$"),
    ],
)
def test_an_algorithm_that_does_not_fit_a_robot_is_refused_when_it_meets_it(
    algorithm: str, steps: int, settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(MetaMapError, match=sentence):
        steps_taken(algorithm, steps, **settings)


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_sb3_learners_pass_the_trial(algorithm: str) -> None:
    settings = {"n_steps": 16, "batch_size": 16} if algorithm == "ppo" else {"learning_starts": 8, "batch_size": 8}
    try_learner(ExternalSettings(sb3=algorithm, settings={"n_envs": 2, **settings}))


def test_carrying_all_is_as_good_as_saying_nothing() -> None:
    assert ExternalSettings(sb3="sac", carry="all") == ExternalSettings(sb3="sac")  # type: ignore[arg-type]
    with pytest.raises(MetaMapError, match="carry: weights is the same as carry: all"):
        make_external(ExternalSettings(sb3="ppo", carry="weights"), 0)
    with pytest.raises(MetaMapError, match="carry: weights is for learners of sb3"):
        parse(ExternalSettings, {"entry": "a:B", "carry": "weights"}, "learner")
