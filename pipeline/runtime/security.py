"""How the brokers are reached: TLS and SASL from the settings, checked before anything connects.

Plaintext leaves this machine only when HARDPARTS_ALLOW_PLAINTEXT says so. Certificates are read once, at start; a
password's file is read for each connection.
"""

import logging
import ssl
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
from faust.auth import SASLCredentials, SSLCredentials
from faust.types.auth import CredentialsT

from pipeline.core.errors import Misconfigured
from pipeline.core.failure import line_of
from pipeline.kafka.client import password_in
from pipeline.kafka.contact import SASL_REFUSALS
from pipeline.runtime.settings import Settings

_CLOSE = AIOKafkaConnection.close
CHECK_TIMEOUT_MS = 5_000
SETTINGS = (
    *("security_protocol", "allow_plaintext", "sasl_mechanism", "sasl_username", "sasl_password", "sasl_password_file"),
    *("ssl_cafile", "ssl_certfile", "ssl_keyfile"),
)
"""The settings that this is about."""
DENIED = (
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    ClusterAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
"""What a broker answers to someone whom it knows, but doesn't let do this."""


class NotLetIn(Misconfigured):
    """The broker answers, but refuses who we are, or isn't who we expect; waiting doesn't mend that."""


def client_security(settings: Settings) -> dict[str, Any]:
    """What every aiokafka client is given beside its addresses; Misconfigured names what is wrong and the remedy.

    password_file is for those that `apply_patches` has changed: they read it anew for each connection.
    """
    protocol = settings.security_protocol
    tls, sasl = protocol.endswith("SSL"), protocol.startswith("SASL_")
    _refuse_what_is_not_used(settings, tls, sasl)
    if not tls:
        _require_local(settings)
    options: dict[str, Any] = {"security_protocol": protocol}
    if tls:
        options["ssl_context"] = _context(settings)
        close_at_once()
    if sasl:
        if settings.sasl_mechanism is None:
            raise Misconfigured(f"HARDPARTS_SASL_MECHANISM: {protocol} needs one: set PLAIN, SCRAM-SHA-256 or -512")
        if not settings.sasl_username:
            raise Misconfigured(f"HARDPARTS_SASL_USERNAME: {settings.sasl_mechanism} needs a user: set it")
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = _password(settings)
        if settings.sasl_password_file is not None:
            options["password_file"] = settings.sasl_password_file
        logging.getLogger("aiokafka.conn").addFilter(_without_credentials)
    return options


def close_at_once() -> None:
    """Let aiokafka cut a TLS connection that it closes.

    Its way waits for the broker's goodbye, which doesn't come when an answer is on its way: asyncio waits 30 s.
    Whoever closes has read all answers that count.
    """
    AIOKafkaConnection.close = _cut


def _cut(self: AIOKafkaConnection, reason: Any = None, exc: BaseException | None = None) -> Any:
    writer = self._writer
    if writer is not None and self._security_protocol.endswith("SSL"):
        writer.transport.abort()  # first: asyncio's transport can't be cut once it is closing
    return _CLOSE(self, reason=reason, exc=exc)


def faust_credentials(options: dict[str, Any]) -> CredentialsT | None:
    """The same for Faust's own consumer and producer; None is plaintext."""
    context = options.get("ssl_context")
    if "sasl_mechanism" in options:
        return SASLCredentials(
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            mechanism=options["sasl_mechanism"],
            ssl_context=context,
        )
    return SSLCredentials(context) if context is not None else None


def described(settings: Settings) -> str:
    """How the brokers are reached, for people; nothing secret."""
    parts = ["TLS" if settings.security_protocol.endswith("SSL") else "plaintext"]
    if settings.ssl_certfile is not None:
        parts.append(f"client certificate {settings.ssl_certfile}")
    if settings.sasl_mechanism is not None:
        parts.append(f"{settings.sasl_mechanism} as {settings.sasl_username}")
    return ", ".join(parts)


def unencrypted(settings: Settings) -> list[str]:
    """The brokers beyond this machine that are spoken to in plaintext."""
    if settings.security_protocol.endswith("SSL"):
        return []
    return [server for server in settings.brokers if not is_loopback(server.rpartition(":")[0])]


def is_loopback(host: str) -> bool:
    """Whether this name or address, an IPv6 one with or without brackets, is this machine's own."""
    try:
        return ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return host == "localhost"


async def refusal(settings: Settings) -> str:
    """Why no broker lets us in, though one answers: "" when one does, or none answers. NotLetIn for what waiting
    doesn't mend: brokers that answer refuse us, and none lets us in.
    """
    options, said, refused = client_security(settings), "", list[NotLetIn]()
    options.pop("password_file", None)
    for server in settings.brokers:
        host, _, port = server.rpartition(":")
        try:
            connection = await create_conn(host.strip("[]"), int(port), request_timeout_ms=CHECK_TIMEOUT_MS, **options)
        except (*SASL_REFUSALS, ssl.SSLError) as error:
            refused.append(_not_let_in(server, settings, error))
        except (KafkaConnectionError, ConnectionResetError):  # taken, and closed before a word was said
            said = f"{server} closes connections: it may want another protocol (HARDPARTS_SECURITY_PROTOCOL)"
            if settings.security_protocol.endswith("SSL") and settings.ssl_certfile is None:
                said += " or a client's certificate (HARDPARTS_SSL_CERTFILE)"
        except (KafkaError, OSError, TimeoutError):
            continue
        else:
            connection.close()
            return ""
    if refused:
        raise refused[0]
    return said


def _not_let_in(server: str, settings: Settings, error: Exception) -> NotLetIn:
    if isinstance(error, ssl.SSLCertVerificationError):
        return NotLetIn(
            f"the certificate of {server} isn't trusted ({error.verify_message}): name who signed it "
            "(HARDPARTS_SSL_CAFILE), and the broker as its certificate does (HARDPARTS_BROKER)"
        )
    if isinstance(error, ssl.SSLError):
        return NotLetIn(
            f"no TLS with {server} ({error.reason or line_of(error)}): "
            "check HARDPARTS_SECURITY_PROTOCOL, the port, and HARDPARTS_SSL_CERTFILE if it wants a certificate"
        )
    return NotLetIn(
        f"{server} refuses {settings.sasl_mechanism} as {settings.sasl_username} ({line_of(error)}): "
        "check HARDPARTS_SASL_MECHANISM, HARDPARTS_SASL_USERNAME and the password"
    )


def _refuse_what_is_not_used(settings: Settings, tls: bool, sasl: bool) -> None:
    unused: list[str] = []
    if not sasl:
        unused += ["sasl_mechanism", "sasl_username", "sasl_password", "sasl_password_file"]
    if not tls:
        unused += ["ssl_cafile", "ssl_certfile", "ssl_keyfile"]
    for name in unused:
        if getattr(settings, name):
            wanted = "SASL_SSL" if name.startswith("sasl") else "SSL or SASL_SSL"
            raise Misconfigured(
                f"HARDPARTS_{name.upper()} is set, but not used with HARDPARTS_SECURITY_PROTOCOL="
                f"{settings.security_protocol}: set {wanted}, or remove it"
            )


def _require_local(settings: Settings) -> None:
    far = unencrypted(settings)
    if far and not settings.allow_plaintext:
        raise Misconfigured(
            f"HARDPARTS_BROKER: {', '.join(far)} is not on this machine, and {settings.security_protocol} can be read "
            "and changed on the way: set HARDPARTS_SECURITY_PROTOCOL=SASL_SSL (or SSL), or, inside a closed network, "
            "HARDPARTS_ALLOW_PLAINTEXT=true"
        )


def _context(settings: Settings) -> ssl.SSLContext:
    authority, certificate, key = settings.ssl_cafile, settings.ssl_certfile, settings.ssl_keyfile
    for name, path in (("CAFILE", authority), ("CERTFILE", certificate), ("KEYFILE", key)):
        if path is not None:
            _read(f"HARDPARTS_SSL_{name}", path)
    try:
        context = ssl.create_default_context(cafile=authority)
    except ssl.SSLError:
        raise Misconfigured(f"HARDPARTS_SSL_CAFILE: {authority} has no certificate: give a PEM file") from None
    if certificate is None:
        if key is not None:
            raise Misconfigured("HARDPARTS_SSL_KEYFILE is set without a certificate: set HARDPARTS_SSL_CERTFILE too")
        return context
    try:
        # Without a password here, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError):
        where = f"{certificate} and {key}" if key is not None else str(certificate)
        raise Misconfigured(
            f"HARDPARTS_SSL_CERTFILE, HARDPARTS_SSL_KEYFILE: {where} are no certificate and its key: "
            "give PEM files that belong together, the key without a passphrase"
        ) from None
    return context


def _password(settings: Settings) -> str:
    given, file = settings.sasl_password, settings.sasl_password_file
    if given is not None and file is not None:
        raise Misconfigured("HARDPARTS_SASL_PASSWORD and HARDPARTS_SASL_PASSWORD_FILE are both set: keep one")
    if file is not None:
        try:
            password = password_in(_read("HARDPARTS_SASL_PASSWORD_FILE", file))
        except UnicodeDecodeError:
            raise Misconfigured(f"HARDPARTS_SASL_PASSWORD_FILE: {file} isn't UTF-8 text") from None
        if not password:
            raise Misconfigured(f"HARDPARTS_SASL_PASSWORD_FILE: {file} is empty: write the password into it")
        return password
    if given is None or not given.get_secret_value():
        raise Misconfigured(
            f"HARDPARTS_SASL_PASSWORD_FILE: {settings.sasl_mechanism} needs a password: "
            "name a file that holds it, or set HARDPARTS_SASL_PASSWORD"
        )
    return given.get_secret_value()


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Misconfigured(f"{setting}: {path} can't be read: {error.strerror} (errno {error.errno})") from None


def _without_credentials(record: logging.LogRecord) -> bool:
    """At level debug, aiokafka logs each request, and this one is the password (PLAIN) or derived from it (SCRAM)."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    return not any(type(argument).__name__.startswith("SaslAuthenticate") for argument in arguments)
