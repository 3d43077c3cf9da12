#!/usr/bin/env python3
"""Break the product on purpose, one rule at a time, and see the tests that are named for the rule fail.

A mutant that survives means that a test has lost its teeth. Without `--ledger` the mutants are the ones in this file; with it,
rules of the ledger are broken as their entries say (`flip`), and the first test of each must notice. The tests must pass
without any mutant, and a product that does not work at all counts as a mutant that was not found. Runs on the embedded
engine. The last line says how many were found.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.mutants.runs import ROOT, Benches, Mutant, verdict

#: Passes under every mutant of this file: the whole of a work item's life.
_CONTROL = "tests/contract/test_work.py::test_every_call_shows_the_whole_object_with_the_stages_reached"
#: Rules of the ledger that are broken in one run, unless `--count` says otherwise.
_COUNT = 30
_MOST_SEED = 1_000_000

_QUEUE = "queue/workyard_queue/lua"
_STORE = "store/workyard_store/lua"
_STATES = "tests/queue/test_states.py"
_WORK = "tests/contract/test_work.py"
_COUPLING = "tests/sessions/test_work.py"

MUTANTS = [
    Mutant(
        "drop-a-re-queue",
        "an item whose lease ends is queued again",
        f"{_QUEUE}/_queue.lua",
        "    reenter(id, date)\n",
        "",
        (
            "tests/queue/test_stats.py::test_a_lapsed_item_is_counted_anew_and_dated_with_the_end_of_its_lease",
            f"{_STATES}::test_a_lease_holds_until_the_microsecond_before_its_end",
        ),
    ),
    Mutant(
        "offer-an-item-twice",
        "an item that was just handed out is not offered to the next poll",
        f"{_QUEUE}/poll.lua",
        "call('ZADD', POLLED, us(E.now), entry[1])",
        "call('ZADD', POLLED, us(E.now - age), entry[1])",
        (
            "tests/queue/test_polling.py::test_the_oldest_waiting_item_comes_first",
            "tests/queue/test_polling.py::test_a_hand_out_counts_from_the_last_one",
        ),
    ),
    Mutant(
        "accept-a-stale-heartbeat",
        "a heartbeat that is not the stored one is refused",
        f"{_QUEUE}/heartbeat.lua",
        "expected == (beat or 'NONE')",
        "(beat and expected ~= 'NONE') or expected == (beat or 'NONE')",
        (f"{_STATES}::test_the_expected_heartbeat_is_compared_byte_for_byte",),
    ),
    Mutant(
        "accept-a-heartbeat-of-an-earlier-life",
        "a heartbeat is later than every one of an earlier life of the id",
        f"{_QUEUE}/heartbeat.lua",
        "(tonumber(v[3]) or 0) + 1",
        "(tonumber(beat or '') or 0) + 1",
        (f"{_STATES}::test_no_two_heartbeats_of_an_item_are_equal_even_when_time_stands_still",),
    ),
    Mutant(
        "forget-the-tombstone-count",
        "an item that leaves the queue without having been polled is counted out of it",
        f"{_QUEUE}/_queue.lua",
        "E.tombs, E.waiting = E.tombs + 1, E.waiting - 1",
        "E.tombs = E.tombs + 1",
        ("tests/queue/test_stats.py::test_the_figures_after_an_unpolled_item_left",),
    ),
    Mutant(
        "leave-a-lease-behind-on-stop",
        "a stopped item holds no lease",
        f"{_QUEUE}/_queue.lua",
        "  call('ZREM', LEASES, lease_member(seq, id))\n",
        "",
        (f"{_STATES}::test_a_stopped_item_stays_stopped_when_its_lease_would_have_ended",),
    ),
    Mutant(
        "skip-the-reclaim-age",
        "an item that was handed out is not handed out anew before its reclaim age",
        f"{_QUEUE}/poll.lua",
        "us(E.now - age), 'WITHSCORES'",
        "us(E.now), 'WITHSCORES'",
        (f"{_WORK}::test_an_unacked_item_is_reclaimed_at_its_age_and_not_before",),
    ),
    Mutant(
        "forget-one-key-at-reset",
        "a reset leaves no key",
        "store/workyard_store/keys.py",
        'key.owner == "environment" and key.purged == "purge"]',
        'key.owner == "environment" and key.purged == "purge" and key.name != "pollers"]',
        ("tests/server/test_control.py::test_a_reset_leaves_nothing_of_a_workspace_and_all_of_the_others",),
    ),
    Mutant(
        "forget-a-message-in-mid-run",
        "work whose session was told something comes back when it stops",
        f"{_QUEUE}/_queue.lua",
        "  call('HSET', work(id), 'message', '1', 'trace', trace)\n",
        "",
        (f"{_COUPLING}::test_a_message_in_mid_run_is_served_once_whatever_stops_the_work",),
    ),
    Mutant(
        "keep-a-message-that-was-served",
        "work whose session has gone idle does not come back",
        f"{_QUEUE}/session_commit.lua",
        "  call('HDEL', work(work_id), 'message')\n",
        "",
        (f"{_COUPLING}::test_a_message_that_was_served_before_the_stop_brings_nothing_back",),
    ),
    Mutant(
        "revive-the-work-of-an-ended-session",
        "no message brings back the work of a session that was ended",
        f"{_QUEUE}/_session.lua",
        "  call('HDEL', work(work_id), 'message')\n",
        "",
        (f"{_COUPLING}::test_the_end_of_a_session_is_the_end_of_its_work",),
    ),
    Mutant(
        "forget-to-count-a-deleted-session",
        "an environment counts its active sessions",
        f"{_QUEUE}/session_delete.lua",
        "if status ~= 'terminated' then count_active(session_id, -1) end\n",
        "",
        ("tests/sessions/test_lifecycle.py::test_an_environment_with_active_sessions_is_deleted_by_force_only",),
    ),
]


def main() -> int:
    """Run the mutants; return the exit code."""
    given = _arguments()
    try:
        chosen = _of_the_ledger(given) if given.ledger else _of_this_file(given)
    except _Unknown as unknown:
        print(f"mutants: {unknown}", file=sys.stderr)
        return 2
    if given.list:
        for mutant in chosen:
            print(
                f"{mutant.name}: {mutant.breaks}\n  {mutant.file}\n" + "".join(f"  {each}\n" for each in mutant.tests)
            )
        return 0
    return _run(chosen, [] if given.ledger else [_CONTROL], given.jobs)


def _run(chosen: Sequence[Mutant], control: list[str], jobs: int) -> int:
    """Run mutants, and before each of them the tests *control*, which have to pass; return the exit code."""
    adapt = [mutant for mutant in chosen if (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old) != 1]
    for mutant in adapt:
        print(f"SURVIVED  {mutant.name}: {mutant.file} does not hold {mutant.old!r} once: adapt the mutant")
    chosen = [mutant for mutant in chosen if mutant not in adapt]
    wanted = sorted({test for mutant in chosen for test in mutant.tests} | set(control))
    with tempfile.TemporaryDirectory(prefix="workyard-mutants-") as folder:
        benches = Benches(Path(folder), jobs, wanted)
        parts = [part for n in range(jobs) if (part := wanted[n::jobs])]
        for part, run in zip(parts, benches.run([(None, part) for part in parts]), strict=True):
            if run.problems or run.failed or run.passed != set(part):
                print(run.output, *run.problems, sep="\n", file=sys.stderr)
                print("mutants: the named tests do not pass without any mutant", file=sys.stderr)
                return 1
        runs = benches.run([(mutant, [*control, *mutant.tests]) for mutant in chosen], "--maxfail=1")
    survived = len(adapt)
    for mutant, run in zip(chosen, runs, strict=True):
        found, told = verdict(mutant, run, control)
        survived += not found
        print(f"{'found   ' if found else 'SURVIVED'}  {mutant.name}: {told}")
    total = len(chosen) + len(adapt)
    print(f"{total - survived} of {total} mutants found by the tests named for them")
    return 1 if survived else 0


class _Unknown(Exception):
    """A mutant is asked for that there is not."""


def _of_this_file(given: argparse.Namespace) -> list[Mutant]:
    _check_names(given.names, [mutant.name for mutant in MUTANTS])
    return [mutant for mutant in MUTANTS if not given.names or mutant.name in given.names]


def _of_the_ledger(given: argparse.Namespace) -> list[Mutant]:
    """Return the mutants that the ledger describes: those that are named, all, or some at random."""
    from tools.ledger.proofs import proofs
    from workyard.ledger.rules import rules

    texts = rules()
    there = {
        name: Mutant(name, texts[name].rule, proof.flip.file, proof.flip.find, proof.flip.replace, proof.tests[:1])
        for name, proof in proofs().items()
        if proof.flip is not None
    }
    _check_names(given.names, list(there))
    if given.names or given.all:
        return [mutant for name, mutant in there.items() if name in given.names or given.all]
    seed = random.SystemRandom().randrange(_MOST_SEED) if given.seed is None else given.seed
    count = min(given.count, len(there))
    print(
        f"{count} of {len(there)} rules that can be broken; again: scripts/mutants --ledger --count {count} --seed {seed}"
    )
    names = random.Random(seed).sample(sorted(there), count)
    return [there[name] for name in names]


def _check_names(names: Sequence[str], there: Sequence[str]) -> None:
    unknown = [name for name in names if name not in there]
    if unknown:
        raise _Unknown(f"there is no mutant {', '.join(unknown)}; --list names all")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/mutants", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="run these only: mutants, or rules of the ledger")
    parser.add_argument("--ledger", action="store_true", help="break rules of the ledger, some at random unless named")
    parser.add_argument("--count", type=int, default=_COUNT, help=f"how many rules at random; default: {_COUNT}")
    parser.add_argument("--seed", type=int, help="choose the same rules again; default: others each time")
    parser.add_argument("--all", action="store_true", help="all rules of the ledger")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="mutants side by side; default: the cores"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
