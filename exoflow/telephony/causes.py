"""Why a leg ended: Q.850 causes by number and by FreeSWITCH's name, and what they mean for a call.

Numbers up to 127 are Q.850's. Above stand FreeSWITCH's own (switch_types.h:2183-2264, v1.10.12), which no exchange
sends. 47 has a Q.850 meaning and no name in FreeSWITCH, which shows it as UNKNOWN: go by the number where it is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

# not_accepted: the phone was picked up, and its agent did not take the call.   taken: another agent was quicker.
# busy: the network says so (17).   engaged: he is rung by us, or talks through us, for another call, and was not dialled.
LegOutcome = Literal[
    "ringing", "answered", "busy", "rejected", "no_answer", "unreachable", "bad_number", "trunk", "protocol", "caller_gone",
    "not_accepted", "taken", "engaged",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cause:
    q850: int
    name: str  # FreeSWITCH's
    text: str  # a plain sentence


MAX_Q850: Final = 127  # what an exchange can hear; the rest is FreeSWITCH's own

_UNKNOWN_NAME: Final = "UNKNOWN"

CAUSES: Final = tuple(
    Cause(*row)
    for row in (
        (0, "NONE", "No cause was told."),
        (1, "UNALLOCATED_NUMBER", "The number is not in use."),
        (2, "NO_ROUTE_TRANSIT_NET", "The network knows no way through the transit network."),
        (3, "NO_ROUTE_DESTINATION", "The network knows no way to the number."),
        (6, "CHANNEL_UNACCEPTABLE", "The channel was not acceptable to the other side."),
        (7, "CALL_AWARDED_DELIVERED", "The call was put on a channel that is already there."),
        (16, "NORMAL_CLEARING", "Somebody hung up."),
        (17, "USER_BUSY", "The number is busy."),
        (18, "NO_USER_RESPONSE", "The phone gave no sign to the network in time."),
        (19, "NO_ANSWER", "The phone rang and nobody answered."),
        (20, "SUBSCRIBER_ABSENT", "The phone is switched off or out of coverage."),
        (21, "CALL_REJECTED", "The call was rejected."),
        (22, "NUMBER_CHANGED", "The number has changed."),
        (23, "REDIRECTION_TO_NEW_DESTINATION", "The network wants the call sent to another number."),
        (25, "EXCHANGE_ROUTING_ERROR", "An exchange on the way sent the call in a circle."),
        (27, "DESTINATION_OUT_OF_ORDER", "The line to the destination is out of order."),
        (28, "INVALID_NUMBER_FORMAT", "The number is incomplete or has a wrong format."),
        (29, "FACILITY_REJECTED", "A service that was asked for was refused."),
        (30, "RESPONSE_TO_STATUS_ENQUIRY", "The answer to a status enquiry."),
        (31, "NORMAL_UNSPECIFIED", "The network ended the call without telling why."),
        (34, "NORMAL_CIRCUIT_CONGESTION", "No channel is free."),
        (38, "NETWORK_OUT_OF_ORDER", "The network is out of order."),
        (41, "NORMAL_TEMPORARY_FAILURE", "The network failed for the moment."),
        (42, "SWITCH_CONGESTION", "An exchange is overloaded."),
        (43, "ACCESS_INFO_DISCARDED", "The network dropped information that was sent with the call."),
        (44, "REQUESTED_CHAN_UNAVAIL", "The channel that was asked for is taken."),
        (45, "PRE_EMPTED", "A call of higher priority took the channel."),
        (47, _UNKNOWN_NAME, "The network lacks resources for the call."),
        (50, "FACILITY_NOT_SUBSCRIBED", "The line has no subscription for the service that was asked for."),
        (52, "OUTGOING_CALL_BARRED", "Outgoing calls are barred on this line."),
        (54, "INCOMING_CALL_BARRED", "Incoming calls are barred at the destination."),
        (57, "BEARERCAPABILITY_NOTAUTH", "The line may not use this kind of call."),
        (58, "BEARERCAPABILITY_NOTAVAIL", "The network cannot offer this kind of call at the moment."),
        (63, "SERVICE_UNAVAILABLE", "The network cannot offer the service."),
        (65, "BEARERCAPABILITY_NOTIMPL", "The network does not know this kind of call."),
        (66, "CHAN_NOT_IMPLEMENTED", "The network does not know this kind of channel."),
        (69, "FACILITY_NOT_IMPLEMENTED", "The network does not know the service that was asked for."),
        (79, "SERVICE_NOT_IMPLEMENTED", "The network does not know the service or option."),
        (81, "INVALID_CALL_REFERENCE", "The two sides disagree on which call is meant."),
        (88, "INCOMPATIBLE_DESTINATION", "The destination cannot take this kind of call."),
        (95, "INVALID_MSG_UNSPECIFIED", "A signalling message was invalid."),
        (96, "MANDATORY_IE_MISSING", "A signalling message lacked a mandatory part."),
        (97, "MESSAGE_TYPE_NONEXIST", "A signalling message of an unknown type came."),
        (98, "WRONG_MESSAGE", "A signalling message came that does not fit the state of the call."),
        (99, "IE_NONEXIST", "A signalling message had an unknown part."),
        (100, "INVALID_IE_CONTENTS", "A part of a signalling message was invalid."),
        (101, "WRONG_CALL_STATE", "A signalling message came in the wrong state of the call."),
        (102, "RECOVERY_ON_TIMER_EXPIRE", "A signalling timer ran out without an answer."),
        (103, "MANDATORY_IE_LENGTH_ERROR", "A mandatory part of a signalling message had a wrong length."),
        (111, "PROTOCOL_ERROR", "The two sides do not speak the same signalling."),
        (127, "INTERWORKING", "A network on the way does not tell causes."),
        (142, "SUCCESS", "It succeeded."),
        (487, "ORIGINATOR_CANCEL", "The calling side gave up."),
        (700, "CRASH", "FreeSWITCH crashed."),
        (701, "SYSTEM_SHUTDOWN", "FreeSWITCH was shut down."),
        (702, "LOSE_RACE", "Another phone answered first."),
        (703, "MANAGER_REQUEST", "An operator or a program ended the call."),
        (800, "BLIND_TRANSFER", "The call was transferred."),
        (801, "ATTENDED_TRANSFER", "The call was transferred."),
        (802, "ALLOTTED_TIMEOUT", "The time allowed for the call ran out."),
        (803, "USER_CHALLENGE", "The other side asked for a password."),
        (804, "MEDIA_TIMEOUT", "No sound came from the other side for too long."),
        (805, "PICKED_OFF", "Somebody else picked up the call."),
        (806, "USER_NOT_REGISTERED", "The SIP phone is not registered."),
        (807, "PROGRESS_TIMEOUT", "The network gave neither ringing nor any other sign in time."),
        (808, "INVALID_GATEWAY", "FreeSWITCH has no gateway of this name."),
        (809, "GATEWAY_DOWN", "The SIP gateway does not respond."),
        (810, "INVALID_URL", "The SIP address is invalid."),
        (811, "INVALID_PROFILE", "FreeSWITCH has no SIP profile of this name."),
        (812, "NO_PICKUP", "There was nothing to pick up."),
        (813, "SRTP_READ_ERROR", "The encrypted sound could not be read."),
        (814, "BOWOUT", "FreeSWITCH took itself out of the path."),
        (815, "BUSY_EVERYWHERE", "The callee is busy everywhere."),
        (816, "DECLINE", "The callee declined the call."),
        (817, "DOES_NOT_EXIST_ANYWHERE", "The callee does not exist."),
        (818, "NOT_ACCEPTABLE", "The call is not acceptable to the callee."),
        (819, "UNWANTED", "The callee does not want the call."),
        (820, "NO_IDENTITY", "The call lacked a caller's identity."),
        (821, "BAD_IDENTITY_INFO", "The caller's identity could not be checked."),
        (822, "UNSUPPORTED_CERTIFICATE", "The caller's certificate is not supported."),
        (823, "INVALID_IDENTITY", "The caller's identity is invalid."),
        (824, "STALE_DATE", "The caller's identity is too old."),
        (825, "REJECT_ALL", "The callee rejects all calls."),
    )
)

# a SIP phone's answers that name another destination, as FreeSWITCH tells them beside the cause
_REDIRECTS: Final = frozenset({"sip:300", "sip:301", "sip:302", "sip:305"})
_REDIRECTED: Final = 23  # what they are in Q.850 (RFC 3398, 7.2.4.1)

_BY_NUMBER: Final = {cause.q850: cause for cause in CAUSES}
_BY_NAME: Final = {cause.name: cause for cause in CAUSES if cause.name != _UNKNOWN_NAME}


def by_number(q850: int) -> Cause:
    """The cause of a number; an unlisted one (there are gaps) is named UNKNOWN and keeps its number."""
    return _BY_NUMBER.get(q850) or Cause(q850, _UNKNOWN_NAME, f"Cause {q850} has no standard meaning.")


def by_name(freeswitch_name: str) -> Cause | None:
    """The cause of a FreeSWITCH name, e.g. USER_BUSY; None for UNKNOWN and names it has not."""
    return _BY_NAME.get(freeswitch_name)


def of_leg(name: str, q850: int | None, protocol: str) -> tuple[str, int | None]:
    """A leg's cause and number as they are to be read. `protocol` is its `proto_specific_hangup_cause`.

    FreeSWITCH ends a leg that is redirected with 44 (sofia.c:6857), which would be the trunk's trouble and not the phone's.
    """
    if protocol in _REDIRECTS:
        return by_number(_REDIRECTED).name, _REDIRECTED
    return name, q850


# facts, pri-and-freetdm.md section 8; FreeSWITCH's own codes put where they belong by their meaning.
# 16, 18, 19, 27, 34, 102, 802 and 807 mean different things by what was seen of the leg: see read_leg
_OUTCOMES: Final[dict[int, LegOutcome]] = (
    dict.fromkeys((17, 815), "busy")
    | dict.fromkeys((21, 816, 819, 825), "rejected")
    | dict.fromkeys((20, 22, 31, 804, 806), "unreachable")
    | dict.fromkeys((1, 2, 3, 28, 810, 817), "bad_number")
    | dict.fromkeys((38, 41, 42, 44, 45, 47, 58, 63, 700, 701, 808, 809, 811), "trunk")
    | dict.fromkeys((50, 52, 57, 65, 66, 69, 79, 81, 88, *range(95, 102), 103, 111, 803, *range(820, 825)), "protocol")
    | {487: "caller_gone", 702: "taken"}
)

_NO_ANSWER: Final = frozenset({18, 19, 102, 802, 807})

_CURES: Final[dict[LegOutcome, str]] = {
    "busy": "The agent was on another call.",
    "rejected": "The agent or the phone refused the call; ask the agent, or look for call blocking on the phone.",
    "unreachable": "The network could not reach the phone; if it happens often, check the number and the phone's coverage.",
    "bad_number": "Correct the agent's number.",
    "trunk": "The fault is in the line or the network, not the agent: try another trunk and check the line's state.",
    "protocol": "The line's settings do not fit the exchange: show this cause to whoever set up the PRI and to the operator.",
    "caller_gone": "The caller was gone before an agent answered.",
    "taken": "The caller talks with that agent.",
}

_CURES_OF_CAUSES: Final = {
    22: "The number has changed: correct it.",
    _REDIRECTED: (
        "The agent's phone, or its exchange, redirects calls, which is not followed: switch call forwarding off there, "
        "or configure the other number."
    ),
}


def read_leg(
    *, q850: int | None, name: str, answered: bool, alerting: bool, early_media: bool, had_leg: bool, picked_up: bool = False
) -> tuple[LegOutcome, str]:
    """What became of an attempt to reach an agent, and a sentence that tells what it means and what to do.

    `q850` and `name` are the release's cause (number first; the name where no number was told, or where the name is one of
    FreeSWITCH's own). `alerting` says that
    ALERTING was seen, `early_media` that the network spoke (PROGRESS with sound), `had_leg` that a channel was made at
    all (CHANNEL_CREATE): FreeTDM refuses without one when it finds no channel (facts, section 3). `answered` means that a talk
    began; `picked_up` that the phone was, by an agent who was then asked whether he takes the call.
    """
    named = by_name(name)
    # FreeSWITCH's own causes have no number of Q.850: its events then say 16 beside the name (ALLOTTED_TIMEOUT)
    own = named is not None and named.q850 > MAX_Q850
    cause = by_number(q850) if q850 and not own else named or Cause(0, name or "NONE", "No known cause was told.")
    shown = f"{cause.q850} {cause.name}" if cause.q850 else f"cause {cause.name}"
    if answered:
        return "answered", f"The agent answered; the talk ended with {shown}: {cause.text}"
    if picked_up and cause.name not in ("LOSE_RACE", "ORIGINATOR_CANCEL"):
        did = "did not do so in time" if cause.name == "ALLOTTED_TIMEOUT" else "hung up instead"
        return "not_accepted", f"Somebody, or a mailbox, answered, was asked to take the call, and {did} ({shown})"
    outcome, meaning = _not_answered(cause, alerting=alerting, early_media=early_media, had_leg=had_leg)
    return outcome, f"{meaning} ({shown})"


def _not_answered(cause: Cause, *, alerting: bool, early_media: bool, had_leg: bool) -> tuple[LegOutcome, str]:
    if cause.q850 in _NO_ANSWER:
        return _silent(alerting=alerting, early_media=early_media)
    if cause.q850 == 34:
        if had_leg:
            return "trunk", "The network had no channel free towards the agent: try again, or by another operator's line."
        return "trunk", (
            "No free channel on our own trunk, or its D-channel is down or in alarm: the agent's phone never rang. "
            "Check the trunk's state; if all channels were in use, more are needed."
        )
    if cause.q850 == 27:
        if had_leg:
            return "unreachable", "The network reports the agent's line out of order: check the phone or its line."
        return "trunk", "FreeSWITCH knows no such span or it is not started: compare the trunk's `span` with `ftdm list`."
    if cause.q850 == 16:
        if not had_leg:
            return "caller_gone", "The attempt was ended before a channel was taken."
        return "unreachable", (
            "The network ended the attempt normally before anybody answered: an announcement had played out or the "
            "phone could not be reached. Dial the number by hand and listen."
        )
    outcome = _OUTCOMES.get(cause.q850, "unreachable" if had_leg else "trunk")
    cure = _CURES_OF_CAUSES.get(cause.q850) or _CURES[outcome]
    return outcome, f"{cause.text} {cure}"


def _silent(*, alerting: bool, early_media: bool) -> tuple[LegOutcome, str]:
    """Time ran out. Whether the agent's phone rang at all is what the engineer wants to know."""
    if alerting:
        return "no_answer", "The agent's phone rang and nobody answered in time."
    if early_media:
        return "unreachable", (
            "The network played an announcement instead of ringing: probably switched off or unreachable. "
            "Dial the number by hand and listen."
        )
    return "no_answer", (
        "The network never said that the phone rings: slow network, no coverage, or a line that tells no ALERTING. "
        "If other calls on this trunk show ringing, suspect the phone; a longer `ring_seconds` helps slow networks."
    )
