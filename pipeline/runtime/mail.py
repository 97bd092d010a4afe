"""Mail by SMTP, such that the sender knows what became of it: not sent, refused, sent, or in doubt.

Up to the final dot of DATA the server has accepted nothing, so whatever fails there can be tried again. Once the dot is
written, a lost reply leaves the outcome unknown. aiosmtplib writes message and dot in one piece; here they are apart.
"""

import asyncio
import logging
import re
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP as ASCII_HEADERS
from email.policy import SMTPUTF8 as UTF8_HEADERS
from email.utils import formatdate
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

from aiosmtplib import SMTP, SMTPException, SMTPResponseException
from pydantic import SecretStr

from pipeline.core.errors import Blocking, InDoubt, Misconfigured, Reject
from pipeline.runtime.security import is_loopback

log = logging.getLogger("hardparts.mail")

DEPENDENCY = "smtp"
TIMEOUT_S = 30.0
LAST_REPLY_TIMEOUT_S = 120.0
"""The server files the mail before it answers the final dot; giving up early only makes doubts."""

REPLY_CHARS_MAX = 200
DATE_END_MS = 253_402_300_800_000
"""The year 10000, which a mail's date can't say."""

PORTS = {"none": 25, "starttls": 587, "implicit": 465}
DEFAULT_SENDER = "notifications@localhost"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ADDRESS = re.compile(r"[^\s\x00-\x1f\x7f-\x9f@<>()\[\]\\,;:\"]{1,64}@[^\s\x00-\x1f\x7f-\x9f@<>()\[\]\\,;:\"]{1,255}")
_LEADING_DOT = re.compile(rb"(?m)^\.")


@dataclass(frozen=True, slots=True)
class Server:
    """Where mail is handed in. tls: none, starttls (demanded, not tried) or implicit from the first byte."""

    host: str
    port: int
    tls: Literal["none", "starttls", "implicit"]
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sender: str = DEFAULT_SENDER


def parse_server(url: str) -> Server:
    """`smtp://user:pass@host:port`, `smtps://…`, `?starttls`, `?from=address`; Misconfigured, never with the secret."""
    example = "write smtp://[user:password@]host[:port][?starttls][&from=address] or smtps://…"
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
        options = parse_qs(parts.query, keep_blank_values=True)
    except ValueError:
        raise Misconfigured(f"HARDPARTS_SMTP_URL is no address of a mail server: {example}") from None
    if parts.scheme not in ("smtp", "smtps") or not host or not {"starttls", "from"}.issuperset(options):
        raise Misconfigured(f"HARDPARTS_SMTP_URL is no address of a mail server: {example}")
    tls: Literal["none", "starttls", "implicit"] = "implicit" if parts.scheme == "smtps" else "none"
    if "starttls" in options:
        if tls == "implicit":
            raise Misconfigured("HARDPARTS_SMTP_URL: smtps:// is encrypted from the start, leave ?starttls out")
        tls = "starttls"
    username, password = (unquote(part) if part else None for part in (parts.username, parts.password))
    if username and tls == "none" and not is_loopback(host):
        raise Misconfigured("HARDPARTS_SMTP_URL would send the password in the clear: use smtps:// or add ?starttls")
    sender = options.get("from", [DEFAULT_SENDER])[-1]
    if not (_ADDRESS.fullmatch(sender) and sender.isascii()):
        raise Misconfigured("HARDPARTS_SMTP_URL: from= is no e-mail address")
    return Server(host, port or PORTS[tls], tls, username, password, sender)


class Mailer:
    """Sends mail through the server at `url`; without one, mail is written to the log."""

    def __init__(self, url: SecretStr | None) -> None:
        secret = url.get_secret_value() if url is not None else ""
        self.server = parse_server(secret) if secret else None

    def compose(self, recipient: str, subject: str, text: str, msg_id: str, at_ms: int) -> EmailMessage:
        """A mail that is the same in every redo; Reject when `recipient` is no bare address."""
        sender = self.server.sender if self.server is not None else DEFAULT_SENDER
        if not _ADDRESS.fullmatch(recipient):
            raise Reject("the e-mail address is none")
        message = EmailMessage(policy=ASCII_HEADERS if recipient.isascii() else UTF8_HEADERS)
        message["From"] = sender
        _address(message, recipient)
        message["Subject"] = subject
        if 0 <= at_ms < DATE_END_MS:  # a record may say any time; without a date the server adds one
            message["Date"] = formatdate(at_ms / 1000)
        message["Message-ID"] = f"<{msg_id}@{sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text, cte="quoted-printable")  # no bare CR, NUL or overlong line reaches the server
        return message

    async def send(self, message: EmailMessage) -> None:
        """Hand the mail in, once.

        Blocking("smtp"): it was not accepted, try again. Reject: the server refuses it for good. InDoubt: it may have
        been accepted.
        """
        server = self.server
        if server is None:
            log.warning("mail not sent (HARDPARTS_SMTP_URL is unset): %r", message.as_string())
            return
        client = SMTP(
            hostname=server.host,
            port=server.port,
            username=server.username,
            password=server.password,
            use_tls=server.tls == "implicit",
            start_tls=server.tls == "starttls",
            timeout=TIMEOUT_S,
        )
        try:
            await _before_the_dot(client, message)
            await _dot(client)
        finally:
            client.close()


