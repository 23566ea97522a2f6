"""Which tests take turns: each of the list has its commit, those that are not named are never left out."""

from pathlib import Path

import slow

ROOT = Path(__file__).parents[1]


def test_each_has_its_turn_among_so_many_commits():
    listed = set(slow.LIST.read_text().split())
    run = [listed - set(slow.left_out(4, f"{commit:08x}")) for commit in range(4)]
    assert set.union(*run) == listed
    assert sum(map(len, run)) == len(listed)


def test_a_name_stands_for_all_its_parameters():
    kept, dropped = slow.deselected(
        ["a.py::test_b"], ["a.py::test_b[1]", "a.py::test_b", "a.py::test_bc", "c.py::test_b"]
    )
    assert dropped == ["a.py::test_b[1]", "a.py::test_b"]
    assert kept == ["a.py::test_bc", "c.py::test_b"]


def test_the_longest_are_chosen_by_the_sum_of_their_parameters():
    times = ((30, "a.py::test_a[1]"), (40, "a.py::test_a[2]"), (20, "a.py::test_b"), (10, "a.py::test_c"))
    assert (
        slow.written("".join(f"{seconds:.2f}s call     {test}\n" for seconds, test in times))
        == "a.py::test_a\na.py::test_b\n"
    )


def test_those_that_are_listed_exist():
    for test in slow.LIST.read_text().split():
        path, _, name = test.rpartition("::")
        *_, function = name.split("::")
        assert f"def {function.rpartition('.')[2]}" in (ROOT / path).read_text(), test
