"""The ways a caller can take through a flow: branches that lead nowhere, steps nobody reaches, endless loops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from exoflow.config.draft import AccountDraft, Draft
from exoflow.config.findings import DID_YOU_MEAN, Finding, did_you_mean
from exoflow.config.steps import Step, SwitchStep, TimingStep, TransferStep


@dataclass(slots=True)
class _Node:
    targets: list[str]  # steps that exist
    leaves: bool  # a choice, an end, or a mistake that is told elsewhere: no loop is judged through it
    lost: bool = False  # has a branch of which nobody knows what was meant: it may lead anywhere


def check(draft: Draft) -> Iterator[Finding]:
    for account in draft.accounts:
        for flow in account.account.flows:
            yield from _flow(account, flow)
        yield from _transfers(account)


def _flow(a: AccountDraft, flow: str) -> Iterator[Finding]:
    raw = a.step_names(flow)
    steps = a.account.flows[flow].steps
    nodes: dict[str, _Node] = {}
    for name, value in raw.items():
        step = steps.get(name)
        if step is None:
            nodes[name] = _Node([text for text in _texts(value) if text in raw], leaves=True)
            continue
        nodes[name] = node = _Node([], leaves=step.GIVES_CHOICE)
        for branch, target in step.branches().items():
            if target in raw:
                node.targets.append(target)
                continue
            suggestion = did_you_mean(target, raw)
            # what was meant is surely reached, and saying that it is not would only be noise
            meant = [suggestion[len(DID_YOU_MEAN) : -2]] if suggestion.startswith(DID_YOU_MEAN) else []
            node.targets += meant
            node.lost = node.lost or not meant
            node.leaves = True
            where = ("flows", flow, "steps", name, *branch.split(".", 1))
            yield a.document.at("E301", f"unknown step `{target}`{suggestion}", *where)
    start = a.account.flows[flow].start
    if start not in raw:
        yield a.document.at("E301", f"unknown step `{start}`{did_you_mean(start, raw)}", "flows", flow, "start")
        return
    reached = _reached(start, nodes)
    lost = any(nodes[name].lost for name in reached)
    for name in raw:
        if name not in reached and not lost:
            message = f"nobody reaches the step `{name}`; lead a branch to it, or delete it"
            yield a.document.at("W403", message, "flows", flow, "steps", name, key=True)
    yield from _loops(a, flow, {name: nodes[name] for name in raw if name in reached})


def _texts(value: object) -> Iterator[str]:
    """All texts in a broken step: those that are steps' names are its branches."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)


def _reached(start: str, nodes: dict[str, _Node]) -> set[str]:
    reached, todo = {start}, [start]
    while todo:
        new = set(nodes[todo.pop()].targets) - reached
        reached |= new
        todo.extend(new)
    return reached


def _loops(a: AccountDraft, flow: str, nodes: dict[str, _Node]) -> Iterator[Finding]:
    """Circles of steps that give no choice: endless ones, and those that only a CRM's answer ends."""
    can_leave = _can_leave(nodes)
    trapped = {name for name in nodes if name not in can_leave}
    for circle in _circles(trapped, nodes):
        shown = " -> ".join((*circle, circle[0]))
        message = f"endless loop {shown}: lead a branch to a step that gives a choice or an end, e.g. a menu or a hangup"
        yield a.document.at("E401", message, "flows", flow, "steps", circle[0], key=True)
    plain = {name for name in can_leave if not nodes[name].leaves}
    for circle in _circles(plain, nodes):
        asking = next(name for name in circle if len(nodes[name].targets) > 1)
        shown = " -> ".join((*circle, circle[0]))
        message = (
            f"loop {shown} ends only when {_decider(a, flow, asking)} otherwise; put a menu into it, "
            "so that the caller has a choice"
        )
        yield a.document.at("W402", message, "flows", flow, "steps", circle[0], key=True)


def _decider(a: AccountDraft, flow: str, name: str) -> str:
    """Who decides at a step, and what."""
    step = a.account.flows[flow].steps.get(name)
    return f"`{name}` goes" if isinstance(step, (SwitchStep, TimingStep)) else f"the CRM answers `{name}`"


def _transfers(a: AccountDraft) -> Iterator[Finding]:
    """Circles through several flows: each flow alone looks as if its transfer were an end."""
    flows = a.as_run().flows
    nodes: dict[str, _Node] = {}
    steps: dict[str, tuple[str, str, Step]] = {}
    for flow_name, flow in flows.items():
        for name, step in flow.steps.items():
            node = nodes[_place(flow_name, name)] = _Node([], leaves=step.GIVES_CHOICE)
            steps[_place(flow_name, name)] = (flow_name.partition("(")[0], name, step)
            if isinstance(step, TransferStep):
                target = flows.get(step.transfer.entry)
                node.targets = [_place(step.transfer.entry, target.start)] if target is not None else []
                node.leaves = target is None
            else:
                node.targets = [_place(flow_name, target_step) for target_step in step.branches().values()]
    for node in nodes.values():
        node.leaves = node.leaves or any(target not in nodes for target in node.targets)
        node.targets = [target for target in node.targets if target in nodes]
    leave = _can_leave(nodes)
    for endless in (True, False):
        among = {name for name, node in nodes.items() if (name not in leave if endless else name in leave and not node.leaves)}
        for circle in _circles(among, nodes):
            transfer = next((place for place in circle if isinstance(steps[place][2], TransferStep)), None)
            if transfer is None:
                continue  # within one flow, and told there
            at = circle.index(transfer)
            shown = " -> ".join((*circle[at:], *circle[:at], transfer))
            flow_name, name, _ = steps[transfer]
            message = f"loop {shown} gives the caller no choice; put a menu into it"
            if endless:
                message = f"endless {message}, or lead a branch to an end"
            yield a.document.at("E401" if endless else "W402", message, "flows", flow_name, "steps", name, key=True)


def _place(flow: str, step: str) -> str:
    return f"{flow}/{step}"


def _can_leave(nodes: dict[str, _Node]) -> set[str]:
    """Steps from which a caller can come to a choice or an end."""
    sources: dict[str, list[str]] = {}
    for name, node in nodes.items():
        for target in node.targets:
            sources.setdefault(target, []).append(name)
    todo = [name for name, node in nodes.items() if node.leaves]
    found = set(todo)
    while todo:
        new = set(sources.get(todo.pop(), ())) - found
        found |= new
        todo.extend(new)
    return found


def _circles(among: set[str], nodes: dict[str, _Node]) -> Iterator[list[str]]:
    """One circle for each step that begins one, by depth-first search without recursion."""
    done: set[str] = set()
    begun: set[str] = set()
    for root in (name for name in nodes if name in among):
        path: list[str] = []
        on_path: dict[str, int] = {}
        todo = [(root, False)]
        while todo:
            name, leaving = todo.pop()
            if leaving:
                done.add(path.pop())
                del on_path[name]
                continue
            if name in done:
                continue
            if name in on_path:
                if name not in begun:
                    begun.add(name)
                    yield path[on_path[name] :]
                continue
            on_path[name] = len(path)
            path.append(name)
            todo.append((name, True))
            todo.extend((t, False) for t in reversed(nodes[name].targets) if t in among)
