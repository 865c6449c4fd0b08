"""Experiments that are tests of the rings: each row runs those that show it, and counts them.

Those of parts that are not built are NOT SHOWN.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from ring2.freeswitch import find_freeswitch

from faults import EMBEDDED, FREESWITCH, Row

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Trial:
    """`tests` are files or tests of ring 1 (the embedded switch), `real` of ring 2; `only` chooses among them (pytest -k)."""

    name: str
    tests: tuple[str, ...] = ()
    real: tuple[str, ...] = ()
    only: str = ""
    missing: str = ""  # why nothing can be shown


TRIALS = (
    Trial(
        "the process dies at any moment of a call",
        ("test_flow_resume.py", "test_flow_resume_parts.py", "test_keys_taken.py", "test_recording_resumed.py"),
        ("test_resume.py",),
    ),
    Trial(
        "kill -9 between a call's end and the CRM's 2xx",
        ("test_kill.py", "test_sender.py::test_kill_9_at_any_moment_loses_no_committed_delivery"),
    ),
    Trial(
        "the switch dies inside an event's body, or with its calls",
        (
            "test_esl_cures.py::test_06_an_end_inside_a_body_does_not_freeze_the_process",
            "test_flow_faults.py::test_malformed_frames_in_the_middle_of_a_call",
            "test_net_calls.py::test_the_switch_dies_in_a_recorded_talk",
            "test_lost.py",
        ),
        ("test_net.py::test_freeswitch_is_killed_in_a_recorded_talk",),
    ),
    Trial("the connection ends with a command pending, or before the reply to `connect`", ("test_esl_session.py",)),
    Trial(
        "the event socket is lost, or hangs",
        (
            "test_esl_doors.py::test_lines_come_back_after_every_failure",
            "test_lines.py::test_lines_count_through_a_lost_connection",
            "test_flow_connect_unwatched.py",
            "test_net_calls.py::test_without_an_event_socket_the_files_tell_the_end",
            "test_flow_recording.py::test_without_the_event_socket_it_is_not_known_to_be_good",
            "test_health.py::test_a_reload_that_was_refused_and_a_lost_event_socket_are_told",
        ),
    ),
    Trial(
        "frames that are none",
        ("test_esl_wire.py", "test_esl_codec.py", "test_flow_faults.py::test_malformed_frames_in_the_middle_of_a_call"),
    ),
    Trial(
        "a thousand connects at once, silent peers, no descriptor free",
        ("test_esl_server.py", "test_esl_doors.py"),
        ("test_guard.py::test_200_sockets_closed_early_leave_nobody_in_dead_air",),
    ),
    Trial(
        "a CRM that drips",
        ("test_crm_http.py::test_a_slow_server_is_cut_at_the_deadline", "test_flow_passthru.py"),
        ("test_crm.py::test_body_that_drips_is_cut_at_the_deadline_and_the_status_counts",),
    ),
    Trial(
        "a CRM that is away, wrong, or floods",
        ("test_crm_http.py", "test_crm_connections.py", "test_flow_passthru.py", "test_breaker.py", "test_answers.py"),
        ("test_crm.py",),
    ),
    Trial("a CRM that is down for days", ("test_sender.py", "test_breaker.py")),
    Trial("hostile data", ("test_safety.py", "test_dialstring.py"), ("test_attacks.py", "test_dialstring.py")),
    Trial(
        "disks full: store, spill, recordings",
        ("test_store_faults.py", "test_spill.py", "test_spill_file.py", "test_flow_recording.py"),
    ),
    Trial("a foreign lock on the store", ("test_store_faults.py", "test_store_files.py", "test_store.py"), only="lock"),
    Trial(
        "a store that is damaged, a stranger's, older or newer",
        ("test_store.py", "test_store_faults.py", "test_store_files.py"),
    ),
    Trial(
        "the clock is put right, midnight passes",
        (
            "test_net.py::test_a_file_from_before_the_clock_was_put_right",
            "test_dialect.py::test_a_clock_set_back_makes_no_negative_duration",
            "test_flow_timing.py",
        ),
    ),
    Trial("PostgreSQL restarted, frozen", missing="exoflow has no PostgreSQL yet"),
    Trial("two hosts", missing="exoflow runs on one host yet"),
    Trial("mail", missing="the status page and its mails are not built yet"),
)


def run() -> Iterator[Row]:
    for trial in TRIALS:
        if trial.missing:
            yield Row(trial.name, "", "NOT SHOWN", trial.missing)
        if trial.tests:
            yield row(trial, EMBEDDED, [f"ring1/{one}" for one in trial.tests])
        if trial.real and find_freeswitch() is None:
            yield Row(trial.name, FREESWITCH, "NOT SHOWN", "no FreeSWITCH found")
        elif trial.real:
            yield row(trial, FREESWITCH, [f"ring2/{one}" for one in trial.real])


def row(trial: Trial, where: str, tests: list[str]) -> Row:
    """A test that is skipped has shown nothing; nor have tests that cannot be run."""
    with tempfile.TemporaryDirectory(prefix="trials-") as folder:
        report = Path(folder) / "report.xml"
        words = ["-q", "-p", "no:cacheprovider", f"--junit-xml={report}", *(["-k", trial.only] if trial.only else []), *tests]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *words], cwd=TESTS, capture_output=True, text=True, check=False, env=os.environ
        )
        if not report.exists():
            return Row(trial.name, where, "NOT SHOWN", f"the tests could not be run: {done.stderr.strip()[-200:]}")
        counts = _counts(report)
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    if counts["failed"]:
        print(done.stdout[-4000:])
        return Row(trial.name, where, "BROKEN", told)
    if counts["skipped"] or not counts["tests held"]:
        return Row(trial.name, where, "NOT SHOWN", f"{told}: {' '.join(tests)}")
    return Row(trial.name, where, "held", told)


def _counts(report: Path) -> Counter[str]:
    """By how each test ended. Stock greenswitch failing as it is expected to is no test of ours that was skipped."""
    counts = Counter({"tests held": 0, "failed": 0, "skipped": 0})
    for case in ElementTree.parse(report).iter("testcase"):
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            counts["failed"] += 1
        elif skipped is not None and skipped.get("type") != "pytest.xfail":
            counts["skipped"] += 1
        else:
            counts["tests held"] += 1
    return counts
