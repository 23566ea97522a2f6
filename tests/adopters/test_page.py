"""The how-to page on adopting, with the blocks that need the other libraries (make adopters)."""

import re
from pathlib import Path

import pytest

from test_how_to import FOLDER, command

pytest.importorskip("pythae", reason="make adopters has it")
pytest.importorskip("diffusers", reason="make adopters has it")
pytest.importorskip("scvi", reason="make adopters has it")


@pytest.mark.filterwarnings("ignore")
def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    text = (FOLDER / "adopt-a-trained-model.md").read_text()
    names: dict[str, object] = {}
    found = re.findall(r"^```(?:\{code-block\} )?(python|bash)\n(.*?)^```", text, re.S | re.M)
    assert len(found) > 6
    for language, block in found:
        if language == "python":
            exec(compile(block, "page", "exec"), names)
        else:
            for line in filter(None, map(str.strip, block.splitlines())):
                command(line)
