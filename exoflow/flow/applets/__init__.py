"""The applets: one a file, found here by the key that names them in a flow."""

from exoflow.flow.applets.base import Applet
from exoflow.flow.applets.connect import Connect
from exoflow.flow.applets.greeting import Greeting
from exoflow.flow.applets.hangup import Hangup
from exoflow.flow.applets.menu import Menu
from exoflow.flow.applets.passthru import Passthru
from exoflow.flow.applets.voicemail import Voicemail

APPLETS: dict[str, Applet] = {
    "greeting": Greeting(),
    "menu": Menu(),
    "passthru": Passthru(),
    "connect": Connect(),
    "voicemail": Voicemail(),
    "hangup": Hangup(),
}

__all__ = ["APPLETS", "Applet"]
