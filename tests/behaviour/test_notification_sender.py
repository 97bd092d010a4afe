"""Mail is sent at most once, whatever happens to the process, the mail server and the claims (D4)."""

import orjson
import pytest
from pydantic import SecretStr

from agents import notification_sender as module
from pipeline.runtime.mail import Mailer
from pipeline.testing import Kit
from tests.behaviour.mail_server import MailServer


@pytest.fixture
def server(monkeypatch):
    with MailServer() as server:
        monkeypatch.setattr(module, "mailer", Mailer(SecretStr(server.url)))
        yield server


@pytest.fixture
def kit(server):
    with Kit(module.notification_sender, attempts_max=2) as kit:
        yield kit


def notify(kit: Kit, user: int = 1, **more):
    return kit.given(
        "notification.requested", user_id=user, text="Hello\n.\nyou", email=f"user{user}@example.org", **more
    )


def test_a_notification_with_an_address_is_mailed(kit, server):
    given = notify(kit)
    kit.then_nothing_else()
    (mail,) = server.mails
    assert (mail["To"], mail["Subject"]) == ("user1@example.org", "You have a notification")
    assert mail["Message-ID"] == f"<{given.msg_id}@localhost>"
    assert mail.get_content().splitlines() == ["Hello", ".", "you"]  # the lone dot did not end the message
    assert kit.state("mail-claims", given.msg_id) == "done"


def test_a_notification_without_an_address_sends_nothing(kit, server):
    given = kit.given("notification.requested", user_id=1, text="hello")
    kit.then_nothing_else()
    assert server.received == []
    assert kit.state("mail-claims", given.msg_id) is None


def test_the_same_msg_id_twice_is_one_mail_and_one_audit_record(kit, server):
    given = notify(kit)
    kit.feed([given])
    audit = kit.then_audited("repeat")
    assert (audit["msg_id"], audit["offset"]) == (given.msg_id, 1)
    kit.then_nothing_else()
    assert len(server.received) == 1


def test_many_users_at_once_get_one_mail_each(kit, server):
    for user in range(60):
        notify(kit, user)
    kit.then_nothing_else()
    assert sorted(mail["To"] for mail in server.mails) == sorted(f"user{user}@example.org" for user in range(60))


def test_one_msg_id_under_two_users_at_once_is_at_most_one_mail(kit, server):
    given = notify(kit)
    notify(kit, user=2, msg_id=given.msg_id)
    kit.then_audited("in doubt")
    kit.then_nothing_else()
    assert len(server.received) == 1


@pytest.mark.parametrize("disk", ["kept", "lost"])
def test_a_repeat_after_a_restart_is_audited_too(kit, server, disk):
    given = notify(kit)
    kit.restart(disk)
    kit.feed([given])
    kit.then_audited("repeat")
    kit.then_nothing_else()
    assert len(server.received) == 1


def test_a_crash_between_claim_and_mail_is_in_doubt_audited_and_not_sent(kit, server):
    given = notify(kit)
    kit.crash("after-claim")
    audit = kit.then_audited("in doubt")
    assert audit["msg_id"] == given.msg_id
    assert audit["what"] == f"mail of notification {given.msg_id}"
    kit.then_nothing_else()
    assert kit.worker.crashes == ["after-claim"]
    assert server.received == []
    assert kit.state("mail-claims", given.msg_id) == "in doubt"


@pytest.mark.parametrize("place", ["publish", "record", "after-changelog", "apply", "complete", "commit"])
def test_a_crash_after_the_mail_sends_it_no_second_time(kit, server, place):
    given = notify(kit)
    kit.crash(place)
    kit.run()
    assert kit.worker.crashes == [place]
    assert len(server.received) == 1
    kit.then_nothing_else()
    assert kit.state("mail-claims", given.msg_id) == "done"


def test_a_reply_lost_after_the_final_dot_is_in_doubt(kit, server):
    server.hangs_up = "after the dot"
    given = notify(kit)
    kit.then_audited("in doubt")
    kit.then_nothing_else()
    server.hangs_up = ""
    kit.feed([given])
    kit.then_audited("repeat")
    kit.then_nothing_else()
    assert len(server.received) == 1
    assert kit.state("mail-claims", given.msg_id) == "in doubt"


