"""One run after the other on a rig: driven, watched, drained, judged."""

import asyncio
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import grpc

from loadtest.arrivals.traffic import tenants_of
from loadtest.open_loop import run as open_loop
from loadtest.open_loop.result import LoadResult
from loadtest.open_loop.spec import LoadSpec
from loadtest.plan.judge import failed_bounds, unjudged
from loadtest.plan.measured import Objective, Run
from loadtest.plan.readings import SLOPE_SAMPLES
from loadtest.plan.rig import PlanError, Rig
from loadtest.plan.sampling import INTERVAL_SECONDS, Sampler, samples
from loadtest.plan.search import Request
from loadtest.plan.window import window
from loadtest.workloads import deploy
from loadtest.workloads.deploy import Functions
from loadtest.workloads.handler import BUCKET

# How long what a run left in the queue may take to end before the next one gets a fleet of its own.
DRAIN_SECONDS = 60.0
_POLL_SECONDS = 0.1
# Looks of a short run: a slope needs a few.
LEAST_LOOKS = 12
LEAST_INTERVAL_SECONDS = 0.25
# Of a run's counted part: room for the looks that a growth is told from, and for one that is missed.
LEAST_RUN_SECONDS = (SLOPE_SAMPLES + 1) * LEAST_INTERVAL_SECONDS
FUNCTIONS = Functions()
# Callers of the warm-up: as many sandboxes as these need are there before the first run that counts.
WARM_UP_CALLERS = 64
WARM_UP_SECONDS = 3.0


class Runner:
    """`prepare`, then any number of `run`.

    folder: for what drivers leave; spec: what all runs share, its doors filled in here.
    """

    def __init__(self, rig: Rig, spec: LoadSpec, objective: Objective, folder: Path) -> None:
        self.rig = rig
        self.objective = objective
        # CPU of this process that looking took, and for how long it looked.
        self.looking_seconds = self.looked_seconds = 0.0
        self._spec = spec
        self._folder = folder
        self._number = 0

    @property
    def spec(self) -> LoadSpec:
        """What all runs share, on the fleet that is there now."""
        return self._spec

    async def prepare(self) -> None:
        """Deploy the load function on the rig, which is up, and make its sandboxes. PlanError: the fleet refuses."""
        site = self.rig.site
        try:
            keys = await deploy.put(site.peers("control")[0], tenants_of(self._spec.traffic), FUNCTIONS)
        except grpc.aio.AioRpcError as e:
            raise PlanError(f"the fleet does not take the load function: {e.details()}") from e
        except ValueError as e:
            raise PlanError(str(e)) from e
        self._spec = replace(
            self._spec,
            host=site.host,
            http_port=site.http_port,
            grpc_port=site.grpc_port,
            function=deploy.FUNCTION,
            keys=keys,
            records=str(site.data / "buckets" / BUCKET),
        )
        slots = (await site.hosts()).slots * site.replicas.get("runtime", 1)
        seconds = min(WARM_UP_SECONDS, self._spec.traffic.seconds)
        request = Request("warm-up", self._spec.traffic.shape.per_second, "warm-up", 1, min(WARM_UP_CALLERS, slots))
        await self.drive(replace(self.spec_of(request, seconds), warm_up_seconds=0.0))
        if not await self._is_drained(DRAIN_SECONDS):
            raise PlanError(f"the events of the warm-up did not end within {DRAIN_SECONDS:.0f} s: is the fleet well?")

    def spec_of(self, request: Request, seconds: float | None = None) -> LoadSpec:
        """What the driver is told for this run. Every call gives another run number."""
        self._number += 1
        shape = replace(self._spec.traffic.shape, per_second=request.per_second)
        traffic = replace(self._spec.traffic, shape=shape, seed=request.seed)
        return replace(
            self._spec,
            traffic=traffic if seconds is None else replace(traffic, seconds=seconds),
            run=self._number,
            drivers=request.drivers,
            callers=request.callers,
        )

    async def run(self, request: Request, replicas: Mapping[str, int] | None = None) -> Run:
        """Make it and wait until the queue is empty again, or renew the fleet. PlanError: it cannot be."""
        spec, site = self.spec_of(request), self.rig.site
        told_ns: list[int] = []
        interval_seconds = max(LEAST_INTERVAL_SECONDS, min(INTERVAL_SECONDS, spec.traffic.seconds / LEAST_LOOKS))
        async with Sampler(site, interval_seconds) as sampler:
            started = time.monotonic()

            def begun(at_ns: int) -> None:
                told_ns.append(at_ns)
                sampler.also_at(at_ns / 1e9 + spec.warm_up_seconds)
                sampler.also_at(at_ns / 1e9 + spec.traffic.seconds)

            result = await self.drive(spec, begun)
            drained = await self._is_drained(DRAIN_SECONDS)
        self.looking_seconds += sampler.cost_seconds
        self.looked_seconds += time.monotonic() - started
        began = told_ns[0] / 1e9
        end = began + spec.traffic.seconds
        found = window(sampler.all(), began + spec.warm_up_seconds, end, end + result.drained_seconds, site.service_of)
        run = Run(
            purpose=request.purpose,
            per_second=request.per_second,
            result=result,
            samples=samples(sampler.looks, began, site.service_of),
            cpu_seconds=found.cpu_seconds,
            busiest_core=found.busiest_core,
            settled=found.settled,
            callers=request.callers,
            replicas=dict(replicas or {}),
            ended=found.ended,
        )
        if not drained:
            await self._renew()
        # A closed loop has no rate to hold: it asks as fast as it is answered.
        return run if request.callers else self._judged(run)

    def _judged(self, run: Run) -> Run:
        void = (*run.result.void, *unjudged(run, self._spec))
        run = replace(run, result=replace(run.result, void=void))
        return replace(run, failed=failed_bounds(run, self.objective, self._spec))

    async def drive(self, spec: LoadSpec, began: Callable[[int], None] | None = None) -> LoadResult:
        """Send it, whatever becomes of the fleet. PlanError: the driver broke, or such a load cannot be made."""
        folder = self._folder / f"run-{spec.run}"
        try:
            return await open_loop.run(spec, folder, began=began)
        except (RuntimeError, TimeoutError) as e:
            raise PlanError(f"the load driver failed: {e or 'it did not end in time'}") from e
        except ValueError as e:
            raise PlanError(f"such a load cannot be made: {e}") from e
        except OSError as e:
            raise PlanError(f"the load driver failed: {e}") from e
        finally:
            # What drivers leave is as large as the run; nobody reads it again.
            shutil.rmtree(folder, ignore_errors=True)

    # --- between runs

    async def _renew(self) -> None:
        depth = (await self.rig.site.shards()).depth
        await self.rig.renew(f"{depth:,} events of the last run are still in the queue after {DRAIN_SECONDS:.0f} s")
        await self.prepare()

    async def _is_drained(self, within_seconds: float) -> bool:
        end = time.monotonic() + within_seconds
        while (await self.rig.site.shards()).depth:
            if time.monotonic() > end:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True
