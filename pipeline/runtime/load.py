"""Finding the application by its name, HARDPARTS_APP (`module:attribute`)."""

import importlib
import sys
from pathlib import Path

from pipeline.core.errors import Misconfigured
from pipeline.runtime.app import App
from pipeline.runtime.settings import Settings


def load_app(settings: Settings) -> App:
    """The application with all its agents declared and its contracts loaded; Misconfigured says what is wrong."""
    module_name, _, attribute = settings.app.partition(":")
    if not module_name or not attribute or module_name.startswith("."):
        raise Misconfigured(f"HARDPARTS_APP is module:attribute, not {settings.app!r}")
    look_here()
    try:
        module = importlib.import_module(module_name)
        app = getattr(module, attribute)
        if isinstance(app, App):
            for name in app.modules:
                importlib.import_module(name)
    except ImportError as error:
        raise Misconfigured(f"HARDPARTS_APP={settings.app}: {error}; run it where the application's code is") from error
    except AttributeError:
        raise Misconfigured(f"HARDPARTS_APP={settings.app}: {module_name} has no {attribute!r}") from None
    if not isinstance(app, App):
        raise Misconfigured(f"HARDPARTS_APP={settings.app} is a {type(app).__name__}, not a pipeline.runtime.app.App")
    app.select(app.settings.agent_names)
    return app


def look_here() -> None:
    """Have modules of the current directory found, as `python -m` does."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
