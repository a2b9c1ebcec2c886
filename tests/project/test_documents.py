"""Pages say what the documents of results say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from metamap_envs.errors import MetaMapError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("results_table", ROOT / "scripts" / "results_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))  # scripts import one another
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["README.md", "docs/measurements.md", "docs/experts.md", "docs/reproducibility.md"])
def test_tables_are_those_of_the_documents(script: ModuleType, page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "<!-- /" in text, "the page has places for tables"
    assert script.filled(text, script.tables(ROOT / "docs" / "results")) == text, (
        f"out of date: python scripts/results_table.py --into {page}"
    )


def test_a_page_keeps_what_is_around_its_tables(script: ModuleType) -> None:
    text = "before\n<!-- a -->old<!-- /a -->\nbetween <!-- b --> <!-- /a -->\n"
    assert script.filled(text, {"a": "new"}) == (
        "before\n<!-- a -->\n\nnew\n\n<!-- /a -->\nbetween <!-- b --> <!-- /a -->\n"
    )
    with pytest.raises(MetaMapError, match="unknown table 'enginee': did you mean 'engine'"):
        script.filled("<!-- enginee --><!-- /enginee -->", {"engine": ""})
