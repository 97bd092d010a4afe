"""The contracts of the project's events: what they accept, what they refuse and how they say it (C1 to C4, D3, D8)."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contracts import Contract, ContractBroken, Decoded, Refused, UnknownType, load_contracts
from pipeline.core.event import ReadOnly

ROOT = Path(__file__).parents[2]
CONTRACTS = load_contracts(ROOT / "agents" / "contracts")
USER_EVENTS = CONTRACTS["user-events"]
MSG_ID = "8700635f-1802-417e-89e7-595ad3600104"
DERIVED_ID = "8700635f-1802-517e-89e7-595ad3600104"
USER = "0B2F6D4C-0000-1000-8000-00805F9B34FB"

EVENTS: dict[tuple[str, str], dict[str, Any]] = {
    ("user-events", "comment.created"): {"user_id": 1234, "msg": "This is a super fun conference!"},
    ("user-events", "user.followed"): {"user_id": 1, "followee_id": USER},
    ("user-events", "user.unfollowed"): {"user_id": USER, "followee_id": 2},
    ("user-events", "message.sent"): {"user_id": 1, "to": 2, "msg": ""},
    ("team-events", "team.joined"): {"user_id": 1, "team_id": 7},
    ("comment-counts", "comment.counted"): {"user_id": 1, "count": 3},
    ("messages", "message.accepted"): {"user_id": 1, "to": 2, "msg": "hello"},
    ("notifications", "notification.requested"): {"user_id": 1, "text": "1 follows you"},
}
INPUTS = {"user-events", "team-events"}
OF_EACH = pytest.mark.parametrize(("topic", "type_"), EVENTS.keys(), ids=[type_ for _, type_ in EVENTS])


def event(type_: str = "comment.created", **changes: Any) -> dict[str, Any]:
    data = next(data for (_, name), data in EVENTS.items() if name == type_)
    return {"msg_id": MSG_ID, "type": type_, "data": data, **changes}


def decode(document: Any, topic: str = "user-events") -> Decoded | Refused:
    return CONTRACTS[topic].decode(json.dumps(document).encode())


def refused(document: Any, topic: str = "user-events") -> Refused:
    verdict = decode(document, topic)
    assert isinstance(verdict, Refused), verdict
    return verdict


def test_each_event_of_the_catalogue_has_a_contract() -> None:
    assert {(topic, type_) for topic, contract in CONTRACTS.items() for type_ in contract.types} == EVENTS.keys()


@OF_EACH
def test_each_event_is_decoded_into_its_parts(topic: str, type_: str) -> None:
    document = event(type_, meta={"version": 2})
    assert decode(document, topic) == Decoded(type_, MSG_ID, EVENTS[topic, type_], {"version": 2}, document)


@OF_EACH
def test_each_event_needs_all_its_data(topic: str, type_: str) -> None:
    for name in EVENTS[topic, type_]:
        data = {other: value for other, value in EVENTS[topic, type_].items() if other != name}
        (line,) = refused(event(type_, data=data), topic).explain
        assert line == f"In :data/:{name}, val: {json.dumps(data, separators=(',', ':'))} fails spec: required"


IDS_REFUSED = (
    True,
    False,
    None,
    "abc",
    "",
    1.0,
    1e3,
    2**63,
    -(2**63) - 1,
    2**70,
    [],
    {},
    "1234",
    USER + "\n",
    f"{{{USER}}}",
)
IDS_ACCEPTED = (0, -1, 2**63 - 1, -(2**63), USER, USER.lower(), MSG_ID, DERIVED_ID)
ID_FIELDS = [
    (topic, type_, name)
    for (topic, type_), data in EVENTS.items()
    for name in data
    if name.endswith("_id") or name == "to"
]


@pytest.mark.parametrize(("topic", "type_", "name"), ID_FIELDS)
def test_an_id_is_an_integer_of_64_bits_or_a_uuid(topic: str, type_: str, name: str) -> None:  # C1
    for value in IDS_ACCEPTED:
        assert isinstance(decode(event(type_, data=EVENTS[topic, type_] | {name: value}), topic), Decoded), value
    for value in IDS_REFUSED:
        refusal = refused(event(type_, data=EVENTS[topic, type_] | {name: value}), topic)
        assert refusal.kind in {"ContractBroken", "MalformedJson"}, value


@pytest.mark.parametrize("text", [None, 7, True, ["a"], {"a": 1}])
def test_a_text_is_a_string(text: Any) -> None:
    (line,) = refused(event(data={"user_id": 1, "msg": text})).explain
    assert line.endswith("fails spec: string")


@pytest.mark.parametrize("count", [0, -1, 1.0, True, "1", None])
def test_a_count_is_an_integer_from_1(count: Any) -> None:
    refusal = refused(event("comment.counted", data={"user_id": 1, "count": count}), "comment-counts")
    assert refusal.explain == (f"In :data/:count, val: {json.dumps(count)} fails spec: integer from 1",)


@pytest.mark.parametrize("email", ["", "ann", "ann@", "a@b\nBcc: c@d", "a@b\n", "a@b@c", "a" * 65 + "@b", 5, None])
def test_an_address_that_could_forge_a_mail_header_is_refused(email: Any) -> None:
    data = {"user_id": 1, "text": "hi", "email": email}
    assert refused(event("notification.requested", data=data), "notifications").kind == "ContractBroken"


def test_an_address_is_accepted() -> None:
    data = {"user_id": 1, "text": "hi", "email": "ann@example.org"}
    assert isinstance(decode(event("notification.requested", data=data), "notifications"), Decoded)


MSG_IDS_REFUSED = {
    "trailing newline": MSG_ID + "\n",
    "version 1": "8700635f-1802-117e-89e7-595ad3600104",
    "version 7": "8700635f-1802-717e-89e7-595ad3600104",
    "wrong variant": "8700635f-1802-417e-79e7-595ad3600104",
    "braces": f"{{{MSG_ID}}}",
    "no hyphens": MSG_ID.replace("-", ""),
    "urn": f"urn:uuid:{MSG_ID}",
    "leading blank": f" {MSG_ID}",
    "full-width digit": MSG_ID[:-1] + "\uff14",
    "empty": "",
    "1 MB": "8" * 1_000_000,
    "number": 5,
    "null": None,
    "list": [MSG_ID],
    "object": {},
}


@pytest.mark.parametrize("msg_id", MSG_IDS_REFUSED.values(), ids=MSG_IDS_REFUSED.keys())
@OF_EACH
def test_a_msg_id_that_is_no_uuid_of_version_4_is_refused(topic: str, type_: str, msg_id: Any) -> None:  # D3
    refusal = refused(event(type_, msg_id=msg_id), topic)
    assert refusal.kind == "ContractBroken"
    assert len(refusal.explain) == 1
    assert refusal.explain[0].startswith("In :msg_id, val: ")
    assert len(refusal.explain[0]) <= 200


@OF_EACH
def test_a_msg_id_in_upper_case_passes_and_is_lowered(topic: str, type_: str) -> None:  # D3
    verdict = decode(event(type_, msg_id=MSG_ID.upper()), topic)
    assert isinstance(verdict, Decoded)
    assert verdict.msg_id == MSG_ID


@OF_EACH
def test_derived_ids_are_accepted_only_in_what_agents_write(topic: str, type_: str) -> None:  # D3
    accepted = isinstance(decode(event(type_, msg_id=DERIVED_ID), topic), Decoded)
    assert accepted is (topic not in INPUTS)


def test_an_empty_object_is_explained_as_in_the_talk() -> None:  # C2
    expected = (
        "In :msg_id, val: {} fails spec: required",
        "In :type, val: {} fails spec: required",
        "In :data, val: {} fails spec: required",
    )
    schema = USER_EVENTS.schemas["comment.created"]
    assert Contract({"comment.created": schema}).explain(b"{}") == expected
    assert USER_EVENTS.explain(b"{}") == expected  # all types of the topic say the same


def test_the_second_style_gives_json_pointer_value_and_keyword() -> None:  # C2
    raw = json.dumps(
        {"type": "comment.created", "msg_id": "\x1b[31m\r\n" * 50, "data": {"user_id": "a" * 500}}
    ).encode()
    lines = USER_EVENTS.explain(raw, "pointer")
    assert lines[0].startswith(r'/msg_id: "\u001b[31m\r\n')
    assert [line.rsplit(": ", 1)[1] for line in lines] == ["maxLength", "anyOf", "required"]
    assert lines[1] == f'/data/user_id: "{"a" * 78}…: anyOf'
    assert lines[2].startswith("/data/msg: {")
    assert all(line.isprintable() and len(line) <= 200 for line in lines)


def test_failures_come_in_declared_order() -> None:  # C2
    raw = b'{"data":{"msg":1,"user_id":true},"type":"comment.created","meta":[],"msg_id":0}'
    assert USER_EVENTS.explain(raw) == (
        "In :msg_id, val: 0 fails spec: UUID version 4",
        "In :data/:user_id, val: true fails spec: integer or UUID",
        "In :data/:msg, val: 1 fails spec: string",
        "In :meta, val: [] fails spec: object",
    )


REFUSALS = [
    (None, "Tombstone", "the record has no value"),
    (b"Robert'); drop table students", "MalformedJson", "not JSON: unexpected"),
    (b"\xff\xfe", "MalformedJson", "not JSON: "),
    (b"null", "NotAnObject", "In the event, val: null fails spec: object"),
    (b"[]", "NotAnObject", "In the event, val: [] fails spec: object"),
    (b'"type"', "NotAnObject", 'In the event, val: "type" fails spec: object'),
    (b"1.0", "NotAnObject", "In the event, val: 1.0 fails spec: object"),
    (
        b'{"type":"x\\u001b[2J\\n"}',
        "UnknownType",
        r'In :type, val: "x\u001b[2J\n" fails spec: one of "comment.created", ',
    ),
    (b'{"type":5}', "ContractBroken", 'In :type, val: 5 fails spec: one of "comment.created", '),
    (b'{"type":["comment.created"]}', "ContractBroken", 'In :type, val: ["comment.created"] fails spec: one of '),
    (b'{"type":null}', "ContractBroken", "In :type, val: null fails spec: one of "),
    (b"{}", "ContractBroken", "In :msg_id, val: {} fails spec: required"),
]


@pytest.mark.parametrize(("raw", "kind", "line"), REFUSALS)
def test_a_refusal_says_what_kind_it_is_in_one_line(raw: bytes | None, kind: str, line: str) -> None:  # C3
    verdict = USER_EVENTS.decode(raw)
    assert isinstance(verdict, Refused)
    assert verdict.kind == kind
    assert verdict.explain[0].startswith(line)
    assert verdict.explain == USER_EVENTS.explain(raw)
    assert 0 < len(verdict.message) <= 200
    assert verdict.message.isprintable()


@given(
    st.binary()
    | st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text()
        | st.sampled_from(["comment.created", MSG_ID]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["type", "msg_id", "data", "meta", "user_id", "msg", "x"]), inner, max_size=5
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_are_decoded_or_refused_never_an_exception(raw: bytes) -> None:  # C3
    verdict = USER_EVENTS.decode(raw)
    explained = USER_EVENTS.explain(raw)
    if isinstance(verdict, Decoded):
        assert verdict.msg_id.lower() == verdict.document["msg_id"].lower()
        assert explained == ()
    else:
        assert verdict.explain == explained != ()
        assert all(line.isprintable() and len(line) <= 200 for line in (*explained, verdict.message))


@pytest.mark.parametrize("deep", [100, 252])
def test_a_deep_unknown_field_is_kept(deep: int) -> None:
    raw = json.dumps(event()).encode()[:-1] + b',"extra":' + b"[" * deep + b"]" * deep + b"}"
    verdict = USER_EVENTS.decode(raw)
    assert isinstance(verdict, Decoded)
    assert orjson.dumps(verdict.document) == raw.replace(b": ", b":").replace(b', "', b',"')


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON), st.none() | st.dictionaries(st.text(), JSON))
def test_unknown_fields_survive_decode_and_encode(
    unknown: dict[str, Any], meta: dict[str, Any] | None
) -> None:  # C4, D8
    data = {**unknown, "user_id": 1, "msg": "hello"}
    document = event(data=data) | ({} if meta is None else {"meta": meta})
    decoded = decode(document)
    assert isinstance(decoded, Decoded)
    assert decoded.document == document
    view = None if decoded.meta is None else ReadOnly(decoded.meta)
    raw = USER_EVENTS.encode(decoded.type, decoded.msg_id, ReadOnly(decoded.data), view)
    assert USER_EVENTS.decode(raw) == decoded
    assert json.loads(raw) == document


def test_read_only_views_are_written_as_json() -> None:
    nested = ReadOnly({"tags": ["a", {"b": 1}]})
    raw = USER_EVENTS.encode(
        "comment.created", MSG_ID, {"user_id": 1, "msg": "x", "n": nested, "t": nested["tags"]}, None
    )
    assert json.loads(raw)["data"] == {"user_id": 1, "msg": "x", "n": {"tags": ["a", {"b": 1}]}, "t": ["a", {"b": 1}]}


BODIES_REFUSED = [
    ({"user_id": True, "msg": "x"}, "In :data/:user_id, val: true fails spec: integer or UUID"),
    ({"user_id": 1.0, "msg": "x"}, "In :data/:user_id, val: 1.0 fails spec: integer or UUID"),
    ({"user_id": 1}, 'In :data/:msg, val: {"user_id":1} fails spec: required'),
    ({"user_id": 1, "msg": "x", "n": 2**63}, "integer beyond 64 bits: 9223372036854775808"),
    ({"user_id": 1, "msg": "x", "n": 2**64}, "Integer exceeds 64-bit range"),
    ({"user_id": 1, "msg": "x", "n": [float("nan")]}, "NaN and infinite numbers are not JSON"),
    ({"user_id": 1, "msg": "x", "n": {"m": (float("inf"), None)}}, "NaN and infinite numbers are not JSON"),
    ({"user_id": 1, "msg": "\ud83d"}, "str is not valid UTF-8: surrogates not allowed"),
    ({"user_id": 1, "msg": "x", "n": {1, 2}}, "not JSON serializable: set"),
    ({"user_id": 1, "msg": "x", 5: 1}, "Dict key must be str"),
]


@pytest.mark.parametrize(("data", "line"), BODIES_REFUSED)
def test_a_body_that_readers_would_refuse_is_not_written(data: dict[str, Any], line: str) -> None:  # X2
    with pytest.raises(ContractBroken) as refusal:
        USER_EVENTS.encode("comment.created", MSG_ID, data, None)
    assert line in refusal.value.explain[0]
    assert str(refusal.value).startswith("comment.created: ")


def test_a_null_of_the_handlers_own_is_written() -> None:
    assert b'"n":null' in USER_EVENTS.encode("comment.created", MSG_ID, {"user_id": 1, "msg": "null", "n": None}, None)


def test_an_event_of_a_type_without_contract_is_not_written() -> None:  # X2
    with pytest.raises(UnknownType, match=r'unknown type "comment.deleted": this topic has comment.created, '):
        USER_EVENTS.encode("comment.deleted", MSG_ID, {}, None)


def test_a_flood_of_failures_is_bounded() -> None:
    schema = json.loads(json.dumps(USER_EVENTS.schemas["comment.created"]))
    schema["properties"]["data"]["properties"]["tags"] = {"type": "array", "items": {"type": "string"}}
    document = event(data={"user_id": 1, "msg": "x", "tags": list(range(50_000))})
    explain = Contract({"comment.created": schema}).explain(json.dumps(document).encode())
    assert len(explain) == 20
    assert explain[1] == "In :data/:tags/1, val: 1 fails spec: string"


def test_no_event_carries_a_version_of_its_contract() -> None:  # D8
    for contract in CONTRACTS.values():
        for schema in contract.schemas.values():
            assert "version" not in schema["properties"]
            assert schema["properties"]["meta"] == {"type": "object"}
