"""Live tests talk to real venues: they are not even collected unless `RAYTRADE_LIVE` asks for them."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("RAYTRADE_LIVE") else ["test_*.py"]
