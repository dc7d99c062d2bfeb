"""`python -m loadtest.queue_node`: how fast queue nodes are by themselves, and what an event costs them."""

import argparse
import json

import uvloop

from loadtest.queue_node.measuring import measure


def main() -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.queue_node", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="of each stretch; a multiple of 100")
    parser.add_argument("--nodes", type=int, default=1, help="processes; the events are divided among them")
    parser.add_argument("--shards", type=int, default=1, help="of each node")
    given = parser.parse_args()
    found = uvloop.run(measure(given.events, given.nodes, given.shards))
    for name, rate in found.items():
        shown = {"events_per_second": round(rate.per_second), "generator_percent": rate.generator_cpu_percent}
        print(name, json.dumps({**shown, "us_per_event": rate.cpu_us_per_event}))


if __name__ == "__main__":
    main()
