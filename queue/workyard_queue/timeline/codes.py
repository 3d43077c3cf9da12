"""The closed list of findings on the life of a work item. docs/ has the same table; a test compares them.

A finding is a *problem* where something went otherwise than a worker wants it, else a *note*.
"""

from __future__ import annotations

from typing import Literal

Severity = Literal["problem", "note"]

#: Code → severity, and when it is found.
CODES: dict[str, tuple[Severity, str]] = {
    "incomplete": (
        "note",
        "the ring no longer holds the beginning of the timeline: the diagnosis uses the remaining events",
    ),
    "fault_injected": (
        "note",
        "a fault rule was applied to a call on the item; the sentence also names the next event",
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
    "handed_out": ("note", "it was handed out, and the acknowledgement can still arrive"),
    "never_acknowledged": ("problem", "it was handed out at least twice in one life and never acknowledged"),
    "taken_over": (
        "problem",
        "the first worker that received it did not acknowledge it in time, and another poll took it over",
    ),
    "double_delivery": (
        "problem",
        "several polls had received it, and it was acknowledged again after the first acknowledgement",
    ),
    "repeated_ack": (
        "note",
        "the only caller that had received it acknowledged it again: the first response may have been lost",
    ),
    "late_ack": ("problem", "it was acknowledged after it had been stopped"),
    "dispatcher_returned": (
        "problem",
        "the poller that claimed it stopped it, and the first heartbeat came only after that: when its "
        "body returns, the poller's loop goes on and stops the item, so use `auto_stop=False` to hand "
        "items to other processes",
    ),
    "stopped_unclaimed": ("problem", "the poller that claimed it stopped it, and nobody has sent a heartbeat"),
    "no_first_heartbeat": ("problem", "it was acknowledged, and no heartbeat came before the startup lease ended"),
    "lease_lapsed": ("problem", "its worker sent no heartbeat for longer than the lease"),
    "lease_lost": ("problem", "a worker that had lost the item learned of it from a 412"),
    "rival_heartbeat": ("problem", "a second worker tried to claim it by a heartbeat while another worker held it"),
    "repeated_heartbeat": (
        "problem",
        "a heartbeat repeated the expectation of an accepted one: the response to that one was lost",
    ),
    "stale_heartbeat": ("problem", "a heartbeat was refused because it expected a value that is not the stored one"),
    "unacknowledged_heartbeat": ("problem", "a heartbeat arrived while it was queued: nobody had acknowledged it"),
    "late_stop_ignored": (
        "note",
        "an earlier holder requested a stop after it had been queued again, which changes nothing",
    ),
    "stopped_in_queue": ("note", "it was stopped before anybody had acknowledged it"),
    "forced_by_other": ("problem", "a caller other than its worker stopped it by force"),
    "session_ended": ("note", "it was stopped because its session was archived, deleted or terminated"),
    "stop_not_honoured": (
        "problem",
        "a stop was requested, its worker did not stop it, and it was stopped when its lease ended",
    ),
    "stop_honoured": ("note", "a stop was requested, and its worker stopped it"),
    "bounced": ("problem", "its lease ended three times or more, and each time it was queued again"),
    "message_requeued": ("note", "a message to its session put it back into the queue"),
    "running": ("note", "a worker holds it"),
    "winding_down": ("note", "a stop was requested, and its worker has not stopped it yet"),
    "served": ("note", "normal end: its worker stopped it"),
}
