"""Redis Cluster: three primaries on loopback, reached by two server processes. Source: docs/redis.md.

Nodes are killed and slots are moved while calls are under way: what is answered has happened once, the rest is a 503.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import httpx
import pytest

from tests.support.harness import NOON, Api, RedisServer, WorkyardServer, running_server, wait_until
from tests.support.proxies import ANSWERED_WITHIN_S, AnswerDroppingProxy
from tests.support.redis_topologies import ClusterNode, RedisCluster, SlotMove, refused

#: On one test process: it takes seconds to make a cluster.
pytestmark = pytest.mark.xdist_group("cluster")


@pytest.fixture(scope="module")
def cluster(redis_engine: str) -> Iterator[RedisCluster]:
    """A cluster of each real Redis."""
    running = RedisCluster(redis_engine)
    yield running
    running.close()


@pytest.fixture(scope="module")
def servers(cluster: RedisCluster) -> Iterator[tuple[WorkyardServer, WorkyardServer]]:
    """Two processes on one cluster. None may meet an error it does not expect."""
    with running_server("--redis-url", cluster.url) as one, running_server("--redis-url", cluster.url) as other:
        yield one, other
        assert (one.stop(), other.stop()) == (0, 0)
        assert "Traceback" not in one.log() + other.log()


@pytest.fixture
def apis(servers: tuple[WorkyardServer, WorkyardServer], new_api: Callable[..., Api]) -> tuple[Api, Api]:
    """Two clients of one workspace, each at another process."""
    one = new_api(servers[0].url)
    return one, new_api(servers[1].url, one.api_key)


def queue_on(api: Api, cluster: RedisCluster, node: ClusterNode) -> str:
    """Create environments until one lies on *node*; return its id."""
    for _ in range(60):
        queue = api.queue()
        if cluster.owner(queue) is node:
            return queue
    raise AssertionError("sixty environments, and none on that node")


def another(cluster: RedisCluster, node: ClusterNode) -> ClusterNode:
    """Return a node that is not *node*."""
    return next(each for each in cluster.nodes if each is not node)


def healthy(api: Api) -> bool:
    """Tell whether the server reaches every node."""
    return api.get("/_emulator/health").status_code == 200


# -- in order -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(3))
def test_the_whole_life_of_work_passes_on_every_node(apis: tuple[Api, Api], cluster: RedisCluster, number: int) -> None:
    """Each step through the other process than the step before."""
    one, other = apis
    one.freeze()
    queue = queue_on(one, cluster, cluster.nodes[number])
    items = [item["id"] for item in other.enqueue(queue, 3)]
    assert one.poll(queue)["id"] == items[0]
    other.ok(other.ack(queue, items[0]))
    beat = one.ok(one.heartbeat(queue, items[0], "NO_HEARTBEAT"))["last_heartbeat"]
    other.advance(5)
    assert other.ok(other.heartbeat(queue, items[0], beat))["lease_extended"] is True
    one.ok(one.stop(queue, items[0], force=True))
    assert other.work(queue, items[0])["state"] == "stopped"
    assert one.stats(queue)["depth"] == 2
    assert [row["id"] for row in other.ok(other.get(other.path(queue)))["data"]] == items[::-1]
    assert other.active(queue)[0] == items[1]
    other.advance(301)
    assert one.stats(queue)["depth"] == 2, "the lease has lapsed"


def test_lists_reach_over_all_nodes_and_reset_leaves_nothing(apis: tuple[Api, Api], cluster: RedisCluster) -> None:
    """What is left over is counted on every node, not on one."""
    one, other = apis
    queues = [queue_on(one, cluster, node) for node in cluster.nodes]
    for queue in queues:
        one.enqueue(queue, 2)
    rows = [row["id"] for row in other.ok(other.get("/v1/environments?limit=100"))["data"]]
    assert set(queues) <= set(rows)
    assert other.ok(other.get("/_emulator/health"))["engine"] == "redis"
    deleted = rows.pop()
    other.ok(other.delete(f"/v1/environments/{deleted}?force=true"))
    assert [key for key in cluster.keys("wy:{env_*") if deleted in key] == []
    assert one.reset()["leftover_keys"] == 0
    assert [key for key in cluster.keys("wy:{env_*") if key.split("{")[1].split("}")[0] in rows] == []


def test_skills_and_memories_lie_with_their_workspace(apis: tuple[Api, Api]) -> None:
    """Each step through the other process; a reset takes them from whichever node it is."""
    one, other = apis
    files = {"files": {"SKILL.md": "---\nname: spread\ndescription: d\n---\n"}}
    skill = one.ok(one.request("PUT", "/_emulator/skills/spread", json=files))
    version = other.ok(other.get(f"/v1/skills/{skill['id']}/versions/latest"))["id"]
    assert one.get(f"/v1/skills/{skill['id']}/versions/{version}/content").content.startswith(b"PK")
    store = one.ok(one.post("/v1/memory_stores", json={"name": "spread"}))["id"]
    memories = f"/v1/memory_stores/{store}/memories"
    ids = [other.ok(other.post(memories, json={"path": f"/{n}", "content": n}))["id"] for n in "abc"]
    one.ok(one.post(f"{memories}/{ids[0]}", json={"content": "changed", "path": "/d"}))
    other.ok(other.delete(f"{memories}/{ids[1]}"))
    listed = one.ok(one.get(memories, params={"view": "full"}))["data"]
    assert [(row["path"], row["content"]) for row in listed] == [("/c", "c"), ("/d", "changed")]
    assert other.reset()["leftover_keys"] == 0
    assert one.ok(one.get("/v1/memory_stores"))["data"] == []


def test_all_keys_of_an_environment_lie_in_one_slot(apis: tuple[Api, Api], cluster: RedisCluster) -> None:
    """Every kind of key that there is, by Redis' own reckoning of slots."""
    one, _ = apis
    queue = one.queue()
    one.ok(one.post(f"/_emulator/environments/{queue}/keys", json={"name": "k"}))
    one.enqueue(queue, 3, idempotency_key="once")
    one.active(queue)
    one.poll(queue, "worker")
    keys = cluster.keys(f"wy:*{queue}*")
    kinds = {key.split("}:")[1].split(":")[0] for key in keys}
    assert kinds == {"env", "work", "tokens", "stream", "polled", "leases", "index", "pollers", "keys", "idem", "life"}
    assert {cluster.nodes[0].run("CLUSTER", "KEYSLOT", key) for key in keys} == {cluster.slot(queue)}


