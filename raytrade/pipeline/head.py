"""What the nodes of a cluster must find in their environment so that the head may die.

Ray's head holds the cluster's tables (GCS). By default they are in its memory: when it dies every raylet, and every
actor with it, ends a minute later. Here every node waits `RECONNECT_S` instead, and the head keeps its tables in a
RocksDB directory, from which the same head command, started again with the same address, brings back nodes, names and
actors. Data never passes the head: while it is away the stream goes on, and only starting is impossible.

The RocksDB storage is alpha in Ray 2.60 (Linux only, one writer), so all that concerns it stands in this module. The
fallback is the head's memory: the stream then survives a dead head for `RECONNECT_S`, but a head that comes back knows
nobody, and the pipeline must be stopped on its nodes and started anew. The same loss follows if the directory is lost.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from raytrade.errors import ConfigError

RECONNECT_S = 1800
"""A node goes on for so long without a head. A node that is left behind for good ends after it, too."""

HEALTH = {
    "RAY_health_check_initial_delay_ms": "5000",
    "RAY_health_check_period_ms": "3000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "5",
}
"""15 to 30 s of silence and a node is taken for dead (Ray's own: up to 62 s); a flap of 10 s costs no collector."""


def node_environment() -> dict[str, str]:
    """Give what every node needs."""
    return {"RAY_gcs_rpc_server_reconnect_timeout_s": str(RECONNECT_S)}


def head_environment(storage: Path | None) -> dict[str, str]:
    """Give what the head needs; `storage` is the directory of its tables, None keeps them in memory.

    Raises:
        ConfigError: the directory cannot be made or written, or this is not Linux.
    """
    environment = {**node_environment(), **HEALTH}
    if storage is None:
        return environment
    if not sys.platform.startswith("linux"):
        raise ConfigError("head", str(storage), "Ray keeps its tables on disk on Linux only")
    try:
        storage.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError("head", str(storage), error.strerror or str(error)) from None
    if not os.access(storage, os.W_OK):
        raise ConfigError("head", str(storage), "not writable")
    return {**environment, "RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(storage)}
