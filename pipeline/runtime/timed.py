"""`hardparts_step_seconds`: how long a batch spends in each step of the path."""

import inspect
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

Step = TypeVar("Step", bound=Callable[..., Any])


def timed(step: Step) -> Step:
    """Observe the time of a Unit method under its name; a step that raises is observed too."""
    name = step.__name__

    def observe(unit: Any, began_s: float) -> None:
        unit.context.metrics.steps.labels(unit.agent.name, name).observe(time.perf_counter() - began_s)

    if inspect.iscoroutinefunction(step):

        @wraps(step)
        async def waited(unit: Any, *args: Any) -> Any:
            began_s = time.perf_counter()
            try:
                return await step(unit, *args)
            finally:
                observe(unit, began_s)

        return cast(Step, waited)

    @wraps(step)
    def called(unit: Any, *args: Any) -> Any:
        began_s = time.perf_counter()
        try:
            return step(unit, *args)
        finally:
            observe(unit, began_s)

    return cast(Step, called)
