"""Webhooks, put together: one agent for each service that keeps deliveries, and tests of endpoints beside them.

With `app` the only module that knows which adapters are in use.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import grpc

from libs.clients.endpoints import EndpointsClient
from libs.clients.event_deliveries import EventDelivery, EventDeliveryClient
from libs.clients.job_deliveries import JobDelivery, JobDeliveryClient
from libs.clock import Clock
from libs.telemetry import metrics
from services.gateway.callers.request_count import RequestCount
from services.gateway.webhooks.addresses import resolver
from services.gateway.webhooks.agent import WebhookAgent
from services.gateway.webhooks.destinations import Destinations
from services.gateway.webhooks.look_ups import LOOK_UPS, LookUps
from services.gateway.webhooks.measures import WebhookMeasures
from services.gateway.webhooks.places import (
    MOST_EVENTS,
    MOST_EVENTS_A_RECEIVER,
    MOST_EVENTS_A_TENANT,
    Places,
)
from services.gateway.webhooks.sender import Sender
from services.gateway.webhooks.servicer import WebhookServicer
from services.gateway.webhooks.signing import WebhookSecrets
from services.gateway.webhooks.trials import Trials


class Delivering:
    """Everything that sends webhooks of one gateway. Events and tests wait for no place that a job has."""

    def __init__(self, destinations: Destinations, secret: str, clock: Clock) -> None:
        self._destinations, self._secrets, self._clock = destinations, WebhookSecrets(secret), clock
        self._names = ThreadPoolExecutor(LOOK_UPS, "webhook-names")
        self._sender = Sender(destinations, self._secrets.of, LookUps(resolver(self._names), clock), clock)
        self._of_jobs, self._of_events = Places(), Places(MOST_EVENTS, MOST_EVENTS_A_TENANT, MOST_EVENTS_A_RECEIVER)
        self._measures = WebhookMeasures(metrics.meter())

    def servicer(self, endpoints: EndpointsClient, requests: RequestCount) -> WebhookServicer:
        """Return what answers tenants."""
        trials = Trials(self._sender, self._of_events, self._measures.of("tests"), self._clock)
        return WebhookServicer(endpoints, self._destinations, self._secrets.of_endpoint, trials, requests)

    @asynccontextmanager
    async def running(self, scheduler: grpc.aio.Channel, limiter: grpc.aio.Channel) -> AsyncIterator[Agents]:
        """Deliver inside the block."""
        jobs, events = JobDeliveryClient(scheduler), EventDeliveryClient(limiter)
        of_jobs = WebhookAgent(jobs, self._sender, self._of_jobs, self._measures.of("jobs"), self._clock)
        of_events = WebhookAgent(events, self._sender, self._of_events, self._measures.of("events"), self._clock)
        try:
            async with asyncio.TaskGroup() as tasks:
                delivering = [tasks.create_task(agent.run()) for agent in (of_jobs, of_events)]
                yield Agents(of_jobs, of_events)
                for task in delivering:
                    task.cancel()
        finally:
            self._names.shutdown(wait=False, cancel_futures=True)


class Agents:
    """The agents of one gateway."""

    def __init__(self, of_jobs: WebhookAgent[JobDelivery], of_events: WebhookAgent[EventDelivery]) -> None:
        self._of_jobs, self._of_events = of_jobs, of_events

    async def drain(self, within_s: float) -> None:
        """Finish what is underway."""
        await asyncio.gather(self._of_jobs.drain(within_s), self._of_events.drain(within_s))
