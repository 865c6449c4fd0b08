"""A CRM that places calls on the site's exoflow."""

from __future__ import annotations

from typing import Any

import requests

from exoflow.calls.model import CallState
from ring2.site import MAIN, Site, wait_for


def asked(site: Site, path: str, form: dict[str, str] | None = None) -> Any:
    """The API's answer to a GET, or to a POST with a form."""
    url = f"http://127.0.0.1:{site.web_port}/v1/Accounts/acme/{path}"
    answer = requests.request("GET" if form is None else "POST", url, data=form, auth=("kacme", "sesame"), timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()


def place(site: Site, **form: str) -> str:
    """The CallSid."""
    sid: str = asked(site, "Calls/connect.json", {"CallerId": f"0{MAIN}", **form})["Call"]["Sid"]
    return sid


def closed(site: Site, sid: str, seconds: float = 90) -> CallState:
    state: CallState = wait_for(lambda: (one := site.call_of(sid)) and one.outcome and one, seconds, f"the end of {sid}")
    return state
