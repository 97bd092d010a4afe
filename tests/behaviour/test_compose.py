"""docker-compose.yml and the Dockerfile: their rules are read, and each service's command, environment and health check
run as local processes, since a machine that runs tests may have no Docker.
"""

import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from pipeline.broker import EmbeddedBroker
from pipeline.runtime.settings import Settings
from tests.behaviour.compose_file import (
    REPOSITORY,
    Moved,
    environment,
    health_check,
    load,
    running,
    succeeds,
    wait_healthy,
)
from tests.kafka.jars import NEWEST, program

COMPOSE = load()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
KAFKA = ("kafka-1", "kafka-2", "kafka-3")
OURS = ("topics", "worker", "gateway")
# What the image's scripts run, by the name of the script.
KAFKA_SCRIPTS = {"kafka-broker-api-versions.sh": "org.apache.kafka.tools.BrokerApiVersionsCommand"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def is_command(*command: str) -> bool:
    """Whether `hardparts` has this command; one that it has but that is broken is an error, not a reason to skip."""
    help_line = [sys.executable, "-m", "pipeline", *command, "--help"]
    answer = subprocess.run(help_line, capture_output=True, text=True, check=False)
    assert answer.returncode == 0 or "No such command" in answer.stderr, answer.stderr
    return answer.returncode == 0


# --- rules ---


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_runs_as_root_or_with_privileges(name: str) -> None:
    service = SERVICES[name]
    user, _, group = service["user"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert not {"cap_add", "privileged", "pid", "ipc"} & service.keys()
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_has_a_fixed_version(name: str) -> None:
    image, _, version = SERVICES[name]["image"].partition(":")
    assert version
    assert version != "latest"
    assert (image == "hardparts") == ("build" in SERVICES[name])
    assert version == NEWEST or "kafka" not in image, "what the tests run"


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_that_stays_has_a_health_check_and_named_volumes_exist(name: str) -> None:
    service = SERVICES[name]
    if name == "topics":
        assert service["healthcheck"] == {"disable": True}
    else:
        assert health_check(service)
    named = {volume.split(":")[0] for volume in service.get("volumes", []) if not volume.startswith("/")}
    assert named <= COMPOSE["volumes"].keys()


def test_nothing_starts_before_what_it_needs() -> None:
    assert SERVICES["topics"]["depends_on"].keys() == set(KAFKA)
    assert all(need["condition"] == "service_healthy" for need in SERVICES["topics"]["depends_on"].values())
    assert SERVICES["worker"]["depends_on"]["topics"] == {"condition": "service_completed_successfully"}
    assert SERVICES["worker"]["depends_on"]["postgres"] == {"condition": "service_healthy"}


def test_records_are_on_two_brokers_before_they_are_acknowledged() -> None:
    for name in KAFKA:
        settings = environment(SERVICES[name])
        assert settings["KAFKA_DEFAULT_REPLICATION_FACTOR"] == "3"
        assert settings["KAFKA_MIN_INSYNC_REPLICAS"] == "2"
        assert settings["KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE"] == "false"
    assert environment(SERVICES["worker"])["HARDPARTS_REPLICATION"] == "3"


def test_there_are_several_workers_each_with_a_slot_of_the_volume_that_stays() -> None:
    assert int(SERVICES["worker"]["deploy"]["replicas"]) >= 2
    assert SERVICES["worker"]["volumes"] == ["workers:/var/lib/hardparts"]
    assert environment(SERVICES["worker"])["HARDPARTS_INSTANCE"] == "auto"


def test_every_setting_of_ours_exists() -> None:
    """A misspelt variable is ignored in silence by the program that should read it."""
    named = set(re.findall(r"HARDPARTS_\w+(?==)", (REPOSITORY / "Dockerfile").read_text())) - {"HARDPARTS_SKIP_BROKER"}
    named |= {name for service in OURS for name in environment(SERVICES[service])}
    assert len(named) > 5
    assert {name.removeprefix("HARDPARTS_").lower() for name in named} <= Settings.model_fields.keys()


def test_the_image_is_not_root_has_no_compiler_and_checks_that_it_is_live() -> None:
    stages = re.split(r"^FROM ", (REPOSITORY / "Dockerfile").read_text(), flags=re.MULTILINE)
    builder, image = stages[-2], stages[-1]
    assert "HARDPARTS_SKIP_BROKER=1" in builder
    assert "--require-hashes" in builder
    assert not re.search(r"\b(gcc|golang|apt-get|pip install)\b", image)
    assert re.findall(r"^USER (.*)$", image, flags=re.MULTILINE) == [SERVICES["worker"]["user"]]
    assert "/health/live" in image.split("HEALTHCHECK")[1]
    for copied in re.findall(r"^COPY (?!--from)(.*) \S+$", builder, flags=re.MULTILINE):
        assert [name for name in copied.split() if not (REPOSITORY / name).exists()] == []


# --- processes ---


@pytest.fixture
def postgres() -> Iterator[int]:
    """The postgres service as a local process; its port."""
    # Not below pytest's directory, which only its owner may enter.
    with tempfile.TemporaryDirectory(prefix="hardparts-postgres-") as directory:
        yield from postgres_in(Path(directory))


def postgres_in(home: Path) -> Iterator[int]:
    program = shutil.which("postgres") or str(max(Path("/usr/lib/postgresql").glob("*/bin/postgres")))
    programs = Path(program).resolve().parent
    service = SERVICES["postgres"]
    settings = environment(service)
    owner = None
    if os.geteuid() == 0:  # it refuses to run as root, here as in the container
        owner = "nobody"
        os.chown(home, pwd.getpwnam(owner).pw_uid, -1)
    secret = home / "password"
    secret.write_text(settings["POSTGRES_PASSWORD"])
    secret.chmod(0o644)
    # What the image's entry point does before it starts the command.
    initialise = [
        programs / "initdb",
        "-D",
        home / "data",
        f"--username={settings['POSTGRES_USER']}",
        f"--pwfile={secret}",
    ]
    subprocess.run(
        [*initialise, *settings["POSTGRES_INITDB_ARGS"].split()], user=owner, check=True, capture_output=True, cwd="/"
    )
    port = free_port()
    command = [str(programs / service["command"][0]), *service["command"][1:]]
    command += ["-D", str(home / "data"), "-p", str(port), "-k", str(home), "-h", "127.0.0.1"]
    moved = Moved({"--port=5432": f"--port={port}"})
    check = [str(programs / health_check(service)[0]), *map(moved, health_check(service)[1:])]
    log = home / "log"
    with running(command, log, settings, user=owner, cwd=home) as process:
        wait_healthy(process, lambda: succeeds(check, settings), log)
        address = f"postgresql+psycopg://{settings['POSTGRES_USER']}:{settings['POSTGRES_PASSWORD']}@127.0.0.1:{port}/postgres"
        engine = sqlalchemy.create_engine(address, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(f'CREATE DATABASE "{settings["POSTGRES_DB"]}"'))
        engine.dispose()
        yield port


@pytest.mark.postgres
def test_postgres_is_healthy_and_takes_the_password_that_workers_have(postgres: int) -> None:
    address = environment(SERVICES["worker"])["HARDPARTS_DATABASE_URL"]
    engine = sqlalchemy.create_engine(Moved({"postgres:5432": f"127.0.0.1:{postgres}"})(address))
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SHOW server_encoding")).scalar_one() == "UTF8"
        assert connection.execute(sqlalchemy.text("SHOW max_connections")).scalar_one() == "100"
    wrong = sqlalchemy.create_engine(engine.url.set(password="wrong"))
    with pytest.raises(sqlalchemy.exc.OperationalError, match="password authentication failed"):
        wrong.connect()
    engine.dispose()


@pytest.mark.kafka
@pytest.mark.timeout(300)
async def test_three_kafka_brokers_become_healthy_and_keep_writing_without_one(tmp_path: Path) -> None:
    moved = Moved()
    ports = {name: (free_port(), free_port()) for name in KAFKA}
    for name, (port, controller_port) in ports.items():
        moved.places |= {f"{name}:9092": f"127.0.0.1:{port}", f"{name}:9093": f"127.0.0.1:{controller_port}"}
    with ExitStack() as stack:
        brokers = {}
        for name in KAFKA:
            brokers[name] = stack.enter_context(running(*kafka_process(name, ports[name], moved, tmp_path)))
            stack.callback(brokers[name].kill)  # a clean stop would wait for a quorum that is going away as well
        for name, process in brokers.items():
            script, *arguments = health_check(SERVICES[name])
            here = Moved({"127.0.0.1:9092": moved(f"{name}:9092")})
            check = program(KAFKA_SCRIPTS[Path(script).name], *map(here, arguments))
            wait_healthy(process, lambda check=check: succeeds(check, {}), tmp_path / name / "log", timeout_s=90)  # type: ignore[misc]
        bootstrap = [moved(f"{name}:9092") for name in KAFKA]
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            # Replication left to the brokers, to see their default.
            defaults = NewTopic("letters", num_partitions=3, replication_factor=-1, replica_assignments={})
            await admin.create_topics([defaults])
            (topic,) = await admin.describe_topics(["letters"])
        finally:
            await admin.close()
        assert {len(partition["replicas"]) for partition in topic["partitions"]} == {3}
        brokers["kafka-1"].kill()
        brokers["kafka-1"].wait()
        async with AIOKafkaProducer(bootstrap_servers=bootstrap[1:], acks="all", enable_idempotence=True) as producer:
            sent = [await producer.send_and_wait("letters", b"still here", partition=number) for number in range(3)]
        assert {record.partition for record in sent} == {0, 1, 2}


def kafka_process(
    name: str, ports: tuple[int, int], moved: Moved, tmp_path: Path
) -> tuple[list[str], Path, dict[str, str]]:
    """Command, log and environment of a broker, after the formatting that the image's entry point does."""
    home = tmp_path / name
    home.mkdir()
    settings = environment(SERVICES[name])
    cluster, heap = settings.pop("CLUSTER_ID"), tuple(settings.pop("KAFKA_HEAP_OPTS").split())
    here = Moved({"0.0.0.0:9092": f"127.0.0.1:{ports[0]}", "0.0.0.0:9093": f"127.0.0.1:{ports[1]}"})
    here.places |= moved.places | {"/var/lib/kafka/data": str(home / "data")}
    # KAFKA_MIN_INSYNC_REPLICAS → min.insync.replicas, as the image does
    properties = {
        variable.removeprefix("KAFKA_").lower().replace("_", "."): here(value) for variable, value in settings.items()
    }
    file = home / "server.properties"
    file.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
    made = program("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(file))
    subprocess.run(made, check=True, capture_output=True)
    return program("kafka.Kafka", str(file), options=heap), home / "log", {}


def test_the_mail_catcher_is_healthy(tmp_path: Path) -> None:
    program = shutil.which("mailpit")
    if program is None:
        pytest.skip("mail: no mailpit program on this machine")
    smtp, web = free_port(), free_port()
    settings = environment(SERVICES["mail"]) | {
        "MP_SMTP_BIND_ADDR": f"127.0.0.1:{smtp}",
        "MP_UI_BIND_ADDR": f"127.0.0.1:{web}",
    }
    with running([program], tmp_path / "log", settings) as process:
        wait_healthy(
            process, lambda: succeeds([program, *health_check(SERVICES["mail"])[1:]], settings), tmp_path / "log"
        )
        with socket.create_connection(("127.0.0.1", smtp), timeout=5) as connection:
            assert connection.recv(3) == b"220"


def test_topics_are_applied_and_two_workers_become_healthy(tmp_path: Path) -> None:
    """On the embedded broker, three of them; `make test-kafka` has the same programs on Apache Kafka."""
    for command in (SERVICES["topics"]["command"], SERVICES["worker"]["command"]):
        if not is_command(*command):
            pytest.skip(f"topics, worker: there is no `hardparts {' '.join(command)}` yet")
    hardparts = [sys.executable, "-m", "pipeline"]
    with EmbeddedBroker(brokers=3) as broker, ExitStack() as stack:
        moved = Moved(dict(zip((f"{name}:9092" for name in KAFKA), broker.bootstrap.split(","), strict=True)))
        moved.places["mail:1025"] = f"127.0.0.1:{free_port()}"
        settings = moved.all(environment(SERVICES["topics"])) | {"PYTHONPATH": str(REPOSITORY)}
        # The database has a test of its own above; a file stands for it where PostgreSQL is missing.
        settings["HARDPARTS_DATABASE_URL"] = f"sqlite:///{tmp_path / 'read-model.sqlite3'}"
        for _ in range(2):  # each start of compose runs it again
            command = [*hardparts, *SERVICES["topics"]["command"]]
            subprocess.run(command, env={"PATH": os.environ["PATH"], **settings}, check=True, timeout=60)
        shared = environment(SERVICES["worker"]) | settings | {"HARDPARTS_DATA_DIR": str(tmp_path / "data")}
        for number in range(2):
            home = tmp_path / f"worker-{number}"
            home.mkdir()
            own = dict(shared)
            own["HARDPARTS_WEB_PORT"] = str(free_port())
            worker = stack.enter_context(
                running([*hardparts, *SERVICES["worker"]["command"]], home / "log", own, cwd=home)
            )
            check = [sys.executable, *health_check(SERVICES["worker"])[1:]]
            wait_healthy(worker, lambda check=check, own=own: succeeds(check, own), home / "log")  # type: ignore[misc]
        assert {path.name for path in (tmp_path / "data" / "hardparts").iterdir()} == {"slot-0", "slot-1"}


def test_the_gateway_becomes_healthy_without_a_broker_and_takes_an_event_with_its_token(tmp_path: Path) -> None:
    service = SERVICES["gateway"]
    port = free_port()
    moved = Moved({f"{name}:9092": f"127.0.0.1:{free_port()}" for name in KAFKA})
    settings = moved.all(environment(service)) | {
        "PYTHONPATH": str(REPOSITORY), "HARDPARTS_WEB_HOST": "127.0.0.1",
        "HARDPARTS_GATEWAY_PORT": str(port), "HARDPARTS_DATA_DIR": str(tmp_path / "data"),
    }  # fmt: skip
    command = [sys.executable, "-m", "pipeline", *service["command"]]
    with running(command, tmp_path / "log", settings, cwd=tmp_path) as process:
        check = [sys.executable, *health_check(service)[1:]]
        wait_healthy(process, lambda: succeeds(check, settings), tmp_path / "log")
        data = {"user_id": 1, "team_id": 2}
        body = json.dumps({"msg_id": str(uuid.uuid4()), "type": "team.joined", "data": data}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/events/team-events", body)
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(request, timeout=30)
        request.add_header("Authorization", f"Bearer {settings['HARDPARTS_WEB_TOKEN']}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 202
    assert (tmp_path / "data" / settings["HARDPARTS_INSTANCE"] / "spill").is_dir()
