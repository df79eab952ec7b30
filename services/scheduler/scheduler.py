"""The parts of a scheduler, put together; app.py chooses what they stand on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from libs.clients.modelserver import ModelServer
from libs.clock import Clock
from services.scheduler.attempts.checkpoint_sweeper import CheckpointSweeper
from services.scheduler.attempts.checkpoints import CheckpointBook
from services.scheduler.attempts.closer import Aides, AttemptCloser
from services.scheduler.attempts.listening import Listener
from services.scheduler.attempts.reattachment import Reattachment
from services.scheduler.attempts.reconciler import Reconciler
from services.scheduler.attempts.run_limit import RunLimits
from services.scheduler.attempts.runner import AttemptRunner
from services.scheduler.catalog import CatalogKeeper
from services.scheduler.desk import Desk
from services.scheduler.devices.keeper import DeviceKeeper
from services.scheduler.dispatcher import Dispatcher
from services.scheduler.events.watch_hub import WatchHub
from services.scheduler.expirer import Expirer
from services.scheduler.forecast import instruments as forecast
from services.scheduler.forecast.estimator import Estimator
from services.scheduler.forecast.forecaster import Forecaster
from services.scheduler.forecast.scaling import TARGET_DRAIN_S, Scaling
from services.scheduler.instruments import Instruments, observe, observe_lead
from services.scheduler.job import Job
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.operators.operations import Operations
from services.scheduler.operators.operator_desk import OperatorDesk
from services.scheduler.order.shares import Shares
from services.scheduler.placement.fleet import Directory, Fleet
from services.scheduler.placement.preempter import Preempter
from services.scheduler.placement.preloader import Preloader
from services.scheduler.pricing import instruments as pricing
from services.scheduler.pricing.keeper import PriceKeeper
from services.scheduler.replicas.handover import Handover
from services.scheduler.replicas.lead import Lead
from services.scheduler.replicas.lead_store import NOBODY
from services.scheduler.results.follower import Follower
from services.scheduler.results.keeping import Results
from services.scheduler.results.keys import Keys
from services.scheduler.results.sweeper import ResultSweeper
from services.scheduler.retries.substitution import Substitution
from services.scheduler.retries.verdicts import Judge
from services.scheduler.retries.ward import Ward
from services.scheduler.servicer import Parts
from services.scheduler.settlement.outbox import Outbox
from services.scheduler.settlement.renewer import Limiter, Renewer
from services.scheduler.storage.store import JobStore

Connect = Callable[[str], ModelServer]


class Scheduler:
    """The parts of a scheduler on the store, fleet and peers it is given.

    `epoch` is that of its lead; with NOBODY it stands by until `lead` says otherwise.
    """

    def __init__(
        self,
        store: JobStore,
        fleet_directory: Directory,
        connect: Connect,
        limiter: Limiter,
        results: Results,
        clock: Clock,
        epoch: int,
    ) -> None:
        instruments, self._clock, blobs, life_s = Instruments(), clock, results.blobs, results.keeping.result_life_s
        self.result_life_s, self.lead = life_s, Lead(epoch, serving=epoch != NOBODY)
        self.hub = WatchHub(store, clock)
        self.jobs = OpenJobs(self.hub, instruments, clock)
        self.fleet = Fleet(fleet_directory, connect, clock, self._fleet_changed)
        self.operations = Operations(store, clock, self.lead)
        self.operations.on_changed = lambda: self.fleet.wish(self.operations)
        self.catalog = CatalogKeeper(store, self.fleet, clock, self.lead)
        self.prices = PriceKeeper(store, self.catalog, clock, self.lead)
        self.reconciler = Reconciler(store, self.jobs, clock, self.lead)
        self.handover = Handover(store, self.reconciler, clock)
        self.outbox = Outbox(store, limiter, instruments, clock)
        self.renewer = Renewer(self.jobs, limiter, clock)
        self.jobs.on_outbox = self.outbox.ring
        self.sweeper = CheckpointSweeper(store, self.jobs, blobs, clock)
        self.ward = Ward(store, self.fleet, clock, self.lead)
        self.jobs.on_ended = self._job_ended
        self.expirer = Expirer(store, self.jobs, self.reconciler, clock)
        self._add_dispatch(store, instruments, life_s)
        self.operator_desk = OperatorDesk(
            store, self.jobs, self.fleet, self.operations, self.catalog, self.reconciler, clock
        )
        self.preloader, keys = Preloader(self.jobs, self.fleet, instruments, clock), Keys(self.fleet, results.keeping)
        self.result_sweeper = ResultSweeper(store, self.jobs, results, clock, self.lead)
        self.desk = Desk(store, self.jobs, self.reconciler, self.result_sweeper.removal, clock, result_life_s=life_s)
        self.forecaster = Forecaster(self.jobs, self.fleet, self.hub, clock, self.prices.book.seconds_per_unit)
        self.estimator = Estimator(self.jobs, self.fleet, self.forecaster, clock)
        self.follower, self.dispatcher.key_of = Follower(store, self.jobs, clock, self.lead), keys.as_drawn
        self.parts = Parts(store, self.desk, self.hub, self.estimator, self.catalog, clock, keys)
        self.scaling = self._shown(Scaling(self.forecaster.demand, store, lambda: self.lead.serving, clock))

    def _add_dispatch(self, store: JobStore, instruments: Instruments, life_s: float) -> None:
        clock, judge = self._clock, Judge(result_life_s=life_s, jitter=random.random)
        self.devices = DeviceKeeper(store, self.fleet, clock, self.lead)
        self.substitution = Substitution(store, self.jobs, self.fleet, self.catalog, self.reconciler, clock)
        aides = Aides(judge, self.ward, self.substitution)
        closer = AttemptCloser(store, self.jobs, self.reconciler, aides, instruments, clock)
        book = CheckpointBook(store, clock, self.lead, self.sweeper.may_lie)
        listener = Listener(self.fleet, self.hub, book, clock)
        self.preempter = preempter = Preempter(self.jobs, self.fleet, instruments, clock)
        self.runner = runner = AttemptRunner(self.fleet, listener, preempter, closer, self.prices, clock)
        self.reattachment = Reattachment(store, self.jobs, self.fleet, runner, self.reconciler, clock)
        self.dispatcher = Dispatcher(store, self.jobs, self.fleet, runner, self.reconciler, preempter, clock)

    def go_by(self, limits: RunLimits, shares: Shares, reference_device: str) -> None:
        """Take an operator's word for how long jobs may draw, what tiers weigh and whose milliseconds count as units.

        Call it before `run`.
        """
        self.runner.limits, self.prices.book.reference = limits, reference_device
        self.jobs.ordering.share(shares)

    async def run(self, ready: asyncio.Event | None = None) -> None:
        """Rebuild memory, say ready, and run every agent until cancelled. Raises Deposed (in a group)."""
        await self.catalog.load()
        await self.prices.load()
        await self.operations.load()
        self.fleet.wish(self.operations)
        await self.ward.load()
        orphans = await self.reconciler.recover()
        self.reattachment.expect(orphans)
        for orphan in orphans:
            self.sweeper.may_lie(orphan.id)
        async with asyncio.TaskGroup() as agents:
            agents.create_task(self.reattachment.run(orphans))
            agents.create_task(self.fleet.run())
            agents.create_task(self.catalog.run())
            agents.create_task(self.prices.run())
            agents.create_task(self.devices.run())
            agents.create_task(self.dispatcher.run())
            agents.create_task(self.expirer.run())
            agents.create_task(self.substitution.run())
            agents.create_task(self.outbox.run())
            agents.create_task(self.renewer.run())
            agents.create_task(self.reconciler.run())
            agents.create_task(self.sweeper.run())
            agents.create_task(self.forecaster.run())
            agents.create_task(self.preloader.run())
            agents.create_task(self.follower.run())
            agents.create_task(self.result_sweeper.run())
            if ready is not None:
                ready.set()

    async def end_streams(self) -> None:
        """End every watch, so that a stop does not wait for its readers."""
        self.hub.stop()
        self.catalog.stop()

    def _shown(self, scaling: Scaling) -> Scaling:
        """Show queue, fleet and demand as metrics, and tell `scaling` when the demand changes."""
        observe(self.jobs.ordering, self.preempter.parked, self.fleet.workers, self.fleet.given, self._clock.now)
        self.forecaster.on_demand = scaling.ring
        forecast.observe(self.forecaster.demand, self.forecaster.promises.outcomes, TARGET_DRAIN_S)
        self.ward.observe()
        prices = self.prices
        pricing.observe(lambda: prices.book.table.version, prices.outcomes, lambda: prices.unreadable)
        observe_lead(lambda: self.lead.serving)
        return scaling

    def _job_ended(self, job: Job) -> None:
        self.sweeper.job_ended(job)
        self.ward.job_ended(job)

    def _fleet_changed(self) -> None:
        self.jobs.work.ring()
        self.catalog.fleet_changed()
