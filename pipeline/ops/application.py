"""Loading the application for a command: whatever goes wrong there is one line with its place."""

import traceback
from typing import Any

from pipeline.core.errors import HardpartsError, Misconfigured
from pipeline.runtime.app import App
from pipeline.runtime.load import load_app
from pipeline.runtime.settings import Settings


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
