"""A real queue process and the frontend's own accept path: depths are what the policy says."""

from loadtest.placement import rig, run, traffic
from loadtest.placement.expected import expect
from loadtest.placement.spread import max_minus_mean
from loadtest.placement.variants import Variant
from loadtest.placement.verdict import judge

SEEDS = (0, 1)


async def test_hash_and_best_of_two_are_what_they_should_be_on_real_shards_and_far_apart() -> None:
    """Two seeds of each; the depths are the queue's own, and each comes out of its shard again."""
    found = {}
    async with rig.queue_node(16) as queue:
        tracer = rig.make_tracer(queue.folder)
        for policy in ("hash", "best_of_two"):
            variant = Variant(policy, 16, 100)
            traffics = [traffic.make(seed, variant.events) for seed in SEEDS]
            found[policy] = [await run.measure(queue, variant, one, tracer) for one in traffics]
            expected = [expect(variant, one, stale_events=0) for one in traffics]
            assert judge(variant, found[policy], expected, expected).agrees, found[policy]
        tracer.shutdown()
    assert min(map(max_minus_mean, found["hash"])) > 10 * max(map(max_minus_mean, found["best_of_two"]))