@pytest.mark.parametrize("number", range(3))
def test_a_blocked_poll_is_woken_by_an_enqueue_through_the_other_process(
    apis: tuple[Api, Api], cluster: RedisCluster, number: int
) -> None:
    """The script publishes on its own node; the subscription may be at any."""
    one, other = apis
    queue = queue_on(one, cluster, cluster.nodes[number])
    with ThreadPoolExecutor(1) as pool:
        blocked = pool.submit(one.poll, queue, "waiting", block_ms=999)
        wait_until(lambda: other.stats(queue)["workers_polling"] == 1, "the poll has begun")
        started = time.monotonic()
        [item] = other.enqueue(queue)
        assert blocked.result()["id"] == item["id"]
        assert time.monotonic() - started < 0.5


def test_connections_to_each_node_are_bounded(cluster: RedisCluster) -> None:
    """Two at most, by the setting, under forty calls at a time."""

    def connections(node: ClusterNode) -> int:
        return len(node.run("CLIENT", "LIST", "TYPE", "normal").splitlines())

    before = [connections(node) for node in cluster.nodes]
    with (
        running_server("--redis-url", cluster.url, "--redis-connections", "2") as server,
        closing(Api(server.url)) as api,
    ):
        queues = [queue_on(api, cluster, node) for node in cluster.nodes]
        with ThreadPoolExecutor(40) as pool:
            assert all(pool.map(lambda n: api.stats(queues[n % 3])["depth"] == 0, range(240)))
        # redis-py closes no idle connection: these are all there ever were.
        for node, earlier in zip(cluster.nodes, before, strict=True):
            assert 1 <= connections(node) - earlier <= 2
        assert api.reset()["leftover_keys"] == 0


# -- answers that are lost ------------------------------------------------------------------------------------


