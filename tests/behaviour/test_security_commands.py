"""What commands say about security: plaintext that leaves this machine is refused, and the doctor tells."""

import pytest

from tests.behaviour.commandline import CommandLine

COMMANDS: dict[str, tuple[str, ...]] = {
    "worker": ("worker",),
    "topics": ("topics", "plan"),
    "send": ("send", "user-events"),
    "tables": ("tables", "dump", "comments"),
    "errors": ("errors", "list"),
    "demo": ("demo", "--events", "100", "--broker", "kafka://10.0.0.1:9092"),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_every_command_that_needs_a_broker_refuses_plaintext_with_status_2(command, tmp_path):
    ended = CommandLine("kafka://10.0.0.1:9092", tmp_path)(*command)
    assert ended.code == 2, ended
    said = ended.err + (ended.out if command[0] == "demo" else "")
    assert "10.0.0.1:9092 is not on this machine" in said
    assert "HARDPARTS_ALLOW_PLAINTEXT=true" in said


def test_the_doctor_tells_how_brokers_are_reached(tmp_path):
    def finding(**settings: str) -> tuple[int, dict[str, str]]:
        ended = CommandLine("kafka://kafka.invalid:1", tmp_path, **settings)("doctor", "--json")
        (row,) = [row for row in ended.rows if row["check"] == "security"]
        assert not any(row["check"] == "application" and row["level"] != "ok" for row in ended.rows)
        return ended.code, row

    code, row = finding()
    assert (code, row["level"]) == (1, "FAIL")
    assert "kafka.invalid:1 is not on this machine" in row["detail"] + row["remedy"]
    code, row = finding(allow_plaintext="true")
    assert row["level"] == "WARN"
    assert row["detail"] == "plaintext to kafka.invalid:1, as HARDPARTS_ALLOW_PLAINTEXT says"
    code, row = finding(broker="kafka://127.0.0.1:1")
    assert (row["level"], row["detail"]) == ("ok", "plaintext")
