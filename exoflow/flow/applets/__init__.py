"""The applets: one a file, found here by the key that names them in a flow."""

from exoflow.flow.applets.agent import Agent
from exoflow.flow.applets.back import Back
from exoflow.flow.applets.base import Applet
from exoflow.flow.applets.connect import Connect
from exoflow.flow.applets.consent import Consent
from exoflow.flow.applets.gather import Gather
from exoflow.flow.applets.greeting import Greeting
from exoflow.flow.applets.hangup import Hangup
from exoflow.flow.applets.language import Language
from exoflow.flow.applets.mail import Mail
from exoflow.flow.applets.menu import Menu
from exoflow.flow.applets.note import Note
from exoflow.flow.applets.page import Page
from exoflow.flow.applets.passthru import Passthru
from exoflow.flow.applets.pause import Pause
from exoflow.flow.applets.say_value import SayValue
from exoflow.flow.applets.set import Set
from exoflow.flow.applets.sms import Sms
from exoflow.flow.applets.switch import Switch
from exoflow.flow.applets.timing import Timing
from exoflow.flow.applets.transfer import Transfer
from exoflow.flow.applets.voicemail import Voicemail

APPLETS: dict[str, Applet] = {
    "greeting": Greeting(),
    "menu": Menu(),
    "passthru": Passthru(),
    "connect": Connect(),
    "voicemail": Voicemail(),
    "hangup": Hangup(),
    "set": Set(),
    "say_value": SayValue(),
    "note": Note(),
    "consent": Consent(),
    "sms": Sms(),
    "mail": Mail(),
    "page": Page(),
    "agent": Agent(),
    "back": Back(),
    "gather": Gather(),
    "language": Language(),
    "pause": Pause(),
    "switch": Switch(),
    "timing": Timing(),
    "transfer": Transfer(),
}

__all__ = ["APPLETS", "Applet"]
