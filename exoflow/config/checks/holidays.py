"""Holidays out of a library that may not be there, or may not know them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from exoflow.config import hours
from exoflow.config.draft import Draft
from exoflow.config.findings import Finding


def check(draft: Draft) -> Iterator[Finding]:
    this_year = date.today().year
    for account in draft.accounts:
        holidays = account.account.holidays
        if holidays.country is None:
            continue
        try:
            for year in (this_year, this_year + 1):  # so that no call waits for the library to work them out
                hours.library(holidays.country, holidays.region, year)
        except ImportError:
            message = "`country` needs the library of holidays; run `pip install holidays`, or list the days under `dates`"
            yield account.document.at("E324", message, "holidays", "country")
        except NotImplementedError as problem:
            yield account.document.at("E324", f"the library does not know it: {problem}", "holidays", "country")
