"""One run of the bench, some five minutes: `python -m bench`; `--quick` takes its smallest size and writes nothing."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402
import os  # noqa: E402
import time  # noqa: E402
from statistics import median  # noqa: E402

from bench import checking, parse, plain, whole_call  # noqa: E402
from bench.report import KIB, MICRO, MILLI, contestants, spread, verdict, write  # noqa: E402

AT_ONCE = 100
RATE = 100.0  # calls a second
FREESWITCH_RATE = 40.0
IDLE_CALLS = 250  # at the smallest size; four times as many in a whole run

HOW_PLAIN = f"""## The plain call: answer, three sets, a prompt, hangup

- **stock**: `OutboundESLServer` with `myevents`, `answer`, `call_command("set", ...)`, `playback`, `hangup`, `stop`, as its
  README does (its prints, sleeps, debug log and `linger` left out). It waits for the prompt only; the rest is queued.
- **minimum**: gevent's `StreamServer`, one greenlet a call, a raw socket, a search for the token in each event; no deadlines
  and no checks.
- **exoflow**: `CallServer` and `CallSession`.

The last two wait for the end of each application by its token and linger for the call's last events. First they disarm the
dialplan's guard (`sched_cancel`) and arm a lease (`sched_transfer`): two applications more than stock runs.

On recorded frames: FreeSWITCH's own bytes (bench/frames) from another process, which answers at once, runs applications at the
channel's next 20 ms tick and sends the events that were asked for; {AT_ONCE} calls at once.
"""

HOW_FREESWITCH = f"""On the same machine, with freeswitch-conf/ and dialplan/ as delivered; callers over loopback channels,
{FREESWITCH_RATE:g} calls a second. The app is idle most of the time, so each wake-up costs more than under load, and there are
more of them: FreeSWITCH writes an event's head and body apart.
"""

WHOLE_CALL = (
    "a whole call A-H: `exoflow serve`, greeting, menu, passthru, the CRM's agents, bridge, recording, second passthru, "
    "delivery received by the CRM; embedded switch; CPU, ms"
)


def say(text: str) -> None:
    print(text, flush=True)


def plain_section(scale: int) -> list[str]:
    say("the plain call, CPU")
    cpu = plain.cpu_per_call(rounds=5 if scale > 1 else 1, calls=250 * scale, at_once=AT_ONCE)
    say("the plain call, calls a second")
    rate = plain.calls_per_second(rounds=3 if scale > 1 else 1, calls=400 * scale, at_once=50)
    return [
        HOW_PLAIN,
        *contestants("CPU of the app for one call, ms", cpu, MILLI, 3),
        "",
        "With a switch that takes no time at all, 50 calls at once (greenswitch looks for new calls ten times a second):",
        "",
        *contestants("calls a second of one process", rate, 1, 0, less=False),
        "",
    ]


def freeswitch_section(scale: int) -> tuple[str, list[str]]:
    say("the plain call on FreeSWITCH")
    found = plain.on_freeswitch(rounds=3 if scale > 1 else 1, calls=80 * scale, rate=FREESWITCH_RATE)
    if found is None:
        return "not on this machine", ["## On FreeSWITCH", "", "There was none on this machine.", ""]
    version, cpu = found
    return version, [
        "## The plain call on a real FreeSWITCH",
        "",
        HOW_FREESWITCH,
        *contestants("CPU of the app for one call, ms", cpu, MILLI, 2),
        "",
    ]


def row(what: str, value: str, judged: str) -> str:
    return f"| {what} | {value} | {judged} |"


def other_section(scale: int) -> list[str]:
    say("events")
    events = parse.seconds_per_event(rounds=7 if scale > 1 else 3)
    ours, theirs = median(events["ours"]), median(events["greenswitch"])
    say("first command")
    first = plain.first_command(calls=500 * scale, rate=RATE)
    say("memory of idle calls")
    idle = IDLE_CALLS * scale
    memory = plain.memory_per_call(calls=idle)
    served = whole_call.memory_per_call(calls=idle)
    say("whole calls")
    whole = whole_call.cpu_per_call(calls=75 * scale, at_once=15)
    say("exoflow check")
    check = checking.cpu_of_check(rounds=5 if scale > 1 else 1)
    ratio = theirs / ours
    return [
        "## Other figures",
        "",
        "| what | measured | reach | |",
        "| --- | --- | --- | --- |",
        row(
            WHOLE_CALL,
            spread(whole, MILLI),
            verdict(median(whole) * MILLI, 4, " ms"),
        ),
        row(
            f"an event of 3.6 kB, from bytes to the three headers that a session reads, µs (greenswitch: {theirs * MICRO:.1f}; "
            f"exoflow with every header made a text: {median(events['ours_whole']) * MICRO:.1f})",
            f"{spread(events['ours'], MICRO, 1)}; {ratio:.1f} times as fast",
            f"at least 5 times | {'**met**' if ratio >= 5 else '**not met**'}",
        ),
        row(
            f"connect to first command, {RATE:g} calls a second, p99, ms (stock: median {first['stock'][0] * MILLI:.1f}, p99 "
            f"{first['stock'][1] * MILLI:.1f})",
            f"{first['exoflow_esl'][1] * MILLI:.2f}, median {first['exoflow_esl'][0] * MILLI:.2f}",
            verdict(first["exoflow_esl"][1] * MILLI, 10, " ms"),
        ),
        row(
            f"memory for one idle call, {idle} at once, `exoflow serve` with its callers in a prompt, KiB",
            f"{served * KIB:.0f}",
            verdict(served * KIB, 100, " KiB"),
        ),
        row(
            f"the same for the esl layer alone, in a prompt, KiB (stock: {memory['stock'] * KIB:.0f})",
            f"{memory['exoflow_esl'] * KIB:.0f}",
            verdict(memory["exoflow_esl"] * KIB, 100, " KiB"),
        ),
        row(
            f"`exoflow check` on {checking.STEPS:,} steps, with the start of its process, CPU, s",
            spread(check, 1),
            verdict(median(check), 0.5, " s"),
        ),
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the smallest size; RESULTS.md stays as it is")
    quick = parser.parse_args().quick
    scale = 1 if quick else 4
    before, begun = os.getloadavg()[0], time.monotonic()
    plain_lines = plain_section(scale)
    version, freeswitch_lines = freeswitch_section(scale)
    sections = [*plain_lines, *freeswitch_lines, *other_section(scale)]
    minutes = (time.monotonic() - begun) / 60
    say("\n".join(sections))
    if not quick:
        write(sections, freeswitch=version, minutes=minutes, load=(before, os.getloadavg()[0]))
    say(f"{minutes:.1f} minutes; load average {before:.2f} before, {os.getloadavg()[0]:.2f} after")


if __name__ == "__main__":
    main()
