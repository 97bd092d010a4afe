"""What a worker's own pages say."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.oracle.process import Worker


async def ready(worker: Worker) -> dict[str, Any]:
    """The body of `/health/ready`, whatever its status; OSError while nothing listens."""
    body: dict[str, Any] = json.loads(await asyncio.to_thread(_get, worker, "/health/ready"))
    return body


async def metric(worker: Worker, name: str, **labels: str) -> float | None:
    """The value of a metric whose labels include these; None when there is none."""
    text = await asyncio.to_thread(_get, worker, "/metrics")
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return float(sample.value)
    return None


async def buckets(worker: Worker, name: str) -> dict[float, float]:
    """Upper bound → samples up to it, of a histogram without labels, all from one reading."""
    text = await asyncio.to_thread(_get, worker, "/metrics")
    return {
        float(sample.labels["le"]): float(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"{name}_bucket"
    }


def _get(worker: Worker, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{worker.web_port}{path}", timeout=30) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as refused:
        return refused.read().decode()
