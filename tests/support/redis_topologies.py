"""Redis beyond one plain server, as processes on loopback: a cluster, a primary with its Sentinels, TLS, a Unix socket.

Of the product it imports only what `refused` opens. Every process is a child of this one and ends with the object that started it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.command_line import workyard
from tests.support.harness import RedisServer, free_port, redis_binary, wait_until
from workyard_store.engine.engine import Engine
from workyard_store.errors import StartupRefused
from workyard_store.keys import Keys

SERVICE = "workyard-primary"


def require_redis() -> None:
    """Go on only with a redis-server: without one, fail in CI and skip elsewhere, as the fixtures of conftest.py do."""
    if redis_binary() is None:
        reason = "no redis-server: install the test extra, or Debian's redis-server"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


def raw(port: int, **options: Any) -> redis.Redis:
    """Return a plain client of one server."""
    return redis.Redis(port=port, protocol=2, decode_responses=True, **options)


def refusal(url: str, *options: str) -> str:
    """Return the one line with which a server refuses to start on *url*."""
    done = workyard("serve", "--port", "0", *options, WORKYARD_REDIS_URL=url)
    assert done.returncode != 0, "it started"
    assert done.stdout == ""
    assert done.stderr.startswith("Error: "), done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def refused(url: str, prefix: str = "wy") -> str:
    """Open an engine on an unsuitable Redis; return the message of the refusal."""

    async def start() -> None:
        engine = Engine.at(url, Keys(prefix), connections=1)
        try:
            await engine.open()
        finally:
            await engine.close()

    with pytest.raises(StartupRefused) as caught:
        asyncio.run(start())
    return caught.value.message


# -- cluster --------------------------------------------------------------------------------------------------


class ClusterNode(RedisServer):
    """A primary of a cluster, which keeps its data when it is killed."""

    def __init__(self, engine: str) -> None:
        self.bus_port = free_port()
        super().__init__(
            "--cluster-enabled", "yes", "--cluster-port", str(self.bus_port), "--cluster-node-timeout", "1000",
            "--cluster-require-full-coverage", "no", "--appendonly", "yes", "--appendfsync", "always", engine=engine,
        )  # fmt: skip
        self.raw = raw(self.port)
        self.id = str(self.run("CLUSTER", "MYID"))

    def run(self, *command: str | int) -> Any:
        """Run a command here."""
        return self.raw.execute_command(*command)  # type: ignore[no-untyped-call]

    def known(self) -> dict[int, list[tuple[int, int]]]:
        """Return the ports of all nodes that serve slots, and the first and last of these, as this node knows them."""
        found: dict[int, list[tuple[int, int]]] = {}
        for first, last, (_, port, *_), *_ in self.run("CLUSTER", "SLOTS"):
            found.setdefault(port, []).append((first, last))
        return found

    def serves(self) -> bool:
        """Return whether the node is ready and considers the cluster healthy."""
        try:
            return "cluster_state:ok" in str(self.run("CLUSTER", "INFO"))
        except redis.ConnectionError:
            return False

    def close(self) -> None:
        """End it and remove its data."""
        self.raw.close()
        super().close()


class RedisCluster:
    """Three primaries without replicas, on loopback."""

    def __init__(self, engine: str) -> None:
        self.nodes = [ClusterNode(engine) for _ in range(3)]
        first, *others = self.nodes
        bounds = [0, 5461, 10923, 16384]
        for number, node in enumerate(self.nodes):
            node.run("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.run("CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
        for node in others:
            first.run("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus_port)
        wait_until(
            lambda: all(node.serves() and len(node.known()) == 3 for node in self.nodes), "the cluster is in order", 15
        )
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])

    def slot(self, tag: str) -> int:
        """Return the slot of all keys with this hash tag, by Redis' own word."""
        return int(self.nodes[0].run("CLUSTER", "KEYSLOT", f"{{{tag}}}"))

    def owner(self, tag: str) -> ClusterNode:
        """Return the node that serves the slot of this hash tag. Each node knows that of itself."""
        slot = self.slot(tag)
        for node in self.nodes:
            mine = [node.run("CLUSTER", "MYID")]
            for first, last, (_, _, *identity), *_ in node.run("CLUSTER", "SLOTS"):
                if first <= slot <= last and identity[:1] == mine:
                    return node
        raise AssertionError(f"no node serves slot {slot}")

    def contents(self, tag: str) -> dict[str, bytes]:
        """Return every key with this hash tag and its value, as Redis would save it."""
        keys = self.keys(f"*{{{tag}}}*")
        with closing(redis.Redis(port=self.owner(tag).port)) as client:
            return {key: bytes(client.dump(key)) for key in keys}  # type: ignore[arg-type]

    def keys(self, pattern: str) -> list[str]:
        """Return all keys, of all nodes, that match."""
        return sorted(key for node in self.nodes for key in node.raw.scan_iter(pattern))

    def close(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            node.close()


class SlotMove:
    """One slot on its way to another node, step by step, as `redis-cli --cluster reshard` takes them."""

    def __init__(self, cluster: RedisCluster, slot: int, source: ClusterNode, target: ClusterNode) -> None:
        self._cluster, self._slot, self._source, self._target = cluster, slot, source, target
        target.run("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.run("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)

    def left(self, count: int = 10_000) -> list[str]:
        """Return keys that are still on the source."""
        found: list[str] = self._source.run("CLUSTER", "GETKEYSINSLOT", self._slot, count)
        return found

    def move(self, *keys: str) -> None:
        """Move some keys, in one step."""
        answer = self._source.run("MIGRATE", "127.0.0.1", self._target.port, "", 0, 1000, "KEYS", *keys)
        assert answer == "OK", answer

    def finish(self) -> None:
        """Move the other keys, a few at a time, and tell all nodes who owns the slot now.

        Repeated until they agree: a message from a node that does not know it yet may undo it.
        """
        while keys := self.left(3):
            self.move(*keys)

        def agreed() -> bool:
            for node in (self._target, self._source, *self._cluster.nodes):
                node.run("CLUSTER", "SETSLOT", self._slot, "NODE", self._target.id)
            return all(
                any(first <= self._slot <= last for first, last in node.known().get(self._target.port, []))
                for node in self._cluster.nodes
            )

        wait_until(agreed, f"all nodes know who owns slot {self._slot}")

    def refusals(self) -> int:
        """Count the calls that the source sent away because of the move."""
        stats = self._source.run("INFO", "errorstats")
        return sum(stats.get(f"errorstat_{word}", {}).get("count", 0) for word in ("ASK", "TRYAGAIN"))


# -- Sentinel -------------------------------------------------------------------------------------------------


class SentinelProcess:
    """One Sentinel, which decides in a hurry."""

    def __init__(self, engine: str, primary: int, *lines: str) -> None:
        binary = redis_binary(engine)
        assert binary is not None
        self.port = free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="workyard-sentinel-")
        file = Path(self._folder.name) / "sentinel.conf"
        settings = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self._folder.name}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary} 2",
            f"sentinel down-after-milliseconds {SERVICE} 300",
            f"sentinel failover-timeout {SERVICE} 2000",
            *lines,
        ]
        file.write_text("\n".join(settings) + "\n")
        self.process = subprocess.Popen(
            [binary, str(file), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def close(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self._folder.cleanup()


class Watched:
    """A primary and a replica under three Sentinels; all ask for passwords, the Sentinels for another one."""

    def __init__(self, engine: str, password: str, sentinel_password: str) -> None:
        self.password = password
        locked = ("--requirepass", password, "--masterauth", password, "--repl-diskless-sync-delay", "0")
        self.primary = RedisServer(*locked, engine=engine)
        self.replica = RedisServer(*locked, "--replicaof", "127.0.0.1", str(self.primary.port), engine=engine)
        self.sentinels = [
            SentinelProcess(
                engine,
                self.primary.port,
                f"sentinel auth-pass {SERVICE} {password}",
                f"requirepass {sentinel_password}",
                f"sentinel sentinel-pass {sentinel_password}",
                # The permissions that a user of the Sentinels needs, by docs/redis.md.
                f"user workyard on >{sentinel_password} -@all +sentinel|masters",
            )
            for _ in range(3)
        ]
        self._sentinel_password = sentinel_password
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        self.url = f"redis+sentinel://:{password}@{hosts}/{SERVICE}/0"
        self.url += f"?sentinel_username=workyard&sentinel_password={sentinel_password}"
        wait_until(self._settled, "the Sentinels know each other and the replica", 15)

    def _settled(self) -> bool:
        for sentinel in self.sentinels:
            try:
                with closing(raw(sentinel.port, password=self._sentinel_password)) as client:
                    state: Any = client.sentinel_master(SERVICE)
                    if (state["num-other-sentinels"], state["num-slaves"], state["flags"]) != (2, 1, "master"):
                        return False
                    [replica] = client.sentinel_slaves(SERVICE)
                    if replica["flags"] != "slave" or replica["master-link-status"] != "ok":
                        return False
            except redis.RedisError:
                return False
        return True

    def replicated(self) -> None:
        """Wait until the replica has everything that was written so far."""

        def offsets() -> set[int]:
            found = set()
            for server in (self.primary, self.replica):
                with closing(raw(server.port, password=self.password)) as client:
                    info = client.execute_command("INFO", "replication")  # type: ignore[no-untyped-call]
                    found.add(info["master_repl_offset"])
            return found

        wait_until(lambda: len(offsets()) == 1, "the replica has everything")

    def close(self) -> None:
        """End all processes."""
        for sentinel in self.sentinels:
            sentinel.close()
        self.primary.close()
        self.replica.close()


# -- TLS ------------------------------------------------------------------------------------------------------


class TlsServer:
    """A Redis that is reached by TLS only, with a certificate of our own making, and asks clients for theirs."""

    def __init__(self) -> None:
        binary = redis_binary()
        assert binary is not None
        self._folder = tempfile.TemporaryDirectory(prefix="workyard-tls-")
        folder = Path(self._folder.name)
        self.certificate, self.key = folder / "server.crt", folder / "server.key"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
             "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", str(self.key), "-out", str(self.certificate)],
            check=True,
            capture_output=True,
        )  # fmt: skip
        self.port = free_port()
        self.process = subprocess.Popen(
            [binary, "--bind", "127.0.0.1", "--port", "0", "--tls-port", str(self.port), "--dir", str(folder),
             "--save", "", "--tls-cert-file", str(self.certificate), "--tls-key-file", str(self.key),
             "--tls-ca-cert-file", str(self.certificate), "--tls-auth-clients", "yes"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        self.options = f"ssl_ca_certs={self.certificate}&ssl_certfile={self.certificate}&ssl_keyfile={self.key}"

    def supported(self) -> bool:
        """Wait until it is ready; false if this binary was built without TLS."""
        assert self.process.stdout is not None
        return any("Ready to accept connections" in line for line in self.process.stdout)

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()
        self._folder.cleanup()


def tls_server() -> Iterator[TlsServer | None]:
    """Yield a TLS server, or None where this redis-server has no TLS; end it afterwards."""
    server = TlsServer()
    try:
        yield server if server.supported() else None
    finally:
        server.close()
