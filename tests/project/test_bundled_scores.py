"""The scores that are bundled are those of the documents of results."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from metamap_agents.runtime.storage import read_json
from metamap_rl.adaptation.bundled import bundled_families, load_mapper
from metamap_rl.adaptation.service.files import mapper_id
from metamap_rl.common.bundles import SCORES, bundle_card

SCRIPTS = Path(__file__).parents[2] / "scripts"


def test_bundled_scores_are_those_of_the_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    assert read_json(SCORES) == importlib.import_module("bundled_scores").scores()


def test_no_bundle_is_newer_than_its_scores() -> None:
    measured = read_json(SCRIPTS.parent / "docs" / "results" / "bundles.json")["mappers"]
    for name in bundled_families():
        mapper = load_mapper(name)
        if mapper.universal is not None:
            assert measured[name]["mapper"] == mapper_id(mapper), f"{name}: metamap results run bundles"


def test_a_card_is_of_a_bundled_mapper_only() -> None:
    assert all(bundle_card(name) is not None for name in bundled_families())
    assert bundle_card("walker-parts") is None
