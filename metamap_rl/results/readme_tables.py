"""What the README shows of the documents of results: three numbers with their commands, returns beside rivals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metamap_agents.runtime.storage import read_json
from metamap_rl.evaluation.score_text import NOTHING, interval_text, method_name
from metamap_rl.results.family_tables import table

__all__ = ["numbers_list", "returns_table"]

_STEPS = 50
_FAMILY = "cheetah-actuators"
_METHODS = {"mapper": "adapted", "nearest-expert": "nearest expert", "sysid": "system identification"}


def numbers_list(results: Path) -> list[str]:
    """Three numbers of one family: gap closed, milliseconds, share of the oracle in service; each with its command."""
    gap = interval_text(_rows(results / "rivals" / f"{_FAMILY}.json")["mapper"]["gap_closed"])
    speed = {row["family"]: row["milliseconds"]["median"] for row in read_json(results / "mapping.json")["families"]}
    served = read_json(results / "in-service-small.json")["families"][_FAMILY]["main"]["methods"]["adapter"]
    share = f"{served['share']:.2f} [{served['low']:.2f}, {served['high']:.2f}]"
    protocol = f"metamap evaluate scripts/protocol/rivals.yml --families {_FAMILY} --seed 1 --seeds 1 --methods mapper"
    return [
        f"- **{gap}** of the gap between base policy and expert closed with {_STEPS} transitions of unseen tasks "
        f"(IQM, one mapper): `{protocol} --zoo runs/zoo --out runs/rivals`",
        f"- **{speed[_FAMILY]:.1f} ms** from 200 transitions to weights, on one core: "
        "`python scripts/bench_speed.py mapping`",
        f"- **{share}** of the way from base policy to oracle in service, where tasks change in mid-run: "
        "`metamap results run in-service scripts/experiments/in-service-small.yml`",
    ]


def returns_table(paths: Sequence[Path]) -> list[str]:
    """Mean returns on test-in tasks, of base policy, expert and three methods that read D, with their gap closed.

    Args:
        paths: documents of families of a comparison of methods, without ``.json``, or folders of them.
    """
    documents = {path.stem: path for given in paths for path in _documents(given)}
    header = ["mean return (gap closed)", "base", "adapted", "expert", "nearest expert", "system identification"]
    return table(header, [[name, *_cells(documents[name])] for name in sorted(documents)])


def _documents(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path.with_name(f"{path.name}.json")]
    return [found for found in sorted(path.glob("*.json")) if found.stem != "shared"]


def _cells(path: Path) -> list[str]:
    summary, rows = read_json(path)["splits"]["test-in"], _rows(path)
    base, expert = (f"{sum(summary[key]) / len(summary[key]):.1f}" for key in ("base_returns", "expert_returns"))
    adapted, nearest, identified = (_return(rows.get(method)) for method in _METHODS)
    return [base, adapted, expert, nearest, identified]


def _return(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return NOTHING
    gap = row["gap_closed"]
    return f"{row['mean_return']:.1f} ({gap['iqm']:.2f})" if gap else f"{row['mean_return']:.1f}"


def _rows(path: Path) -> dict[str, Any]:
    """Methods with the headline's number of transitions, by name."""
    methods = read_json(path)["splits"]["test-in"]["methods"]
    return {method_name(row["method"]): row for row in methods if row["steps"] in (_STEPS, None)}
