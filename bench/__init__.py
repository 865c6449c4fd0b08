"""`make bench` (`python -m bench`): what exoflow costs, beside a stock greenswitch application and a hand-written minimum."""
