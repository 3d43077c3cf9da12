"""The closed list of findings on the life of a work item. docs/ has the same table; a test compares them.

A finding is a *problem* if something went wrong for a worker, else a *note*.
"""

from __future__ import annotations

from typing import Literal

Severity = Literal["problem", "note"]

#: Code → severity, and when it is found.
CODES: dict[str, tuple[Severity, str]] = {
    "incomplete": ("note", "the ring no longer holds the beginning of the life: what is said rests on the rest"),
    "fault_injected": ("note", "a fault rule was applied to a call on the item; what happened next is named with it"),
    "nobody_polls": (
        "problem",
        "it is queued, was never handed out, and no named worker polled in the last 30 seconds",
    ),
    "polls_faulted": (
        "problem",
        "it is queued, was never handed out, and fault rules were applied to polls of its environment",
    ),
    "waiting": ("note", "it is queued and not handed out, and workers poll"),
    "handed_out": ("note", "it was handed out, and the acknowledgement may still come"),
    "never_acknowledged": ("problem", "it was handed out at least twice in one life and never acknowledged"),
    "taken_over": ("problem", "who was handed it first did not acknowledge it in time, and another poll took it over"),
    "double_delivery": (
        "problem",
        "several polls had been handed it, and an acknowledgement came when it was acknowledged",
    ),
    "repeated_ack": (
        "note",
        "the only one it was handed to acknowledged it again: the first answer may have been lost",
    ),
    "late_ack": ("problem", "it was acknowledged after it had been stopped"),
    "dispatcher_returned": (
        "problem",
        "the poller that claimed it stopped it, and the first heartbeat came only after that: the poller's loop goes on, and stops "
        "the item, when its body returns, so whoever hands items to other processes needs `auto_stop=False`",
    ),
    "stopped_unclaimed": ("problem", "the poller that claimed it stopped it, and nobody has sent a heartbeat"),
    "no_first_heartbeat": ("problem", "it was acknowledged, and no heartbeat came before the startup lease ended"),
    "lease_lapsed": ("problem", "its worker sent no heartbeat for longer than the lease"),
    "lease_lost": ("problem", "a worker that had lost the item was told so, by 412"),
    "rival_heartbeat": ("problem", "a second worker tried to claim it by a heartbeat while another held it"),
    "repeated_heartbeat": (
        "problem",
        "a heartbeat expected what an accepted one had expected: that one's answer was lost",
    ),
    "stale_heartbeat": ("problem", "a heartbeat was refused because it expected a value that is not the stored one"),
    "unacknowledged_heartbeat": ("problem", "a heartbeat came while it was queued: nobody had acknowledged it"),
    "late_stop_ignored": (
        "note",
        "an earlier holder asked to stop it after it had been re-queued, which changes nothing",
    ),
    "stopped_in_queue": ("note", "it was stopped before anybody had acknowledged it"),
    "forced_by_other": ("problem", "somebody else than its worker stopped it by force"),
    "session_ended": ("note", "it was stopped because its session was archived, deleted or terminated"),
    "stop_not_honoured": ("problem", "a stop was asked for, nobody stopped it, and it wound down when its lease ended"),
    "stop_honoured": ("note", "a stop was asked for, and its worker stopped it"),
    "bounced": ("problem", "its leases ended three times or more, and each time it was queued again"),
    "message_requeued": ("note", "a message to its session brought it back into the queue"),
    "running": ("note", "a worker holds it"),
    "winding_down": ("note", "a stop was asked for, and its worker has not stopped it yet"),
    "served": ("note", "all well: its worker stopped it"),
}
