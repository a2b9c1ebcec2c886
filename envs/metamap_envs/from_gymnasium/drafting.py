"""A draft of a family's YAML file: proposals for what varies and how far, each marked as one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metamap_envs.errors import MetaMapError
from metamap_envs.from_gymnasium.building import build
from metamap_envs.from_gymnasium.candidates import Candidate, EnvCandidates, find_candidates
from metamap_envs.from_gymnasium.declaration import Declaration
from metamap_envs.from_gymnasium.snapshot import quiet
from metamap_envs.settings import parse
from metamap_envs.yaml_text import dump_yaml, parse_yaml

__all__ = ["FamilyDraft", "draft_family"]

HORIZON = 200
"""Steps of an episode that are proposed for an environment without a time limit."""

_WIDTHS = (0.25, 0.5, 1.5, 2.0)
_OF_ZERO = 1.0
_SET = ("option",)
_WORDS = {"argument": "of the constructor", "attribute": "that the constructor sets"}


@dataclass(frozen=True)
class FamilyDraft:
    """A family's file, and what was refused when it was tried.

    Attributes:
        name: of the family.
        text: the YAML file.
        refused: why an environment with the proposed values cannot be made, by parameter.
    """

    name: str
    text: str
    refused: Mapping[str, str]


@dataclass(frozen=True)
class _Proposal:
    """Keys of a parameter's declaration, and what is wrong with them."""

    candidate: Candidate
    entry: Mapping[str, Any]
    refusal: str = ""


def draft_family(
    environment: str,
    parameters: Sequence[str],
    folder: Path,
    *,
    name: str | None = None,
    taken: Collection[str] = (),
) -> FamilyDraft:
    """Write a family's YAML file with proposals.

    Each parameter is tried out: the environment is made and stepped with values from all over the proposed range. One
    that is refused stays in the file, with the reason as a comment.

    Args:
        environment: Gymnasium id, or "module:id" to import the module that registers it.
        parameters: names among `find_candidates`.
        folder: where the module is looked for, besides Python's path.
        name: the family's name; default the id in lower case.
        taken: names of families that are not proposed.

    Raises:
        MetaMapError: no such environment or parameter, a repeated one, none at all, or a name that is not allowed.
    """
    known = find_candidates(environment, folder)
    if not parameters:
        raise MetaMapError("expected the name of at least one parameter, got none")
    if twice := next((each for each in parameters if parameters.count(each) > 1), None):
        raise MetaMapError(f"the parameter {twice!r} is named twice")
    chosen = [known.choose(each) for each in parameters]
    name = name or _family_name(known.env_id, taken)
    head: dict[str, Any] = {"name": name, "environment": environment}
    if known.time_limit is None:
        head["horizon"] = HORIZON
    _declared(head, {"any": {"argument": "any"}})  # refuses the name before anything is tried
    proposals = [_tried(head, each, folder) for each in chosen]
    text = "\n".join(_lines(head, known, proposals)) + "\n"
    parse(Declaration, parse_yaml(text, "the draft"), "the draft")
    return FamilyDraft(name, text, {each.candidate.name: each.refusal for each in proposals if each.refusal})


def _family_name(env_id: str, taken: Collection[str]) -> str:
    """An id as a family's name: "MyRobot-v0" is my-robot."""
    text = re.sub(r"-v\d+$", "", env_id.rpartition("/")[2])
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", text).lower()
    name = re.sub(r"[^a-z0-9]+", "-", text).strip("-")
    name = name if name[:1].isalpha() else f"env-{name}".rstrip("-")
    return f"my-{name}" if name in taken else name


# proposals -----------------------------------------------------------------------------------------------------------


def _tried(head: Mapping[str, Any], candidate: Candidate, folder: Path) -> _Proposal:
    """The first proposal with which the family can be made, or else the first with the refusal."""
    first: _Proposal | None = None
    for entry in _proposals(candidate):
        try:
            with quiet():
                build(_declared(head, {candidate.name: entry}), folder)
        except MetaMapError as error:
            refusal = str(error).removeprefix(f"family {head['name']!r}: ")
            first = first or _Proposal(candidate, entry, refusal)
            continue
        return _Proposal(candidate, entry)
    assert first is not None, "there is at least one proposal"
    return first


