"""The mailer on its own: addresses, secrets, and the line between not sent and in doubt (D4)."""

import logging
import threading
from email.message import EmailMessage

import pytest
from pydantic import SecretStr

from pipeline.core.errors import Blocking, InDoubt, Misconfigured, Reject
from pipeline.runtime import mail
from pipeline.runtime.mail import Mailer, parse_server
from tests.behaviour.mail_server import MailServer

MSG_ID = "8700635f-1802-417e-89e7-595ad3600104"
CANARY = "s3cret-canary"


def compose(mailer: Mailer, to: str = "a@example.org", text: str = "hello") -> EmailMessage:
    return mailer.compose(to, "A subject", text, MSG_ID, 1_700_000_000_000)


def mailer_of(server: MailServer, query: str = "") -> Mailer:
    return Mailer(SecretStr(server.url + query))


async def test_a_mail_is_the_same_in_every_redo():
    mailer = Mailer(None)
    assert compose(mailer).as_bytes() == compose(mailer).as_bytes()
    assert compose(mailer)["Date"] == "Tue, 14 Nov 2023 22:13:20 -0000"


async def test_the_sender_comes_from_the_url():
    with MailServer() as server:
        mailer = mailer_of(server, "?from=robot@example.com")
        await mailer.send(compose(mailer))
        assert server.mails[0]["From"] == "robot@example.com"
        assert server.mails[0]["Message-ID"] == f"<{MSG_ID}@example.com>"


@pytest.mark.parametrize(
    "evil", ["a@example.org\r\nBcc: b@example.org", "a@example.org\nX: y", "a@example.org\r", "a@b\x00"]
)
def test_a_line_break_in_an_address_injects_no_header(evil):
    with pytest.raises(Reject):
        compose(Mailer(None), evil)


@pytest.mark.parametrize(
    "evil", ["=?utf-8?q?x?=@example.org", "=?utf-8?q?a=40b=2C?=@c", ".@.", "a@example.org.", "=?utf-8?b?!!!?=@c"]
)
def test_an_address_that_a_header_turns_into_another_or_that_none_can_hold_is_rejected(evil):
    with pytest.raises(Reject):
        compose(Mailer(None), evil)


@pytest.mark.parametrize("at_ms", [-(2**63), -1, 253_402_300_800_000, 1_700_000_000_000_000_000, 2**63 - 1])
def test_a_record_with_an_impossible_time_is_mailed_without_a_date(at_ms):
    message = Mailer(None).compose("a@example.org", "A subject", "hello", MSG_ID, at_ms)
    assert message["Date"] is None
    assert b"A subject" in message.as_bytes()


@pytest.mark.parametrize(
    "text", ["a\r\n.\r\nMAIL FROM:<x@y>", ".", "..", "x\r.\ry", "\0", "ü" * 2000, "-" * 5000, "", "\ud7ff"]
)
async def test_no_text_ends_the_message_early_or_is_changed(text):
    with MailServer() as server:
        mailer = mailer_of(server)
        await mailer.send(compose(mailer, text=text))
        (received,) = server.mails
        assert received.get_content().splitlines() == (text.splitlines() or [""])


async def test_letters_beyond_ascii_in_an_address_are_written_as_utf8():
    with MailServer() as server:
        mailer = mailer_of(server)
        await mailer.send(compose(mailer, "jürgen@example.org"))
        assert b"j\xc3\xbcrgen@example.org" in server.received[0]


async def test_a_connection_lost_within_the_message_is_not_sent():
    message = EmailMessage()
    message["From"], message["To"] = "a@example.org", "b@example.org"
    message.set_content(("x" * 70 + "\n") * 170_000, cte="7bit")  # more than the socket buffers of both sides hold
    with MailServer() as server:
        server.hangs_up = "in the message"
        with pytest.raises(Blocking) as failure:
            await mailer_of(server).send(message)
        assert failure.value.dependency == "smtp"
        assert server.received == []


async def test_a_connection_lost_after_the_final_dot_is_in_doubt():
    with MailServer() as server:
        server.hangs_up = "after the dot"
        mailer = mailer_of(server)
        with pytest.raises(InDoubt):
            await mailer.send(compose(mailer))
        assert len(server.received) == 1


async def test_no_reply_to_the_final_dot_in_time_is_in_doubt(monkeypatch):
    monkeypatch.setattr(mail, "LAST_REPLY_TIMEOUT_S", 0.2)
    tested = threading.Event()
    with MailServer() as server:
        server.on_mail = lambda: tested.wait(30)
        mailer = mailer_of(server)
        with pytest.raises(InDoubt, match="Timeout"):
            await mailer.send(compose(mailer))
        tested.set()


async def test_starttls_is_demanded_not_tried():
    with MailServer() as server:
        mailer = mailer_of(server, "?starttls")
        with pytest.raises(Blocking, match="STARTTLS"):
            await mailer.send(compose(mailer))
        assert server.received == []


async def test_a_login_works_and_a_wrong_password_blocks_without_being_told(caplog):
    caplog.set_level(logging.DEBUG)
    with MailServer(password=CANARY) as server:
        mailer = Mailer(SecretStr(f"smtp://me:{CANARY}@127.0.0.1:{server.port}"))
        await mailer.send(compose(mailer))
        assert len(server.received) == 1
        wrong = Mailer(SecretStr(f"smtp://me:{CANARY}x@127.0.0.1:{server.port}"))
        with pytest.raises(Blocking) as failure:
            await wrong.send(compose(wrong))
        told = [str(failure.value), repr(failure.value), repr(wrong.server), repr(vars(wrong)), caplog.text]
        assert all(CANARY not in text for text in told)


async def test_without_a_url_the_mail_is_written_to_the_log(caplog):
    caplog.set_level(logging.INFO)
    mailer = Mailer(None)
    await mailer.send(compose(mailer, text="one\ntwo"))
    assert "To: a@example.org" in caplog.messages[-1]
    assert "\n" not in caplog.messages[-1]  # a line of a record can't look like a line of the log


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail", ("mail", 25, "none")),
        ("smtp://mail?starttls", ("mail", 587, "starttls")),
        ("smtp://mail:26", ("mail", 26, "none")),
        ("smtps://mail", ("mail", 465, "implicit")),
        ("smtp://[::1]:2525", ("::1", 2525, "none")),
    ],
)
def test_a_url_says_host_port_and_encryption(url, expected):
    server = parse_server(url)
    assert (server.host, server.port, server.tls) == expected


def test_user_and_password_are_unquoted():
    server = parse_server("smtps://me%40x:p%3A%2F@mail")
    assert (server.username, server.password) == ("me@x", "p:/")


@pytest.mark.parametrize(
    "url",
    [
        f"http://me:{CANARY}@mail", "smtp://", "mail:25", f"smtp://me:{CANARY}@mail:notaport", f"smtp://me:{CANARY}@[mail",
        f"smtp://me:{CANARY}@mail", f"smtps://me:{CANARY}@mail?starttls", "smtp://mail?from=nobody", "smtp://mail?tls=1",
    ],
)  # fmt: skip
def test_a_wrong_url_is_refused_at_start_and_never_shown(url):
    with pytest.raises(Misconfigured, match="HARDPARTS_SMTP_URL") as failure:
        Mailer(SecretStr(url))
    assert CANARY not in str(failure.value)
    assert failure.value.__cause__ is None
