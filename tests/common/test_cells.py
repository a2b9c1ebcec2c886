"""Settings of results that are there, beside those asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from metamap_envs.errors import MetaMapError
from metamap_rl.common.cells import compare_settings


def test_a_setting_of_none_is_one_that_older_documents_do_not_have() -> None:
    compare_settings(Path("a.json"), {"recipe": {"steps": 1}}, {"recipe": {"steps": 1, "cloning": None}, "rule": None})
    with pytest.raises(MetaMapError):
        compare_settings(Path("a.json"), {"recipe": {"steps": 1}}, {"recipe": {"steps": 1, "cloning": {"rounds": 2}}})
