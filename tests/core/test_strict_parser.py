"""The strict parser: what two parsers could read differently is refused, whatever the bytes (C1, C3)."""

import json
import struct
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contracts.strict import VALUE_BYTES_MAX, Malformed, Parsed, TooLarge, parse
from tests.oracle.validity import Invalid, strict_json

REFUSED = {
    "empty": b"",
    "white space": b" \n",
    "not JSON": b"Robert'); drop table students",
    "truncated": b'{"a":1',
    "byte order mark": b"\xef\xbb\xbf{}",
    "invalid UTF-8": b'{"a":"\xff"}',
    "UTF-16": "{}".encode("utf-16"),
    "NUL": b"\x00",
    "control character": b'{"a":"\n"}',
    "lone surrogate": b'{"a":"\\ud83d"}',
    "lone surrogate in a key": b'{"\\udc00":1}',
    "surrogates as UTF-8": b'"\xed\xa0\xbd"',
    "NaN": b'{"a":NaN}',
    "Infinity": b"[Infinity]",
    "-Infinity": b"[-Infinity]",
    "1e400": b'{"a":1e400}',
    "-1e400": b'{"a":-1e400}',
    "2 to the 63": b'{"a":9223372036854775808}',
    "largest uint64": b'{"a":18446744073709551615}',
    "2 to the 64": b'{"a":18446744073709551616}',
    "below int64": b'{"a":-9223372036854775809}',
    "5,000 digits": b'{"a":' + b"9" * 5_000 + b"}",
    "300 digits": b'{"a":' + b"9" * 300 + b"}",
    "100,000 digits": b"1" * 100_000,
    "key twice": b'{"a":1,"a":1}',
    "key twice, other value": b'{"a":1,"b":2,"a":3}',
    "key twice, written otherwise": b'{"a":1,"\\u0061":1}',
    "key twice inside": b'[{"x":{"a":[],"a":[]}}]',
    "key twice, dropped with a float that grows": b'{"a":1,"a":1e5}',
    "nested 255 deep": b"[" * 255 + b"]" * 255,
    "nested 1,000 deep": b'{"a":' * 1_000 + b"1" + b"}" * 1_000,
    "nested 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "open brackets": b"[" * 100_000,
    "trailing text": b"{}{}",
    "trailing comma": b"[1,]",
    "single quotes": b"{'a':1}",
    "pickle": b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01a\x94.",
    "YAML": b"!!python/object/apply:os.system ['true']",
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED.keys())
def test_ambiguous_or_broken_text_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed) as refusal:
        parse(raw)
    assert 0 < len(str(refusal.value)) <= 200
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    ("raw", "exact"),
    [
        (b'{"a":1}', True),
        (b' { "a" : [ 1 , 2 ] }\r\n', True),
        (b'{"a, b":1,"a,b":2,"a:b":3}', True),
        (b'{"a":"caf\\u00e9 \\ud83d\\ude00 \\/"}', True),
        (b'{"a":9223372036854775807,"b":-9223372036854775808}', True),
        (b'{"a":1.5,"b":-2.5e-3,"c":[0.1]}', True),
        (b'{"a":true,"b":null,"c":"1.0"}', True),
        (b'{"a":1.0}', False),
        (b"1.0", False),
        (b'[{"a":[1e5]}]', False),
        (b"1e16", False),
        (b"[1.2345e20]", False),
        (b"[-0.0]", False),
        (b"[1e-400]", False),
        (b"[1.00000000000000000001]", False),
        (b'{"a":1E+2}', False),
    ],
)
def test_unambiguous_text_is_parsed_and_integral_floats_are_noticed(raw: bytes, exact: bool) -> None:
    assert parse(raw) == Parsed(json.loads(raw), exact)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'"' + b"y" * VALUE_BYTES_MAX + b'"', "a value of 16777218 bytes: at most 16777216"),
        (b"[" + b"{}," * 500_000 + b"1]", "a value with 1000001 commas and opening brackets: at most 1000000"),
        (b"[" * 2_000_000, "a value with 2000000 commas and opening brackets: at most 1000000"),
    ],
)
def test_what_would_take_long_to_parse_is_refused_unread(raw: bytes, reason: str) -> None:
    with pytest.raises(TooLarge, match=f"^{reason}$"):
        parse(raw)


