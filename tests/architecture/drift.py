"""Is what is committed what the generators make? `python -m tests.architecture.drift proto|envoy`."""

from __future__ import annotations

import filecmp
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def stale_protos() -> list[str]:
    """Return the files of protos/gen that differ from a fresh generation."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        command = [str(ROOT / ".venv/bin/buf"), "generate", "--path", "protos/darkroom", "--output", folder]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        return _differences(fresh / "protos" / "gen", ROOT / "protos" / "gen")


def stale_envoy() -> list[str]:
    """Return the path of the deployed configuration when it is not what the code renders."""
    committed = ROOT / "k8s" / "envoy" / "envoy.yaml"
    command = [sys.executable, "-m", "services.gateway.envoy"]
    rendered = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [] if committed.read_text() == rendered else [str(committed.relative_to(ROOT))]


def _differences(fresh: Path, committed: Path) -> list[str]:
    made = {p.relative_to(fresh) for p in fresh.rglob("*.py*") if p.suffix in (".py", ".pyi")}
    kept = {p.relative_to(committed) for p in committed.rglob("*.py*") if p.suffix in (".py", ".pyi")}
    changed = {p for p in made & kept if not filecmp.cmp(fresh / p, committed / p, shallow=False)}
    return sorted(str(p) for p in changed | (made ^ kept))


if __name__ == "__main__":
    stale = {"proto": stale_protos, "envoy": stale_envoy}[sys.argv[1]]()
    if stale:
        sys.exit(f"not current, run `make {sys.argv[1]}`: {', '.join(stale)}")
