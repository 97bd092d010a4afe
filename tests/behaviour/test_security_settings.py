"""How the brokers are reached is checked at start: each mistake is one line with its remedy, and status 2."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from pipeline.core.errors import Misconfigured
from pipeline.runtime.security import client_security, described, faust_credentials, is_loopback, unencrypted
from pipeline.runtime.settings import Settings, read_settings
from tests.kafka.certificates import Authority

REMOTE = "kafka://kafka-1:9092,kafka://127.0.0.1:9092"


@pytest.fixture(autouse=True)
def nothing_inherited(monkeypatch):
    for name in os.environ:
        if name.startswith("HARDPARTS_"):
            monkeypatch.delenv(name)


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority(tmp_path / "certificates")


def refused(**settings: object) -> str:
    with pytest.raises(Misconfigured) as refusal:
        client_security(read_settings(**settings))
    assert "\n" not in str(refusal.value)
    assert ": " in str(refusal.value)
    return str(refusal.value)


def scram(authority: Authority, **more: object) -> dict[str, object]:
    settings = {
        "security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "ann",
        "sasl_password": "secret", "ssl_cafile": authority.certificate, "broker": REMOTE,
    }  # fmt: skip
    return settings | more


def test_on_this_machine_plaintext_needs_no_word():
    settings = Settings(broker="kafka://127.0.0.1:1,localhost:2,[::1]:3,127.8.9.10")
    assert client_security(settings) == {"security_protocol": "PLAINTEXT"}
    assert faust_credentials(client_security(settings)) is None
    assert unencrypted(settings) == []
    assert described(settings) == "plaintext"


@pytest.mark.parametrize(
    "host", ["kafka-1", "10.0.0.1", "0.0.0.0", "::", "localhost.example.org", "127.example.org", ""]
)
def test_every_other_name_may_be_another_machine(host):
    assert not is_loopback(host)


def test_plaintext_that_leaves_this_machine_is_refused_with_the_remedies():
    said = refused(broker=REMOTE)
    assert "kafka-1:9092 is not on this machine" in said
    assert "127.0.0.1" not in said
    assert "HARDPARTS_SECURITY_PROTOCOL=SASL_SSL" in said
    assert "HARDPARTS_ALLOW_PLAINTEXT=true" in said


def test_a_password_in_plaintext_is_refused_too(tmp_path):
    plain = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_username": "ann"}
    assert "SASL_PLAINTEXT can be read" in refused(broker=REMOTE, sasl_password="secret", **plain)
    allowed = read_settings(broker=REMOTE, sasl_password="secret", allow_plaintext=True, **plain)
    assert client_security(allowed)["sasl_plain_password"] == "secret"


def test_plaintext_is_allowed_by_a_flag_and_told():
    settings = read_settings(broker=REMOTE, allow_plaintext="true")
    assert client_security(settings) == {"security_protocol": "PLAINTEXT"}
    assert unencrypted(settings) == ["kafka-1:9092"]


def test_tls_and_scram_are_what_clients_are_given(authority):
    settings = read_settings(**scram(authority))
    options = client_security(settings)
    context = options.pop("ssl_context")
    assert options == {
        "security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "ann", "sasl_plain_password": "secret",
    }  # fmt: skip
    assert context.check_hostname
    assert described(settings) == "TLS, SCRAM-SHA-512 as ann"
    assert unencrypted(settings) == []
    own = faust_credentials({**options, "ssl_context": context})
    assert (own.protocol.value, own.mechanism.value, own.username, own.password, own.ssl_context) == (
        "SASL_SSL", "SCRAM-SHA-512", "ann", "secret", context,
    )  # fmt: skip


@pytest.mark.parametrize("together", [True, False])
def test_a_client_certificate_is_given_with_its_key_in_one_file_or_two(authority, together):
    pair = authority.issue("ann")
    files = {"ssl_certfile": pair.both} if together else {"ssl_certfile": pair.certificate, "ssl_keyfile": pair.key}
    settings = read_settings(broker=REMOTE, security_protocol="SSL", ssl_cafile=authority.certificate, **files)
    options = client_security(settings)
    assert options.keys() == {"security_protocol", "ssl_context"}
    assert faust_credentials(options).context is options["ssl_context"]
    assert "client certificate" in described(settings)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_password_may_stand_in_a_file(authority, tmp_path, end):
    (tmp_path / "password").write_bytes(f" se cret{end}".encode())
    settings = read_settings(**scram(authority, sasl_password=None, sasl_password_file=tmp_path / "password"))
    assert client_security(settings)["sasl_plain_password"] == " se cret"


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "no mechanism": ({"sasl_mechanism": None}, "HARDPARTS_SASL_MECHANISM"),
    "no user": ({"sasl_username": ""}, "HARDPARTS_SASL_USERNAME"),
    "no password": ({"sasl_password": None}, "HARDPARTS_SASL_PASSWORD_FILE"),
    "an empty password": ({"sasl_password": ""}, "HARDPARTS_SASL_PASSWORD_FILE"),
    "two passwords": ({"sasl_password_file": "x"}, "both set"),
    "no password file": ({"sasl_password": None, "sasl_password_file": "nowhere"}, "nowhere can't be read"),
    "a directory": ({"sasl_password": None, "sasl_password_file": "."}, "can't be read: Is a directory"),
    "an empty file": ({"sasl_password": None, "sasl_password_file": os.devnull}, f"{os.devnull} is empty"),
    "no authority": ({"ssl_cafile": "nowhere"}, "HARDPARTS_SSL_CAFILE: nowhere can't be read"),
    "an empty authority": ({"ssl_cafile": os.devnull}, "HARDPARTS_SSL_CAFILE"),
    "no certificate": ({"ssl_certfile": "nowhere"}, "HARDPARTS_SSL_CERTFILE: nowhere can't be read"),
    "an empty certificate": ({"ssl_certfile": os.devnull}, "no certificate and its key"),
    "a key alone": ({"ssl_keyfile": os.devnull}, "HARDPARTS_SSL_CERTFILE"),
    "SASL without its protocol": ({"security_protocol": "SSL"}, "HARDPARTS_SASL_MECHANISM is set, but not used"),
    "TLS without its protocol": ({"security_protocol": "SASL_PLAINTEXT"}, "HARDPARTS_SSL_CAFILE is set, but not used"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "hint"), WRONG.values(), ids=WRONG.keys())
def test_each_mistake_is_named(authority, change, hint):
    said = refused(**scram(authority, **change))
    assert hint in said
    assert "secret" not in said


def test_a_certificate_with_anothers_key_or_a_key_with_a_passphrase_is_refused(authority, tmp_path):
    one, two = authority.issue("one"), authority.issue("two")
    tls = {"broker": REMOTE, "security_protocol": "SSL", "ssl_cafile": authority.certificate}
    assert "belong together" in refused(**tls, ssl_certfile=one.certificate, ssl_keyfile=two.key)
    locked = tmp_path / "locked.key"
    key = serialization.load_pem_private_key(one.key.read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"passphrase")
    locked.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    assert "without a passphrase" in refused(**tls, ssl_certfile=one.certificate, ssl_keyfile=locked)


@pytest.mark.parametrize(("name", "value"), [("security_protocol", "TLS"), ("sasl_mechanism", "GSSAPI")])
def test_a_word_that_is_none_of_the_choices_is_refused(name, value):
    with pytest.raises(Misconfigured, match=f"--{name.replace('_', '-')}"):
        read_settings(**{name: value})


def test_no_client_of_ours_is_made_without_these_settings():
    """Whoever makes one gives it `**security`, `**client` or `client_options`, which come from here."""
    found: dict[str, list[str]] = {}
    for path in sorted(Path(__file__).parents[2].joinpath("pipeline").rglob("*.py")):
        text = path.read_text()
        for kind in ("AIOKafkaProducer(", "AIOKafkaConsumer(", "AIOKafkaAdminClient(", "create_conn("):
            if path.parts[-2:] == ("kafka", "client.py"):
                continue  # aiokafka's own client, which has been given them
            for rest in text.split(kind)[1:]:
                arguments = rest.split(")\n", 1)[0]
                found.setdefault(str(path), []).append(arguments)
                assert any(given in arguments for given in ("**security", "**client", "**where.client", "**options")), (
                    path, arguments,
                )  # fmt: skip
    assert len(found) >= 8, found
