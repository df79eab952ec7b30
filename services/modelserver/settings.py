"""What the model server takes from the environment."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from libs.rpc.process import ProcessSettings
from libs.settings import is_positive, is_read_by
from services.modelserver.blocklist import BadBlocklist, entries_of
from services.modelserver.checkpoints import CheckpointPolicy
from services.modelserver.shortages import shortages_of

_DEVICE = re.compile(r"cpu|cuda:\d+")
_WORKER_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
SHIPPED_MODELS = Path(__file__).parent / "default_model"


def _is_device(value: str) -> str | None:
    return None if _DEVICE.fullmatch(value) else "must be cpu or cuda:N, like cuda:0"


def _is_worker_id(value: str) -> str | None:
    return None if _WORKER_ID.fullmatch(value) else "must be up to 63 lower case letters, digits, '.' and '-'"


def _is_not_negative(value: float) -> str | None:
    return None if value >= 0 else "must be 0 or more"


def _is_finite(value: float) -> str | None:
    return None if 0 <= value < math.inf else "must be 0 or more and finite"


def _is_some(value: int) -> str | None:
    return None if value >= 1 else "must be 1 or more"


def _is_lease(value: int) -> str | None:
    return None if 2 <= value <= 600 else "must be 2 to 600 seconds"


def _is_blocklist_or_empty(value: str) -> str | None:
    try:
        if value:
            entries_of(Path(value))
    except BadBlocklist as error:
        return f"is no usable list: {error}"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelServerSettings(ProcessSettings):
    """One process, one device."""

    device: str = field(default="cpu", metadata={"check": _is_device})
    """The device to draw on: `cpu` or `cuda:N`."""
    worker_id: str = field(default="modelserver-0", metadata={"check": _is_worker_id})
    """Name of this worker, one in the fleet."""
    models: str = str(SHIPPED_MODELS)
    """Folders of models, with ':' between; each is a model itself or holds some."""
    blobs: str = ""
    """Where pictures go: a folder or s3://bucket/prefix; by default `blobs` in the data folder."""
    etcd_endpoints: tuple[str, ...] = ("127.0.0.1:2379",)
    """host:port of the etcd members."""
    lease_ttl_s: int = field(default=5, metadata={"check": _is_lease})
    """Seconds after which a worker that died is gone from the fleet."""
    threads: int = field(default=0, metadata={"check": _is_not_negative})
    """Threads that a CPU computes with; 0 means all cores but one."""
    prompt_blocklist: str = field(default="", metadata={"check": _is_blocklist_or_empty})
    """File of words and phrases that no prompt may hold, one a line; read again when it changes. Empty: none."""
    slots: int = field(default=0, metadata={"check": _is_not_negative})
    """Most jobs that are drawn side by side; 0 means as many as pay, as measured."""
    model_memory_gb: float = field(default=0.0, metadata={"check": _is_finite})
    """Memory for the weights of models on the device, in GiB; 0 means most of a GPU's, half of the machine's on a CPU."""
    idle_s: float = field(default=0.0, metadata={"check": _is_finite})
    """Seconds after which a model that nobody asks for leaves the device; 0 means never."""
    checkpoint_steps: int = field(default=20, metadata={"check": _is_some})
    """Denoising steps that a drawing may lose with its worker; a checkpoint is begun after half as many."""
    checkpoint_s: float = field(default=10.0, metadata={"check": is_positive})
    """Seconds of drawing after which a checkpoint is begun even before that."""
    checkpoint_worth_s: float = field(default=2.0, metadata={"check": _is_not_negative})
    """Seconds of work below which none is made: neither with less to save nor with less to come."""

    failpoint: tuple[str, ...] = field(default=(), metadata={"check": is_read_by(shortages_of), "tests_only": True})
    """For fault tests: which forwards lack memory (shortages)."""

    @property
    def model_folders(self) -> tuple[Path, ...]:
        """The folders to look for models in."""
        return tuple(Path(place) for place in self.models.split(":") if place)

    @property
    def model_memory_bytes(self) -> int:
        """Memory for weights on the device; 0: as the device is."""
        return int(self.model_memory_gb * 2**30)

    @property
    def checkpoints(self) -> CheckpointPolicy:
        """When checkpoints are made."""
        return CheckpointPolicy(self.checkpoint_steps, self.checkpoint_s, self.checkpoint_worth_s)

    @property
    def blob_place(self) -> str:
        """Where pictures go."""
        return self.blobs or str(self.data / "blobs")
