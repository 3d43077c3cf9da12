"""The table of the queue's state machine: for each state of a work item, the answer to each call and its effect."""

from __future__ import annotations

from typing import NamedTuple

# Each section is a state: its name, and the story that leads to it (`claim@3:200` is a claim at second 3 with a TTL of
# 200 s, `message` a message to the item's session). Each row is an event at second 20; `lapse` reads at second 1000.
#
# poll     asks with reclaim_older_than_ms=60000, so that nothing is old enough; `reclaim` with the default of 5 s
# claim    expects NO_HEARTBEAT; extend: the instant 3, the last heartbeat there ever was; wrong: the instant 99
#
# answer:  object = 200 with the item as the row says it is afterwards; `object stopped …` = 200 with the item like this,
#          though the next read differs; secret = object with a secret; null; beat AT TTL; ended AT = a heartbeat that
#          was not extended; 409; 412 EXPECTED ACTUAL TTL; – = there is no answer
# then:    the state and the stamps that are not null | depth pending oldest_queued_at
TABLE = """
# queued: enqueue@0
poll    | secret                                   | queued                                  | 0 1 0
reclaim | secret                                   | queued                                  | 0 1 0
ack     | object                                   | starting ack=20                         | 0 0 –
claim   | 412 NO_HEARTBEAT NULL 120                | queued                                  | 1 0 0
extend  | 412 3 NULL 120                           | queued                                  | 1 0 0
wrong   | 412 99 NULL 120                          | queued                                  | 1 0 0
omitted | 412 NO_HEARTBEAT NULL 120                | queued                                  | 1 0 0
empty   | 412 NO_HEARTBEAT NULL 120                | queued                                  | 1 0 0
stop    | object                                   | stopped asked=20 end=20                 | 0 0 –
force   | object                                   | stopped asked=20 end=20                 | 0 0 –
message | object                                   | queued                                  | 1 0 0
lapse   | –                                        | queued                                  | 1 0 0

# queued, polled: enqueue@0 poll@1
poll    | null                                     | queued                                  | 0 1 0
reclaim | secret                                   | queued                                  | 0 1 0
ack     | object                                   | starting ack=20                         | 0 0 –
claim   | 412 NO_HEARTBEAT NULL 120                | queued                                  | 0 1 0
extend  | 412 3 NULL 120                           | queued                                  | 0 1 0
wrong   | 412 99 NULL 120                          | queued                                  | 0 1 0
omitted | 412 NO_HEARTBEAT NULL 120                | queued                                  | 0 1 0
empty   | 412 NO_HEARTBEAT NULL 120                | queued                                  | 0 1 0
stop    | object                                   | stopped asked=20 end=20                 | 0 0 –
force   | object                                   | stopped asked=20 end=20                 | 0 0 –
message | object                                   | queued                                  | 0 1 0
lapse   | –                                        | queued                                  | 0 1 0

# queued, a message waits: enqueue@0 message@6
poll    | secret                                   | queued                                  | 0 1 0
reclaim | secret                                   | queued                                  | 0 1 0
ack     | object                                   | starting ack=20                         | 0 0 –
claim   | 412 NO_HEARTBEAT NULL 120                | queued                                  | 1 0 0
extend  | 412 3 NULL 120                           | queued                                  | 1 0 0
wrong   | 412 99 NULL 120                          | queued                                  | 1 0 0
omitted | 412 NO_HEARTBEAT NULL 120                | queued                                  | 1 0 0
empty   | 412 NO_HEARTBEAT NULL 120                | queued                                  | 1 0 0
stop    | object stopped asked=20 end=20           | queued                                  | 1 0 20
force   | object stopped asked=20 end=20           | queued                                  | 1 0 20
message | object                                   | queued                                  | 1 0 0
lapse   | –                                        | queued                                  | 1 0 0

# queued, polled, a message waits: enqueue@0 poll@1 message@6
poll    | null                                     | queued                                  | 0 1 0
reclaim | secret                                   | queued                                  | 0 1 0
ack     | object                                   | starting ack=20                         | 0 0 –
claim   | 412 NO_HEARTBEAT NULL 120                | queued                                  | 0 1 0
extend  | 412 3 NULL 120                           | queued                                  | 0 1 0
wrong   | 412 99 NULL 120                          | queued                                  | 0 1 0
omitted | 412 NO_HEARTBEAT NULL 120                | queued                                  | 0 1 0
empty   | 412 NO_HEARTBEAT NULL 120                | queued                                  | 0 1 0
stop    | object stopped asked=20 end=20           | queued                                  | 1 0 20
force   | object stopped asked=20 end=20           | queued                                  | 1 0 20
message | object                                   | queued                                  | 0 1 0
lapse   | –                                        | queued                                  | 0 1 0

# queued again by lapse: enqueue@0 poll@1 ack@2 claim@3:10
poll    | secret                                   | queued                                  | 0 1 13
reclaim | secret                                   | queued                                  | 0 1 13
ack     | object                                   | starting ack=20                         | 0 0 –
claim   | 412 NO_HEARTBEAT NULL 120                | queued                                  | 1 0 13
extend  | 412 3 NULL 120                           | queued                                  | 1 0 13
wrong   | 412 99 NULL 120                          | queued                                  | 1 0 13
omitted | 412 NO_HEARTBEAT NULL 120                | queued                                  | 1 0 13
empty   | 412 NO_HEARTBEAT NULL 120                | queued                                  | 1 0 13
stop    | object                                   | queued                                  | 1 0 13
force   | object                                   | stopped asked=20 end=20                 | 0 0 –
message | object                                   | queued                                  | 1 0 13
lapse   | –                                        | queued                                  | 1 0 13

# queued again by lapse, polled: enqueue@0 poll@1 ack@2 claim@3:10 poll@14
poll    | null                                     | queued                                  | 0 1 13
reclaim | secret                                   | queued                                  | 0 1 13
ack     | object                                   | starting ack=20                         | 0 0 –
claim   | 412 NO_HEARTBEAT NULL 120                | queued                                  | 0 1 13
extend  | 412 3 NULL 120                           | queued                                  | 0 1 13
wrong   | 412 99 NULL 120                          | queued                                  | 0 1 13
omitted | 412 NO_HEARTBEAT NULL 120                | queued                                  | 0 1 13
empty   | 412 NO_HEARTBEAT NULL 120                | queued                                  | 0 1 13
stop    | object                                   | queued                                  | 0 1 13
force   | object                                   | stopped asked=20 end=20                 | 0 0 –
message | object                                   | queued                                  | 0 1 13
lapse   | –                                        | queued                                  | 0 1 13

# queued again by lapse, a message waits: enqueue@0 poll@1 ack@2 claim@3:10 message@6
poll    | secret                                   | queued                                  | 0 1 13
reclaim | secret                                   | queued                                  | 0 1 13
ack     | object                                   | starting ack=20                         | 0 0 –
claim   | 412 NO_HEARTBEAT NULL 120                | queued                                  | 1 0 13
extend  | 412 3 NULL 120                           | queued                                  | 1 0 13
wrong   | 412 99 NULL 120                          | queued                                  | 1 0 13
omitted | 412 NO_HEARTBEAT NULL 120                | queued                                  | 1 0 13
empty   | 412 NO_HEARTBEAT NULL 120                | queued                                  | 1 0 13
stop    | object                                   | queued                                  | 1 0 13
force   | object stopped asked=20 end=20           | queued                                  | 1 0 20
message | object                                   | queued                                  | 1 0 13
lapse   | –                                        | queued                                  | 1 0 13

# queued again by message: enqueue@0 poll@1 ack@2 claim@3:200 stop@4 force@5 message@6
poll    | secret                                   | queued                                  | 0 1 6
reclaim | secret                                   | queued                                  | 0 1 6
ack     | object                                   | starting ack=20                         | 0 0 –
claim   | 412 NO_HEARTBEAT NULL 120                | queued                                  | 1 0 6
extend  | 412 3 NULL 120                           | queued                                  | 1 0 6
wrong   | 412 99 NULL 120                          | queued                                  | 1 0 6
omitted | 412 NO_HEARTBEAT NULL 120                | queued                                  | 1 0 6
empty   | 412 NO_HEARTBEAT NULL 120                | queued                                  | 1 0 6
stop    | object                                   | queued                                  | 1 0 6
force   | object stopped asked=20 end=20           | queued                                  | 1 0 20
message | object                                   | queued                                  | 1 0 6
lapse   | –                                        | queued                                  | 1 0 6

# queued again by message, polled: enqueue@0 poll@1 ack@2 claim@3:200 stop@4 force@5 message@6 poll@14
poll    | null                                     | queued                                  | 0 1 6
reclaim | secret                                   | queued                                  | 0 1 6
ack     | object                                   | starting ack=20                         | 0 0 –
claim   | 412 NO_HEARTBEAT NULL 120                | queued                                  | 0 1 6
extend  | 412 3 NULL 120                           | queued                                  | 0 1 6
wrong   | 412 99 NULL 120                          | queued                                  | 0 1 6
omitted | 412 NO_HEARTBEAT NULL 120                | queued                                  | 0 1 6
empty   | 412 NO_HEARTBEAT NULL 120                | queued                                  | 0 1 6
stop    | object                                   | queued                                  | 0 1 6
force   | object stopped asked=20 end=20           | queued                                  | 1 0 20
message | object                                   | queued                                  | 0 1 6
lapse   | –                                        | queued                                  | 0 1 6

# starting: enqueue@0 poll@1 ack@2
poll    | null                                     | starting ack=2                          | 0 0 –
reclaim | null                                     | starting ack=2                          | 0 0 –
ack     | 409                                      | starting ack=2                          | 0 0 –
claim   | beat 20 300                              | active ack=2 start=20 beat=20           | 0 0 –
extend  | 412 3 NULL 120                           | starting ack=2                          | 0 0 –
wrong   | 412 99 NULL 120                          | starting ack=2                          | 0 0 –
omitted | beat 20 300                              | active ack=2 start=20 beat=20           | 0 0 –
empty   | beat 20 300                              | active ack=2 start=20 beat=20           | 0 0 –
stop    | object                                   | stopping ack=2 asked=20                 | 0 0 –
force   | object                                   | stopped ack=2 asked=20 end=20           | 0 0 –
message | object                                   | starting ack=2                          | 0 0 –
lapse   | –                                        | queued                                  | 1 0 122

# starting, never polled: enqueue@0 ack@2
poll    | null                                     | starting ack=2                          | 0 0 –
reclaim | null                                     | starting ack=2                          | 0 0 –
ack     | 409                                      | starting ack=2                          | 0 0 –
claim   | beat 20 300                              | active ack=2 start=20 beat=20           | 0 0 –
extend  | 412 3 NULL 120                           | starting ack=2                          | 0 0 –
wrong   | 412 99 NULL 120                          | starting ack=2                          | 0 0 –
omitted | beat 20 300                              | active ack=2 start=20 beat=20           | 0 0 –
empty   | beat 20 300                              | active ack=2 start=20 beat=20           | 0 0 –
stop    | object                                   | stopping ack=2 asked=20                 | 0 0 –
force   | object                                   | stopped ack=2 asked=20 end=20           | 0 0 –
message | object                                   | starting ack=2                          | 0 0 –
lapse   | –                                        | queued                                  | 1 0 122

# starting, a message waits: enqueue@0 poll@1 ack@2 message@6
poll    | null                                     | starting ack=2                          | 0 0 –
reclaim | null                                     | starting ack=2                          | 0 0 –
ack     | 409                                      | starting ack=2                          | 0 0 –
claim   | beat 20 300                              | active ack=2 start=20 beat=20           | 0 0 –
extend  | 412 3 NULL 120                           | starting ack=2                          | 0 0 –
wrong   | 412 99 NULL 120                          | starting ack=2                          | 0 0 –
omitted | beat 20 300                              | active ack=2 start=20 beat=20           | 0 0 –
empty   | beat 20 300                              | active ack=2 start=20 beat=20           | 0 0 –
stop    | object                                   | stopping ack=2 asked=20                 | 0 0 –
force   | object stopped ack=2 asked=20 end=20     | queued                                  | 1 0 20
message | object                                   | starting ack=2                          | 0 0 –
lapse   | –                                        | queued                                  | 1 0 122

# active: enqueue@0 poll@1 ack@2 claim@3:200
poll    | null                                     | active ack=2 start=3 beat=3             | 0 0 –
reclaim | null                                     | active ack=2 start=3 beat=3             | 0 0 –
ack     | 409                                      | active ack=2 start=3 beat=3             | 0 0 –
claim   | 412 NO_HEARTBEAT 3 200                   | active ack=2 start=3 beat=3             | 0 0 –
extend  | beat 20 300                              | active ack=2 start=3 beat=20            | 0 0 –
wrong   | 412 99 3 200                             | active ack=2 start=3 beat=3             | 0 0 –
omitted | beat 20 300                              | active ack=2 start=3 beat=20            | 0 0 –
empty   | beat 20 300                              | active ack=2 start=3 beat=20            | 0 0 –
stop    | object                                   | stopping ack=2 start=3 beat=3 asked=20  | 0 0 –
force   | object                                   | stopped ack=2 start=3 beat=3 asked=20 end=20 | 0 0 –
message | object                                   | active ack=2 start=3 beat=3             | 0 0 –
lapse   | –                                        | queued                                  | 1 0 203

# active, a message waits: enqueue@0 poll@1 ack@2 claim@3:200 message@6
poll    | null                                     | active ack=2 start=3 beat=3             | 0 0 –
reclaim | null                                     | active ack=2 start=3 beat=3             | 0 0 –
ack     | 409                                      | active ack=2 start=3 beat=3             | 0 0 –
claim   | 412 NO_HEARTBEAT 3 200                   | active ack=2 start=3 beat=3             | 0 0 –
extend  | beat 20 300                              | active ack=2 start=3 beat=20            | 0 0 –
wrong   | 412 99 3 200                             | active ack=2 start=3 beat=3             | 0 0 –
omitted | beat 20 300                              | active ack=2 start=3 beat=20            | 0 0 –
empty   | beat 20 300                              | active ack=2 start=3 beat=20            | 0 0 –
stop    | object                                   | stopping ack=2 start=3 beat=3 asked=20  | 0 0 –
force   | object stopped ack=2 start=3 beat=3 asked=20 end=20 | queued                       | 1 0 20
message | object                                   | active ack=2 start=3 beat=3             | 0 0 –
lapse   | –                                        | queued                                  | 1 0 203

# stopping: enqueue@0 poll@1 ack@2 claim@3:200 stop@4
poll    | null                                     | stopping ack=2 start=3 beat=3 asked=4   | 0 0 –
reclaim | null                                     | stopping ack=2 start=3 beat=3 asked=4   | 0 0 –
ack     | 409                                      | stopping ack=2 start=3 beat=3 asked=4   | 0 0 –
claim   | ended 3                                  | stopping ack=2 start=3 beat=3 asked=4   | 0 0 –
extend  | ended 3                                  | stopping ack=2 start=3 beat=3 asked=4   | 0 0 –
wrong   | ended 3                                  | stopping ack=2 start=3 beat=3 asked=4   | 0 0 –
omitted | ended 3                                  | stopping ack=2 start=3 beat=3 asked=4   | 0 0 –
empty   | ended 3                                  | stopping ack=2 start=3 beat=3 asked=4   | 0 0 –
stop    | object                                   | stopping ack=2 start=3 beat=3 asked=4   | 0 0 –
force   | object                                   | stopped ack=2 start=3 beat=3 asked=4 end=20 | 0 0 –
message | object                                   | stopping ack=2 start=3 beat=3 asked=4   | 0 0 –
lapse   | –                                        | stopped ack=2 start=3 beat=3 asked=4 end=203 | 0 0 –

# stopping, never claimed: enqueue@0 poll@1 ack@2 stop@4
poll    | null                                     | stopping ack=2 asked=4                  | 0 0 –
reclaim | null                                     | stopping ack=2 asked=4                  | 0 0 –
ack     | 409                                      | stopping ack=2 asked=4                  | 0 0 –
claim   | ended –                                  | stopping ack=2 asked=4                  | 0 0 –
extend  | ended –                                  | stopping ack=2 asked=4                  | 0 0 –
wrong   | ended –                                  | stopping ack=2 asked=4                  | 0 0 –
omitted | ended –                                  | stopping ack=2 asked=4                  | 0 0 –
empty   | ended –                                  | stopping ack=2 asked=4                  | 0 0 –
stop    | object                                   | stopping ack=2 asked=4                  | 0 0 –
force   | object                                   | stopped ack=2 asked=4 end=20            | 0 0 –
message | object                                   | stopping ack=2 asked=4                  | 0 0 –
lapse   | –                                        | stopped ack=2 asked=4 end=122           | 0 0 –

# stopping, a message waits: enqueue@0 poll@1 ack@2 claim@3:200 stop@4 message@6
poll    | null                                     | stopping ack=2 start=3 beat=3 asked=4   | 0 0 –
reclaim | null                                     | stopping ack=2 start=3 beat=3 asked=4   | 0 0 –
ack     | 409                                      | stopping ack=2 start=3 beat=3 asked=4   | 0 0 –
claim   | ended 3                                  | stopping ack=2 start=3 beat=3 asked=4   | 0 0 –
extend  | ended 3                                  | stopping ack=2 start=3 beat=3 asked=4   | 0 0 –
wrong   | ended 3                                  | stopping ack=2 start=3 beat=3 asked=4   | 0 0 –
omitted | ended 3                                  | stopping ack=2 start=3 beat=3 asked=4   | 0 0 –
empty   | ended 3                                  | stopping ack=2 start=3 beat=3 asked=4   | 0 0 –
stop    | object                                   | stopping ack=2 start=3 beat=3 asked=4   | 0 0 –
force   | object stopped ack=2 start=3 beat=3 asked=4 end=20 | queued                        | 1 0 20
message | object                                   | stopping ack=2 start=3 beat=3 asked=4   | 0 0 –
lapse   | –                                        | queued                                  | 1 0 203

# stopped: enqueue@0 poll@1 ack@2 claim@3:200 stop@4 force@5
poll    | null                                     | stopped ack=2 start=3 beat=3 asked=4 end=5 | 0 0 –
reclaim | null                                     | stopped ack=2 start=3 beat=3 asked=4 end=5 | 0 0 –
ack     | 409                                      | stopped ack=2 start=3 beat=3 asked=4 end=5 | 0 0 –
claim   | ended 3                                  | stopped ack=2 start=3 beat=3 asked=4 end=5 | 0 0 –
extend  | ended 3                                  | stopped ack=2 start=3 beat=3 asked=4 end=5 | 0 0 –
wrong   | ended 3                                  | stopped ack=2 start=3 beat=3 asked=4 end=5 | 0 0 –
omitted | ended 3                                  | stopped ack=2 start=3 beat=3 asked=4 end=5 | 0 0 –
empty   | ended 3                                  | stopped ack=2 start=3 beat=3 asked=4 end=5 | 0 0 –
stop    | object                                   | stopped ack=2 start=3 beat=3 asked=4 end=5 | 0 0 –
force   | object                                   | stopped ack=2 start=3 beat=3 asked=4 end=5 | 0 0 –
message | object                                   | queued                                  | 1 0 20
lapse   | –                                        | stopped ack=2 start=3 beat=3 asked=4 end=5 | 0 0 –

# stopped, never polled: enqueue@0 stop@4
poll    | null                                     | stopped asked=4 end=4                   | 0 0 –
reclaim | null                                     | stopped asked=4 end=4                   | 0 0 –
ack     | 409                                      | stopped asked=4 end=4                   | 0 0 –
claim   | ended –                                  | stopped asked=4 end=4                   | 0 0 –
extend  | ended –                                  | stopped asked=4 end=4                   | 0 0 –
wrong   | ended –                                  | stopped asked=4 end=4                   | 0 0 –
omitted | ended –                                  | stopped asked=4 end=4                   | 0 0 –
empty   | ended –                                  | stopped asked=4 end=4                   | 0 0 –
stop    | object                                   | stopped asked=4 end=4                   | 0 0 –
force   | object                                   | stopped asked=4 end=4                   | 0 0 –
message | object                                   | queued                                  | 1 0 20
lapse   | –                                        | stopped asked=4 end=4                   | 0 0 –

# stopped by lapse: enqueue@0 poll@1 ack@2 claim@3:10 stop@4
poll    | null                                     | stopped ack=2 start=3 beat=3 asked=4 end=13 | 0 0 –
reclaim | null                                     | stopped ack=2 start=3 beat=3 asked=4 end=13 | 0 0 –
ack     | 409                                      | stopped ack=2 start=3 beat=3 asked=4 end=13 | 0 0 –
claim   | ended 3                                  | stopped ack=2 start=3 beat=3 asked=4 end=13 | 0 0 –
extend  | ended 3                                  | stopped ack=2 start=3 beat=3 asked=4 end=13 | 0 0 –
wrong   | ended 3                                  | stopped ack=2 start=3 beat=3 asked=4 end=13 | 0 0 –
omitted | ended 3                                  | stopped ack=2 start=3 beat=3 asked=4 end=13 | 0 0 –
empty   | ended 3                                  | stopped ack=2 start=3 beat=3 asked=4 end=13 | 0 0 –
stop    | object                                   | stopped ack=2 start=3 beat=3 asked=4 end=13 | 0 0 –
force   | object                                   | stopped ack=2 start=3 beat=3 asked=4 end=13 | 0 0 –
message | object                                   | queued                                  | 1 0 20
lapse   | –                                        | stopped ack=2 start=3 beat=3 asked=4 end=13 | 0 0 –

# stopped, acknowledged after the message: enqueue@0 message@1 poll@1 ack@2 force@5
poll    | null                                     | stopped ack=2 asked=5 end=5             | 0 0 –
reclaim | null                                     | stopped ack=2 asked=5 end=5             | 0 0 –
ack     | 409                                      | stopped ack=2 asked=5 end=5             | 0 0 –
claim   | ended –                                  | stopped ack=2 asked=5 end=5             | 0 0 –
extend  | ended –                                  | stopped ack=2 asked=5 end=5             | 0 0 –
wrong   | ended –                                  | stopped ack=2 asked=5 end=5             | 0 0 –
omitted | ended –                                  | stopped ack=2 asked=5 end=5             | 0 0 –
empty   | ended –                                  | stopped ack=2 asked=5 end=5             | 0 0 –
stop    | object                                   | stopped ack=2 asked=5 end=5             | 0 0 –
force   | object                                   | stopped ack=2 asked=5 end=5             | 0 0 –
message | object                                   | queued                                  | 1 0 20
lapse   | –                                        | stopped ack=2 asked=5 end=5             | 0 0 –
"""


class Cell(NamedTuple):
    """The expected result of an event in a state."""

    event: str
    answer: str
    then: str
    stats: str


class State(NamedTuple):
    """A state of the table, the story that leads to it, and its cells."""

    name: str
    story: str
    cells: list[Cell]


def _states() -> list[State]:
    states = []
    for section in TABLE.split("# ")[1:]:
        head, *rows = section.strip().splitlines()
        name, _, story = head.partition(": ")
        states.append(State(name, story, [Cell(*(column.strip() for column in row.split("|"))) for row in rows]))
    return states


STATES = _states()
