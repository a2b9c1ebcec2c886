"""Messages of a page: checked before anything is done."""

from __future__ import annotations

import pytest

from metamap_envs.errors import MetaMapError
from metamap_rl.play.messages import LARGEST, read_request

GOOD = (
    '{"do": "set", "parameters": {"mass": 1}}',
    '{"do": "joint", "joint": "bshin", "condition": "weak"}',
    '{"do": "length", "steps": 5}',
    '{"do": "probe"}',
    '{"do": "clock", "paused": false, "speed": 0.5}',
    '{"do": "clock", "paused": true, "speed": 1}',
)


@pytest.mark.parametrize("text", GOOD)
def test_every_request_is_read(text: str) -> None:
    assert read_request(text).do in text  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "JSON"),
        ("[]", "object"),
        ('{"do": "rob"}', "rob"),
        ('{"do": "probe", "steps": 5}', "steps"),
        ('{"do": "length", "steps": 0}', "steps"),
        ('{"do": "length", "steps": 5.5}', "steps"),
        ('{"do": "set", "parameters": {}}', "parameters"),
        ('{"do": "set", "parameters": {"mass": "1"}}', "mass"),
        ('{"do": "set", "parameters": {"mass": NaN}}', "mass"),
        ('{"do": "clock", "paused": false, "speed": 1e9}', "speed"),
        ('{"do": "joint", "joint": "", "condition": "weak"}', "joint"),
        (" " * (LARGEST + 1), str(LARGEST)),
        (b"\xff\xfe", "JSON"),
        ("[" * 4000, "JSON"),
        ('{"do": 5}', "request"),
        ('{"do": "prob"}', "did you mean 'probe'"),
        ('{"do": "set", "parameter": {"mass": 1}}', "did you mean 'parameters'"),
        ('{"do": "set", "parameters": {"mass": 1' + 400 * "0" + "}}", "mass"),
        ('{"do": "joint", "joint": "bshin"}', "condition: is missing"),
    ],
)
def test_anything_else_is_refused_in_one_sentence(text: str, word: str) -> None:
    with pytest.raises(MetaMapError, match=word) as refused:
        read_request(text)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300
    assert "Input should" not in str(refused.value), "pydantic's own words"
