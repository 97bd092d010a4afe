"""Loading the application for a command: whatever goes wrong there is one line with its place."""

import logging
import traceback
from importlib.util import find_spec
from typing import Any

from pipeline.core.errors import HardpartsError, Misconfigured
from pipeline.core.routing import PartitionerName
from pipeline.runtime.app import App
from pipeline.runtime.load import load_app, look_here
from pipeline.runtime.settings import Settings

log = logging.getLogger("hardparts.application")


def declared_partitioners(settings: Settings) -> dict[str, PartitionerName]:
    """topic → the partitioner that the application's catalogue declares.

    Empty, with a line in the log, where there is no application and none is named: a relay may run anywhere. One that
    is there but can't be loaded is Misconfigured: its keys could go to the wrong partitions.
    """
    package = settings.app.partition(":")[0].partition(".")[0]
    if settings.app == Settings.model_fields["app"].default and not _is_there(package):
        log.warning("keys go to their partitions by murmur2, no catalogue says otherwise: no package %r here", package)
        return {}
    return {topic.name: topic.partitioner for topic in application(settings).catalogue}


def _is_there(package: str) -> bool:
    look_here()
    return find_spec(package) is not None


def application(settings: Settings) -> App:
    """The application that the settings name; Misconfigured also when its code raises while it is imported."""
    try:
        return load_app(settings)
    except HardpartsError:
        raise
    except Exception as error:
        place = ""
        frames: list[Any] = traceback.extract_tb(error.__traceback__)
        if isinstance(error, SyntaxError):
            place = f" ({error.filename}:{error.lineno})"
        elif frames:
            place = f" ({frames[-1].filename}:{frames[-1].lineno})"
        raise Misconfigured(f"HARDPARTS_APP={settings.app}: {type(error).__name__}: {error}{place}: mend it") from error
