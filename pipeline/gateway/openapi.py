"""The OpenAPI document, made from the contracts: what each topic takes, and every answer."""

from collections.abc import Mapping
from typing import Any

from pipeline import __version__
from pipeline.gateway.door import Door

_PROBLEM = {
    "title": "problem",
    "type": "object",
    "required": ["error", "name"],
    "properties": {
        "error": {"type": "string", "description": "For people."},
        "name": {"type": "string", "description": "Stays the same; decide by this one."},
        "topics": {"type": "array", "items": {"type": "string"}, "description": "404: the topics that take events."},
        "events": {
            "type": "array",
            "description": "Events that may not pass, the first 20. None of the body was taken.",
            "items": {
                "type": "object",
                "required": ["index", "kind", "explain"],
                "properties": {
                    "index": {"type": "integer", "description": "Place in the list, from 0."},
                    "kind": {"type": "string"},
                    "explain": {"type": "array", "items": {"type": "string"}, "description": "One line a failure."},
                },
            },
        },
    },
}
_ANSWERS = {
    "401": "The token is missing or another one.",
    "403": "A web page asks, and the gateway has no token.",
    "404": "No such topic, or one that takes no events.",
    "413": "The body, or an event in it, is too large. Nothing was taken.",
    "415": "The body is encoded. Nothing was taken.",
    "422": "An event breaks its contract. Nothing was taken.",
    "503": "Custody is full or its disk fails. Send all of it again, after Retry-After seconds.",
}


def document(doors: Mapping[str, Door], *, with_token: bool, body_bytes_max: int) -> dict[str, Any]:
    """OpenAPI 3.1, whose schemas are JSON Schema 2020-12 like the contracts."""
    schemas: dict[str, Any] = {"problem": _PROBLEM}
    paths: dict[str, Any] = {}
    for topic, door in sorted(doors.items()):
        names = []
        for type_, schema in door.contract.schemas.items():
            name = f"{topic}.{type_}"
            schemas[name] = _moved(schema, f"#/components/schemas/{name}")
            names.append({"$ref": f"#/components/schemas/{name}"})
        paths[f"/events/{topic}"] = {"post": _post(topic, names, body_bytes_max)}
    paths |= {
        "/health/live": {"get": _get("200 while the process answers", "live", ())},
        "/health/ready": {"get": _get("200 while custody can be taken", "ready", ("503",))},
        "/metrics": {"get": _get("Prometheus' text format", "metrics", (), "text/plain")},
        "/openapi.json": {"get": _get("This document", "openapi", ())},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hardparts gateway",
            "version": __version__,
            "description": "Takes events into durable custody and brings them to Kafka, in order per record key. "
            "An event may arrive twice, with the same msg_id, never not at all.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {status: _answer(status, why) for status, why in _ANSWERS.items()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}] if with_token else [],
    }


def _post(topic: str, events: list[dict[str, str]], body_bytes_max: int) -> dict[str, Any]:
    return {
        "operationId": f"post-{topic}",
        "summary": f"Send one event, or a list of them, to {topic}",
        "description": "All events of a list are taken, or none. They are in custody when the answer is 202.",
        "parameters": [{"name": "traceparent", "in": "header", "schema": {"type": "string"}}],
        "requestBody": {
            "required": True,
            "description": f"At most {body_bytes_max} bytes.",
            "content": {
                "application/json": {"schema": {"anyOf": [*events, {"type": "array", "items": {"anyOf": events}}]}}
            },
        },
        "responses": {
            "202": {
                "description": "In durable custody.",
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "required": ["accepted"],
                            "properties": {"accepted": {"type": "integer", "minimum": 0}},
                        }
                    }
                },
            },
            **{status: {"$ref": f"#/components/responses/{status}"} for status in _ANSWERS},
        },
    }


def _get(what: str, name: str, refusals: tuple[str, ...], kind: str = "application/json") -> dict[str, Any]:
    found = {"200": {"description": what, "content": {kind: {}}}}
    refused = {status: {"$ref": f"#/components/responses/{status}"} for status in refusals}
    return {"operationId": name, "summary": what, "security": [], "responses": found | refused}


def _answer(status: str, why: str) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": why,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/problem"}}},
    }
    if status == "503":
        answer["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return answer


def _moved(schema: Any, root: str) -> Any:
    """A contract as a part of this document: its references begin at `root`."""
    if isinstance(schema, list):
        return [_moved(item, root) for item in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {name: _moved(value, root) for name, value in schema.items()}
    reference = moved.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        moved["$ref"] = root + reference[1:]
    return moved
