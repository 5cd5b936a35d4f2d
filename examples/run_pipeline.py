"""The driver script: starts a pipeline on the Ray cluster it runs on, says what runs where, and ends.

It waits for the nodes that the pipeline needs: `ray up` ends before they are all there. The actors are detached: they
go on without this script. Run it again to see that they are there; stop them with
`raytrade stop`.

    ray submit cluster.yaml examples/run_pipeline.py /home/ubuntu/raytrade-project/examples/pipeline.yaml
    ray job submit --working-dir . -- python examples/run_pipeline.py examples/pipeline.yaml
"""

from __future__ import annotations

import sys
from pathlib import Path

from raytrade.config import load_config
from raytrade.errors import ConfigError, RaytradeError
from raytrade.pipeline import environment

NODES_TIMEOUT_S = 180.0
"""After `ray up` has ended, the head is still starting the workers."""


def main(arguments: list[str]) -> int:
    """Start the pipeline of the given file (by default the one beside this script); gives the exit status."""
    path = Path(arguments[0]) if arguments else Path(__file__).with_name("pipeline.yaml")
    try:
        environment.prepare()
        from raytrade.pipeline import driver

        config = load_config(path)
        driver.join("auto")
        driver.wait_for_nodes(
            config, NODES_TIMEOUT_S, lambda missing: print(f"waiting for nodes: {missing}", flush=True)
        )
        driver.start(config)
        for name, actor in sorted(driver.status(config.name)["actors"].items()):
            print(f"{name:40} {actor['state']:10} on node {actor['node'][:8]}")
    except RaytradeError as error:
        print(f"run_pipeline: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
