"""What a family rewards, in words: the specification in its class's docstring."""

from __future__ import annotations

import inspect
import re

from metamap_envs.family import Family
from metamap_envs.registry import get_family, list_families

__all__ = ["reward_text"]

_REWARD = re.compile(r"\bReward:\s(.*?)(?=\s(?:Horizon \d|Source:|No termination)|\n\n|$)", re.DOTALL)
_SAME = re.compile(r"as in `([\w-]+)`\.$")


def reward_text(family: Family) -> str:
    """What a family rewards, as a formula in words; of a declared one without a reward of its own, that of its base."""
    found = _REWARD.search(inspect.getdoc(type(family)) or "")
    if found is None:
        return f"that of {family.base_id}"
    text = " ".join(found[1].split())
    same = _SAME.fullmatch(text)
    return reward_text(get_family(same[1])) if same and same[1] in list_families() else text