def test_a_connection_lost_before_the_final_dot_is_tried_again(kit, server):
    server.hangs_up = "at DATA"
    notify(kit)
    kit.then_blocked("smtp")
    server.hangs_up = ""
    kit.run()
    kit.then_nothing_else()
    assert len(server.received) == 1


def test_a_mail_server_that_is_away_blocks_and_comes_back(kit, server):
    server.stop()
    given = notify(kit)
    notify(kit, user=2)
    assert kit.then_blocked("smtp").record.offset == 0
    assert kit.state("mail-claims", given.msg_id) is None
    server.start()
    kit.run()
    kit.then_nothing_else()
    assert sorted(mail["To"] for mail in server.mails) == ["user1@example.org", "user2@example.org"]


@pytest.mark.parametrize("disk", ["kept", "lost"])
def test_a_mail_that_waits_through_an_outage_and_a_restart_is_sent_once(kit, server, disk):
    server.stop()
    for user in range(3):
        notify(kit, user)
    kit.then_blocked("smtp")
    kit.restart(disk)
    server.start()
    kit.run()
    kit.then_nothing_else()
    assert sorted(mail["To"] for mail in server.mails) == [f"user{user}@example.org" for user in range(3)]


@pytest.mark.parametrize("failure", ["refused", "reply lost"])
def test_a_claim_that_cannot_be_given_back_is_made_anew(kit, server, failure):
    server.stop()
    kit.fail("broker", [2], failure)  # the first call stores the claim
    notify(kit)
    kit.then_blocked("smtp")
    server.start()
    kit.run()
    kit.then_nothing_else()
    assert len(server.received) == 1


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "message"])
def test_a_refusal_for_now_is_tried_again(kit, server, stage):
    server.answers[stage] = "451 try later"
    notify(kit)
    assert "451 try later" in kit.then_blocked("smtp").message
    server.answers.clear()
    kit.run()
    kit.then_nothing_else()
    assert len(server.received) == 1


@pytest.mark.parametrize("stage", ["RCPT", "message"])
def test_a_refusal_for_good_goes_to_the_error_topic(kit, server, stage):
    server.answers[stage] = "550 no such user"
    notify(kit)
    kit.then_rejected("550 no such user")
    server.answers.clear()
    notify(kit, user=2)
    kit.then_nothing_else()
    assert [mail["To"] for mail in server.mails] == ["user2@example.org"]


def test_a_sender_that_is_refused_is_our_fault_and_blocks(kit, server):
    server.answers["MAIL"] = "553 who are you"
    notify(kit)
    kit.then_blocked("smtp")
    assert kit.rejections() == []


@pytest.mark.parametrize("failure", ["refused", "reply lost"])
def test_while_the_claim_cannot_be_stored_nothing_is_sent(kit, server, failure):
    calls_when_sent: list[int] = []
    server.on_mail = lambda: calls_when_sent.append(kit.worker.failures.made("broker"))
    kit.fail("broker", [1], failure)
    notify(kit)
    kit.then_nothing_else()
    assert calls_when_sent == [2 if failure == "refused" else 1]


def test_a_claim_that_is_refused_again_and_again_blocks_and_sends_nothing(kit, server):
    kit.fail("broker", range(1, 1000), "refused")
    notify(kit)
    kit.then_blocked("broker")
    assert server.received == []


@pytest.mark.parametrize("failure", ["refused", "reply lost"])
def test_a_changelog_that_fails_after_the_mail_sends_it_no_second_time(kit, server, failure):
    kit.fail("broker", [2], failure)  # the first call stores the claim
    given = notify(kit)
    kit.run()
    assert len(server.received) == 1
    assert kit.state("mail-claims", given.msg_id) == "done"
    assert [audit["kind"] for audit in kit.audits()] in ([], ["repeat"])


@pytest.mark.parametrize(
    "address", ["a b@example.org", "a@example.org, b@example.org", "<a@example.org>", "a@b\0c", "@", "a@b c"]
)
def test_an_address_that_is_none_is_rejected_and_nothing_is_sent(kit, server, address):
    raw = kit.event("notification.requested", user_id=1, text="x", email="a@example.org")
    kit.feed([raw._replace(value=raw.value.replace(b'"a@example.org"', orjson.dumps(address)))])
    kit.then_rejected()
    kit.then_nothing_else()
    assert server.received == []
