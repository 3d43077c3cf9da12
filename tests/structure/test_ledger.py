"""The ledger: its entries keep their form, every rule has a proof, what they name exists, and what is made of them is current."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.harness import rule_ids
from tests.support.ledger_run import Outcomes
from tools.ledger.claims import false_claims
from tools.ledger.proofs import PROOFS, proofs, read_proofs, texts_in, unpaired
from workyard.app import create_app
from workyard.ledger.ids import FALLBACK, of_error
from workyard.ledger.rules import LedgerError, read
from workyard.settings import Settings
from workyard_store import errors
from workyard_store.errors import StartupRefused, WorkyardError

ROOT = Path(__file__).resolve().parents[2]
ENTRY = """
  - id: work.one
    endpoint: "*"
    rule: One.
    grade: decided
    source: docs/evidence/decisions.md#lists
    since: 0.1.0
"""
PROOF = """
  - id: work.one
    tests: [tests/structure/test_ledger.py::test_the_ledger_is_whole_and_what_is_made_of_it_is_current]
    no_flip: It is made up.
"""
FILE = "tests/ledger/work.yaml"


def test_the_ledger_is_whole_and_what_is_made_of_it_is_current() -> None:
    """Form, proofs, tests, flips, endpoints; the page and the index."""
    done = subprocess.run([sys.executable, "-m", "tools.ledger", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("rules: [", "work.yaml: not YAML"),
        ("rules: {}", "work.yaml: rules: Input should be a valid"),
        ("rules: []\nmore: 1", "work.yaml: more: Extra inputs are not permitted"),
        (f"rules:{ENTRY}    word: 1", "work.yaml: work.one: word: Extra inputs are not permitted"),
        (f"rules:{ENTRY.replace('decided', 'guessed')}", "work.yaml: work.one: grade: Input should be 'reference'"),
        (f"rules:{ENTRY.replace('work.one', 'work')}", "work.yaml: work: id: String should match"),
        (f"rules:{ENTRY.replace('work.one', 'stats.one')}", "stats.one: the id does not begin with work."),
        (f"rules:{ENTRY}{ENTRY}", "work.one: there are two entries of this id"),
        (f"rules:{ENTRY.replace('One.', ' ')}", "work.yaml: work.one: rule: Input should be a valid string"),
        (f"rules:{ENTRY}    no_flip: No.", "work.yaml: work.one: no_flip: Extra inputs are not permitted"),
        (f"rules:{ENTRY}    errors: [WorkNotFound]", "work.one: a rule that errors carry says in avoid"),
        (f"rules:{ENTRY}    avoid: Do not.\n    errors: [Exception]", "work.one: errors: there is no domain error"),
        (
            f"rules:{ENTRY}    avoid: No.\n    errors: [WorkNotFound]\n{ENTRY.replace('work.one', 'work.two')}"
            "    avoid: No.\n    errors: [WorkNotFound]",
            "work.two: errors: WorkNotFound is with work.one already",
        ),
    ],
)
def test_an_entry_that_breaks_the_form_is_named(text: str, problem: str) -> None:
    """File, entry and member."""
    with pytest.raises(LedgerError) as refused:
        read({"work": text})
    assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("proofs: [", f"{FILE}: not YAML"),
        ("rules: []", f"{FILE}: proofs: Field required"),
        (f"proofs:{PROOF}    source: x", f"{FILE}: work.one: source: Extra inputs are not permitted"),
        (f"proofs:{PROOF.replace('work.one', 'stats.one')}", f"{FILE}: stats.one: the id does not begin with work."),
        (f"proofs:{PROOF}{PROOF}", f"{FILE}: work.one: there are two entries of this id"),
        (f"proofs:{PROOF}    engine: some", f"{FILE}: work.one: engine: Input should be 'every'"),
        (f"proofs:{PROOF}    flip: {{file: store/x.py, find: a, replace: b}}", "work.one: either flip, or no_flip"),
        (f"proofs:{PROOF.partition('    no_flip')[0]}", f"{FILE}: work.one: either flip, or no_flip"),
        (
            f"proofs:{PROOF.replace('no_flip: It is made up.', 'flip: {file: store/x.py, find: a, replace: a}')}",
            "find and replace are the same",
        ),
        (
            f"proofs:{PROOF.replace('tests/structure/test', 'tools/structure/test')}",
            f"{FILE}: work.one: tests.0: String should match",
        ),
        ("proofs:\n  - {id: work.one, tests: [], no_flip: No.}", f"{FILE}: work.one: tests: Tuple should have"),
    ],
)
def test_a_proof_that_breaks_the_form_is_named(text: str, problem: str) -> None:
    """File, entry and member."""
    with pytest.raises(LedgerError) as refused:
        read_proofs({"work": text})
    assert problem in str(refused.value)


def test_a_test_of_a_proof_may_be_in_a_folder() -> None:
    """The path of a test is its node id's."""
    proof = read_proofs({"work": f"proofs:{PROOF.replace('tests/structure/test', 'tests/work/more/test')}"})["work.one"]
    assert proof.tests[0].startswith("tests/work/more/test_ledger.py::")


