"""The tests under another condition: other instructions, no compiled code, other random numbers.

python tests/variations.py                  # one over a sixth of the contracts, by the commit; part of `make test`
python tests/variations.py --revision 3f2a  # that of another commit
python tests/variations.py --all            # each of them over everything; part of `make long`
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONDITIONS: tuple[Mapping[str, str], ...] = (
    {"ATEN_CPU_CAPABILITY": "default"},
    {"ATEN_CPU_CAPABILITY": "avx2"},
    {"CURVAE_KERNEL": "0"},
)
"""Instructions of torch's own loops, and Newton's search without the compiled one."""
SEEDS = (1, 2, 3)
"""For the whole suite; a commit chooses among a thousand."""


def of_commit(revision: str) -> Mapping[str, str]:
    """The condition that a commit is tested under: one of the list or, as often as each of them, another seed."""
    number = int(revision[:8], 16)
    choice = number % (len(CONDITIONS) + 1)
    return CONDITIONS[choice] if choice < len(CONDITIONS) else {"CURVAE_TEST_SEED": str(1 + number % 1000)}


def sixth_of(revision: str) -> list[str]:
    """Every sixth file of the contracts, from one of the first six on."""
    files = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests" / "contract").glob("test_*.py"))
    return files[int(revision[:8], 16) // (len(CONDITIONS) + 1) % 6 :: 6]


def head() -> str:
    """The commit that is checked out; 0 where there is no repository."""
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True, capture_output=True)
    return found.stdout.strip() or "0"


def run(condition: Mapping[str, str], *arguments: str) -> int:
    """Pytest's exit status, below a line that says how to have the same again."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", *arguments]
    setting = " ".join(f"{name}={value}" for name, value in condition.items())
    print(f"{setting} pytest {' '.join(arguments)}", flush=True)
    return subprocess.run(command, cwd=ROOT, env=os.environ | condition).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--revision", default=head(), help="a commit's hash, or the beginning of it")
    parser.add_argument("--all", action="store_true", help="every condition and three seeds, over the whole suite")
    options = parser.parse_args()
    if not options.all:
        return run(of_commit(options.revision), *sixth_of(options.revision))
    seeds = [{"CURVAE_TEST_SEED": str(seed)} for seed in SEEDS]
    return max(run(condition) for condition in (*CONDITIONS, *seeds))


if __name__ == "__main__":
    sys.exit(main())