def _declared(head: Mapping[str, Any], parameters: Mapping[str, Any]) -> Declaration:
    return parse(Declaration, {**head, "parameters": parameters}, "family file")


def _proposals(candidate: Candidate) -> Iterator[dict[str, Any]]:
    """Ranges around the environment's own value, the most usual first; for integers also whole numbers alone."""
    own, target = candidate.own, dict(candidate.target)
    if isinstance(own, bool):
        yield {**target, "choices": [0, 1]}
        return
    if candidate.kind in (*_WORDS, *_SET):
        yield {**target, **_around(own)}
    else:
        yield {**target, "how": "scale", **_around(1.0)}
    if isinstance(own, int):
        yield {**target, "choices": sorted({max(own // 2, min(own, 1)), own, own + max(1, own // 2)})}


def _around(own: float) -> dict[str, Any]:
    """Half to one and a half of a value for training, a quarter to double for test-out; around 0 a guess."""
    if own == 0:
        return {"train": [-_OF_ZERO, _OF_ZERO], "out": [[-1.5 * _OF_ZERO, -_OF_ZERO], [_OF_ZERO, 1.5 * _OF_ZERO]]}
    ends = sorted(float(f"{own * width:.4g}") for width in _WIDTHS)
    return {"train": ends[1:3], "out": [ends[:2], ends[2:]]}


# text ----------------------------------------------------------------------------------------------------------------


def _lines(head: Mapping[str, Any], known: EnvCandidates, proposals: Sequence[_Proposal]) -> Iterator[str]:
    yield f"# What may differ between tasks of {known.env_id}, and how far."
    yield "# PROPOSAL: made from the environment's own value. Put in the range that you expect."
    yield "# Keys: docs/families.md. Next: metamap families check THIS_FILE, metamap build THIS_FILE --out FOLDER"
    yield f"name: {_yaml(head['name'])}"
    yield f"environment: {_yaml(head['environment'])}"
    if "horizon" in head:
        yield f"horizon: {head['horizon']}  # PROPOSAL: the environment has no time limit of its own"
    else:
        yield f"# horizon: {known.time_limit}  # steps of an episode: the environment's own time limit"
    yield "parameters:"
    for each in proposals:
        yield from _parameter_lines(each)


def _parameter_lines(proposal: _Proposal) -> Iterator[str]:
    candidate, entry = proposal.candidate, proposal.entry
    yield f"  {_yaml(candidate.name)}:"
    if proposal.refusal:
        yield f"    # REFUSED as it is: {' '.join(proposal.refusal.split())}"
    for key, value in candidate.target.items():
        words = f"{_WORDS[key]}; " if key in _WORDS else ""
        about = f"  # {words}its own value is {candidate.own:g}" if key == candidate.kind else ""
        yield f"    {key}: {_yaml(value)}{about}"
    if "how" in entry:
        yield "    how: scale  # values are factors on its own value"
    yield '    unit: "1"  # for documentation only'
    guess = " (a guess: its own value is 0)" if candidate.own == 0 and "train" in entry else ""
    meanings = {
        "train": f"PROPOSAL{guess}: training, validation and test-in tasks",
        "out": "PROPOSAL: test-out tasks, which no training sees; leave it out for none",
        "choices": "PROPOSAL: values; or train: [low, high]",
    }
    for key, meaning in meanings.items():
        if key in entry:
            yield f"    {key}: {_yaml(entry[key])}  # {meaning}"
    if candidate.own and "train" in entry and candidate.kind in _WORDS:
        yield f"    # an unknown sign: train: {_yaml(_both_signs(entry['train']))}"


def _both_signs(interval: Sequence[float]) -> list[list[float]]:
    low, high = sorted(map(abs, interval))
    return [[-high, -low], [low, high]]


def _yaml(value: Any) -> str:
    """A value on one line: numbers and lists as JSON has them, text as YAML needs it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    return f"{value:g}" if isinstance(value, float) else dump_yaml(value).strip().removesuffix("\n...")
