"""Old names of modules work for one release, with a warning that names the new one."""

import importlib
import sys
from collections.abc import Mapping, Sequence

import pytest

import metamap_agents
import metamap_envs
import metamap_rl
from metamap_agents.renamed import rename_modules

OLD = [
    ("metamap_agents.evaluation", "random_returns"),
    ("metamap_agents.executors.local", "LocalExecutor"),
    ("metamap_agents.normalizer", "ObservationNormalizer"),
    ("metamap_agents.policies", "WeightPolicy"),
    ("metamap_agents.recipes", "load_recipe"),
    ("metamap_agents.training", "train_base"),
    ("metamap_envs.family", "get_family"),
    ("metamap_rl.probe", "BasePolicyProbe"),
    ("metamap_rl.probe", "collect"),
    ("metamap_rl.protocol.methods.base", "METHODS"),
    ("metamap_rl.train", "TrainConfig"),
    ("metamap_rl.train", "train"),
]


@pytest.mark.parametrize(("module", "name"), OLD)
def test_a_name_is_found_by_its_old_module_with_a_warning(module: str, name: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"{module}.{name} is now metamap_\w+\.") as caught:
        found = getattr(importlib.import_module(module), name)
    new = str(caught[0].message).split(" is now ")[1].rsplit(".", 1)
    assert found is getattr(importlib.import_module(new[0]), new[1])


@pytest.mark.parametrize("name", ["Mapper", "MapperConfig"])
def test_a_module_that_became_a_package_has_its_names(name: str) -> None:
    assert getattr(importlib.import_module("metamap_rl.mapper"), name) is getattr(metamap_rl, name)


def test_adaptation_has_its_names() -> None:
    adaptation = importlib.import_module("metamap_rl.adaptation")
    assert {getattr(adaptation, name).__name__ for name in adaptation.__all__} == set(adaptation.__all__)


def test_a_public_function_can_be_called_after_an_old_module_of_its_name_was_imported() -> None:
    module = importlib.import_module("metamap_rl.train")
    with (
        pytest.warns(DeprecationWarning, match="metamap_rl.training.from_family.train"),
        pytest.raises(TypeError, match="argument"),
    ):
        vars(type(module))["__call__"](module)


def test_every_new_home_exists() -> None:
    for module, homes in tables().items():
        assert module.partition(".")[0] in (metamap_envs.__name__, metamap_agents.__name__, metamap_rl.__name__)
        for home in homes:
            importlib.import_module(home)


@pytest.mark.parametrize("module", ["metamap_rl.probe", "metamap_envs.family"])
def test_a_name_that_there_never_was_is_an_attribute_error(module: str) -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = importlib.import_module(module).no_such_name


def test_a_module_that_there_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("metamap_rl.no_such_module")


def tables() -> Mapping[str, Sequence[str]]:
    return {
        name: homes
        for finder in sys.meta_path
        if type(finder).__module__ == rename_modules.__module__
        for name, homes in finder.homes.items()  # type: ignore[attr-defined,union-attr]
    }
