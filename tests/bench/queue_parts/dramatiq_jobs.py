"""dramatiq with a no-op actor."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from tests.bench.queue_parts import ran

broker = RedisBroker(url=os.environ.get(ran.BROKER, "redis://127.0.0.1:1"))
dramatiq.set_broker(broker)
FILE = ran.opened()


def do_nothing(text: str) -> None:
    """Do nothing."""
    ran.ran(FILE)


nothing = dramatiq.actor(actor_name="nothing")(do_nothing)
