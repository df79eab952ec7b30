"""Bring a stack up, say how to use it, keep it up until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import grpc

from libs import secret_files
from libs.certificates import CertificateProblem
from libs.clock import SystemClock
from libs.devstack import addresses, devices, envoy_config, first_key, redis, trust
from libs.devstack.addresses import PortClaims, PortInUse
from libs.devstack.binaries import ProgramMissing
from libs.devstack.environment import inherited
from libs.devstack.folder import DataFolder, FolderUnusable
from libs.devstack.postgres import PostgresBroken, PostgresServer
from libs.devstack.process import ProcessFailed
from libs.devstack.settings import StackSettings
from libs.devstack.stack import Stack, service_names
from libs.devstack.supervisor import Supervisor
from libs.roles import CERTIFICATE_FILE, KEY_FILE

READY_LINE = "Darkroom is ready at"
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def up(settings: StackSettings) -> int:
    """Run a stack until it is told to stop; return the exit status. Call it on the main thread."""
    folder = DataFolder(settings.data.absolute())
    try:
        async with contextlib.AsyncExitStack() as held:
            held.enter_context(folder.held())
            claims = held.enter_context(contextlib.closing(PortClaims()))
            return await _run(_plan(await _with_database(settings, held), folder, claims))
    except (
        FolderUnusable,
        PortInUse,
        ProgramMissing,
        secret_files.SecretMissing,
        ProcessFailed,
        PostgresBroken,
        CertificateProblem,
    ) as error:
        print(f"darkroom: {error}", file=sys.stderr, flush=True)
        return 1
    except grpc.aio.AioRpcError as error:
        print(f"darkroom: the first key could not be made: {error.details()}", file=sys.stderr, flush=True)
        return 1


async def _with_database(settings: StackSettings, held: contextlib.AsyncExitStack) -> StackSettings:
    """Start a PostgreSQL for several schedulers if none is named; a file is for one."""
    if settings.schedulers == 1 or settings.database_url:
        return settings
    say("starting a PostgreSQL of its own; what it holds goes with this stack")
    server = await held.enter_async_context(PostgresServer())
    return dataclasses.replace(settings, database_url=server.url)


def _plan(settings: StackSettings, folder: DataFolder, claims: PortClaims) -> Stack:
    chosen = settings.devices or devices.default_devices()
    names = service_names(chosen, settings.schedulers)
    plan = Stack(
        settings=settings,
        devices=chosen,
        folder=folder,
        addresses=addresses.choose(
            settings.http_host, settings.http_port, names, claims, redis=settings.redis == redis.EMBEDDED
        ),
        parent=os.environ,
    )
    secret_files.ensure(plan.secrets)
    plan.trust.prepare(datetime.now(UTC))
    plan.addresses.write(folder.addresses, plan.told)
    return plan


async def _run(stack: Stack) -> int:
    supervisor = Supervisor(stack.folder.run, say)
    serving = asyncio.create_task(_serve(stack, supervisor))
    with _on_stop_signals(serving.cancel, supervisor.kill):
        try:
            await serving
        except asyncio.CancelledError:
            if _is_cancelled_from_outside():
                raise
        finally:
            say("stopping")
            await supervisor.stop()
            say("everything is stopped")
    return 0


def _is_cancelled_from_outside() -> bool:
    """A stop signal cancels the serving task only; whoever cancels `up` itself must get the error."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _serve(stack: Stack, supervisor: Supervisor) -> None:
    say(f"starting on {', '.join(stack.devices)}; data in {stack.folder.root}")
    environ = inherited(stack.parent)
    flags = (*envoy_config.bounds(stack.settings), *stack.trust.envoy_flags(stack.folder.run))
    rendered = asyncio.create_task(envoy_config.render(stack.addresses, environ, stack.envoy_config, flags))
    try:
        *services, door = stack.groups()
        for group in services:
            await supervisor.start(group)
        await rendered
        await supervisor.start(door)
    finally:
        rendered.cancel()
        await asyncio.gather(rendered, return_exceptions=True)
    await first_key.ensure(stack.folder.first_key, stack.addresses.grpc["ratelimiter"], stack.trust.operator())
    _print(welcome(stack))
    renewing = asyncio.create_task(trust.keep_renewed(stack.trust.own, SystemClock(), say))
    try:
        await supervisor.watch()
    finally:
        renewing.cancel()


def welcome(stack: Stack) -> str:
    """Return what a person needs to begin: address, first call, page, logs. Its last line says that all is ready."""
    host, _, port = stack.addresses.http.rpartition(":")
    address = f"{'localhost' if host in ('127.0.0.1', '0.0.0.0', '') else host}:{port}"
    known = stack.trust.told()
    scheme, certificates = stack.trust.scheme, f" --cacert {known['door-ca']}" if "door-ca" in known else ""
    if "door-client" in known:
        folder = known["door-client"]
        certificates += f" --cert {folder}/{CERTIFICATE_FILE} --key {folder}/{KEY_FILE}"
    place = address if scheme == "http" else f"https://{address}"
    return f"""
    KEY=$(cat {stack.folder.first_key})
    curl -i{certificates} {place}/v1/jobs -H "Authorization: Bearer $KEY" -d '{{"prompt": "a red circle left of a blue square"}}'

  page  {scheme}://{address}/
  logs  {stack.folder.logs}
  Ctrl-C stops everything.

{READY_LINE} {scheme}://{address}
"""


def say(message: str) -> None:
    """Print one line of what the supervisor does."""
    _print(f"{time.strftime('%H:%M:%S')} {message}")


def _print(text: str) -> None:
    with contextlib.suppress(OSError):  # a console that is gone is no reason to stop
        print(text, flush=True)


@contextlib.contextmanager
def _on_stop_signals(first: Callable[[], object], again: Callable[[], object]) -> Iterator[None]:
    """The first stop signal stops in order; each further one kills at once."""
    loop = asyncio.get_running_loop()
    actions = iter([first])
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, lambda: next(actions, again)())
    try:
        yield
    finally:
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)
