"""connect: rings agents one after another until one of them talks with the caller."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial

from exoflow.agents.staff import Picked
from exoflow.calls.model import Leg, Recording
from exoflow.clock import utcnow
from exoflow.config.steps import Connect as ConnectSettings
from exoflow.config.steps import ConnectStep
from exoflow.crm.dialect import UNDER_WAY
from exoflow.errors import ExoflowError
from exoflow.flow import queueing, transferring
from exoflow.flow import recording as recordings
from exoflow.flow.attempt import talk_of, under_way
from exoflow.flow.here import QUICK_SECONDS, Here
from exoflow.flow.hunt import ring_all
from exoflow.flow.legends import settle_unheard
from exoflow.flow.plan import Plan, next_round, planned
from exoflow.flow.whisper import INDIAN_RINGBACK
from exoflow.lines.legs import RecordingEvents
from exoflow.prompts import PROMPT_GONE
from exoflow.telephony.dialstring import ON_BRIDGE

_EDGE = "~"  # between the variables of a multiset: a tone has commas and semicolons in it


class Connect:
    """Rings agents one after another until one of them talks with the caller: those of a `group`, `numbers`, or those whom the
    CRM at `url` names, or else that at `fallback_url`; `fallback` is rung when they name nobody usable. Each is rung
    `ring_seconds`, or `parallel` of them at once; if the caller's own trunk is the trouble, the next one is tried. The
    CRM's JSON may say more (docs/connect-answers.md), also that it wants to be asked after each attempt that failed. An
    agent who answers hears `whisper` alone, and with `confirm` he must press a key, so that no mailbox takes the call;
    until then the caller hears ringing on, and then both hear `opening`. The caller hears `ringback`, and `hold` while the
    CRM is asked. With `record` the talk is recorded, unless the caller refused it (`consent`).

    With `queue`, callers of a group whose every reachable agent is talking wait for the first who is freed, in the order in
    which they came (docs/queue.md); with its `call_back` they may ask to be called back in their turn, within the account's
    `call_backs`.

    An agent's SIP phone that transfers the caller (where FreeSWITCH's profile lets it, docs/freeswitch-conf.md) transfers to
    a number that a CRM might have named: it is rung over our own trunks, then that agent again. Anything else is refused, and
    the agent rung again.

    Keys that the caller presses while agents ring, or in the talk, are no later question's. If the caller is typing when the
    ringing ends, a pause of 1.5 s is waited for, so that no part of a number is taken for the whole.

    Branches: `answered` after the talk; `unanswered` if nobody talked with the caller; out of the queue `queue_full`,
    `queue_timeout` and `left_queue` (`unanswered` unless set), and `call_back` for who will be called back.
    Caller gone: `answered` if there was a talk, else `unanswered`; nobody is rung for a caller who has left.
    Store gone: an attempt waits half a second for its row, then is dialled all the same. CRM gone: `fallback`, else
    `unanswered`.
    Journey: crm.<status> or crm.<problem> and crm.agents or crm.bad_answer (with `url`); crm.unplayable; crm.fallback_url;
    connect.again (the CRM asked once more, for the call's socket was lost in the question); connect.often (the CRM wanted
    to be asked too often); connect.fallback, connect.no_fallback, connect.nobody; connect.second_call (evidence calls: others
    of this caller); connect.passed_over (who is not rung now, and why: engaged, off, hours, wrap_up or paused), and if nobody
    is left, connect.engaged (by calls of ours) or connect.away; leg.dialled, and then leg.talked or leg.<outcome> (busy,
    rejected, no_answer, unreachable, bad_number, trunk, protocol, not_accepted, taken, caller_gone, engaged; evidence leg,
    q850, cause, alerting, seen); lines.down, switch.slow, store.slow; connect.transferred,
    connect.transfer_refused (evidence leg; number); recording.good, recording.declined, or
    recording.<problem>; queue.entered, queue.announced (evidence position, minutes), queue.served (evidence waited, in
    seconds), queue.full, queue.timeout, queue.left, queue.abandoned, queue.silent (a sound of the queue could not be played),
    queue.call_back (he will be called back; evidence waited, group), queue.no_call_back (that could not be kept: he waits on).
    """

    needs_caller = True

    def run(self, here: Here, step: ConnectStep) -> str:
        begin(here)
        transferring.begin(here)
        left_by = _ring_rounds(here, step.connect)
        if left_by:
            return left_by if left_by in step.branches() else "unanswered"
        while here.at.talked and (onward := transferring.next_plan(here, Plan.read(here.data["plan"]))):
            here.at.talked = False
            _ring(here, step.connect, *onward)
        if not here.at.talked:
            here.drop_typing()  # keys of a caller who waited are for nobody
        return "answered" if here.at.talked else "unanswered"

    def gone(self, here: Here, step: ConnectStep) -> str:
        legs = under_way(here)
        if any(leg.outcome == "ringing" for leg in legs):  # nobody saw their end
            settle_unheard(here, legs)
        here.parts.staff.ended(legs)
        if talk_of(legs) is not None:
            here.at.talked = True
            if here.data.get("recording"):
                _talk_recorded(here, _recording(here, here.data["channels"]))
        left_by = queueing.gone(here)
        if left_by in step.branches():
            return left_by
        return "answered" if here.at.talked else "unanswered"


def begin(here: Here) -> None:
    """From here on the caller wants an agent."""
    here.at.talked, here.at.connect = False, UNDER_WAY
    here.call.wants_agent()
    here.answer()


def _ring_rounds(here: Here, connect: ConnectSettings) -> str:
    """Rings whom the step or the CRM names, and asks the CRM again as long as it wants that. The branch if that is known: there
    was nobody, or the caller left the queue otherwise than to an agent."""
    while True:
        plan = planned(here, connect)
        if not plan.candidates:
            if "rounds" not in here.data:
                here.failed("G", "connect.nobody", "There is nobody to ring")
                return "unanswered"
            return ""
        ring = partial(_ring, here, connect, plan)
        if connect.queue is None or plan.team is None:
            ring()
        elif left_by := queueing.ring_in_turn(here, connect.queue, plan, ring):
            return left_by
        if here.at.talked or not next_round(here):
            return ""


def _ring(here: Here, connect: ConnectSettings, plan: Plan, first: Sequence[Picked] = ()) -> None:
    if not here.has_ended:
        _prepare(here, connect, plan)
    if plan.record == "none":
        ring_all(here, plan, first)
    else:
        _ring_recorded(here, plan, first)


def _prepare(here: Here, connect: ConnectSettings, plan: Plan) -> None:
    """What the caller's leg must know before its first bridge. Ringback starts at once: waiting for ALERTING means seconds
    of silence on a mobile network (facts, freeswitch-socket.md section 11)."""
    own = INDIAN_RINGBACK if connect.ringback is None else here.sound(connect.ringback)
    if own == PROMPT_GONE:  # a sound that cannot be played: ringing says more than a tone
        own = INDIAN_RINGBACK
    ringback = plan.how.ringback or own
    variables = {
        "ignore_early_media": "true",
        "instant_ringback": "true",
        "ringback": ringback,
        "transfer_ringback": ringback,
        "continue_on_fail": "true",
        "hangup_after_bridge": "false",
        "RECORD_BRIDGE_REQ": "true",  # talk only: no ringing, no prompts
        "RECORD_STEREO": "true" if plan.record == "dual" else "false",
        "RECORD_MIN_SEC": "0",  # a talk of two seconds is a talk
        ON_BRIDGE: f"playback {plan.how.callers_opening}" if plan.how.opening else "",  # of a step before there may be one
    }
    here.execute("multiset", f"^^{_EDGE}" + _EDGE.join(f"{name}={value}" for name, value in variables.items()))


def _ring_recorded(here: Here, plan: Plan, first: Sequence[Picked]) -> None:
    begun = "recording" in here.data or here.has_ended
    recording = _recording(here, 2 if plan.record == "dual" else 1)
    with ExitStack() as watch:
        events = None if begun else watch.enter_context(here.parts.lines.recording(recording.path))
        try:
            if not begun:
                recordings.make_folder(here, recording)
            if not here.has_ended:
                here.execute("record_session", recording.path)  # of what is recorded already it makes no second one
            ring_all(here, plan, first)
        finally:
            if not here.session.ended.is_set():
                with suppress(ExoflowError):  # a hangup stops it, too
                    here.session.execute("stop_record_session", recording.path, deadline=QUICK_SECONDS)
            if here.at.talked:
                _talk_recorded(here, recording, events, watch.pop_all())


def _recording(here: Here, channels: int) -> Recording:
    """This visit's: the record has it once there was a talk."""
    path = here.data.get("recording")
    if path is None:
        recording = recordings.new(here, "talk", channels, utcnow())
        here.keep(recording=recording.path, channels=channels)
        return recording
    known = next((one for one in here.call.state.recordings if one.path == path), None)
    return known or Recording("talk", path, channels)


def _talk_recorded(
    here: Here, recording: Recording, events: RecordingEvents | None = None, watch: ExitStack | None = None
) -> None:
    if recording.path in here.judged or (recording in here.call.state.recordings and recording.state != "pending"):
        return
    here.judged.add(recording.path)
    if recording not in here.call.state.recordings:
        here.call.add_recording(recording)
    # not the call's last talk: behind ours the dialplan's fallback may have rung somebody
    here.afterwards(_check, here, here.step, recording, talk_of(under_way(here)), events, watch or ExitStack())


def _check(
    here: Here, step: str, recording: Recording, talk: Leg | None, events: RecordingEvents | None, watch: ExitStack
) -> None:
    """Beside the call: who waits for the end of a file has nothing to do with who waits for the next step."""
    with watch:
        recordings.check(here, step, recording, events, talk)
