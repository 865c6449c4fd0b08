"""The only place where the parts are put together."""

from __future__ import annotations

import logging
from typing import Any

import gevent
from gevent.event import AsyncResult

from exoflow.agents.callbacks import CallBacks
from exoflow.agents.memory import Memory
from exoflow.agents.staff import Staff
from exoflow.agents.wishes import Wish, Wishes
from exoflow.calls.book import CallBook
from exoflow.calls.links import Links, beside, secret_of
from exoflow.calls.lost import LostCalls
from exoflow.calls.net import Net
from exoflow.calls.tidings import SignedTidings, together
from exoflow.config.model import Account, Config
from exoflow.crm.audio import AudioCache
from exoflow.crm.callback import CallbackTidings
from exoflow.crm.dialevents import dial_tidings
from exoflow.crm.http import CrmClient
from exoflow.crm.resend import Resends
from exoflow.crm.sender import Sender
from exoflow.crm.smtp import Mailer
from exoflow.crm.unsent import Unsent
from exoflow.errors import ExoflowError, PromptError
from exoflow.esl.server import CallServer
from exoflow.esl.session import CallSession
from exoflow.flow.callingback import CallingBack
from exoflow.flow.editions import Editions
from exoflow.flow.here import Parts
from exoflow.flow.placing import Placing
from exoflow.flow.reception import Reception
from exoflow.lines.lines import Lines
from exoflow.lines.publisher import FallbackPublisher
from exoflow.lines.stray import StrayLegs
from exoflow.prompts import PromptBook
from exoflow.reload import Refused, fixed, read_again
from exoflow.store.counts import ALL_BUSY
from exoflow.store.opening import open_store
from exoflow.unplayable import Unplayable
from exoflow.web.agentpages import AgentPages
from exoflow.web.callpages import CallPages
from exoflow.web.gate import Gate
from exoflow.web.health import Folders, HealthPages, Readiness, Sources
from exoflow.web.mp3 import Encoder, find
from exoflow.web.numberpages import NumberPages
from exoflow.web.recordings import RecordingPages
from exoflow.web.routes import routed
from exoflow.web.server import WebServer

log = logging.getLogger("exoflow")

SETTLE_SECONDS = 0.1  # a call whose socket closes within some 50 ms of its `connect` waits for its guard, 5 s of silence
FETCHED = "fetched"  # in the prompts' folder, which FreeSWITCH can read
SENDER_STOP_SECONDS = 0.2  # of the 1 s that a hand-over may take; what the CRM has not taken by then is sent again


