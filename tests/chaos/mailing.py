"""A worker beside the crew, in a group of its own, mails a share of the notifications: at most once, or in doubt."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from types import TracebackType
from typing import Self

from tests.behaviour.mail_server import MailServer
from tests.chaos.launch import launched
from tests.kafka.trial import GUARANTEES, Trial
from tests.oracle.lag import wait_for_lag_zero
from tests.oracle.process import Worker
from tests.oracle.records import NOTIFICATIONS
from tests.oracle.report import Report
from tests.oracle.truth import read

AGENT = "notification-sender"
ONE_IN = 5
DEMAND = 50
"""Mails that a worker may be about to send when it dies."""
LAG_ZERO_WITHIN_S = 120.0


def is_mailed(msg_id: str) -> bool:
    """Whether a notification is given an address: the judged agent's have none."""
    return zlib.crc32(msg_id.encode()) % ONE_IN == 0


class Mailing:
    """`async with Mailing(trial) as mailing`, inside the trial."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._server = MailServer()
        self._app_id = f"{trial.app_id}-mail"
        self._died = 0

    async def __aenter__(self) -> Self:
        self._trial.create(f"{self._app_id}.errors", f"{self._app_id}.audit")
        changelog = f"{self._app_id}-{AGENT}-changelog"
        self._trial.cluster.create_topics({changelog: self._trial.partitions}, {"cleanup.policy": "compact"})
        self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.stop()

    def begin(self, **settings: str) -> Worker:
        """Start it; only one runs at a time, always on the same disk."""
        own = {"app_id": self._app_id, "agents": AGENT, "smtp_url": self._server.url, "demand": str(DEMAND)}
        worker = self._trial.worker("mailer", **own, **settings)
        self._died += "crash_at" in settings
        return launched(worker, CHAOS_MAILED="1").start()

    async def judge(self, report: Report, guarantee: str) -> None:
        """Let it finish, then look: no mail twice, and each that is missing is audited as in doubt."""
        bootstrap = self._trial.cluster.bootstrap
        last = self.begin()
        await wait_for_lag_zero(bootstrap, self._app_id, [NOTIFICATIONS], LAG_ZERO_WITHIN_S)
        await self._trial.stop(last)
        audit = f"{self._app_id}.audit"
        isolation = "read_uncommitted" if guarantee == GUARANTEES[0] else "read_committed"
        logs = await read(bootstrap, [NOTIFICATIONS, audit, f"{self._app_id}.errors"], isolation)
        bodies = {
            topic: [json.loads(record.value or b"{}") for log in partitions.values() for record in log]
            for topic, partitions in logs.items()
        }
        wanted = {body["msg_id"] for body in bodies[NOTIFICATIONS] if is_mailed(body["msg_id"])}
        doubt = {body["msg_id"] for body in bodies[audit] if body["kind"] == "in doubt"}
        refused = len(bodies[f"{self._app_id}.errors"])
        sent = Counter(mail["Message-ID"].strip("<>").partition("@")[0] for mail in self._server.mails)
        compare(report, wanted, sent, doubt, self._died)
        if refused:
            report.differs("notification refused", f"{self._app_id}.errors", str(refused))


def compare(report: Report, wanted: set[str], sent: Counter[str], doubt: set[str], died: int) -> None:
    """wanted: msg_ids of notifications with an address. sent: mails of each. doubt: msg_ids that were audited.

    died: how often a worker died with a claim that it had not used yet.
    """
    report.figures["mails"] = sent.total()
    report.figures["mails in doubt"] = len(doubt)
    for msg_id, times in sent.items():
        if times > 1:
            report.differs("mail sent twice", msg_id, str(times))
    for msg_id in sorted(sent.keys() - wanted):
        report.differs("mail without a notification", msg_id)
    for msg_id in sorted(wanted - sent.keys() - doubt):
        report.differs("missing mail", msg_id)
    if not wanted:
        report.differs("nothing to mail", NOTIFICATIONS)
    if len(doubt) < died:
        report.differs("claims of dead workers that were used", f"{died} workers died", f"{len(doubt)} mails in doubt")
    if len(doubt) > DEMAND * died:
        report.differs("more mails in doubt than could be under way", len(doubt), f"at most {DEMAND * died}")
