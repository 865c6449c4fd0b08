"""One root for every error, and two questions each of them answers.

`connection_gone`: is the socket to the switch of no more use?
`call_over`: can nothing more be done for the caller?

An error carries its data as attributes, and its message names the cure.
"""

from __future__ import annotations


class ExoflowError(Exception):
    """Root of all errors that exoflow raises on purpose."""

    connection_gone = False
    call_over = False


# --- the wire ---------------------------------------------------------------------------------


class Disconnected(ExoflowError):
    """The socket to the switch ended while something was waited for; the call itself may live on."""

    connection_gone = True

    def __init__(self, waited_for: str, why: str = "the peer closed the connection") -> None:
        self.waited_for, self.why = waited_for, why
        super().__init__(f"connection to the switch lost while waiting for {waited_for}: {why}")


class ProtocolError(ExoflowError):
    """The peer sent something that is no event-socket frame; the connection is closed."""

    connection_gone = True

    def __init__(self, problem: str, data: bytes = b"") -> None:
        self.problem, self.data = problem, data[:200]
        super().__init__(f"not an event-socket frame: {problem}; is something else on that port? got {self.data!r}")


class CallEnded(ExoflowError):
    """The caller's channel is gone: hung up by the caller, by us or by the network."""

    call_over = True

    def __init__(self, cause: str = "", q850: int | None = None) -> None:
        self.cause, self.q850 = cause, q850
        super().__init__(f"the call has ended ({cause or 'cause not told'})")


class CommandRefused(ExoflowError):
    """FreeSWITCH answered -ERR; the connection and the call go on."""

    def __init__(self, command: str, reply: str) -> None:
        self.command, self.reply = command, reply
        super().__init__(f"FreeSWITCH refused `{command}`: {reply}")


class DeadlineExceeded(ExoflowError):
    """No answer within the time this wait had, in seconds."""

    def __init__(self, waited_for: str, seconds: float) -> None:
        self.waited_for, self.seconds = waited_for, seconds
        super().__init__(f"no {waited_for} within {seconds:g} s")


class UnsafeText(ExoflowError):
    """A text that must not reach the switch: it could become a command, a header, an expansion or a second leg."""

    def __init__(self, what: str, problem: str, text: str) -> None:
        self.what, self.problem, self.text = what, problem, text[:200]
        super().__init__(f"{what} refused: {problem} in {self.text!r}")


# --- prompts ----------------------------------------------------------------------------------


class PromptError(ExoflowError):
    """A prompt cannot be rendered."""


# --- the store --------------------------------------------------------------------------------


class StoreError(ExoflowError):
    """The store cannot do what was asked; the message names the file and the cure."""


class CdrError(ExoflowError):
    """A CDR file that is none, or not yet whole."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"no CDR of mod_json_cdr: {problem}")