def test_a_rule_without_a_proof_and_a_proof_without_a_rule_are_named() -> None:
    """Each with the file that lacks it."""
    rules, proven = read({"work": f"rules:{ENTRY}"}), read_proofs({"work": f"proofs:{PROOF}"})
    assert unpaired(rules, proven) == []
    [problem] = unpaired(rules, {})
    assert problem.startswith(
        "work.one: server/workyard/ledger/work.yaml has this rule, tests/ledger/work.yaml has no proof"
    )
    [problem] = unpaired({}, proven)
    assert problem.startswith(
        "work.one: tests/ledger/work.yaml proves this rule, server/workyard/ledger/work.yaml does not have it"
    )


def test_paths_in_proofs_can_be_rewritten_line_by_line() -> None:
    """A test, or the file of a flip, has a line of its own and no quotes: whoever moves files rewrites them by a pattern."""
    text = "".join(texts_in(ROOT / PROOFS).values())
    every = proofs().values()
    assert re.findall(r"^      - (\S+)$", text, re.MULTILINE) == [test for proof in every for test in proof.tests]
    files = [proof.flip.file for proof in every if proof.flip is not None]
    assert re.findall(r"^      file: (\S+)$", text, re.MULTILINE) == files


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("is_whole", "is_hole"), "work.one: there is no test tests/structure/test_ledger.py::test_the_ledger_is_hole"),
        (('"*"', "GET /v1/nothing"), "work.one: there is no endpoint GET /v1/nothing"),
        (
            ("since", "avoid: No.\n    fields: [nothing name]\n    since"),
            "work.one: fields: there is no operation nothing",
        ),
        (
            ("decisions.md#lists", "decisions.md#listes"),
            "work.one: source: docs/evidence/decisions.md has no heading #listes",
        ),
        (("decisions.md#lists", "decision.md#lists"), "work.one: source: there is no page docs/evidence/decision.md"),
        (("docs/evidence/decisions.md#lists", "a letter"), "work.one: source: 'a letter' is not docs/"),
        (
            ("grade: decided", "grade: recorded"),
            "work.one: source: the first of a rule of the grade recorded is in docs/",
        ),
        (
            ("no_flip: It is made up.", "flip: {file: store/workyard_store/ids.py, find: nowhere, replace: x}"),
            "work.one: store/workyard_store/ids.py holds 'nowhere' 0 times, not once",
        ),
    ],
)
def test_an_entry_that_names_what_is_not_there_is_named(change: tuple[str, str], problem: str) -> None:
    """Tests, endpoints, operations, the places of flips."""
    rules = read({"work": f"rules:{ENTRY.replace(*change)}"})
    proven = read_proofs({"work": f"proofs:{PROOF.replace(*change)}"})
    assert any(line.startswith(problem) for line in false_claims(rules, proven))


