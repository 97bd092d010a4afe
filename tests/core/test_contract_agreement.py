"""The fast validator and the judge give the same verdict on whatever the strict parser lets through (C9)."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contracts import Contract, Decoded, Malformed, load_contracts, parse
from pipeline.contracts.judge import Judge
from pipeline.contracts.schema import check_schema

CONTRACTS = load_contracts(Path(__file__).parents[2] / "agents" / "contracts")
MSG_ID = "8700635f-1802-417e-89e7-595ad3600104"
NAMES = [
    "msg_id",
    "type",
    "data",
    "meta",
    "user_id",
    "followee_id",
    "team_id",
    "to",
    "msg",
    "text",
    "email",
    "count",
    "x",
]
TYPES = [type_ for contract in CONTRACTS.values() for type_ in contract.types]

NUMBERS = (
    st.integers()
    | st.integers(-3, 12)
    | st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 2**53 + 1, 10**30])
    | st.floats()
    | st.integers(-(2**60), 2**60).map(float)
    | st.sampled_from([1.0, -0.0, 1e16, 1.5, 2.5, 1e300])
)
TEXTS = st.text(max_size=5) | st.sampled_from(
    [
        MSG_ID,
        MSG_ID.upper(),
        MSG_ID + "\n",
        MSG_ID.replace("-4", "-5"),
        MSG_ID.replace("-4", "-1"),
        "a@b",
        "a@b\n",
        "aé",
        "a\n",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS | st.sampled_from(TYPES),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=10,
)
DATA = st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES[4:], VALUES))
ID = st.integers(-5, 5) | st.just(MSG_ID)
GOOD_DATA = st.fixed_dictionaries(
    {"user_id": ID, "followee_id": ID, "team_id": ID, "to": ID, "msg": TEXTS, "text": TEXTS, "count": st.integers(1)},
    optional={"email": TEXTS, "x": VALUES},
)
EVENTS = st.fixed_dictionaries(
    {"msg_id": st.just(MSG_ID) | TEXTS | VALUES, "type": st.sampled_from(TYPES), "data": GOOD_DATA | DATA | VALUES},
    optional={"meta": VALUES, "x": VALUES},
)


@given(EVENTS | VALUES, st.sampled_from(sorted(CONTRACTS)), st.booleans())
def test_decode_says_what_the_judge_says(document: Any, topic: str, spaced: bool) -> None:
    raw = json.dumps(document, separators=None if spaced else (",", ":")).encode()
    contract = CONTRACTS[topic]
    verdict = contract.decode(raw)
    try:
        value, exact = parse(raw)
    except Malformed:
        assert not isinstance(verdict, Decoded)
        return
    type_ = value.get("type") if isinstance(value, dict) else None
    if not isinstance(type_, str) or type_ not in contract.types:
        assert not isinstance(verdict, Decoded)
        return
    valid = not Judge(contract.schemas[type_]).failures(value)
    assert isinstance(verdict, Decoded) is valid
    if exact:
        assert jsonschema_rs.Draft202012Validator(contract.schemas[type_]).is_valid(value) is valid


ALL_KEYWORDS: dict[str, Any] = {
    "type": ["object", "array", "string", "number", "boolean", "null"],
    "properties": {
        "msg": {"pattern": r"^[^@\r\n]{1,4}(?:@|é)?$|^\d+\w*$", "minLength": 1, "maxLength": 40},
        "text": {"type": "string", "pattern": "^.+$"},
        "count": {"type": "integer", "exclusiveMinimum": -2, "maximum": 10, "multipleOf": 3},
        "user_id": {"oneOf": [{"type": "integer"}, {"minimum": 0.5}, {"const": None}]},
        "to": {"enum": [1, "a", None, True, [1], {"x": 1}]},
        "team_id": {"if": {"type": "number"}, "then": {"exclusiveMaximum": 2.5}, "else": {"not": {"type": "null"}}},
        "data": {"additionalProperties": {"type": ["string", "integer"]}, "propertyNames": {"maxLength": 4}},
        "meta": {"minProperties": 1, "maxProperties": 2, "dependentRequired": {"x": ["msg"]}},
        "x": {"prefixItems": [{"const": 0}], "items": {"$ref": "#/$defs/small"}, "minItems": 1, "maxItems": 3},
        "email": {"contains": {"type": "integer"}, "minContains": 1, "maxContains": 2},
    },
    "allOf": [{"required": ["msg"]}, {"anyOf": [{"required": ["x"]}, {"required": ["count"]}, {"type": "object"}]}],
    "$defs": {"small": {"minimum": -1, "maximum": 9007199254740993}},
}
SUBJECTS = (
    st.fixed_dictionaries({"msg": TEXTS}, optional=dict.fromkeys((name for name in NAMES if name != "msg"), VALUES))
    | VALUES
)


@given(SUBJECTS)
def test_both_validators_agree_on_every_keyword_that_contracts_may_use(subject: Any) -> None:
    check_schema(ALL_KEYWORDS)
    try:
        value, exact = parse(json.dumps(subject).encode())
    except Malformed:
        return
    if exact:
        assert _fast(value) is (not _judge.failures(value))


@given(st.sampled_from(sorted(ALL_KEYWORDS["properties"])), VALUES)
def test_both_validators_agree_on_each_keyword_by_itself(name: str, subject: Any) -> None:
    try:
        value, exact = parse(json.dumps({"msg": "a", name: subject}).encode())
    except Malformed:
        return
    if exact:
        assert _fast(value) is (not _judge.failures(value))


_fast = jsonschema_rs.Draft202012Validator(ALL_KEYWORDS).is_valid
_judge = Judge(ALL_KEYWORDS)


def test_the_fast_validator_alone_would_accept_a_float_as_an_id() -> None:
    contract = CONTRACTS["user-events"]
    schema = contract.schemas["comment.created"]
    document = {"msg_id": MSG_ID, "type": "comment.created", "data": {"user_id": 1.0, "msg": ""}}
    assert jsonschema_rs.Draft202012Validator(schema).is_valid(document)  # why exactness matters
    assert not isinstance(Contract({"comment.created": schema}).decode(json.dumps(document).encode()), Decoded)
