"""A part of the fast tests on other Pythons that are installed: `python -m tests.pythons`, as `make test-pythons` does.

Each has a virtual environment of its own under .cache/venv, with the packages of the same lock file, hashes checked and
nothing compiled but wheels. The part is what depends most on the language and its library: parsing and contracts, the
units in the test kit, asyncio in the producer, the gateway and the client.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.12", "3.13")
"""Beside the one that `make test` runs on."""
LOCK = ROOT / "tests" / "requirements.lock"
FAST = "not kafka and not chaos and not bench and not slow"
PARALLEL = ("-n", "4", "--dist", "worksteal")
PART = (
    "tests/core", "tests/producer", "tests/gateway", "tests/client",
    *(f"tests/behaviour/test_{name}.py" for name in (
        "demand", "errands", "kit_blocking", "kit_faults", "kit_verdicts", "lease", "notification_sender",
        "read_model", "settings", "user_events", "user_events_order",
    )),
)  # fmt: skip


def python_of(version: str) -> Path | None:
    """An interpreter of this version: on the PATH, else the newest of pyenv's; None when there is none that starts."""
    roots = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    of_pyenv = sorted(roots.glob(f"{version}*/bin/python"), key=_patch, reverse=True)
    on_path = shutil.which(f"python{version}")
    return next((path for path in [*([Path(on_path)] if on_path else []), *of_pyenv] if _is(path, version)), None)


def _patch(python: Path) -> list[int]:
    numbers = python.parents[1].name.split(".")
    return [int(number) if number.isdigit() else -1 for number in numbers]


def _is(python: Path, version: str) -> bool:
    """pyenv puts a `python3.12` on the PATH that fails unless that version is chosen."""
    ask = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        said = subprocess.run([python, "-c", ask], capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return False
    return said.stdout.strip() == version


def install(version: str, python: Path) -> Path:
    """The interpreter of its virtual environment, made anew when the lock has changed; CalledProcessError."""
    directory = ROOT / ".cache" / "venv" / version
    made, wanted = directory / "made", hashlib.sha256(LOCK.read_bytes() + str(python).encode()).hexdigest()
    inside = directory / "bin" / "python"
    if made.exists() and made.read_text() == wanted:
        return inside
    shutil.rmtree(directory, ignore_errors=True)
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "HARDPARTS_SKIP_BROKER": "1"}
    pip = [inside, "-m", "pip", "install", "-q"]
    _run([python, "-m", "venv", directory], environment)
    _run([*pip, "--no-compile", "--only-binary", ":all:", "--require-hashes", "-r", LOCK], environment)
    _run([*pip, "--no-deps", "-e", ROOT], environment)  # the broker was compiled for this source tree by `make test`
    made.write_text(wanted)
    return inside


def _run(command: Sequence[str | Path], environment: dict[str, str]) -> None:
    subprocess.run(command, env=environment, cwd=ROOT, stdin=subprocess.DEVNULL, check=True)


def main(arguments: Sequence[str]) -> int:
    """Install them side by side, run the part on one after the other; 1 when a test failed on one of them."""
    found = {version: path for version in VERSIONS if (path := python_of(version))}
    for version in VERSIONS:
        print(f"Python {version}: {found.get(version, 'not installed, its tests are SKIPPED')}", flush=True)
    began = time.monotonic()
    with ThreadPoolExecutor() as threads:
        installed = dict(zip(found, threads.map(install, found, found.values()), strict=True))
    print(f"set-up: {time.monotonic() - began:.0f} s", flush=True)
    code = 0
    for version, python in installed.items():
        print(f"--- Python {version}", flush=True)
        tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", FAST, *PARALLEL, *(arguments or PART)]
        code |= subprocess.run([python, *tests], cwd=ROOT, check=False).returncode
    return min(code, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
