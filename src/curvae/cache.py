"""Where what was fetched or compiled once is kept."""

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """The folder of downloads and of the compiled kernel: ``$CURVAE_CACHE``, else the platform's cache folder."""
    return Path(os.environ.get("CURVAE_CACHE") or platformdirs.user_cache_path("curvae"))
