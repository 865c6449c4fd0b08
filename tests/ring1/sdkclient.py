"""Run as a program: a published SDK for Exotel, unchanged, places a call or reads one. Prints the answer's JSON.

`python sdkclient.py SDK DOMAIN KEY TOKEN WHAT ARGUMENT…`; the account is acme.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from exotel import Exotel
from pyexotel import Exotel as PyExotel


def by_exotel(domain: str, key: str, token: str, what: str, arguments: list[str]) -> Any:
    """exotel 0.1.5: logs in with the sid."""
    client = Exotel(key, token, baseurl=f"https://{domain}/")
    if what == "two":
        first, second, caller_id = arguments
        return client.call_number(first, caller_id, second, timeout=20, custom_data="order 7").json()
    if what == "flow":
        first, flow, caller_id = arguments
        return client.call_flow(first, caller_id, flow).json()
    return client.call_details(arguments[0]).json()


def by_pyexotel(domain: str, key: str, token: str, what: str, arguments: list[str]) -> Any:
    """pyexotel 1.0.3: prints what goes wrong, and returns nothing then."""
    client = PyExotel(key, token, "acme", domain)
    if what == "two":
        first, second, caller_id = arguments
        return client.call(first, second, caller_id)
    if what == "flow":
        first, flow, caller_id = arguments
        return client.connect_flow(first, caller_id, flow)
    return client.get_call_info(arguments[0])


if __name__ == "__main__":
    sdk, domain, key, token, what, *arguments = sys.argv[1:]
    by = {"exotel": by_exotel, "pyexotel": by_pyexotel}[sdk]
    print(json.dumps(by(domain, key, token, what, arguments)))