def _address(message: EmailMessage, recipient: str) -> None:
    """Write `To`; Reject when what a header makes of it is another address, or none: `=?utf-8?q?x?=@y` becomes x@y."""
    try:
        message["To"] = recipient
        same = str(message["To"]) == recipient
    except Exception:  # noqa: BLE001 - the parser of the standard library breaks on some, with errors of many kinds
        same = False
    if not same:
        raise Reject("the e-mail address is none")


async def _before_the_dot(client: SMTP, message: EmailMessage) -> None:
    """Everything up to the last line of the message."""
    sender, recipient = (str(message[name]) for name in ("From", "To"))
    try:
        await client.connect()
        await client.ehlo()
        options = []
        if not recipient.isascii():
            if not client.supports_extension("smtputf8"):
                raise Reject("the mail server takes no address with other letters than ASCII")
            options.append("SMTPUTF8")
        encoding = "utf-8" if options else "ascii"
        await _stage("MAIL", client.mail(sender, options=options, encoding=encoding))
        await _stage("RCPT", client.rcpt(recipient, encoding=encoding))
        reply = await client.execute_command(b"DATA")
        if reply.code != 354:
            _refused("DATA", reply.code, reply.message)
        await _write(client, message.as_bytes())
    except (SMTPException, OSError) as error:
        raise Blocking(f"{type(error).__name__}: {_clean(str(error))}", DEPENDENCY) from error


async def _stage(name: str, command: "asyncio.Future[object] | object") -> None:
    try:
        await command  # type: ignore[misc]  # a coroutine of aiosmtplib
    except SMTPResponseException as error:
        _refused(name, error.code, error.message)


async def _write(client: SMTP, content: bytes) -> None:
    """The lines of the message, until the operating system has all of them."""
    protocol = client.protocol
    if protocol is None or protocol.transport is None:
        raise ConnectionResetError("the mail server hung up")
    protocol.transport.set_write_buffer_limits(high=0)  # type: ignore[attr-defined]  # a write transport
    protocol.write(_LEADING_DOT.sub(b"..", content))
    async with asyncio.timeout(TIMEOUT_S):
        await protocol._drain_helper()
    await asyncio.sleep(0)  # lets a hang-up that has arrived be noticed


async def _dot(client: SMTP) -> None:
    """The final dot and its reply: from here on a lost connection means that nobody knows."""
    protocol = client.protocol
    if protocol is None or not client.is_connected:
        raise Blocking("the mail server hung up before the message was complete", DEPENDENCY)
    try:
        reply = await protocol.execute_command(b".", timeout=LAST_REPLY_TIMEOUT_S)
    except (SMTPException, OSError) as error:
        raise InDoubt(f"no reply to the final dot: {type(error).__name__}") from error
    if not 200 <= reply.code < 300:
        if not 400 <= reply.code < 600:
            raise InDoubt(f"the final dot was answered {reply.code}")
        _refused("the message", reply.code, reply.message)
    protocol.write(b"QUIT\r\n")


def _refused(stage: str, code: int, reply: str) -> None:
    """5xx for recipient or message: for good, the record's fault. Everything else: not now. A sender that is refused is
    our configuration's fault, so it blocks; except for 552, the message's size.
    """
    text = f"the mail server answers {stage} with {code} {_clean(reply)}"
    if 500 <= code < 600 and (stage != "MAIL" or code == 552):
        raise Reject(text)
    raise Blocking(text, DEPENDENCY)


def _clean(text: str) -> str:
    return _CONTROL.sub(" ", text)[:REPLY_CHARS_MAX]
