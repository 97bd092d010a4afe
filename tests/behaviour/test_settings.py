"""Settings from the environment that no worker can run with are refused by name before anything begins."""

from pathlib import Path

import pytest

from pipeline.core.errors import Misconfigured
from pipeline.runtime.settings import read_settings

LONG = "a" * 64


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SESSION_TIMEOUT_S", "inf"), ("SESSION_TIMEOUT_S", "1e9"), ("SESSION_TIMEOUT_S", "nan"),
        ("MAX_POLL_INTERVAL_S", "inf"), ("MAX_POLL_INTERVAL_S", "1e300"), ("DEDUP_HORIZON_S", "inf"),
        ("WEB_HOST", "a..b"), ("WEB_HOST", LONG), ("WEB_PORT", "9" * 5000), ("DEMAND", "1.5"),
        ("BROKER", "kafka://a..b:9092"), ("BROKER", f"kafka://{LONG}:9092"), ("BROKER", "kafka://a:²"),
        ("BROKER", "kafka://a:0"), ("BROKER", ","), ("INSTANCE", "."), ("INSTANCE", ".."), ("INSTANCE", "a/b"),
        ("OUTBOX_KEEP_S", "1e12"), ("OUTBOX_KEEP_S", "-1"), ("GATEWAY_BODY_BYTES_MAX", str(1 << 26)),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"HARDPARTS_{name}", value)
    with pytest.raises(Misconfigured, match=f"HARDPARTS_{name}: "):
        read_settings()


@pytest.mark.parametrize("value", ["localhost", "127.0.0.1", "[::1]", "my_broker-1.example.org.", "bücher.example"])
def test_a_broker_has_any_name_or_address(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HARDPARTS_BROKER", f"kafka://{value}:9092")
    assert read_settings().brokers == [f"{value}:9092"]


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """`HARDPARTS_DATA_DIR=${DATA_DIR:-}` of a compose file would put state into the working directory."""
    for name in ("DATA_DIR", "CONTRACTS_DIR", "DEDUP_HORIZON_S", "WEB_HOST", "SASL_MECHANISM", "BROKER"):
        monkeypatch.setenv(f"HARDPARTS_{name}", "")
    settings = read_settings()
    assert settings.data_dir == Path(".hardparts")
    assert settings.contracts_dir is settings.dedup_horizon_s is settings.sasl_mechanism is None
    assert (settings.web_host, settings.brokers) == ("127.0.0.1", ["127.0.0.1:9092"])