def test_an_entry_with_nothing_wrong_makes_no_claim_that_is_false() -> None:
    """Else the tests above would prove nothing."""
    rules, proven = read({"work": f"rules:{ENTRY}"}), read_proofs({"work": f"proofs:{PROOF}"})
    assert not [line for line in false_claims(rules, proven) if line.startswith("work.one")]


def _tree(error: type[WorkyardError]) -> set[type[WorkyardError]]:
    return {error}.union(*(_tree(child) for child in error.__subclasses__()))


#: Those of several rules: whoever raises one names the rule.
NAMED = {errors.TooManyAtOnce, errors.LimitReached, errors.NotFound, errors.Conflict, errors.PermissionDenied}
#: Those that are never answered, and those whose message tells the field.
ABOVE = {WorkyardError, StartupRefused, errors.InvalidRequest, errors.TooLarge, *NAMED}


def test_an_error_of_several_rules_is_raised_with_one() -> None:
    """Its class alone would not tell what to read."""
    names = {error.__name__ for error in NAMED}
    for file in (each for source in ("server", "store", "queue") for each in (ROOT / source).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                assert "rule" in {keyword.arg for keyword in node.keywords}, f"{file}:{node.lineno}"


def test_every_domain_error_is_about_a_rule_of_its_own() -> None:
    """By its class or that of an ancestor."""
    without = set[str]()
    for error in _tree(WorkyardError) - ABOVE:
        raised = error.__new__(error)
        raised.message, raised.rule = "It is so.", None
        if of_error(raised, "poll") not in rule_ids() - {FALLBACK}:
            without.add(error.__name__)
    assert without == set()


async def test_a_fault_of_ours_is_500_in_the_envelope_and_says_nothing() -> None:
    """Neither the exception nor where it came from."""

    def broken() -> None:
        raise ZeroDivisionError("a secret")

    app = create_app(Settings())
    app.add_api_route("/v1/broken", broken)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        answer = await client.get("/v1/broken")
    assert answer.status_code == 500
    assert answer.json()["error"] == {"type": "api_error", "message": "Internal server error"}
    assert answer.json()["request_id"] == answer.headers["request-id"]
    assert answer.headers["workyard-rule"] == "conventions.fault-of-ours"


@pytest.mark.parametrize(
    ("engine", "cases", "missing"),
    [
        ("every", {"[embedded]": True, "[redis-8]": True}, []),
        ("every", {"[a-embedded-b]": True, "[a-redis-7-b]": True}, []),
        ("every", {"[embedded]": True}, ["{} has not passed on redis"]),
        ("every", {"": True}, ["{} has not passed on embedded and redis"]),
        ("every", {"[embedded]": True, "[redis-8]": False}, ["{} failed"]),
        (
            "every",
            {"[redis-7-a]": True, "[redis-8-a]": True, "[embedded-a]": True, "[embedded-b]": False},
            ["{} failed"],
        ),
        ("redis", {"[redis-7]": True}, []),
        ("redis", {"[embedded]": True}, ["{} has not passed on redis"]),
        ("none", {"": True}, []),
        ("none", {"[case]": True}, []),
        ("none", {}, ["{} has not passed"]),
    ],
)
def test_a_rule_is_proven_where_its_tests_have_passed(engine: str, cases: dict[str, bool], missing: list[str]) -> None:
    """On the embedded engine and on a Redis, unless its proof says otherwise; what failed anywhere proves nothing."""
    proof = read_proofs({"work": f"proofs:{PROOF}    engine: {engine}"})["work.one"]
    outcomes = Outcomes()
    for case, passed in cases.items():
        outcomes.note(proof.tests[0] + case, passed=passed)
    assert outcomes.missing(proof) == [each.format(proof.tests[0]) for each in missing]
