"""`hardparts gateway` as a user who isn't root: everything is loaded first, since the interpreter may be root's own."""

from __future__ import annotations

import importlib
import os
import sys

from pipeline.cli import main
from pipeline.runtime.load import load_app
from pipeline.runtime.settings import read_settings

NOBODY = 65534
LATE = ("encodings.idna", "rocksdict", "uvloop", "agents.app", "pipeline.gateway.server", "concurrent.futures.thread")
"""What would be imported only when it is used."""

if __name__ == "__main__":
    for module in LATE:
        importlib.import_module(module)
    for name in ("gateway", "undelivered"):
        main.get_command(None, name)  # type: ignore[arg-type]  # imports it
    assert load_app(read_settings()).contracts
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    main(sys.argv[1:])
