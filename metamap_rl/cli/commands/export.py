"""Write a policy, a mapper, a rollout or experts as a file of another tool."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from metamap_rl.cli.command import Command, OutPath
from metamap_rl.cli.console import say
from metamap_rl.cli.usage import Metavar, Positional

__all__ = ["COMMANDS", "ORDER", "Export"]

ORDER = 45


@dataclass(frozen=True, kw_only=True)
class Export(Command):
    """Write a policy, a mapper, a rollout or experts as a file of another tool.

    Policies take raw observations and return clipped actions, without this project: sb3 (a zip for PPO.load), onnx,
    torchscript, safetensors (named layers), c (a header with one function). A mapper can be written to onnx:
    transitions in, weights out. Rollouts, and the experts of a zoo, which are run for it, can be written to minari.
    """

    name: ClassVar[str] = "export"

    source: Annotated[Positional[str], Metavar("SOURCE")]
    """Policy or rollout (.safetensors), folder of `metamap adapt --out`, zoo, or mapper (folder or name)."""

    to: Annotated[str, Metavar("FORMAT")]
    """Format: c, minari, onnx, safetensors, sb3 or torchscript."""

    expert: Annotated[str | None, Metavar("TASK_ID")] = None
    """Expert of a zoo to export as a policy; default: the recorded episodes of all experts."""

    episodes: int = 10
    """Episodes to record of each expert of a zoo."""

    out: OutPath = None
    """File to write, or folder of a data set; default: a name of its own in the working directory."""

    def run(self) -> int:
        """Read, write, print."""
        from metamap_agents.runtime.storage import claim_output
        from metamap_rl.cli.console import print_json
        from metamap_rl.exporters import EXPORTERS, export
        from metamap_rl.exporters.sources import read_source

        exporter = EXPORTERS.get(self.to)
        if self.out is not None:
            claim_output(self.out)
        found = read_source(self.source, expert=self.expert, episodes=self.episodes, seed=self.seed)
        path = self.out or Path(found.name + (exporter.suffix or f"-{self.to}"))
        export(found.source, path, self.to)
        size = sum(one.stat().st_size for one in (path, *path.rglob("*")) if one.is_file())
        if self.json:
            print_json({"source": self.source, "format": self.to, "path": path, "bytes": size})
        else:
            say(f"written    {path} ({size / 1000:.1f} kB)")
            say(f"holds      {_summary(exporter)}")
        return 0


def _summary(exporter: type[object]) -> str:
    """First paragraph of an exporter's documentation, as plain text."""
    paragraph = (exporter.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(paragraph.replace("``", "").split())


COMMANDS = (Export,)