class Service:
    """exoflow for one configuration: start, address, stop."""

    def __init__(self, config: Config, *, listener: Any = None, sends: bool = True) -> None:
        """Opens the store and prepares prompts. `listener` is a socket that listens already, in place of `switch.listen`.

        Without `sends` no message of a flow and nothing of the outbox leaves; what a flow waits for is asked all the same.

        Raises StoreError, PromptError, LinkSecretError.
        """
        report = PromptBook(config.prompts).build(config)
        if report.absent:
            wanted = ", ".join(f"{item.path} ({item.where})" for item in report.absent)
            raise PromptError(f"sound files are missing: {wanted}; bring them, or use `say`")
        self.store = open_store(config.store, spill=config.spill)
        self._encoder = Encoder(beside(self.store.path, "mp3"), find())
        self.links = self._make_links(config)
        self.book = CallBook(self.store, accounts=self._account)
        self.book.tidings = together(dial_tidings, SignedTidings(self.links), CallbackTidings(self.links))
        self.crm = CrmClient()
        self.audio = AudioCache(config.prompts.folder / FETCHED, self.crm)
        self._sends = sends
        self.sender = Sender(self.store, self.crm if sends else Unsent(), self._account)
        self._resends = Resends(self.store, self.sender.wake)
        self.book.wake = self.sender.wake
        self.sender.on_settled = self.book.settled
        self.lines = Lines(config.switch.event_socket, lambda: self.config.trunks)
        self.staff = Staff(self.lines, self.book.left.states, Memory(self.store))
        self._fallback = FallbackPublisher(lambda: self.config, self.lines, self.staff.available, self.staff.known)
        self.staff.on_switched = self._fallback.wake
        self.call_backs = CallBacks(self.store, lambda: self.staff.clock())
        self._wishes = Wishes(self.store.path, self._switch_agent)
        self._mailer = Mailer()
        self._unplayable = Unplayable()
        self._editions = Editions(config, self.store, self._make_parts)
        self._reception = Reception(self.parts_for, self.book)
        self.server = CallServer(
            config.switch.listen_address if listener is None else listener,
            self._take,
            max_calls=config.switch.max_calls,
            on_refused=self._reception.refuse,
        )
        self.reload_problem = ""  # why the last reload was refused; empty: it was not
        self._held: dict[str, CallSession] = {}  # calls that have a socket, by channel
        room = lambda: self.server.max_calls - self.server.active  # noqa: E731
        self._placing = Placing(self.book, self.lines, self.staff.claims, lambda: self.config, room)
        self.net = self._make_net()
        self._calling_back = CallingBack(
            self.call_backs, self.staff, self.book, self.crm, lambda: self.config, self._placing.place
        )
        self._lost = LostCalls(self.net, self.book, self.lines, lambda: self.config, self._held.__contains__)
        self.lines.on_up += [self._lost.hurry, self.staff.watch.hurry]
        self._stray = StrayLegs(self.lines)
        self.lines.on_channel += [self.staff.claims.hear, self._stray.hear]
        self.store.counts.watch(lambda: {("stray_legs", ""): float(self._stray.ended)})
        self.store.counts.watch(lambda: {(name, ""): float(count) for name, count in self.server.counters.items()})
        self.store.counts.watch(lambda: {(ALL_BUSY, trunk): seconds for trunk, seconds in self.lines.all_busy_seconds.items()})
        self.store.counts.watch(lambda: {(name, ""): float(count) for name, count in self.audio.counters.items()})
        self.web = self._make_web()

    @property
    def in_flight(self) -> int:
        """Requests and mails that wait for their answer: a rehearsal's clock must not overtake them."""
        return self.crm.in_flight + self.audio.in_flight + self._mailer.in_flight + self._calling_back.in_flight

    @property
    def address(self) -> tuple[str, int]:
        """Where FreeSWITCH's `socket` connects to."""
        return self.server.address

    def start(self) -> None:
        """Accepts calls when it returns. Raises OSError if the address is taken."""
        self.book.left.read()
        self.sender.start()
        self._resends.start()
        self._wishes.start()
        self.lines.start()
        self.staff.start()
        self._fallback.start()
        self.server.start()
        if self.net is not None:
            self.net.start()
        self._lost.start()
        self._calling_back.start()
        if self.web is not None:
            self.web.start()
        log.info("waiting for calls on %s:%d", *self.address)

    def stop(self) -> None:
        """Hands over: accepts no more, closes the calls' sockets without a command, writes all that is known, releases the
        store. Calls are not waited for: what plays there plays on, and the dialplan gives them to the next process."""
        self.server.stop_accepting()
        if self._held:
            gevent.sleep(SETTLE_SECONDS)
        self._calling_back.stop()
        self.server.stop(0)
        self._lost.stop()
        if self.net is not None:
            self.net.stop()
        self._fallback.stop()
        self.staff.stop()
        self.lines.stop()
        self._resends.stop()
        self._wishes.stop()
        self.sender.stop(SENDER_STOP_SECONDS)
        self.crm.close()
        if self.web is not None:
            self.web.stop()
        self._encoder.stop()
        self.store.close()
        log.info("handed over: calls go on in the next process")

    def _make_web(self) -> WebServer | None:
        """/livez, /readyz, the Calls API, agents and recordings, if they are wanted."""
        config = self.config
        if config.web is None:
            return None
        sources = Sources(
            store=self.store.health,
            event_socket=lambda: self.lines.problem,
            calls=lambda: (self.server.active, self.server.max_calls),
            no_descriptor=lambda: self.server.counters["emfile"],
            reload_refused=lambda: self.reload_problem,
            transfers=self._stray.problem,
            prompts=self._unplayable.problem,
            folders=lambda: Folders(self.store.path, config.switch.recordings, config.switch.cdr, config.spill),
            crm=self.crm.breaker.state,
        )
        gate = Gate(self._account)
        calls = CallPages(self.store, gate, self._placing.place, links=self.links)
        recordings = None
        if self.links is not None:
            recordings = RecordingPages(self.links, self.store, lambda: self.config, gate, self._encoder)
        agents = AgentPages(gate, self.staff)
        health = HealthPages(Readiness(sources).state)
        return WebServer(config.web.listen_address, routed(health, calls, agents, NumberPages(gate), recordings))

    def _make_links(self, config: Config) -> Links | None:
        """Addresses of recordings, if the world can reach us."""
        if config.web is None or config.web.public_url is None:
            return None
        secret = secret_of(config.web.link_secret_file or beside(self.store.path, "links"))
        return Links(config.web.public_url, secret, "mp3" if self._encoder.usable else "wav")

    # --- the configuration ------------------------------------------------------------------------

    @property
    def config(self) -> Config:
        """The newest, by which new calls go."""
        return self._parts.config

    def parts_for(self, name: str | None) -> Parts:
        """What a call goes by whose configuration has this hash; None: a new call."""
        return self._editions.of(name)

    def reload(self) -> bool:
        """Reads the configuration again; False if it is refused: the present one then stays, and `reload_problem` tells why."""
        old = self.config
        try:
            new = read_again(old.base / old.kept.main)
        except ExoflowError as error:
            for line in error.findings if isinstance(error, Refused) else [error]:
                log.error("%s", line)
            log.error("the configuration is refused, the one from before stays")
            self.reload_problem = str(error)
            return False
        for key in fixed(old, new):
            log.warning("%s has changed, which needs a restart; until then the value from before counts", key)
        self._editions.take(new)
        self._fallback.wake()
        self.reload_problem = ""
        log.info("configuration %s is taken; calls in progress end on theirs", new.kept.hash[:12])
        return True

    @property
    def _parts(self) -> Parts:
        return self._editions.current

    def _make_parts(self, config: Config) -> Parts:
        return Parts(
            config,
            PromptBook(config.prompts),
            self.crm,
            self.lines,
            self.audio,
            self.staff,
            mailer=self._mailer,
            sends=self._sends,
            links=self.links,
            call_backs=self.call_backs,
            unplayable=self._unplayable,
        )

    def _make_net(self) -> Net | None:
        """Takes in FreeSWITCH's CDR files, where their folder is known."""
        folder = self.config.switch.cdr
        if folder is None:
            return None
        return Net(folder, self.book, lambda: self.config, self._held.__contains__, self._reception.finish)

    def _account(self, account_id: str) -> Account | None:
        return self.config.accounts.get(account_id)

    def _switch_agent(self, wish: Wish) -> AsyncResult | None:
        account = self._account(wish.account)
        if account is None or wish.agent not in account.agents:
            return None
        return self.staff.switch(wish.account, wish.agent, wish.available, "command")

    def _take(self, session: CallSession) -> None:
        older = self._held.get(session.uuid)
        self._held[session.uuid] = session
        try:
            if older is not None:
                older.supersede()
            self._reception.answer(session)
        finally:
            session.left.set()
            if self._held.get(session.uuid) is session:
                del self._held[session.uuid]
