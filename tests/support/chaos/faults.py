"""The faults of the chaos suite: each breaks something at a moment from a seeded generator, and heals it. Judges
nothing; `chaos_rounds` runs them.
"""

from __future__ import annotations

import random
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar

import redis

from tests.support.chaos.calls import Assignment, Call, Lane
from tests.support.chaos.load import Crew
from tests.support.chaos.stage import Stage, pause, steady_port
from tests.support.harness import Api, RedisServer, wait_until

#: Connections of the flood on a server that has one to Redis.
_FLOOD = 48
#: Workers more than there is work for.
_IDLE = 20


@dataclass(slots=True)
class Strike:
    """The effects of a fault. `moments`: when it hit, on the machine's monotonic clock; `ports`: the servers whose requests
    it hit; `calls`: its own requests; `failures`: their problems.
    """

    moments: list[float]
    ports: list[int]
    calls: list[Call] = field(default_factory=list)
    failures: str = ""


class Fault(ABC):
    """One kind of fault. `loses`: it must cost answers, or it was none."""

    name: ClassVar[str]
    does: ClassVar[str]
    loses: ClassVar[bool] = True
    server_options: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def strike(self, stage: Stage, api: Api, environment: str, chance: random.Random) -> Strike:
        """Break something under load, and heal it before returning."""


class ServerKilled(Fault):
    """One of two servers dies in the middle of requests."""

    name = "server-killed"
    does = "SIGKILL of one of the two servers, started again on its port"

    def strike(self, stage: Stage, api: Api, environment: str, chance: random.Random) -> Strike:
        number = chance.randrange(len(stage.servers))
        struck_at = time.monotonic()
        stage.kill_server(number)
        pause(chance.uniform(0, 0.2))
        stage.start_server(number)
        return Strike([struck_at], [stage.ports[number]])


class ClientDropped(Fault):
    """Many clients disconnect at the same time, after the request and before the answer, blocked polls too."""

    name = "client-dropped"
    does = (
        f"{_IDLE} more workers, so that polls block; two in three of all calls under way cut off before the answer, by "
        "FIN or RST, five times"
    )

    def strike(self, stage: Stage, api: Api, environment: str, chance: random.Random) -> Strike:
        journal = str(stage.folder / "idle.jsonl")
        crew = Crew(
            Assignment(
                "guest", "idle", _IDLE, stage.ports, api.api_key, environment, chance.randrange(1 << 30), journal
            )
        )
        crew.go()
        moments = []
        try:
            for _ in range(5):
                pause(chance.uniform(0.02, 0.1))
                moments.append(time.monotonic())
                crew.drop(chance.randrange(1 << 30))
                stage.drop(chance.randrange(1 << 30))
        finally:
            failures = crew.finish()
        return Strike(moments, stage.ports, [call for lane in crew.lanes for call in lane.journal], failures)


class RedisKilled(Fault):
    """Redis dies and restarts with the contents of its append-only file."""

    name = "redis-killed"
    does = "SIGKILL of Redis, started again on its port and data"

    def strike(self, stage: Stage, api: Api, environment: str, chance: random.Random) -> Strike:
        struck_at = time.monotonic()
        stage.redis.stop(signal.SIGKILL)
        pause(chance.uniform(0, 0.3))
        stage.redis.start()
        return Strike([struck_at], stage.ports)


class RedisPaused(Fault):
    """Redis hangs for longer than the server waits for it."""

    name = "redis-paused"
    does = "SIGSTOP of Redis for 2.1 to 2.6 s, longer than the socket timeout of 2 s"

    def strike(self, stage: Stage, api: Api, environment: str, chance: random.Random) -> Strike:
        process = stage.redis.process
        assert process is not None
        struck_at = time.monotonic()
        process.send_signal(signal.SIGSTOP)
        try:
            pause(chance.uniform(2.1, 2.6))
        finally:
            process.send_signal(signal.SIGCONT)
        return Strike([struck_at], stage.ports)


class PoolExhausted(Fault):
    """A flood on servers with one connection to Redis each, which then lose it and get no other for a while."""

    name = "pool-exhausted"
    does = (
        f"{_FLOOD} more clients on servers with one connection to Redis each; all connections cut (CLIENT KILL), "
        "new ones refused (maxclients 1) for 0.1 to 0.4 s"
    )
    server_options = ("--redis-connections", "1")

    def strike(self, stage: Stage, api: Api, environment: str, chance: random.Random) -> Strike:
        given = Assignment(
            "flood", "flood", _FLOOD, stage.ports, api.api_key, environment, chance.randrange(1 << 30), ""
        )
        flood = [_Flood(given, number) for number in range(_FLOOD)]
        with redis.Redis(port=stage.redis.port) as admin, ThreadPoolExecutor(_FLOOD) as pool:
            most = admin.config_get("maxclients")["maxclients"]
            running = [pool.submit(lane.run) for lane in flood]
            try:
                pause(chance.uniform(0.05, 0.2))
                admin.config_set("maxclients", 1)
                struck_at = time.monotonic()
                for kind in ("normal", "pubsub"):
                    admin.client_kill_filter(_type=kind, skipme=True)
                pause(chance.uniform(0.1, 0.4))
            finally:
                admin.config_set("maxclients", most)
                for lane in flood:
                    lane.finish()
            for each in running:
                each.result()
        return Strike([struck_at], stage.ports, [call for lane in flood for call in lane.journal])


class _Flood(Lane):
    """Reads as fast as it can, so that every request waits for the one connection."""

    def run(self) -> None:
        verbs: list[tuple[str, Callable[[], str]]] = [("stats", lambda: self.path("stats")), ("list", self.path)]
        while not self.finishing.is_set():
            verb, path = self.random.choice(verbs)
            call = self.call(verb, "GET", path())
            if call.status == 0:
                self.finishing.wait(0.02)  # A client's pause before it connects again.
        self.close()


class ReplicaComesAndGoes(Fault):
    """A replica is added under load and leaves again: detached in good order, or killed at any moment of its sync."""

    name = "replica"
    does = "a replica attached to Redis, then detached, or killed at a random moment of its first synchronisation"
    loses = False

    def strike(self, stage: Stage, api: Api, environment: str, chance: random.Random) -> Strike:
        replica = RedisServer(engine=stage.engine, port=steady_port())
        try:
            with redis.Redis(port=replica.port) as admin:
                struck_at = time.monotonic()
                admin.replicaof("127.0.0.1", stage.redis.port)
                if chance.random() < 0.5:
                    pause(chance.uniform(0, 0.2))
                else:
                    wait_until(
                        lambda: admin.info("replication")["master_link_status"] == "up", "the replica is in sync"
                    )
                    pause(chance.uniform(0, 0.1))
                    with suppress(redis.ConnectionError):
                        admin.replicaof("NO", "ONE")
        finally:
            replica.close()
        return Strike([struck_at], stage.ports)


FAULTS: dict[str, type[Fault]] = {
    fault.name: fault
    for fault in (ServerKilled, ClientDropped, RedisKilled, RedisPaused, PoolExhausted, ReplicaComesAndGoes)
}
