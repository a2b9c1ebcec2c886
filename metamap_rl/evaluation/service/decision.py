"""The decision rule of the experiment in service, written down before it was run on test tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from metamap_envs.settings import Number, Settings, Whole
from metamap_rl.evaluation.service.methods import ADAPTER, ESTIMATE, SYSID

__all__ = ["DecisionRule"]

_Shares = Mapping[str, Mapping[str, Any]]
_STANDARD_ERRORS_IN_95 = 2 * 1.959964  # width of a 95 % interval


class DecisionRule(Settings):
    """When a mapper "adapts in service", and where "generated weights are needed".

    Shares are (R - R_base) / (R_oracle - R_base) over all steps of the main schedule on test tasks, ratios of sums.

    1. It adapts in service if, on at least ``needed`` of ``families``, the adapter's share is at least ``least_share``
       and at least that of `sysid` with the right model less ``margin``; and if it is above that of `sysid` on
       ``unmodelled``, whose delay the simulator of `sysid` does not have.
    2. Generated weights are needed on a family if the adapter's share is above that of `estimate`, which maps the same
       windows to parameters, by more than ``errors`` standard errors of their difference on the same trials.
    """

    families: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "cheetah-actuators",
        "cheetah-velocity-actuators",
        "cheetah-crippled",
        "cheetah-velocity",
        "walker-dynamics",
    )
    """Families that `sysid` models."""
    needed: Annotated[Whole, Field(ge=1)] = 4
    """How many of them it takes."""
    unmodelled: str = "cheetah-actuators-delay"
    """Family that `sysid` does not model."""
    least_share: Number = 0.80
    """Smallest share of the adapter."""
    margin: Number = 0.05
    """Most that it may be below `sysid`."""
    errors: Number = 2.0
    """Standard errors, estimated as the width of the 95 % bootstrap interval over 3.92."""

    def verdict(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Apply the rule, as JSON values.

        Args:
            results: for each family the figures of the main schedule: ``share`` of each of ``methods``, and
                ``differences`` of the adapter from others, with ``estimate``, ``low`` and ``high``.

        Returns:
            ``adapts``: true or false, or null as long as results decide neither; ``families``: for each that has
            results what holds; ``needed_on``: families on which generated weights are needed; ``sentences``.
        """
        families = {name: self._of_family(name, results[name]) for name in self._names if name in results}
        adapts = self._adapts(families)
        needed_on = [name for name, found in families.items() if found["needed"]]
        return {
            "adapts": adapts,
            "families": families,
            "needed_on": needed_on,
            "sentences": self._sentences(families, adapts, needed_on),
            "rule": self.model_dump(mode="json"),
        }

    @property
    def _names(self) -> tuple[str, ...]:
        return (*self.families, self.unmodelled)

    def _of_family(self, name: str, result: Mapping[str, Any]) -> dict[str, Any]:
        shares = {one: result["methods"].get(one, {}).get("share") for one in (ADAPTER, SYSID, ESTIMATE)}
        adapter, sysid = shares[ADAPTER], shares[SYSID]
        passed = None
        if adapter is not None and name != self.unmodelled and adapter < self.least_share:
            passed = False
        elif adapter is not None and sysid is not None:
            passed = adapter > sysid if name == self.unmodelled else adapter >= sysid - self.margin
        return {"shares": shares, "passed": passed, "needed": self._needed(result["differences"].get(ESTIMATE))}

    def _needed(self, difference: Mapping[str, float | None] | None) -> bool | None:
        """Whether generated weights are needed; None without both methods, or without an interval."""
        if difference is None or difference["low"] is None or difference["high"] is None:
            return None
        error = (difference["high"] - difference["low"]) / _STANDARD_ERRORS_IN_95
        estimate = difference["estimate"]
        return estimate is not None and estimate > self.errors * error

    def _adapts(self, families: _Shares) -> bool | None:
        passed = [families[name]["passed"] for name in self.families if name in families]
        count, failed = passed.count(True), passed.count(False)
        beyond = families[self.unmodelled]["passed"] if self.unmodelled in families else None
        if beyond is False or failed > len(self.families) - self.needed:
            return False
        return True if beyond and count >= self.needed else None

    def _sentences(self, families: _Shares, adapts: bool | None, needed_on: list[str]) -> list[str]:
        missing = [name for name in self._names if name not in families or families[name]["passed"] is None]
        says = {True: "yes", False: "no", None: f"not decided, without results of {', '.join(missing)}"}[adapts]
        compared = [name for name in families if families[name]["needed"] is not None]
        where = ", ".join(needed_on) or "none"
        return [
            f"adapts in service: {says}",
            f"generated weights are needed on: {where}" + (f" (of {', '.join(compared)})" if compared else ""),
        ]
