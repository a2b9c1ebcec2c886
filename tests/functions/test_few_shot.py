from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from metamap_agents.policy.functional import forward
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.storage import read_json, write_json
from metamap_envs.errors import MetaMapError
from metamap_rl.functions import FewShotMap, initial_weights
from metamap_rl.functions.estimators import FewShotClassifier, FewShotRegressor
from metamap_rl.functions.one_versus_rest import Scorers
from metamap_rl.mapper.config import MapperConfig

SMALL = MapperConfig(context_size=16, encoder_hidden=32, hypernetwork_hidden=32)
Table = tuple[np.ndarray, np.ndarray]


def line(generator: np.random.Generator, rows: int = 24) -> Table:
    """A line through points far from 0, in large units."""
    slope, level = generator.normal(size=2)
    x = generator.uniform(90, 110, (rows, 1))
    return x, 1000 * (slope * (x[:, 0] - 100) / 10 + level)


def clusters(generator: np.random.Generator, rows: int = 40, classes: int = 3) -> Table:
    """Classes around centres of their own, far from 0."""
    centres = 3 * generator.normal(size=(classes, 4)) + 20
    labels = np.arange(rows) % classes
    return centres[labels] + generator.normal(size=(rows, 4)), np.array(["ant", "bee", "cat", "dog", "elk"])[labels]


@pytest.fixture(scope="module")
def lines() -> FewShotMap:
    generator = np.random.default_rng(0)
    return FewShotMap(hidden=(16,), updates=150, learning_rate=3e-3, shape=SMALL).fit(
        [line(generator) for _ in range(80)]
    )


@pytest.fixture(scope="module")
def groups() -> FewShotMap:
    generator = np.random.default_rng(0)
    return FewShotMap(updates=100, learning_rate=3e-3).fit([clusters(generator) for _ in range(60)])


def test_a_regressor_of_few_points_predicts_the_rest(lines: FewShotMap) -> None:
    x, y = line(np.random.default_rng(99), 60)
    estimator = lines.adapt(x[:10], y[:10])
    assert isinstance(estimator, FewShotRegressor)
    assert estimator.predict(x).shape == (60,)
    assert estimator.score(x[10:], y[10:]) > 0.5
    assert lines.adapt(x[:10], y[:10, None]).predict(x).shape == (60, 1)


def test_a_classifier_of_few_rows_tells_new_classes_apart_however_many(groups: FewShotMap) -> None:
    for classes in (2, 3, 5):
        x, y = clusters(np.random.default_rng(99), 100, classes)
        estimator = groups.adapt(x[:20], y[:20])
        assert isinstance(estimator, FewShotClassifier)
        assert estimator.classes_.tolist() == sorted(set(y))
        assert estimator.score(x[20:], y[20:]) > 1.5 / classes
        shares = estimator.predict_proba(x)
        np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
        assert (estimator.classes_[shares.argmax(axis=1)] == estimator.predict(x)).all()


def test_names_and_order_of_classes_and_rows_do_not_matter(groups: FewShotMap) -> None:
    x, y = clusters(np.random.default_rng(5))
    scores = groups.adapt(x[:9], y[:9]).decision_function(x)
    renamed = np.array([{"ant": 3, "bee": 1, "cat": 2}[name] for name in y])
    order = np.arange(9)[::-1]
    again = groups.adapt(x[:9][order], renamed[:9][order])
    assert again.classes_.tolist() == [1, 2, 3]
    np.testing.assert_allclose(again.decision_function(x)[:, [2, 0, 1]], scores, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["lines", "groups"])
def test_the_network_is_a_module_of_torch(name: str, request: pytest.FixtureRequest) -> None:
    few_shot = request.getfixturevalue(name)
    x, y = (line if name == "lines" else clusters)(np.random.default_rng(7))
    estimator = few_shot.adapt(x[:8], y[:8])
    outputs = estimator.module()(torch.tensor(x, dtype=torch.float32)).detach().numpy()
    expected = estimator.predict(x)[:, None] if name == "lines" else estimator.decision_function(x)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["lines", "groups"])
