"""A canary in every secret: whatever happens, no log, error, page or representation shows it."""

import asyncio
import json
from pathlib import Path

import pytest

from pipeline.core.errors import Misconfigured
from pipeline.runtime.app import App
from pipeline.runtime.load import load_app
from pipeline.runtime.security import client_security, faust_credentials
from pipeline.runtime.settings import Settings, read_settings
from tests.behaviour.place import Place
from tests.behaviour.test_web import get
from tests.kafka.waiting import until
from tests.oracle.generator import Made, Mix, generate
from tests.oracle.writer import write

CANARY = "canary-4f1c"
SECRETS = {
    "sasl_password": CANARY,
    "web_token": CANARY,
    "database_url": f"postgresql+psycopg://me:{CANARY}@127.0.0.1:1/x?application_name={CANARY}",
    "smtp_url": f"smtp://me:{CANARY}@127.0.0.1:1",
    "alert_webhook": f"http://127.0.0.1:1/hook/{CANARY}?key={CANARY}",
}
SASL = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_username": "ann"}
WORKER = {name: value for name, value in SECRETS.items() if name != "sasl_password"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings(**SECRETS, **SASL, data_dir=tmp_path)


def test_no_representation_of_the_settings_shows_one(settings: Settings) -> None:
    hidden = (settings.sasl_password, settings.web_token, settings.smtp_url)
    shown = [repr(settings), str(settings), *map(repr, hidden), *map(str, hidden)]
    assert CANARY not in "".join(shown)
    assert CANARY in client_security(settings)["sasl_plain_password"]
    assert CANARY not in repr(faust_credentials(client_security(settings)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"broker": f"kafka://ann:{CANARY}@kafka-1:9092"},
        {"broker": f"kafka://127.0.0.1:1,http://ann:{CANARY}@kafka-1"},
        {"web_port": "no number", **SECRETS},
        {"sasl_mechanism": "none", **SECRETS},
        {"sasl_password": CANARY, "sasl_password_file": "x", **SASL},
        {"sasl_password": CANARY},
        {"broker": "kafka://kafka-1:1", "sasl_password": CANARY, **SASL},
    ],
)
def test_no_refusal_of_settings_shows_one(wrong: dict[str, str]) -> None:
    with pytest.raises(Misconfigured) as refusal:
        client_security(read_settings(**wrong))
    assert CANARY not in f"{refusal.value!s}{refusal.value!r}"


async def test_the_application_does_not_show_one(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    app: App = load_app(settings)
    monkeypatch.setattr(app, "settings", settings)
    monkeypatch.setattr(app, "_context", None)
    app.__dict__.pop("security", None)
    assert app.security["sasl_plain_password"] == CANARY
    shown = [repr(app), repr(app.context.database), repr(app.context.alerts), repr(app.conf), str(app.conf)]
    app.__dict__.pop("security", None)
    assert CANARY not in "".join(shown)


async def test_no_page_and_no_log_of_a_worker_shows_one_while_everything_fails(tmp_path: Path) -> None:
    """Database, mail server and webhook are away; the log is at its most talkative."""
    agents = ("user-events", "read-model", "notification-sender")
    log = tmp_path / "worker.log"
    with Place(tmp_path, agents=agents, **WORKER) as place, log.open("w") as errors:
        with place.cli.running("worker", "--loglevel", "debug", web_port="0", stderr=errors) as worker:
            assert worker.stdout
            line = await asyncio.to_thread(worker.stdout.readline)
            url = line.split("web=")[1].strip()
            await write(place.bootstrap, generate(1, Mix(events=300, poison=0.05)), 2)
            await write(place.bootstrap, [notification()], 2)

            async def both_blocked() -> bool:
                _, body = await asyncio.to_thread(get, f"{url}/health/ready")
                return {"read-model", "notification-sender"} <= {head["agent"] for head in body.get("blocked", [])}

            await until(both_blocked, 60, "database and mail server are waited for")
            await until(lambda: "alert webhook didn't take" in log.read_text(), 60, "the webhook is tried")
            asked = [f"{url}/{page}" for page in ("health/live", "health/ready", "metrics", "state/comments/1", "")]
            pages = [line, *[str(await asyncio.to_thread(get, page)) for page in asked]]
            wrong = f"Bearer {CANARY}x"
            pages.append(str(await asyncio.to_thread(get, f"{url}/state/comments/1", "GET", Authorization=wrong)))
            worker.terminate()
            await asyncio.to_thread(worker.wait, 30)
        said = log.read_text(errors="replace")
        assert "blocks on database" in said
        assert "blocks on smtp" in said
        assert "DEBUG" in said
        assert CANARY not in said
        assert CANARY not in "".join(pages)
        for command in (("doctor",), ("topics", "plan"), ("tables", "get", "comments", "1"), ("errors", "list")):
            ended = place.cli(*command)
            assert CANARY not in ended.out + ended.err, command


def notification() -> Made:
    """One that has an address, so that it is mailed."""
    data = {"user_id": 1, "text": "hello", "email": "ann@example.org"}
    value = {"msg_id": "8700635f-1802-417e-89e7-595ad3600104", "type": "notification.requested", "data": data}
    return Made("notifications", b"1", json.dumps(value).encode(), (), "notification")
