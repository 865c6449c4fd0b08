"""transfer: goes on in another flow of the account."""

from __future__ import annotations

from exoflow.config.steps import TransferStep
from exoflow.flow.here import TRANSFERRED, Here
from exoflow.flow.progress import Place

MAX_TRANSFERS = 20  # of a call; flows that send a caller on and on must end some time


class Transfer:
    """Goes on at the start of `flow`, with `with` as its parameters. Language, variables, digits and what a CRM selected stay.

    Branches: none. The 21st transfer of a call ends it (transfer.too_many, the call's reason).
    Caller gone: works as ever; steps of the other flow that need nobody are run. Store gone: works as ever. CRM gone: works
    as ever.
    Journey: transfer (evidence to_flow, transfers: how many there were in this call); transfer.too_many.
    """

    needs_caller = False

    def run(self, here: Here, step: TransferStep) -> Place | None:
        if here.transfers >= MAX_TRANSFERS:
            text = f"The call was sent from flow to flow {MAX_TRANSFERS} times and ends here; look for a circle of transfers"
            here.failed("C", "transfer.too_many", text)
            return None
        here.transfers += 1
        flow = step.transfer.entry
        here.note("C", TRANSFERRED, f"On to the flow {flow}", to_flow=flow, transfers=here.transfers)
        return Place(flow, here.account.flows[flow].start)

    def gone(self, here: Here, step: TransferStep) -> None:
        """Never asked: it needs no caller and does not wait."""
