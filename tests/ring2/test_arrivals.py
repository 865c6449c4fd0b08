"""How calls arrive: nobody's numbers, short and ambiguous digits, withheld and diverted callers, an end without answer."""

from __future__ import annotations

import pytest

from exoflow.sim.crm import Reply
from ring2.site import ENGAGED, UNANSWERED, Site, codes, entry

pytestmark = pytest.mark.together


@pytest.mark.parametrize("did", ["8030752498", "98", "911"])
def test_a_number_that_is_nobodys(site: Site, did: str) -> None:
    visit = site.call(did)
    visit.phone.wait_ended()
    assert (visit.phone.cause, visit.phone.q850, visit.phone.answered_at) == ("UNALLOCATED_NUMBER", 1, None)
    state = visit.state()
    assert (state.outcome, state.reason, state.facts.account) == ("refused", "number.unknown", None)
    told = entry(state, "number.unknown")
    assert told.stage == "B"
    assert did in told.text
    assert "numbers" in told.text
    assert visit.cdr()["variables"]["exo_refused"] == "number"
    assert site.crm.deliveries == [] or all(one.event["data"]["call"] != state.facts.id for one in site.crm.deliveries)


@pytest.mark.parametrize("digits", range(2, 11))
def test_the_exchange_may_send_two_to_ten_digits(site: Site, digits: int) -> None:
    visit = site.call(ENGAGED[-digits:])
    visit.phone.wait_ended()
    # the flow's own cause reaches the exchange of an unanswered call
    assert (visit.phone.cause, visit.phone.q850, visit.phone.answered_at) == ("USER_BUSY", 17, None)
    state = visit.state()
    assert (state.facts.dialled_raw, state.facts.dialled) == (ENGAGED[-digits:], "+91" + ENGAGED)
    assert (state.outcome, state.q850, state.ended_by) == ("served", 17, "exoflow")
    assert state.answered_at is None
    assert visit.delivery()["data"]["number"] == "+91" + ENGAGED


@pytest.mark.parametrize("did", ["08030752402", "+918030752402", "00918030752402", "918030752402"])
def test_longer_forms_of_a_number(site: Site, did: str) -> None:
    visit = site.call(did)
    visit.phone.wait_ended()
    assert visit.state().facts.dialled == "+91" + ENGAGED


def test_digits_of_the_engineers_own(site: Site) -> None:
    visit = site.call("7711")
    visit.phone.wait_ended()
    assert visit.state().facts.dialled == "+918030752411"


def test_digits_that_mean_two_numbers(site: Site) -> None:
    visit = site.call("3399")
    visit.phone.wait_ended()
    state = visit.state()
    assert (visit.phone.q850, state.outcome, state.reason) == (1, "refused", "number.ambiguous")
    told = entry(state, "number.ambiguous").text
    for part in ("+918030753399", "+914430753399", "dnis"):
        assert part in told


def test_a_withheld_caller(site: Site) -> None:
    visit = site.call(UNANSWERED, {"/lookup": Reply(302)}, withheld=True)
    visit.phone.wait_ended()
    state = visit.state()
    assert (state.facts.caller, state.facts.caller_withheld, state.facts.caller_raw) == (None, True, "")
    assert entry(state, "caller.withheld").stage == "B"
    asked = [request for request in site.crm.to("/lookup") if request.get("CallSid") == state.facts.id]
    assert [(request.get("CallFrom"), request.get("From")) for request in asked] == [("", "")]
    data = visit.delivery()["data"]
    assert (data["caller"], data["caller_withheld"]) == (None, True)
    assert visit.phone.cause == "USER_BUSY"


@pytest.mark.parametrize(
    ("diverted_from", "forwarded"),
    [
        ("08041112222", "08041112222"),
        ("+918041112222", "08041112222"),
        # what the configuration says when the network says nothing, or nonsense
        (None, "08040001234"),
        ("80${hostname}", "08040001234"),
    ],
)
def test_a_diverted_call(site: Site, diverted_from: str | None, forwarded: str) -> None:
    visit = site.call(UNANSWERED, diverted_from=diverted_from)
    visit.phone.wait_ended()
    [asked] = visit.asked("/lookup")
    assert asked["ForwardedFrom"] == forwarded
    # answered 200: this flow rejects the call
    assert (visit.phone.cause, visit.phone.q850, visit.phone.answered_at) == ("CALL_REJECTED", 21, None)
    assert asked["CallStatus"] == "ringing"
    assert visit.delivery()["data"]["diverted_from"] == "+91" + forwarded[1:]


def test_a_slow_crm_of_an_unanswered_call_leaves_it_ringing(site: Site) -> None:
    visit = site.call(UNANSWERED, {"/lookup": Reply(200, b"OK", delay=2.0)})
    visit.phone.wait_ended()
    state = visit.state()
    assert visit.phone.ringing_at is not None
    assert (visit.phone.answered_at, visit.phone.early_at) == (None, None)
    assert "crm.200" in codes(state)


def test_a_foreign_caller_is_kept_whole(site: Site) -> None:
    visit = site.call(UNANSWERED, caller="00442079460000")
    visit.phone.wait_ended()
    state = visit.state()
    assert (state.facts.caller, state.facts.caller_raw) == ("+442079460000", "00442079460000")
