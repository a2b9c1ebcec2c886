"""Scripts that complete `metamap` in bash and zsh, made of the commands' dataclasses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from shlex import quote
from typing import Any, get_args, get_origin

from metamap_rl.cli.groups import load_group, outlines
from metamap_rl.cli.usage import fields_of

__all__ = ["bash_script", "zsh_script"]


@dataclass(frozen=True)
class _Completed:
    """What completes a command: its flags, values by flag, and words."""

    flags: tuple[str, ...]
    values: Mapping[str, tuple[str, ...]]
    words: tuple[str, ...]


def bash_script(families: Iterable[str]) -> str:
    """For `source <(metamap completion bash)`; ``families`` are the names that stand for FAMILY."""
    cases = "\n".join(f"    {quote(words)}) {_bash_case(one)} ;;" for words, one in _commands(tuple(families)).items())
    groups = {group.name: " ".join(name for name in group.commands if name) for group in outlines()}
    seconds = "\n".join(f"    {name}) choices={quote(names)} ;;" for name, names in groups.items() if names)
    return f"""# bash completion of metamap
_metamap() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" choices="" flags="" words=""
  local command="${{COMP_WORDS[1]}}"
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W {quote(" ".join([*groups, "--help", "--version"]))} -- "$current"))
    return
  fi
  case "$command" in
{seconds}
  esac
  if [ -n "$choices" ]; then
    if [ "$COMP_CWORD" -eq 2 ]; then
      COMPREPLY=($(compgen -W "$choices --help" -- "$current"))
      return
    fi
    command="$command ${{COMP_WORDS[2]}}"
  fi
  choices=""
  case "$command" in
{cases}
  esac
  if [ -n "$choices" ]; then
    COMPREPLY=($(compgen -W "$choices" -- "$current"))
  elif [[ "$current" == -* ]]; then
    COMPREPLY=($(compgen -W "$flags --help" -- "$current"))
  else
    COMPREPLY=($(compgen -W "$words" -- "$current") $(compgen -f -- "$current"))
  fi
}}
complete -o filenames -F _metamap metamap
"""


def zsh_script(families: Iterable[str]) -> str:
    """For `source <(metamap completion zsh)`: the same function, by zsh's own emulation of bash's completion."""
    start = "autoload -Uz compinit bashcompinit\n(( $+functions[compdef] )) || compinit -D\nbashcompinit\n"
    return start + bash_script(families)


def _bash_case(one: _Completed) -> str:
    """Variables of one command; what completes the value of a flag depends on the word before."""
    values = " ".join(f"{flag}) choices={quote(' '.join(names))} ;;" for flag, names in one.values.items())
    before = f'case "$before" in {values} esac; ' if values else ""
    return f"{before}flags={quote(' '.join(one.flags))}; words={quote(' '.join(one.words))}"


def _commands(families: tuple[str, ...]) -> dict[str, _Completed]:
    """Every command by its words."""
    return {
        f"{group.name} {name}".strip(): _completed(kind, families)
        for group in outlines()
        for name, kind in load_group(group.name).items()
    }


def _completed(kind: type[Any], families: tuple[str, ...]) -> _Completed:
    fields = fields_of(kind)
    flags = [field for field in fields if not field.positional]
    choices = {field: tuple(map(str, get_args(field.kind))) for field in fields if get_origin(field.kind) is not None}
    words = [
        choices.get(field, families if field.metavar in ("FAMILY", "MAPPER") else ())
        for field in fields
        if field.positional
    ]
    return _Completed(
        flags=tuple(field.flag for field in flags),
        values={field.flag: choices[field] for field in flags if field in choices},
        words=tuple(dict.fromkeys(name for names in words for name in names)),
    )