def test_a_saved_map_makes_the_same_estimators(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    few_shot = request.getfixturevalue(name)
    few_shot.save(tmp_path / "map")
    with pytest.raises(MetaMapError):
        few_shot.save(tmp_path / "map")
    loaded = FewShotMap.load(tmp_path / "map")
    x, y = (line if name == "lines" else clusters)(np.random.default_rng(7))
    assert np.array_equal(loaded.adapt(x[:8], y[:8]).predict(x), few_shot.adapt(x[:8], y[:8]).predict(x))
    assert loaded.get_params()["updates"] == few_shot.updates


def test_a_map_is_saved_whole_or_not_at_all(
    lines: FewShotMap, groups: FewShotMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "full")

    lines.save(tmp_path / "map")
    with monkeypatch.context() as broken:
        broken.setattr("metamap_rl.functions.few_shot.write_json", refuse)
        for name in ("map", "other"):
            with pytest.raises(MetaMapError, match="full"):
                groups.save(tmp_path / name, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["map"]
    assert not FewShotMap.load(tmp_path / "map").classification_
    groups.save(tmp_path / "map", overwrite=True)
    assert FewShotMap.load(tmp_path / "map").classification_


def test_the_scores_that_a_network_reads_are_the_textbooks() -> None:
    draws = torch.Generator().manual_seed(0)
    x, y = torch.randn(1, 12, 3, generator=draws) + 4, torch.eye(2).repeat(6, 1)[None, :, :1]
    queries = torch.randn(1, 50, 3, generator=draws) + 4
    first, second = (Scorers.of(x, part).inputs(queries)[0, :, 3:] for part in (y, 1 - y))
    means = [x[0, y[0, :, 0] == of].mean(dim=0) for of in (1, 0)]
    nearer = (queries[0] - means[0]).square().sum(dim=1) < (queries[0] - means[1]).square().sum(dim=1)
    assert torch.equal(first[:, 0] > second[:, 0], nearer)
    centred, level = x[0] - x[0].mean(dim=0), y[0] - 0.5
    weights = torch.linalg.solve(centred.T @ centred + 3 * torch.eye(3), centred.T @ level)
    expected = (queries[0] - x[0].mean(dim=0)) @ weights + 0.5
    torch.testing.assert_close(first[:, 1:], expected, rtol=1e-4, atol=1e-5)


def test_a_network_is_folded_to_read_raw_inputs() -> None:
    draws = torch.Generator().manual_seed(0)
    x, y, queries = (
        torch.randn(4, 6, 3, generator=draws),
        torch.eye(2).repeat(3, 1)[:, :1],
        torch.randn(4, 9, 3, generator=draws),
    )
    known, spec = Scorers.of(x + 5, y.expand(4, -1, -1)), PolicySpec(5, 1, hidden=(7,), activation="relu")
    phi = initial_weights(spec, draws, count=4)
    plain, folded = known.folded(spec, phi)
    outputs = forward(spec, phi, known.inputs(queries + 5))
    torch.testing.assert_close(forward(plain, folded, queries + 5), outputs, rtol=1e-4, atol=1e-5)


def test_the_same_seed_trains_the_same_map() -> None:
    tasks = [line(np.random.default_rng(seed)) for seed in range(6)]
    first, second, other = (
        FewShotMap(updates=3, seed=seed, shape=SMALL).fit(tasks).mapper_.arrays() for seed in (1, 1, 2)
    )
    assert all(np.array_equal(first[key], second[key]) for key in first)
    assert any(not np.array_equal(first[key], other[key]) for key in first)


def test_registered_families_train_a_map() -> None:
    few_shot = FewShotMap(updates=2, shape=SMALL).fit("sinusoid")
    assert few_shot.adapt([[0.0], [1.0]], [0.5, 0.6]).predict([[2.0]]).shape == (1,)
    with pytest.raises(MetaMapError, match="sinusoid"):
        FewShotMap(updates=2).fit("sinusoids")


def test_it_is_one_of_scikit_learns_estimators(groups: FewShotMap) -> None:
    pytest.importorskip("sklearn", reason="the optional extra `functions` is not installed")
    from sklearn.base import clone
    from sklearn.model_selection import cross_val_score

    x, y = clusters(np.random.default_rng(3), 60)
    assert cross_val_score(FewShotClassifier(groups), x, y, cv=3).mean() > 0.5
    copy = clone(FewShotMap(updates=7, hidden=(3,)))
    assert copy.get_params() == FewShotMap(updates=7, hidden=(3,)).get_params()
    assert copy.set_params(seed=4).seed == 4


def test_bad_input_of_a_map_is_reported(groups: FewShotMap, lines: FewShotMap, tmp_path: Path) -> None:
    x, y = clusters(np.random.default_rng(3))
    with pytest.raises(MetaMapError, match="4 columns"):
        groups.adapt(x[:, :3], y)
    with pytest.raises(MetaMapError, match="two classes"):
        groups.adapt(x[:1], y[:1])
    with pytest.raises(MetaMapError, match="finite"):
        groups.adapt(np.full((4, 4), np.nan), y[:4])
    with pytest.raises(MetaMapError, match="for each of 4 rows"):
        groups.adapt(x[:4], y[:3])
    with pytest.raises(MetaMapError, match="expected shape"):
        lines.adapt([[1.0], [2.0]], [1.0])
    with pytest.raises(MetaMapError, match="not fitted"):
        FewShotMap().adapt(x, y)
    with pytest.raises(MetaMapError, match="at least two tables"):
        FewShotMap().fit([(x, y)])
    with pytest.raises(MetaMapError, match="task 1"):
        FewShotMap().fit([(x, y), (x[:, :2], y)])
    with pytest.raises(MetaMapError, match="did you mean 'updates'"):
        FewShotMap().set_params(update=3)
    with pytest.raises(MetaMapError, match="did you mean 'regression'"):
        FewShotMap(outcome="regresion").fit([(x, y), (x, y)])
    with pytest.raises(MetaMapError, match=r"few-shot\.json"):
        FewShotMap.load(tmp_path)


def mixed_up(kind: str) -> list[tuple[object, object]]:
    """Two tables of which nothing can be learned."""
    x = [[1.0], [2.0], [3.0]]
    wrong = {
        "ragged x": ([[1.0], [2.0, 3.0]], [1.0, 2.0]),
        "ragged y": (x, [[1.0], [2.0, 3.0], [4.0]]),
        "mixed classes": (x, np.array([None, "a", "b"], dtype=object)),
        "one class": (x, [0, 0, 0]),
    }
    return [wrong[kind]] * 2


@pytest.mark.parametrize("kind", ["ragged x", "ragged y", "mixed classes", "one class"])
def test_tables_that_are_none_are_reported(kind: str) -> None:
    with pytest.raises(MetaMapError):
        FewShotMap(updates=1).fit(mixed_up(kind))


@pytest.mark.parametrize("setting", [{"hidden": 5}, {"points": 3}, {"points": (24,)}, {"shape": "small"}])
def test_settings_that_cannot_be_are_reported(setting: dict[str, object]) -> None:
    tables = [line(np.random.default_rng(0)) for _ in range(3)]
    with pytest.raises(MetaMapError, match=next(iter(setting))):
        FewShotMap(**setting).fit(tables)


@pytest.mark.parametrize("setting", [{"outcome": "classification"}, {"hidden": (5,)}])
def test_settings_that_a_family_does_not_have_are_reported(setting: dict[str, object]) -> None:
    with pytest.raises(MetaMapError, match=next(iter(setting))):
        FewShotMap(**setting).fit("sinusoid")


def test_an_estimator_without_weights_says_so(lines: FewShotMap, groups: FewShotMap) -> None:
    x, y = line(np.random.default_rng(3))
    fresh = lines.adapt(x, y).__sklearn_clone__()
    assert repr(fresh).startswith("FewShotRegressor(")
    for used in (fresh.module, lambda: fresh.predict(x)):
        with pytest.raises(MetaMapError, match="not fitted"):
            used()
    for kind, few_shot in ((FewShotRegressor, groups), (FewShotClassifier, lines)):
        with pytest.raises(MetaMapError, match="expected a map"):
            kind(few_shot).fit(x, y)


def test_a_score_needs_one_value_for_each_row(lines: FewShotMap, groups: FewShotMap) -> None:
    for few_shot, (x, y) in ((lines, line(np.random.default_rng(3))), (groups, clusters(np.random.default_rng(3)))):
        with pytest.raises(MetaMapError, match="y"):
            few_shot.adapt(x, y).score(x, y[:-1])
    x = np.array([[99.0], [101.0]])
    assert lines.adapt(x, [1.0, 2.0]).score(x, [5.0, 5.0]) == 0


def test_a_damaged_map_is_reported(lines: FewShotMap, tmp_path: Path) -> None:
    lines.save(tmp_path / "map")
    path = tmp_path / "map" / "few-shot.json"
    document = read_json(path)
    write_json(path, {**document, "units": {}})
    with pytest.raises(MetaMapError, match="damaged"):
        FewShotMap.load(tmp_path / "map")
    for change in ({"classification": True}, {"units": {**document["units"], "mean": [1.0, 2.0]}}):
        write_json(path, {**document, **change})
        with pytest.raises(MetaMapError, match="damaged"):
            FewShotMap.load(tmp_path / "map")
    write_json(path, {**document, "format": "another"})
    with pytest.raises(MetaMapError, match="format"):
        FewShotMap.load(tmp_path / "map")
