"""Celery with a no-op task; acknowledged after it ran, so that a worker's death loses nothing."""

from __future__ import annotations

import os

from celery import Celery

from tests.bench.queue_parts import ran

app = Celery("bench", broker=os.environ.get(ran.BROKER, ""))
app.conf.update(task_ignore_result=True, task_acks_late=True, broker_connection_retry_on_startup=True)
FILE = ran.opened()


def do_nothing(text: str) -> None:
    """Do nothing."""
    ran.ran(FILE)


nothing = app.task(do_nothing)
