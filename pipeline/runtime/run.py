"""Running a worker process: settings → application → checks → Faust's worker."""

import gc
import logging
import os
import signal
import sys

from faust.worker import Worker

from pipeline.core.errors import Misconfigured
from pipeline.kafka.repeats import quieten
from pipeline.runtime.check import wait_until_fit
from pipeline.runtime.descriptors import raise_limit
from pipeline.runtime.instance import adopt, take_instance, take_slot
from pipeline.runtime.load import load_app
from pipeline.runtime.settings import AUTO, read_settings
from pipeline.runtime.web import require_free_port
from pipeline.signals import stop_signals

log = logging.getLogger("hardparts")

TOLD_BY_FAUST = ("pipeline.runtime.transport", "mode.timers", "mode.services")
"""Loggers of Faust's services, which repeat themselves as aiokafka does: commits that fail, timers that are late."""


class Process(Worker):
    """Faust's worker. What stops it are the signals of the process: handlers of its own would come too late."""

    def install_signal_handlers(self) -> None:
        """Called when its loop runs: from here on a signal stops it in order."""
        stop_signals.then(lambda: self.loop.call_soon_threadsafe(self._on_sigterm))
        self.loop.add_signal_handler(signal.SIGUSR1, self._on_sigusr1)
        self.loop.add_signal_handler(signal.SIGUSR2, self._on_sigusr2)


def run_worker(*, instance: str | None, web_port: int | None, loglevel: int) -> int:
    """Run until stopped by a signal (0) or by an error after which going on would be wrong: 1, or 2 when another
    version or other settings are needed.
    """
    settings = read_settings(instance=instance, web_port=web_port)
    # Where the application, which is loaded below, reads them.
    os.environ["HARDPARTS_INSTANCE"] = take_slot(settings) if settings.instance == AUTO else settings.instance
    os.environ["HARDPARTS_WEB_PORT"] = str(settings.web_port)
    if sys.platform != "win32":
        import uvloop

        uvloop.install()
    raise_limit()
    app = load_app(settings)
    require_free_port(settings)
    take_instance(app.settings)
    adopt(app.settings, (definition.name for definition in app.declared))
    if not wait_until_fit(app) or stop_signals.asked:
        return 0
    app.finalize()
    app.require_own_agents()
    gc.collect()
    gc.freeze()  # what is loaded now stays: collections needn't walk it
    gc.set_threshold(400_000, 20, 100)  # batches die young and whole; a collection in between walks them for nothing
    quieten(TOLD_BY_FAUST)
    worker = Process(app, loglevel=loglevel, quiet=True, redirect_stdouts=False)
    worker.spinner = None  # it writes terminal codes into pipes
    status = 0
    try:
        worker.execute_from_commandline()
    except SystemExit as ended:
        status = int(ended.code or 0)
    except Exception:
        if app.fatal_error is None and app.cluster_memory.other is None:
            raise
        status = 1
    # To Faust, which may end first, another cluster looks like no broker at all.
    ended_by = app.cluster_memory.other or app.fatal_error
    if ended_by is not None and (app.fatal_error is not None or status):
        log.error("stopped: %s: %s", type(ended_by).__name__, ended_by)
        return 2 if isinstance(ended_by, Misconfigured) else 1
    return status