def test_large_values_of_few_parts_are_read() -> None:
    text = b"y" * (VALUE_BYTES_MAX - 2)
    assert parse(b'"' + text + b'"').value == text.decode()
    assert len(parse(b"[" + b"1," * 999_998 + b"1]").value) == 999_999


def test_a_duplicate_key_is_named_and_escaped() -> None:
    with pytest.raises(Malformed, match=r'^duplicate key "a\\u001b\[31m"$'):
        parse(b'{"a\\u001b[31m":1,"a\\u001b[31m":2}')


def test_what_is_nested_254_deep_can_be_written_again() -> None:
    value = parse(b"[" * 254 + b"]" * 254).value
    assert len(orjson.dumps(value)) == 508


@given(st.binary() | st.text().map(str.encode) | st.text('{}[]":,.eE+-019 \\u\n').map(str.encode))
def test_any_bytes_give_a_value_or_malformed(raw: bytes) -> None:
    try:
        value = parse(raw).value
    except Malformed as error:
        message = str(error)
    else:
        message = "parsed"
        assert orjson.loads(orjson.dumps(value)) == value
    assert 0 < len(message) <= 200


@given(st.integers(min_value=0, max_value=2**64 - 1))
def test_every_double_with_an_integers_value_is_noticed(bits: int) -> None:
    (number,) = struct.unpack("<d", struct.pack("<Q", bits))
    if number - number == 0:  # finite
        assert parse(orjson.dumps({"a": [number]})).exact is not number.is_integer()


@given(st.integers(min_value=-(2**53), max_value=2**53), st.integers(min_value=-3, max_value=3))
def test_floats_around_integers_are_told_apart(whole: int, eighths: int) -> None:
    number = whole / 4 + eighths / 8
    assert parse(json.dumps([number]).encode()).exact is not number.is_integer()


SPACE = st.sampled_from(["", "", "", " ", "  ", "\n\t", "\r\n"])
NUMBER = st.sampled_from(
    ["0", "-0", "1", "1.0", "-1", "1e5", "1E+2", "1.5", "0.1e1", "1e16", "1e+16", "-0.0", "12345678901234567890",
     "9223372036854775807", "9223372036854775808", "-9223372036854775808", "1e308", "1e309", "NaN", "5e-324"]
)  # fmt: skip
STRING = st.sampled_from(
    ['""', '"a"', '"\\u0061"', '"a b"', '"ab"', '" a"', '", "', '":"', '"\\""', '"\\\\"', '"\\/"', '"/"', '"é"', '"b"',
     '"\\u00e9"', '"\\ud83d"', '"\\ud83d\\ude00"', '"\\n"', '"1.0"', '"\\u0020"', '" "', '"c"']
)  # fmt: skip


def _joined(open_: str, items: list[str], close: str, space: str) -> str:
    return open_ + space + f"{space},{space}".join(items) + space + close


def _nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    members = st.lists(
        st.tuples(STRING, SPACE, inner).map(lambda part: f"{part[0]}{part[1]}:{part[1]}{part[2]}"), max_size=4
    )
    return st.builds(_joined, st.just("["), st.lists(inner, max_size=3), st.just("]"), SPACE) | st.builds(
        _joined, st.just("{"), members, st.just("}"), SPACE
    )


JSON_TEXTS = st.recursive(NUMBER | STRING | st.sampled_from(["true", "null"]), _nested, max_leaves=12)


@given(JSON_TEXTS)
def test_the_parser_agrees_with_the_oracles_parser_on_texts_full_of_traps(text: str) -> None:
    raw = text.encode()
    try:
        expected: Any = strict_json(raw)
    except Invalid:
        with pytest.raises(Malformed):
            parse(raw)
        return
    value, exact = parse(raw)
    assert repr(value) == repr(expected)  # repr tells 1 from 1.0 and True, 0.0 from -0.0, and shows the order of keys
    assert exact is not _has_integral_float(value)


def _has_integral_float(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_integral_float, value.values()))
    if isinstance(value, list):
        return any(map(_has_integral_float, value))
    return isinstance(value, float) and value.is_integer()
