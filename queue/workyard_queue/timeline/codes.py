"""All findings that a diagnosis of a work item can contain. docs/timeline.md has the same table; a test compares them.

A finding is a *problem* if it is something a worker should avoid, otherwise a *note*.
"""

from __future__ import annotations

from typing import Literal

Severity = Literal["problem", "note"]

#: Code → severity and condition.
CODES: dict[str, tuple[Severity, str]] = {
    "incomplete": ("note", "the ring buffer has dropped the item's first events; the diagnosis is based on the rest"),
    "fault_injected": (
        "note",
        "a fault rule was applied to a call on the item; the sentence also names the event that followed",
    ),
    "nobody_polls": (
        "problem",
        "it is queued, was never handed out, and no named worker polled in the last 30 seconds",
    ),
    "polls_faulted": (
        "problem",
        "it is queued, was never handed out, and fault rules were applied to polls of its environment",
    ),
    "waiting": ("note", "it is queued and not handed out, and workers poll"),
    "handed_out": ("note", "it was handed out, and the acknowledgement may still arrive"),
    "never_acknowledged": (
        "problem",
        "it was handed out at least twice since it was last queued, and never acknowledged",
    ),
    "taken_over": ("problem", "the first worker did not acknowledge it in time, and another poll took it over"),
    "double_delivery": ("problem", "several polls had received it, and an acknowledgement arrived after another one"),
    "repeated_ack": ("note", "its only recipient acknowledged it again: the first response may have been lost"),
    "late_ack": ("problem", "it was acknowledged after it had been stopped"),
    "dispatcher_returned": (
        "problem",
        "the poller that acknowledged it stopped it, and the first heartbeat came only after that: the "
        "poller's loop stops the item when its body returns, so a dispatcher that hands items to other "
        "processes needs `auto_stop=False`",
    ),
    "stopped_unclaimed": ("problem", "the poller that acknowledged it stopped it, and no heartbeat was ever sent"),
    "no_first_heartbeat": ("problem", "it was acknowledged, and no heartbeat came before the startup lease ended"),
    "lease_lapsed": ("problem", "its worker sent no heartbeat for longer than the lease"),
    "lease_lost": ("problem", "a worker that had lost the item got 412"),
    "rival_heartbeat": ("problem", "a second worker tried to claim it with a heartbeat while another held it"),
    "repeated_heartbeat": (
        "problem",
        "a heartbeat repeated the expected value of an accepted one, whose response was lost",
    ),
    "stale_heartbeat": ("problem", "a heartbeat was refused because its expected value is not the stored one"),
    "unacknowledged_heartbeat": ("problem", "a heartbeat came while it was queued and not acknowledged"),
    "late_stop_ignored": (
        "note",
        "an earlier holder requested a stop after the item had been queued again, which changes nothing",
    ),
    "stopped_in_queue": ("note", "it was stopped before it was acknowledged"),
    "forced_by_other": ("problem", "a client other than its worker stopped it by force"),
    "session_ended": ("note", "it was stopped because its session was archived, deleted or terminated"),
    "stop_not_honoured": (
        "problem",
        "a stop was requested, no worker carried it out, and the item stopped when its lease ended",
    ),
    "stop_honoured": ("note", "a stop was requested, and its worker stopped it"),
    "bounced": ("problem", "its lease ended three times or more, and each time it was queued again"),
    "message_requeued": ("note", "a message to its session brought it back into the queue"),
    "running": ("note", "a worker holds it"),
    "winding_down": ("note", "a stop was requested, and its worker has not stopped it yet"),
    "served": ("note", "its worker stopped it, as it should"),
}
