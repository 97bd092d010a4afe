"""A real SMTP server (aiosmtpd) on loopback, in a thread of its own, that can be told to misbehave at one stage."""

import asyncio
import socket
import threading
from collections.abc import Callable
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any, Self, cast

from aiosmtpd.smtp import SMTP, AuthResult

RECEIVE_BUFFER_BYTES = 4096


class _Session(SMTP):
    """One connection; `server` says what to do with it."""

    def __init__(self, server: "MailServer", **options: Any) -> None:
        self._mail = server
        super().__init__(_Handler(server), **options)

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802  # aiosmtpd's name
        if self._mail.hangs_up == "at DATA":
            self.transport.abort()
        elif self._mail.hangs_up == "in the message":
            await self.push("354 go on")
            await self._reader.readline()
            self.transport.abort()
        else:
            await super().smtp_DATA(arg)


class _Handler:
    def __init__(self, server: "MailServer") -> None:
        self._mail = server

    async def handle_MAIL(self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]) -> str:  # noqa: N802
        envelope.mail_from = address
        return self._mail.answers.get("MAIL", "250 OK")

    async def handle_RCPT(self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]) -> str:  # noqa: N802
        answer = self._mail.answers.get("RCPT", "250 OK")
        if answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802
        answer = self._mail.answers.get("message", "250 OK")
        if answer.startswith("2"):
            self._mail.received.append(envelope.content)
            self._mail.on_mail()
        if self._mail.hangs_up == "after the dot":
            server.transport.abort()
        return answer


class MailServer:
    """`with MailServer() as server:`; received: the content of each accepted mail.

    answers: stage (MAIL, RCPT, message) → reply. hangs_up: at DATA, in the message, or after the dot.
    """

    def __init__(self, password: str | None = None) -> None:
        self.received: list[bytes] = []
        self.answers: dict[str, str] = {}
        self.hangs_up = ""
        self.on_mail: Callable[[], None] = lambda: None
        self._password = password
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._listening.close()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """For HARDPARTS_SMTP_URL."""
        return f"smtp://127.0.0.1:{self.port}"

    @property
    def mails(self) -> list[EmailMessage]:
        """What was accepted, parsed."""
        return [cast(EmailMessage, message_from_bytes(content, policy=default)) for content in self.received]

    def start(self) -> None:
        """Listen, on the same port each time."""
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=[ready], daemon=True)
        self._thread.start()
        assert ready.wait(10)

    def stop(self) -> None:
        """Stop listening."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _serve(self, ready: threading.Event) -> None:
        loop = self._loop = asyncio.new_event_loop()
        listening = socket.create_server(("127.0.0.1", self.port))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        server = loop.run_until_complete(loop.create_server(self._session, sock=listening))
        ready.set()
        loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    def _session(self) -> SMTP:
        options: dict[str, Any] = {"enable_SMTPUTF8": True, "loop": self._loop, "data_size_limit": None}
        if self._password is not None:
            options |= {"authenticator": self._judge, "auth_required": True, "auth_require_tls": False}
        return _Session(self, **options)

    def _judge(self, server: SMTP, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=data.password.decode() == self._password, handled=False)
