"""How many examples a property test tries: as many as it says, times CURVAE_TEST_EXAMPLES (``make fuzz``)."""

import os


def examples(count: int) -> int:
    return count * int(os.environ.get("CURVAE_TEST_EXAMPLES", "1"))
