"""Configs: one declaration of each setting, read from arguments, documents and flags."""

from __future__ import annotations

from typing import Any

import pytest

from metamap_envs import MetaMapError
from metamap_envs.settings import parse
from metamap_rl.cli.commands.mapper import TrainMapper
from metamap_rl.cli.usage import fields_of
from metamap_rl.evaluation.protocol.settings import MAPPER, SharedSettings
from metamap_rl.stream.config import SHAPE, UPDATE
from metamap_rl.training.config import MapperRecipe, TrainConfig, UpdateConfig


def test_earlier_names_of_arguments_work_with_a_warning_that_names_the_new_one() -> None:
    with pytest.warns(DeprecationWarning, match=r"steps.*updates") as caught:
        assert TrainConfig(steps=7).updates == 7
    assert caught[0].filename == __file__


def test_documents_are_read_flat_or_nested_and_with_earlier_names() -> None:
    told: list[dict[str, Any]] = [
        {"training": {"updates": 7}, "shape": {"hypernetwork_hidden": 9}},
        {"steps": 7, "hidden": 9},
    ]
    for document in told:
        assert parse(MapperRecipe, document, "a file") == MapperRecipe().changed(updates=7, hypernetwork_hidden=9)
    assert parse(UpdateConfig, {"batch": 3, "states": "4"}, "old") == UpdateConfig(batch_tasks=3, states_per_task=4)
    assert SharedSettings(mapper={"hidden": 9}).mapper == MAPPER.changed(hypernetwork_hidden=9)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"updats": 7}, "unknown key 'updats': did you mean 'updates'"),
        ({"training": {"updats": 7}}, "did you mean 'updates'"),
        ({"steps": 7, "updates": 8}, "updates: .*steps"),
        ({"updates": 7, "training": {"updates": 8}}, "updates: .*training"),
        ({"training": {"updates": True}}, "updates: expected a number, got True"),
        ({"updates": True}, "updates: expected a number, got True"),
        ({"context_size": 1}, "context_size: .*2, got 1"),
        ({"bottleneck": True, "survey_tasks": 0}, "bottleneck: .*survey_tasks"),
    ],
)
def test_a_bad_document_is_reported(document: dict[str, Any], message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        parse(MapperRecipe, document, "a file")


def test_every_setting_is_a_flag_with_its_own_default() -> None:
    flags = {field.word: field.default for field in fields_of(TrainMapper)}
    assert MapperRecipe().flat().items() <= flags.items()


def test_what_is_not_the_default_is_said_where_it_is_meant() -> None:
    assert {key for key, value in MAPPER.flat().items() if value != MapperRecipe().flat()[key]} == {"updates"}
    assert (SHAPE.hypernetwork, UPDATE.updates) == ("residual", 300)
