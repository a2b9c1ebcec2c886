"""Pages of the site that are made of the code and of the documents of results: commands, families, names, gallery."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from itertools import groupby
from unittest import mock

from metamap_envs.family import Family
from metamap_envs.registry import get_family, list_families
from metamap_envs.reward_text import reward_text
from site_gallery import gallery_files, parameter_table, prose
from site_links import ROOT, ROOT_PAGES

__all__ = ["generated_pages"]

_PACKAGES = ("metamap_rl", "metamap_agents", "metamap_envs")


def generated_pages() -> Iterator[tuple[str, str | bytes]]:
    """(Path in docs/, content) of every page and picture that is made."""
    yield "reference-commands.md", _commands()
    yield "reference-families.md", _families()
    for package in _PACKAGES:
        yield f"reference-{package.replace('_', '-')}.md", _names(package)
    yield from gallery_files()
    for source, page in ROOT_PAGES.items():
        if "/" not in page and page != "index.md":
            yield page, (ROOT / source).read_text(encoding="utf-8")


# commands -------------------------------------------------------------------------------------------------------------


def _commands() -> str:
    """The help of every command, as at 80 columns."""
    from metamap_rl.cli.overview import command_help, overview

    with mock.patch.dict(os.environ, COLUMNS="80"):
        first, helps = overview(), list(command_help())
    parts = ["# Command line", "What `metamap --help` and the help of each command print.", _block(first)]
    for group, commands in groupby(helps, key=lambda one: one[0].split()[0]):
        parts.append(f"## {group}")
        for words, text in commands:
            parts += [f"### metamap {words}" if " " in words else "", _block(text)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _block(text: str) -> str:
    return f"```text\n{text.strip()}\n```"


# families -------------------------------------------------------------------------------------------------------------


def _families() -> str:
    """Every family that is installed: sizes, reward, parameters."""
    intro = "Every family of the package, as registered. How they were chosen, and your own: [families](families.md)."
    return "\n\n".join(["# Families", intro, *(_family(get_family(name)) for name in list_families())]) + "\n"


def _family(family: Family, level: str = "##") -> str:
    facts = (
        f"`{family.gym_id}`, physics of {family.base_id}; observation {family.observation_size}, "
        f"action {family.action_size}, horizon {family.horizon}."
    )
    reward = f"**Reward** {prose(reward_text(family))}"
    return "\n\n".join([f"{level} {family.name}", family.description + ".", facts, reward, parameter_table(family)])


# names ----------------------------------------------------------------------------------------------------------------


def _names(package: str) -> str:
    """Every public name of a package, for mkdocstrings."""
    module = importlib.import_module(package)
    objects = [(name, getattr(module, name)) for name in module.__all__ if not name.startswith("__")]
    found = [f"::: {one.__module__}.{name}" for name, one in objects if getattr(one, "__name__", None) == name]
    intro = "Docstrings of the [public names](api.md): shapes, units, errors."
    return "\n\n".join([f"# {package}", intro, *found]) + "\n"