def test_an_enqueue_whose_answer_is_lost_enqueues_once(
    apis: tuple[Api, Api], cluster: RedisCluster, new_api: Callable[..., Api]
) -> None:
    """A node announces a proxy as its address, and the proxy swallows an answer."""
    seeing, _ = apis
    node = cluster.nodes[1]
    with closing(AnswerDroppingProxy(node.port)) as proxy:
        node.run("CONFIG", "SET", "cluster-announce-port", proxy.port)
        try:
            wait_until(lambda: all(proxy.port in each.known() for each in cluster.nodes), "all know the proxy")
            with running_server("--redis-url", cluster.url, "--log-level", "error") as server:
                losing = new_api(server.url, seeing.api_key, reset=False)
                queue = queue_on(seeing, cluster, node)
                seeing.enqueue(queue)
                losing.stats(queue)
                proxy.arm()
                answer = losing.post(f"/_emulator/environments/{queue}/work", json={"count": 3})
                assert proxy.dropped.is_set()
                assert (answer.status_code, answer.headers.get("retry-after")) == (503, "1")
                assert seeing.stats(queue)["depth"] == 4
                assert losing.stats(queue)["depth"] == 4
        finally:
            node.run("CONFIG", "SET", "cluster-announce-port", 0)
            wait_until(lambda: all(node.port in each.known() for each in cluster.nodes), "all know the node again")
    for api in apis:
        # The processes may have learned the proxy's address; they forget it.
        wait_until(partial(healthy, api), "each node answers again")


# -- slots that are moved -------------------------------------------------------------------------------------


def test_a_slot_moved_in_mid_traffic_loses_nothing_and_doubles_nothing(
    apis: tuple[Api, Api], cluster: RedisCluster
) -> None:
    """Every call is answered 200, late if need be; every item is enqueued once and worked on once."""
    one, other = apis
    queue = one.queue()
    source = cluster.owner(queue)
    enqueued: list[str] = []
    worked: list[str] = []
    over = threading.Event()
    deadline = time.monotonic() + 20

    def produce() -> None:
        while not over.is_set() and time.monotonic() < deadline:
            enqueued.extend(item["id"] for item in one.enqueue(queue))

    def work() -> None:
        while time.monotonic() < deadline:
            finished = over.is_set() and producing.done()
            item = other.poll(queue, block_ms=50)
            if item is None:
                if finished:
                    return
                continue
            other.ok(other.ack(queue, item["id"]))
            other.ok(other.heartbeat(queue, item["id"], "NO_HEARTBEAT"))
            other.ok(other.stop(queue, item["id"], force=True))
            worked.append(item["id"])

    with ThreadPoolExecutor(3) as pool:
        producing = pool.submit(produce)
        working = [pool.submit(work) for _ in range(2)]
        try:
            wait_until(lambda: len(worked) > 10, "work is being done")
            move = SlotMove(cluster, cluster.slot(queue), source, another(cluster, source))
            move.move(*move.left()[::2])
            turned_away = move.refusals()
            wait_until(lambda: move.refusals() > turned_away, "a call meets the half moved slot")
            move.finish()
            assert cluster.owner(queue) is not source
            before = len(worked)
            wait_until(lambda: len(worked) > before + 10, "work goes on")
        finally:
            over.set()
        producing.result()
        for future in working:
            future.result()
    assert len(set(enqueued)) == len(enqueued)
    assert sorted(worked) == sorted(enqueued)
    figures = one.stats(queue)
    assert (figures["depth"], figures["pending"]) == (0, 0)


def test_a_slot_that_stays_half_moved_is_answered_503_and_nothing_changes(
    apis: tuple[Api, Api], cluster: RedisCluster
) -> None:
    """Neither node has all keys, so neither may run a step nor a part of one, whichever key is away."""
    one, other = apis
    moves: dict[str, tuple[SlotMove, dict[str, bytes]]] = {}
    calls: list[Callable[[], httpx.Response]] = []
    # All to one node: if it were also the source of another move, what it told before could undo a move.
    target = cluster.nodes[0]
    for kind in ("env", "work", "tokens", "stream", "polled", "leases", "index", "pollers"):
        queue = next(queue for queue in iter(one.queue, None) if cluster.owner(queue) is not target)
        one.enqueue(queue, 3)
        work, beat = one.active(queue)
        polled = one.poll(queue, "worker")["id"]
        before = cluster.contents(queue)
        source = cluster.owner(queue)
        move = SlotMove(cluster, cluster.slot(queue), source, target)
        move.move(*[key for key in before if key.split("}:")[1].split(":")[0] == kind])
        moves[queue] = move, before
        calls += [
            partial(one.post, f"/_emulator/environments/{queue}/work", json={"count": 2}),
            partial(other.get, one.path(queue, "poll")),
            partial(one.ack, queue, polled),
            partial(other.heartbeat, queue, work, beat),
            partial(one.stop, queue, work, force=True),
            partial(other.post, one.path(queue, work), json={"metadata": {"a": "b"}}),
            partial(one.get, one.path(queue, "stats")),
        ]
    started = time.monotonic()
    with ThreadPoolExecutor(len(calls)) as pool:
        answers = [future.result() for future in [pool.submit(call) for call in calls]]
    assert [(answer.status_code, answer.headers.get("retry-after")) for answer in answers] == [(503, "1")] * len(calls)
    assert time.monotonic() - started < ANSWERED_WITHIN_S
    for queue, (move, before) in moves.items():
        move.finish()
        assert cluster.contents(queue) == before
        assert one.stats(queue)["depth"] == 1


