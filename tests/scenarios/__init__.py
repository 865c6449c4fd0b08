"""One set of calls for both rings: each scenario in *.yaml is played on the embedded switch and on FreeSWITCH.

`python -m scenarios compare` (in tests/) plays all of them in both and compares what the calls' records say. A difference
between the rings is a defect: the scenario is never bent to a ring. It stays, and is listed in differences.yaml until it is
mended.
"""
