"""Contract files are checked at start: a broken one is named with its place and a remedy."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.contracts import Contract, ContractFileBroken, Decoded, load_contracts
from pipeline.contracts.patterns import PatternRefused, check_pattern, compiled
from pipeline.core.errors import Misconfigured

AGENTS = Path(__file__).parents[2] / "agents" / "contracts"
MSG_ID = "8700635f-1802-417e-89e7-595ad3600104"


def schema(**changes: Any) -> dict[str, Any]:
    """A good contract of the type `thing.done`, with changes at its root."""
    good = json.loads((AGENTS / "user-events" / "comment.created.json").read_text())
    good["properties"]["type"] = {"const": "thing.done"}
    return {**good, **changes}


def with_data(**fields: Any) -> dict[str, Any]:
    good = schema()
    good["properties"]["data"]["properties"] |= fields
    return good


def with_part(name: str, part: Any) -> dict[str, Any]:
    good = schema()
    good["properties"][name] = part
    return good


def with_definitions(**definitions: Any) -> dict[str, Any]:
    good = schema()
    good["$defs"] |= definitions
    return good


def write(directory: Path, content: str | bytes) -> Path:
    path = directory / "things" / "thing.done.json"
    path.parent.mkdir()
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_good_file_is_loaded_under_its_topic_and_type(tmp_path: Path) -> None:
    write(tmp_path, json.dumps(schema()))
    (tmp_path / "README.md").write_text("not a contract")
    (tmp_path / ".hidden").mkdir()
    contracts = load_contracts(tmp_path)
    assert list(contracts) == ["things"]
    raw = json.dumps({"msg_id": MSG_ID, "type": "thing.done", "data": {"user_id": 1, "msg": ""}}).encode()
    assert isinstance(contracts["things"].decode(raw), Decoded)


def test_words_of_the_schema_language_may_be_names_of_fields(tmp_path: Path) -> None:
    names = {name: {"const": {"$ref": "http://x", "format": 1}} for name in ("format", "$ref", "pattern", "$id")}
    write(tmp_path, json.dumps(with_data(**names)))
    load_contracts(tmp_path)


BROKEN: dict[str, tuple[Any, str, str]] = {
    "a list": ([], "", "a contract is a JSON object"),
    "true": (True, "", "a contract is a JSON object"),
    "another dialect": (schema(**{"$schema": "http://json-schema.org/draft-07/schema#"}), "/$schema", "draft/2020-12"),
    "no schema": (with_data(n={"type": "integr"}), "/properties/data/properties/n/type", "not a JSON Schema"),
    "required misspelt": (schema(requierd=[]), "/requierd", "spelling"),
    "format": (with_data(n={"format": "uuid"}), "/properties/data/properties/n/format", '"pattern"'),
    "remote reference": (
        with_data(n={"$ref": "http://127.0.0.1:1/x"}),
        "/properties/data/properties/n/$ref",
        "#/$defs/",
    ),
    "file reference": (with_data(n={"$ref": "file:///etc/passwd"}), "/properties/data/properties/n/$ref", "#/$defs/"),
    "sibling file": (with_data(n={"$ref": "user.followed.json"}), "/properties/data/properties/n/$ref", "#/$defs/"),
    "reference to the root": (with_data(n={"$ref": "#"}), "/properties/data/properties/n/$ref", "#/$defs/"),
    "reference to nothing": (with_data(n={"$ref": "#/$defs/n"}), "/properties/data/properties/n/$ref", "leads nowhere"),
    "loop of one": (with_definitions(a={"items": {"$ref": "#/$defs/a"}}), "/$defs/a", "loop"),
    "loop of two": (with_definitions(a={"$ref": "#/$defs/b"}, b={"not": {"$ref": "#/$defs/a"}}), "/$defs/a", "loop"),
    "dynamic reference": (with_data(n={"$dynamicRef": "#n"}), "/properties/data/properties/n/$dynamicRef", '"$ref"'),
    "base address": (schema(**{"$id": "http://example.org/x"}), "/$id", "remove it"),
    "inner definitions": (with_data(n={"$defs": {}}), "/properties/data/properties/n/$defs", "root"),
    "pattern properties": (
        with_data(n={"patternProperties": {"a": {}}}),
        "/properties/data/properties/n/patternProperties",
        "",
    ),
    "unique items": (with_data(n={"uniqueItems": True}), "/properties/data/properties/n/uniqueItems", "handler"),
    "fraction": (with_data(n={"multipleOf": 0.1}), "/properties/data/properties/n/multipleOf", "integer"),
    "catastrophic pattern": (
        with_data(n={"pattern": "^(a+)+$"}),
        "/properties/data/properties/n/pattern",
        "backtracks",
    ),
    "msg_id not required": (schema(required=["type", "data"]), "/required", '"msg_id"'),
    "type not required": (schema(required=["msg_id", "data"]), "/required", '"type"'),
    "data not required": (schema(required=["msg_id", "type"]), "/required", '"data"'),
    "any msg_id": (with_part("msg_id", {"type": "string"}), "/properties/msg_id", "UUID"),
    "any type": (with_part("type", {"type": "string"}), "/properties/type", "const"),
    "another type": (with_part("type", {"const": "thing.begun"}), "/properties/type", "file's name"),
    "data a list": (with_part("data", {"type": ["array", "object"]}), "/properties/data", "object"),
    "meta anything": (with_part("meta", True), "/properties/meta", "object"),
    "an escaped pointer": (with_data(**{"a/b~": {"format": "x"}}), "/properties/data/properties/a~1b~0/format", ""),
}


@pytest.mark.parametrize(("content", "pointer", "hint"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_schema_is_named_with_place_and_remedy(tmp_path: Path, content: Any, pointer: str, hint: str) -> None:
    path = write(tmp_path, json.dumps(content))
    with pytest.raises(ContractFileBroken) as refusal:
        load_contracts(tmp_path)
    error = refusal.value
    assert isinstance(error, Misconfigured)
    assert (error.path, error.pointer) == (path, pointer)
    assert error.remedy
    assert str(error).startswith(f"contract {path}, at {pointer or 'the root'}: ")
    assert str(error).endswith(error.remedy)
    assert hint in str(error)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b'{"type":"object","type":"object"}', 'duplicate key "type"'),
        (b'{"maximum":1.0}', "write 1, not 1.0"),
    ],
)
def test_a_file_that_is_no_strict_json_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ContractFileBroken, match=problem) as refusal:
        load_contracts(tmp_path)
    assert refusal.value.path == path


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractFileBroken, match=r"nowhere.*No such file.*HARDPARTS_CONTRACTS_DIR"):
        load_contracts(tmp_path / "nowhere")


def test_a_file_outside_of_any_topic_is_named(tmp_path: Path) -> None:
    (tmp_path / "thing.done.json").write_text("{}")
    with pytest.raises(ContractFileBroken, match=r"thing\.done\.json.*belongs to no topic"):
        load_contracts(tmp_path)


def test_a_topic_without_a_contract_is_named(tmp_path: Path) -> None:
    (tmp_path / "things").mkdir()
    with pytest.raises(ContractFileBroken, match="has no contract"):
        load_contracts(tmp_path)


ACCEPTED: dict[str, int | None] = {  # pattern → maxLength
    "^a+$": None, "^[a-z]{1,64}@[a-z.]{1,255}$": None, "^(?:red|blue)$": None, "abc": None, "^.*x.*$": 1_000,
    r"^\d{3}-\w*$": None, r"^[\d\-_.]{2,}$": None, "^(?:[0-9a-f]{4}-){3}$": None, r"^\$\(\)$": None, "a?b?": 100,
}  # fmt: skip
REFUSED: dict[str, int | None] = {
    # slow
    "^(a+)+$": None, "^(a*)*$": 10, "^(?:a|a)*$": 10, "^(a?){1,50}$": 10, "^(?:a{1,9}b?)+$": None, "a+b": None,
    "^.*.*.*$": 1_000, "^.*x.*$": None, "^(a|b){30}$": None, "^(a?){30}$": None, "a.*b": 5_000, "^a{1,1001}$": None,
    # read differently elsewhere
    r"\s": None, r"\bx": None, r"^\p{L}$": None, r"(a)\1": None, "(?=a)b": None, "(?i)a": None, "^a+?$": None,
    "^[[:alpha:]]$": None, "[a&&b]": None, "[a--b]": None, "[]": None, "[^]": None, r"\<a": None,
    # no regular expression
    "(a": None, "a)": None, "*a": None, "^{2}": None, "a{3,2}": None, "a{": None, "[z-a]": None, "\\": None,
    # too long
    "(" * 30 + "a" + ")" * 30: None, "a" * 1_001: None,
}  # fmt: skip


@pytest.mark.parametrize(("pattern", "length_max"), ACCEPTED.items())
def test_a_portable_and_quick_pattern_is_accepted(pattern: str, length_max: int | None) -> None:
    check_pattern(pattern, length_max)


@pytest.mark.parametrize(("pattern", "length_max"), REFUSED.items())
def test_a_slow_or_unportable_pattern_is_refused(pattern: str, length_max: int | None) -> None:
    with pytest.raises(PatternRefused):
        check_pattern(pattern, length_max)


@pytest.mark.parametrize(("pattern", "length_max"), ACCEPTED.items())
def test_an_accepted_pattern_is_quick_on_texts_made_to_hurt(pattern: str, length_max: int | None) -> None:
    for text in ("a", "x", "1", "-", "ab", "aaaa-", "z@"):
        hostile = (text * 2**20)[: (length_max or 2**20) - 1] + "!"
        began_s = time.process_time()
        compiled(pattern).search(hostile)
        assert time.process_time() - began_s < 1


def test_the_end_of_a_pattern_is_the_very_end_of_the_text() -> None:
    assert compiled("^a$").search("a")
    assert not compiled("^a$").search("a\n")
    assert compiled(r"^[$]\$$").search("$$")
    assert not compiled(r"^\d$").search("٣")


def test_a_megabyte_where_a_short_text_belongs_is_refused_quickly() -> None:
    contract = Contract({"thing.done": with_data(n={"type": "string", "maxLength": 1_000, "pattern": "^.*x.*$"})})
    data = {"user_id": 1, "msg": "", "n": "x" * 1_000_000 + "\n"}
    raw = json.dumps({"msg_id": MSG_ID, "type": "thing.done", "data": data}).encode()
    began_s = time.process_time()
    assert contract.explain(raw) == (f'In :data/:n, val: "{"x" * 78}… fails spec: maxLength 1000',)
    assert time.process_time() - began_s < 1
