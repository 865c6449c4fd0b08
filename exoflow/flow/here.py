"""Where a call is: its socket, its record and its flow, and what every applet does with them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import gevent

from exoflow.agents.callbacks import CallBacks
from exoflow.agents.staff import Staff
from exoflow.calls.call import Call
from exoflow.calls.links import Links
from exoflow.calls.model import Stage
from exoflow.clock import utcnow
from exoflow.config.model import Account, Config, Flow
from exoflow.config.spoken_texts import is_filled
from exoflow.config.steps import Prompt
from exoflow.config.values import Value
from exoflow.crm.audio import AudioCache
from exoflow.crm.dialect import OVER, UNDER_WAY
from exoflow.crm.http import CrmClient
from exoflow.crm.smtp import Mailer
from exoflow.errors import DeadlineExceeded, ExoflowError, UnsafeText
from exoflow.esl import safety
from exoflow.esl.codec import Headers
from exoflow.esl.session import Before, CallSession
from exoflow.flow import variables
from exoflow.flow.gone import GoneSession
from exoflow.flow.hidden import STARS, Hidden
from exoflow.flow.progress import MARKER, MAX_CRM_CHARS, MAX_WAY, Marker, Place, Progress
from exoflow.flow.speech import with_values
from exoflow.flow.templates import local_time
from exoflow.lines.legs import moment
from exoflow.lines.lines import Lines
from exoflow.prompts import GONE, PROMPT_GONE, PromptBook
from exoflow.unplayable import Unplayable

log = logging.getLogger("exoflow.flow")

KEYS = "0123456789*#"
SEVERAL = "file_string://"  # begins several sounds in one
NOTHING = "silence_stream://10"  # to be played where something must stand
MAX_AHEAD = 128  # keys that may wait for a question: as many as one takes. With more, a key is stuck, and all are dropped
PAUSE_MS = 1500  # without a key: a number is typed with less between two
MAX_PAUSES = 6  # that are waited for: whoever types on for so long types to nobody
AHEAD = "exo_ahead"  # the channel's variable: the question whose keys beyond its answer are in exo_typed
QUIET_ROUNDS = 2  # without a key, after which none waits any more; what tells of them is up to a frame late
NOT_PLAYED = ("FILE NOT FOUND", "PLAYBACK ERROR")  # a playback's own response (mod_dptools.c, playback_function)
PLAYED = "the prompt had played to its end"
TRANSFERRED = "transfer"  # the journey's line of a call that goes on in another flow
QUICK_SECONDS = 5.0  # for applications that take no time of their own; a busy box needs some 0.1 s
PROMPT_MARGIN = 10.0  # seconds beyond a prompt's own length before its end is given up
UNKNOWN_PROMPT_SECONDS = 300.0  # for a sound whose length cannot be read
AFTERMATH_SECONDS = 5.0  # what is still being looked into (a recording's length) before the record is closed


@dataclass(slots=True)
class Parts:
    """What every call needs of the system around it. `clock` tells the time, aware, that opening hours go by.

    Without `sends` messages of flows (sms, mail, page) are shown in the journey and not sent.
    """

    config: Config
    prompts: PromptBook
    crm: CrmClient
    lines: Lines
    audio: AudioCache
    staff: Staff
    clock: Callable[[], datetime] = utcnow
    mailer: Mailer = field(default_factory=Mailer)
    sends: bool = True
    links: Links | None = None
    call_backs: CallBacks | None = None  # without it nobody is called back
    unplayable: Unplayable = field(default_factory=Unplayable)
    recording_folders: dict[str, str] = field(default_factory=dict)  # by account: the day's that FreeSWITCH has made


class Here:
    """One call in its flow. Applets use it; the engine moves it from step to step."""

    def __init__(
        self, parts: Parts, session: CallSession | GoneSession, call: Call, account_id: str, account: Account, flow: str
    ) -> None:
        """`flow` is the name of one of the account's."""
        self.parts, self.session, self.call = parts, session, call
        self.account_id, self.account = account_id, account
        self.flow_name = flow
        self.step = self.flow.start
        self.at = Progress()
        self.transfers = 0
        self.language = account.language
        self.pending: list[Prompt] = []  # greetings that the next menu plays, so that the caller may type over them
        self.selected: str | None = None  # what the last passthru's answer selects
        self.variables: dict[str, Value] = dict(self.flow.arguments)  # what the flow knows by name
        # to being recorded; None: not asked. Who is called back was asked in the call before
        self.consent = variables.consented(call.state.journey)
        self.hidden = Hidden()  # digits of a `gather` that are secret
        # typed ahead, oldest first: while no app had the call (dialplan/from-pri/40-died.xml), or while it did something else
        self.keys_typed = ""
        self.crm_said: Any = None  # JSON body of the last passthru's answer
        self.judged: set[str] = set()  # paths of the recordings that are being judged, or were: each is once
        self.end_key_left = False  # does the channel still have the end key of the digits before?
        self.doing = 0  # applications of this visit that take time, begun until now
        self._ended: Marker | None = None  # the last of them that had ended when the call came back
        self._cut_off = False  # was that one cut off?
        self._inside = False  # does it go on inside a step?
        self._unsaid = False  # that it has come back
        self._ended_before = False  # was the call's end known when it did?
        self._in_gap = False  # nothing has been done since
        self._filled: dict[Prompt, list[Prompt]] = {}  # texts of this step with the values in them
        self._no_sounds: set[tuple[int, str]] = set()  # visits and files that are told to be none
        self.keys_kept = ""  # of keys_typed, as the channel has it
        self._aftermath: list[gevent.Greenlet] = []
        self._aftermath_seconds = AFTERMATH_SECONDS

    # --- the way --------------------------------------------------------------------------------

    @property
    def flow(self) -> Flow:
        return self.account.flows[self.flow_name]

    @property
    def place(self) -> Place:
        return Place(self.flow_name, self.step)

    def go_to(self, place: Place) -> None:
        if place.flow != self.flow_name:
            # a flow's parameters are variables in it
            self.variables.update(self.account.flows[place.flow].arguments)
        self.flow_name, self.step = place

    def enter(self) -> None:
        """The step begins, or goes on if the call has come back in it."""
        if self._inside:
            self._inside = False
            return
        self.at.visit += 1
        self.at.time = local_time(self, self.parts.clock())
        self._filled.clear()
        if self.at.connect == UNDER_WAY and not self.caller_gone:
            self.at.connect = OVER  # who leaves from here on does not leave the ringing
        self.at.way.append(self.place)
        del self.at.way[:-MAX_WAY]
        self.at.data, self.at.pending, self.doing = {}, list(self.pending), 0
        self.keep()

    def remember(self, answer: bytes) -> None:
        """A CRM's answer, for `set`; one that is too long is not known any more when the call has come back."""
        text = answer.decode("utf-8", "replace")
        self.crm_said = variables.json_body(answer)
        kept = self.crm_said is not None and len(text) <= MAX_CRM_CHARS and self.hidden.cover(text) == text
        self.at.crm_said = text if kept else ""

    @property
    def data(self) -> Mapping[str, Any]:
        """What this step kept for going on inside it; empty when it begins."""
        return self.at.data

    def keep(self, **changes: Any) -> None:
        """Keeps these, and how far the call is, for another process; None takes away. Never waits.

        Whatever is noted and kept without a wait between is written together, so that no line is written twice.
        """
        kept = {name: value for name, value in {**self.at.data, **changes}.items() if value is not None}
        self.at.data, self.at.doing = kept, self.doing
        self.call.state.progress = self.at.written(self.place)
        self.call.changed(whole=True)

    # --- a call that comes back -----------------------------------------------------------------

    def restore(self) -> None:
        """The call comes back, after its socket was lost or its process died: how far it was, and what it knew."""
        self._unsaid = self._in_gap = True
        self._ended_before = self.call.state.ended_at is not None
        self._recall()
        kept, channel = self.call.state.progress, self.session.channel
        if kept.get("step") in self.account.flows.get(kept.get("flow", ""), self.flow).steps:
            self.at = Progress.read(kept)
            self.flow_name, self.step = kept["flow"], kept["step"]
        self._ended = Marker.read(channel.variable(MARKER))
        self._cut_off = self._ended is not None and self._was_cut_off(self._ended)
        self._inside = self.at.visit > 0
        self.pending, self.doing = list(self.at.pending), self.at.doing
        self.crm_said = variables.json_body(self.at.crm_said.encode())
        self.keys_typed = "".join(key for key in channel.variable("exo_typed") if key in KEYS)
        self.end_key_left = bool(channel.variable("read_terminator_used"))
        answered = _number(channel.get("Caller-Channel-Answered-Time"))
        if answered and not self.answered:
            self._was_answered(datetime.fromtimestamp(answered / 1e6, UTC))

    def _recall(self) -> None:
        """What the journey alone knows."""
        for entry in self.call.state.journey:
            told = entry.evidence
            if told.get("to_flow") in self.account.flows:
                self.variables.update(self.account.flows[told["to_flow"]].arguments)
                self.transfers += entry.code == TRANSFERRED
            elif entry.code == "language.chosen":
                self.language = told.get("language", self.language)
            elif entry.code == "passthru.branch":
                self.selected = told.get("select")
            variables.recall(self.variables, entry)
        self.consent = variables.consented(self.call.state.journey)

    @property
    def has_ended(self) -> bool:
        """Has the application that comes next ended already, while the call was away?

        All before the marker have: if the store was slower than the call, its steps are gone through once more without
        anything being done.
        """
        done = self._ended
        if done is None or (self.at.visit, self.doing) >= done[:2]:
            return False
        return not self._is_marked or ((done.flow, done.step) == self._indices() and not self._cut_off)

    def _was_cut_off(self, marker: Marker) -> bool:
        """By a lease that ran out, or by the caller's hangup: the marker is set all the same."""
        lapses, entry, gone_at, given_at = (
            _number(self.session.channel.variable(f"exo_{name}")) for name in ("lapses", "entry", "gone_at", "socket_at")
        )
        # had the dialplan the call back before the caller left?
        came_back = entry > marker.entry or gone_at > given_at
        return lapses > marker.lapses or (self.caller_gone and not came_back and not self._we_hung_up)

    @property
    def _we_hung_up(self) -> bool:
        """And died right behind it."""
        return isinstance(self.session, GoneSession) and self.session.ended_by == "exoflow" and not self.fell_back

    @property
    def fell_back(self) -> bool:
        """Has the dialplan's fallback had the caller?"""
        return bool(self.session.channel.variable("exo_fallback"))

    @property
    def _is_marked(self) -> bool:
        """Is the application that comes next the one that the marker names?"""
        return self._ended is not None and (self.at.visit, self.doing + 1) == self._ended[:2]

    @property
    def prefix(self) -> str:
        """Keys of `keys_typed` that were used up by the application that comes next, which has ended."""
        return self.keys_typed[self.at.typed : self._ended.typed] if self._ended is not None and self._is_marked else ""

    def end_gap(self) -> None:
        """Keys that came while nothing asked for them count: the switch eats one with each frame, and tells of it. The channel
        keeps them for the next process, until one has used them."""
        if not self._in_gap:
            return
        quiet = 0
        self._in_gap = False
        before, own = self.keys_typed, ""
        while quiet < QUIET_ROUNDS:
            self.execute("set", f"exo_typed={self.keys_typed}")  # a round trip, of a frame at least
            own += self.session.take_keys()
            told = self.parts.lines.keys(self.session.uuid, self.session.channel.sequence)
            # our socket hears of the first one only if it was quicker than the switch
            keys = "".join(key for key in (told if told.endswith(own) else own) if key in KEYS)
            quiet = 0 if before + keys != self.keys_typed else quiet + 1
            self.keys_typed = before + keys
        self.keys_kept = self.keys_typed

    def hear_keys(self) -> None:
        """Keys that the switch took since the last question, for a step that asks for none: they wait for the next one."""
        if self._in_gap:
            return  # `end_gap` looks for all of them
        self.keys_typed += "".join(key for key in self.session.take_keys() if key in KEYS)
        if len(self.keys_typed) - self.at.typed > MAX_AHEAD:
            self.keys_typed = self.keys_typed[: self.at.typed]
            self.note("C", "digits.too_many", f"More than {MAX_AHEAD} keys were pressed before a question: all are dropped")

    def drop_keys(self, ended: Headers | None = None) -> None:
        """What was pressed until now, or until that event, is for no later question: it was said to an agent or a mailbox."""
        self.session.take_keys(ended.sequence if ended is not None else None)
        self.at.typed = len(self.keys_typed)

    def drop_typing(self) -> None:
        """Nothing that was pressed until now is for a later question, and nor is the rest of a number that is being typed: what
        comes before a pause. Raises CallEnded, Disconnected."""
        self.end_gap()
        self.hear_keys()
        quiet = 0
        while quiet < QUIET_ROUNDS:  # keys that wait in the switch: it tells of one with each frame
            heard = len(self.keys_typed)
            self.execute("set", f"exo_typed={self.keys_typed}")
            self.hear_keys()
            quiet = 0 if len(self.keys_typed) > heard else quiet + 1
        heard = self.at.typed
        for _ in range(MAX_PAUSES):
            if len(self.keys_typed) == heard:
                break
            heard = len(self.keys_typed)
            self.execute("playback", f"silence_stream://{PAUSE_MS}", deadline=PAUSE_MS / 1000 + PROMPT_MARGIN)
            self.hear_keys()
        self.at.typed = len(self.keys_typed)

    def keep_keys(self) -> None:
        """Keys typed ahead are on the channel, for another process."""
        if self.keys_kept != self.keys_typed:
            self.keys_kept = self.keys_typed
            self.execute("set", f"exo_typed={self.keys_typed}")

    def _mind_keys(self) -> None:
        """Keeps each key on the channel as it comes, while something takes its time that asks for none. In a greenlet of its
        own; an `api` does not wait behind what runs."""
        session = self.session
        while not session.closed.is_set():
            session.keyed.wait()
            self.hear_keys()
            if self._in_gap:
                return
            if self.keys_kept != self.keys_typed:
                kept = self.keys_typed
                try:
                    session.api(f"uuid_setvar {session.uuid} exo_typed {kept}")
                except ExoflowError as error:
                    log.info("keys typed ahead are known to this process alone: %s", error)
                self.keys_kept = kept

    @contextmanager
    def minding_keys(self) -> Iterator[None]:
        """Around what takes its time and asks for no key."""
        minding = gevent.spawn(self._mind_keys)
        try:
            yield
        finally:
            minding.kill(block=False)

    @property
    def ended_last(self) -> bool:
        """Is the application that comes next the last one that ended while the call was away?"""
        return self.has_ended and self._is_marked

    def typed_ahead(self, keys: str, question: str) -> None:
        """Keys for the next question, pressed in this one; the channel keeps them for the next process, once."""
        if self.session.channel.variable(AHEAD) != question:
            self.keys_typed += keys
            if not self.caller_gone:
                self.keys_kept = self.keys_typed
                self.execute("multiset", f"^^;exo_typed={self.keys_typed};{AHEAD}={question}")

    def came_back(self, found: str = "") -> None:
        """The journey's line of a call that comes back, once: what was found, for people."""
        if self._unsaid:
            self._unsaid = False
            if self._ended_before:
                what = "exoflow died behind the call's end"
            elif self._we_hung_up:
                what = "exoflow had hung up, and died right behind it"
            elif self.caller_gone and self.fell_back:
                what = "The dialplan's fallback had the call until its end"
            elif self.caller_gone:
                what = "The caller left while no exoflow had him"
            else:
                ended = self.session.channel.variable("exo_end")
                what = f"The call came back: {_LOST.get(ended, 'exoflow died or was replaced')}"
            text = f"{what}{': ' if found else ''}{found}; it goes on at {self.step}"
            self.call.note("C", "call.resumed", text, step=self.step)

    # --- the record -----------------------------------------------------------------------------

    def note(self, stage: Stage, code: str, text: str, *, at: datetime | None = None, **evidence: Any) -> None:
        """A line of the journey, at this step."""
        if not self.has_ended:
            self.came_back()
        self.call.note(stage, code, text, step=self.step, at=at, **evidence)

    def failed(self, stage: Stage, code: str, text: str, **evidence: Any) -> None:
        """A line of the journey that explains a failure; the last one becomes the call's reason."""
        self.at.reason = code
        self.note(stage, code, text, **evidence)

    def afterwards(self, function: Callable[..., None], *arguments: Any, seconds: float = AFTERMATH_SECONDS) -> None:
        """Runs beside the call; the record is closed after it, or after `seconds` from the call's end."""
        self._aftermath_seconds = max(self._aftermath_seconds, seconds)
        self._aftermath.append(gevent.spawn(function, *arguments))

    def wait_for_aftermath(self) -> None:
        gevent.joinall(self._aftermath, timeout=self._aftermath_seconds)

    # --- the caller -----------------------------------------------------------------------------

    @property
    def answered(self) -> bool:
        return self.call.state.answered_at is not None

    @property
    def digits(self) -> str:
        """The last ones that were pressed; none if they were secret and another process had the call then."""
        kept = self.call.state.digits
        return self.hidden.digits if kept == STARS else kept

    @property
    def caller_gone(self) -> bool:
        return self.session.hung_up

    def execute(self, application: str, argument: str = "", *, deadline: float = QUICK_SECONDS) -> Headers:
        """Runs an application that takes no time; raises CallEnded also when the caller left while it ran."""
        event = self.session.execute(application, argument, deadline=deadline)
        self.session.raise_if_disconnected()
        return event

    def perform(
        self,
        application: str,
        argument: Callable[[], str],
        *,
        deadline: float,
        found: Callable[[], str] = lambda: PLAYED,
        before: Before | None = None,
        clears: str = "",
    ) -> Headers:
        """Runs an application that takes time, unless it had ended while the call was away; the journey then tells `found`.

        Its results are variables of what is returned. A marker is queued behind it, which the switch sets at its end also when
        nobody is here any more, and by which it takes the variable `clears` away; `before` runs right in front of it.
        """
        if self.has_ended:
            if self._is_marked:
                self.came_back(found())
            self.doing += 1
            return self.session.channel
        self.came_back()
        self.end_gap()
        said = argument()
        self.doing += 1
        rounds = (_number(self.session.channel.variable(name)) for name in ("exo_lapses", "exo_entry"))
        marker = Marker(self.at.visit, self.doing, *self._indices(), self.at.typed, *rounds)
        then = ("multiset", f"^^;{MARKER}={marker.text};{clears}=") if clears else ("set", f"{MARKER}={marker.text}")
        event = self.session.execute(application, said, deadline=deadline, then=then, before=before)
        self.session.raise_if_disconnected()
        return event

    def _indices(self) -> tuple[int, int]:
        return list(self.account.flows).index(self.flow_name), list(self.flow.steps).index(self.step)

    def answer(self) -> None:
        """CONNECT, once: from here the caller pays, so it is done by the first step that plays, collects or connects."""
        if self.answered:
            return
        self.execute("answer")
        event = self.session.answered_event
        self._was_answered(moment(event) if event is not None else utcnow())

    def _was_answered(self, at: datetime) -> None:
        self.call.answered(at)
        text = "Answered: this step is the first that needs the caller on the line"
        self.call.note("C", "call.answered", text, step=self.step)

    def sound(self, prompt: Prompt) -> str:
        """What the switch plays for a prompt in the caller's language, through the safety door; a tone and a line in the
        journey if it has gone."""
        return joined([self._sound(part) for part in self._parts(self.spoken(prompt))])

    def _parts(self, prompt: Prompt) -> list[Prompt]:
        """A single prompt as it is heard: its text with the values in it, filled once in a step."""
        if not is_filled(prompt):
            return [prompt]
        if prompt not in self._filled:
            self._filled[prompt] = with_values(self, prompt)
        return self._filled[prompt]

    def _sound(self, prompt: Prompt) -> str:
        sound = self.parts.prompts.sound(prompt)
        if "://" in sound:
            path, problem = self.parts.prompts.path(prompt), self.parts.prompts.problem(prompt)
            if problem in ("", GONE):
                text = f"Prompt {path} is not there: a tone was played instead; run `exoflow prompts build`"
                self.note("C", "prompt.missing", text)
            else:
                self._say_no_sound(str(path), problem)
        try:
            return safety.sound(sound)
        except UnsafeText as unsafe:
            self.failed("C", "prompt.unsafe", f"A tone was played instead of a prompt: {unsafe}; rename the file or its folder")
            return PROMPT_GONE

    def _say_no_sound(self, path: str, problem: str) -> None:
        """Once a visit of a step: a menu asks for its sounds at each attempt."""
        if (seen := (self.at.visit, path)) in self._no_sounds:
            return
        self._no_sounds.add(seen)
        text = f"Prompt {path} {problem}: a tone was played instead; bring a sound"
        self.note("C", "prompt.unplayable", text, sound=path)
        self.parts.unplayable.add(path, problem)

    def spoken(self, prompt: Prompt) -> Prompt:
        """The prompt in the caller's language."""
        return prompt.spoken_in(self.language, self.account.language)

    def sounds(self, prompts: list[Prompt]) -> str:
        """Several prompts as one sound."""
        return joined([self.sound(prompt) for prompt in prompts])

    def seconds(self, prompts: list[Prompt]) -> float:
        """How long they may take at most, with a margin."""
        return PROMPT_MARGIN + sum(self.length(prompt) for prompt in prompts)

    def length(self, prompt: Prompt) -> float:
        single, book = self.spoken(prompt), self.parts.prompts
        if self.has_ended and is_filled(single):
            return 0.0  # it has been heard
        try:
            return sum(book.seconds(book.file(part)) for part in self._parts(single))
        except (ExoflowError, OSError):
            return UNKNOWN_PROMPT_SECONDS

    def play(self, *prompts: Prompt) -> bool:
        """Plays prompts that nobody types over. Were they heard? Raises CallEnded, Disconnected."""
        listed = list(prompts)
        heard = self.play_sound(lambda: self.sounds(listed), deadline=self.seconds(listed))
        parts = (part for prompt in listed for part in self._parts(self.spoken(prompt)))
        return heard and self.parts.prompts.problem_of(parts) in ("", GONE)

    def play_sound(self, sound: Callable[[], str], *, deadline: float) -> bool:
        """Plays a sound to its end; one that does not end is broken off and noted. One that the switch cannot open is noted,
        and a tone is played instead: False."""
        try:
            with self.minding_keys():
                event = self.perform("playback", sound, deadline=deadline)
        except DeadlineExceeded:
            self.note("C", "switch.slow", f"Playing {sound()} took longer than {deadline:.0f} s and was broken off")
            self.break_off()
            return True
        if not event.get("Application-Response").startswith(NOT_PLAYED):
            self.parts.unplayable.played(sound)
            return True
        self.say_unplayable(sound())
        self.execute("playback", PROMPT_GONE, deadline=PROMPT_MARGIN)
        return False

    def say_unplayable(self, sound: str) -> None:
        """The journey's line of a sound that is there, and that the switch did not play."""
        what = sound.removeprefix(SEVERAL)
        cure = "make it a sound (`file` tells), and let FreeSWITCH's user read it and enter each folder above it"
        text = f"FreeSWITCH could not open {what}: a tone was played instead; {cure}"
        self.note("C", "prompt.unplayable", text, sound=what)
        self.parts.unplayable.add(what, "could not be opened by FreeSWITCH")

    def break_off(self) -> None:
        """Ends the application that runs; never raises but for the call's own end."""
        try:
            self.parts.lines.interrupt(self.session.uuid)
        except ExoflowError:
            # without the event socket our own one does: an `api` does not wait behind the application
            self.session.api(f"uuid_break {self.session.uuid}")


def joined(sounds: Sequence[str]) -> str:
    """Several sounds as one for the switch; some may be several already."""
    single: list[str] = []
    for sound in sounds:
        single += sound.removeprefix(SEVERAL).split("!") if sound.startswith(SEVERAL) else [sound]
    return NOTHING if not single else single[0] if len(single) == 1 else SEVERAL + "!".join(single)


# by what the dialplan says became of the process that had the call (exo_end)
_LOST = {
    "lease": "exoflow stood still, and its lease on the call ran out",
    "mute": "exoflow had not taken it in time",
    "transferred": "an agent's phone transferred the caller",
}


def _number(text: str) -> int:
    """Of a channel's variable; 0 for what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
