"""Start-up checks of a Redis: version, mode, role, eviction policy, permissions.

Owns the list of commands that Workyard sends, itself or in scripts, and the ACL rule that allows only these.
"""

from __future__ import annotations

import logging
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from ..errors import StartupRefused
from ..keys import Keys

_log = logging.getLogger("workyard.redis")

OLDEST_REDIS = (7, 0)

#: Every command, with arguments that `ACL DRYRUN` accepts; KEY and CHANNEL stand for one of ours. A test compares this
#: list with the scripts and the modules. Not in it: AUTH, which needs no permission.
COMMANDS = (
    "CLUSTER SLOTS",
    "DEL KEY",
    "EVAL script 1 KEY",
    "EVALSHA sha 1 KEY",
    "EXISTS KEY",
    "GET KEY",
    "HDEL KEY field",
    "HEXISTS KEY field",
    "HGET KEY field",
    "HGETALL KEY",
    "HINCRBY KEY field 1",
    "HKEYS KEY",
    "HMGET KEY field",
    "HSET KEY field value",
    "HSETNX KEY field value",
    "HVALS KEY",
    "INFO",
    "PING",
    "PUBLISH CHANNEL message",
    "SADD KEY member",
    "SCAN 0",
    "SCARD KEY",
    "SELECT 0",
    "SET KEY value",
    "SISMEMBER KEY member",
    "SMEMBERS KEY",
    "SREM KEY member",
    "SUBSCRIBE CHANNEL",
    "UNLINK KEY",
    "UNSUBSCRIBE CHANNEL",
    "XACK KEY group 0-1",
    "XADD KEY * field value",
    "XCLAIM KEY group consumer 0 0-1",
    "XGROUP CREATE KEY group 0",
    "XGROUP SETID KEY group 0",
    "XINFO GROUPS KEY",
    "XLEN KEY",
    "XPENDING KEY group",
    "XRANGE KEY - +",
    "XREADGROUP GROUP group consumer STREAMS KEY >",
    "XREVRANGE KEY + -",
    "XTRIM KEY MINID 0-1",
    "ZADD KEY 0 member",
    "ZCARD KEY",
    "ZCOUNT KEY 0 0",
    "ZRANGE KEY 0 0",
    "ZRANGEBYSCORE KEY 0 0",
    "ZREM KEY member",
    "ZREMRANGEBYSCORE KEY 0 0",
    "ZREVRANGEBYSCORE KEY 0 0",
    "ZSCORE KEY member",
)
#: Commands of the start-up checks, which find missing permissions early; Workyard works without them.
_TO_LOOK = ("acl|dryrun", "acl|whoami")
_CONTAINERS = ("CLUSTER", "XGROUP", "XINFO")


def command_names() -> list[str]:
    """Return the names of all commands as ACL rules write them: `hget`, `xgroup|create`."""
    names = []
    for example in COMMANDS:
        name, *arguments = example.split(" ")
        names.append((f"{name}|{arguments[0]}" if name in _CONTAINERS else name).lower())
    return names


def acl_rule(keys: Keys) -> str:
    """Return the ACL rule of a user that can run Workyard and nothing else, to append to `ACL SETUSER name on >…`."""
    return " ".join(
        ["resetkeys", f"~{keys.prefix}:*", "resetchannels", f"&{keys.wake}", "-@all"]
        + [f"+{name}" for name in sorted([*command_names(), *_TO_LOOK])]
    )


def lacks_permission(error: RedisError) -> bool:
    """Return whether Redis refused for lack of a permission. For a call within a script only the error's text says so."""
    words = ("The user executing the script can't", "ACL failure in script")  # Redis 7.0; later ones
    return isinstance(error, NoPermissionError) or any(each in str(error) for each in words)


def missing_permission(where: str, reason: object, keys: Keys) -> StartupRefused:
    """Return the refusal for a user who lacks a permission."""
    return StartupRefused(
        f"The user at Redis {where} may not do what Workyard needs: {reason}. Give it this rule: "
        f"ACL SETUSER <user> {acl_rule(keys)}"
    )


async def check_server(client: Redis, where: str, keys: Keys, *, in_cluster: bool) -> None:
    """Check one server: in a cluster, each primary.

    Raises:
        StartupRefused: the server fails a check; the message says what to do.
        RedisError, OSError: it did not answer.
    """
    info: dict[str, Any] = await client.info()
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        raise StartupRefused(
            f"Redis at {where} is version {version}; Workyard needs 7.0 or newer (older versions count "
            "consumer groups differently). Upgrade it, or omit --redis-url to use the embedded engine."
        )
    if info.get("redis_mode") == "sentinel":
        raise StartupRefused(
            f"Redis at {where} is a Sentinel: write redis+sentinel://{where}/<service>, with the name of the primary."
        )
    if info.get("redis_mode") == "cluster" and not in_cluster:
        raise StartupRefused(
            f"Redis at {where} is a node of a Redis Cluster: write redis+cluster://{where} "
            "(rediss+cluster:// with TLS), with the same credentials."
        )
    if info.get("role") == "slave":
        raise StartupRefused(
            f"Redis at {where} is a replica of {info.get('master_host')}:{info.get('master_port')} and accepts no "
            "writes; use the primary's address, or Sentinel (redis+sentinel://host:port/<service>)."
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise StartupRefused(
            f"Redis at {where} has maxmemory-policy {policy}: it may evict parts of the queue when memory runs "
            "short. Set it with `CONFIG SET maxmemory-policy noeviction`, and in the server's configuration."
        )
    await _check_permissions(client, where, keys)


async def _check_permissions(client: Redis, where: str, keys: Keys) -> None:
    """Ask Redis about each command without running it. Log a warning if this user may not ask."""
    try:
        user = await client.execute_command("ACL", "WHOAMI")  # type: ignore[no-untyped-call]
        pipeline = client.pipeline(transaction=False)
        ours = {"KEY": keys.environment("acl"), "CHANNEL": keys.wake}
        for example in COMMANDS:
            pipeline.execute_command("ACL", "DRYRUN", user, *[ours.get(word, word) for word in example.split(" ")])
        answers = await pipeline.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, RedisError):
                raise answer
    except NoPermissionError:
        _log.warning(
            "the user at Redis %s may not use ACL WHOAMI and ACL DRYRUN, so its permissions are not checked; "
            "if one is missing, a script stops half-way. It needs: %s",
            where,
            acl_rule(keys),
        )
        return
    for example, answer in zip(COMMANDS, answers, strict=True):
        if answer != "OK":
            reason = f"{answer} ({example.partition(' ')[0]})"
            raise missing_permission(where, reason, keys)
