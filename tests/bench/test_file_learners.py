"""A user's learner in one Python file, in the document or on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.tiny_bench import bench
from metamap_agents.runtime.executors import LocalExecutor
from metamap_envs.errors import MetaMapError
from metamap_rl.bench.config import BenchConfig, bench_to_yaml, load_bench
from metamap_rl.bench.run import run_bench

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "my-learner" / "random_search.py"
POLES = {
    "kind": "environments",
    "environments": [{"id": "Pendulum-v1", "max_episode_steps": 20, "random": -200.0, "single_task": 0.0}],
    "episodes": 1,
}
BUDGET = {"steps": 40, "points": 1}


def of_file(path: Path | str, kind: str = "RandomSearch", name: str = "search") -> BenchConfig:
    return bench(streams={"poles": POLES}, learners={name: {"entry": f"{path}:{kind}", **BUDGET}})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine" / "random_search.py"
    path.parent.mkdir()
    path.write_bytes(EXAMPLE.read_bytes())
    return path


def test_a_file_is_copied_into_the_benchmark_and_recorded_by_its_name(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (cell,) = run_bench(of_file(file), out, LocalExecutor(1))
    assert cell.config["learner"]["entry"] == "random_search.py:RandomSearch"
    assert str(tmp_path) not in str(cell.config)
    file.unlink()
    (again,) = run_bench(load_bench(out), out, LocalExecutor(1))  # needs the copy only
    assert again == cell


def test_a_file_that_was_edited_needs_another_name(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_bench(of_file(file), out, LocalExecutor(1))
    run_bench(of_file(file), out, LocalExecutor(1))
    file.write_text(file.read_text().replace("np.tanh", "np.sin"))
    with pytest.raises(MetaMapError, match=r"has changed since its cells .*\(--learner other=random_search.py:Random"):
        run_bench(of_file(file), out, LocalExecutor(1))
    learners = {"search": {"entry": f"{file}:RandomSearch", **BUDGET}}
    (cell,) = run_bench(bench(streams={"poles": POLES}, learners={"edited": learners["search"]}), out, LocalExecutor(1))
    assert cell.learner == "edited"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("def save", "def store", "learner 'search': random_search.py:RandomSearch: expected a class with .* no save"),
        (
            "np.tanh(padded @ self.weights.T)",
            "padded",
            r"finite actions \[2, 1\], .* \(environment 'Pendulum",
        ),
        (
            "return np.tanh(padded @ self.weights.T), None",
            "return padded",
            r"predict to return \(actions, state",
        ),
        ("steps // horizon", "2 + steps", "learn took .* environment steps of 64"),
        ("import numpy as np", "import beside_it", "cannot be imported"),
        ("self.noise = np", "self.noise = nope", r"NameError: .* \(random_search.py, line \d+\)"),
        ("self.weights, self.env = {}, None", "raise SystemExit(0)", r"SystemExit: 0 \(random_search.py, line \d+\)"),
        ("import numpy as np", "import sys; sys.exit()", r"with SystemExit \(random_search.py, line \d+\)"),
        ("self.weights, self.env = {}, None", "raise ValueError('two\\nlines')", r"ValueError: two lines \("),
        ("np.tanh(padded @ self.weights.T)", "['a', 'b']", r"predict: expected numbers \[2, 1\]"),
        ("np.tanh(padded @ self.weights.T)", "np.full((2, 1), np.nan)", r"finite actions \[2, 1\], got infinite"),
    ],
)
def test_a_file_that_breaks_the_contract_is_refused_in_a_trial(
    old: str, new: str, sentence: str, file: Path, tmp_path: Path
) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    (file.parent / "beside_it.py").touch()  # a file is copied alone
    with pytest.raises(MetaMapError, match=sentence):
        run_bench(of_file(file), tmp_path / "out", LocalExecutor(1))
    assert not (tmp_path / "out").exists()


def test_files_of_a_document_lie_beside_it(file: Path, tmp_path: Path) -> None:
    document = file.parent / "mine.yaml"
    document.write_text(bench_to_yaml(of_file("random_search.py")))
    config = load_bench(document)
    assert config.learners["search"]["entry"] == f"{file}:RandomSearch"
    with pytest.raises(MetaMapError, match=r"nowhere.py: cannot be read \(No such file"):
        run_bench(of_file(tmp_path / "nowhere.py"), tmp_path / "out", LocalExecutor(1))


def test_learners_and_environments_in_a_few_words(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    asked = ["random_search.py:RandomSearch", "mine=sac", "ewc", "slow={sb3: ppo, steps: 4096}"]
    config = load_bench("smoke", ["learners.mine.steps=500"], learners=asked)
    assert config.learners["RandomSearch"] == {"entry": f"{file}:RandomSearch"}
    assert config.learners["mine"] == {"sb3": "sac", "steps": 500}
    assert config.learners["ewc"] == {"name": "ewc"}
    assert config.learners["slow"] == {"sb3": "ppo", "steps": 4096}
    assert list(config.learners)[:3] == list(load_bench("smoke").learners)

    poles = load_bench("environments", environments=["CartPole-v1", "Pendulum-v1 {g: 2}"])
    (stream,) = poles.streams.values()
    assert [choice.label for choice in stream.environments] == ["CartPole-v1", "Pendulum-v1(g=2)"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("learner", "sentence"),
    [
        ("random_search.py", "expected the class behind a colon, as in random_search.py:MyLearner"),
        ("saq", "unknown learner 'saq': did you mean 'sac'.*file.py:Class"),
        ("replay=sac", "has a learner 'replay': give another name"),
        ("{sb3: sac}", "settings need a name, as in mine="),
    ],
)
def test_learners_that_are_none_are_named(learner: str, sentence: str) -> None:
    with pytest.raises(MetaMapError, match=sentence):
        load_bench("smoke", learners=[learner])


def test_environments_need_a_stream_for_them() -> None:
    with pytest.raises(MetaMapError, match=r"--envs: expected a benchmark with one stream of kind: environments"):
        load_bench("smoke", environments=["CartPole-v1"])
