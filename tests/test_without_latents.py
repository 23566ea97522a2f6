"""The page on systems without latents runs as it is written."""

import doctest
import re
from pathlib import Path

import pytest

from curvae.systems.base import SYSTEMS

PAGE = Path(__file__).parent.parent / "docs" / "without-latents.md"


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(SYSTEMS, "columns", raising=False)
    blocks = "".join(re.findall(r"```pycon\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    page = doctest.DocTestParser().get_doctest(blocks, {"__name__": "page"}, PAGE.name, str(PAGE), 0)
    try:
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(page) == (0, len(page.examples))
    finally:
        SYSTEMS.pop("columns", None)