# -- nodes that go --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(3))
def test_a_killed_node_takes_only_its_own_environments_away(
    apis: tuple[Api, Api], cluster: RedisCluster, number: int
) -> None:
    """503 in time for those, the others go on, and all is there when the node is back: no restart of the server."""
    api, _ = apis
    queues = [queue_on(api, cluster, node) for node in cluster.nodes]
    for queue in queues:
        api.enqueue(queue)
    dead = cluster.nodes[number]
    dead.stop()
    try:
        for _ in range(2):
            for each, queue in enumerate(queues):
                started = time.monotonic()
                for answer in (api.get(api.path(queue, "stats")), api.get(api.path(queue, "poll?block_ms=1"))):
                    assert answer.status_code == (503 if each == number else 200), answer.text
                assert time.monotonic() - started < ANSWERED_WITHIN_S
        assert api.get("/_emulator/health").status_code == 503
    finally:
        dead.start()
    wait_until(lambda: all(node.serves() for node in cluster.nodes), "the cluster is in order again", 15)
    for client in apis:
        wait_until(partial(healthy, client), "the server knows")
    assert api.stats(queues[number])["depth"] == 1
    assert api.active(queues[number])[0]


def test_without_the_node_of_the_register_no_clock_moves_unregistered(
    servers: tuple[WorkyardServer, WorkyardServer], cluster: RedisCluster, new_api: Callable[..., Api]
) -> None:
    """A workspace that the register does not name would be found by no repair: its script must not run either."""
    fresh = [new_api(servers[0].url) for _ in range(4)]
    slot = cluster.nodes[0].run("CLUSTER", "KEYSLOT", "wy:workspaces")
    node = next(each for each in cluster.nodes if any(a <= slot <= b for a, b in each.known()[each.port]))
    node.stop()
    try:
        answers = [api.post("/_emulator/clock", json={"mode": "frozen", "at": NOON}) for api in fresh]
        assert [answer.status_code for answer in answers] == [503] * len(fresh)
    finally:
        node.start()
    wait_until(lambda: all(each.serves() for each in cluster.nodes), "the cluster is in order again", 15)
    wait_until(partial(healthy, fresh[0]), "the server knows")
    assert [api.ok(api.get("/_emulator/clock"))["mode"] for api in fresh] == ["real"] * len(fresh)


# -- the wrong URL --------------------------------------------------------------------------------------------


def test_a_node_of_a_cluster_by_a_plain_url_refuses_to_start(cluster: RedisCluster) -> None:
    """It would answer for a third of the environments."""
    port = cluster.nodes[0].port
    message = refused(f"redis://127.0.0.1:{port}/0")
    assert "is a node of a Redis Cluster" in message
    assert f"redis+cluster://127.0.0.1:{port}" in message


def test_a_single_server_by_a_cluster_url_refuses_to_start(redis_server: RedisServer) -> None:
    """The message has the form that fits."""
    message = refused(f"redis+cluster://127.0.0.1:{redis_server.port}")
    assert "is not a cluster" in message
    assert f"redis://127.0.0.1:{redis_server.port}/0" in message


def test_every_primary_is_checked_at_the_start(cluster: RedisCluster) -> None:
    """The last one evicts: which one it is, the message says."""
    node = cluster.nodes[2]
    node.run("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        message = refused(cluster.url)
        assert f"127.0.0.1:{node.port} has maxmemory-policy allkeys-lru" in message
    finally:
        node.run("CONFIG", "SET", "maxmemory-policy", "noeviction")
