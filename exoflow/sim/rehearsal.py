"""A configuration with the embedded switch around it: what `exoflow demo` and `exoflow call` start besides the server."""

from __future__ import annotations

import base64
import os
import secrets
import socket
from dataclasses import replace
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from exoflow.config.model import Config, EventSocket
from exoflow.sim.agents import AgentScript, Scripts
from exoflow.sim.switch import EmbeddedSwitch

DEMO_CRM_PORT = 8085  # as the packaged accounts/acme.yaml names it


class Rehearsal:
    """The switch for a configuration, with its trunks and a password of its own; `config` is the one to serve.

    Nothing listens on the addresses the files name, so a server that runs on this machine is not disturbed.
    """

    def __init__(
        self,
        config: Config,
        *,
        speed: float | None = 1.0,
        agents: Scripts | None = None,
        default_agent: AgentScript | None = None,
        scratch: Path | None = None,
        recordings: Path | None = None,
    ) -> None:
        """`scratch`: a folder for store, recordings and prompts instead of the configuration's own. `recordings`: one for the
        recordings, whatever becomes of the others."""
        if recordings is None:
            recordings = config.switch.recordings if scratch is None else scratch / "recordings"
        password = secrets.token_hex(16)
        # FreeSWITCH's `exo_trunk` is the span's or gateway's name
        trunks = {trunk.span or trunk.gateway or name: trunk.channels for name, trunk in config.trunks.items()}
        self.switch = EmbeddedSwitch(
            ("127.0.0.1", 1),  # until `serve_at` tells where the app is: nothing answers on port 1
            password=password,
            trunk=trunks,
            recordings=recordings,
            cdr=config.switch.cdr if scratch is None else scratch / "cdr",
            speed=speed,
            agents=agents,
            default_agent=default_agent,
        )
        self.switch.start()
        host, port = self.switch.event_socket_address
        event_socket = EventSocket(host=host, port=port, password=SecretStr(password))
        # what is written into `fallback` a real FreeSWITCH may be reading
        changes: dict[str, object] = {"listen": "127.0.0.1:0", "event_socket": event_socket, "fallback": None}
        changes["recordings"] = recordings
        web = config.web and config.web.model_copy(update={"listen": "127.0.0.1:0"})
        self.config = replace(config, web=web)
        if scratch is not None:
            changes["cdr"] = scratch / "cdr"
            prompts = config.prompts.model_copy(update={"engine": "text", "folder": scratch / "prompts"})
            web = web and web.model_copy(update={"link_secret_file": None})  # made beside the store
            spill = config.spill and scratch / "spill"
            store = f"sqlite:///{scratch / 'exoflow.db'}"
            self.config = replace(self.config, store=store, prompts=prompts, web=web, spill=spill)
        self.config = replace(self.config, switch=config.switch.model_copy(update=changes))

    def serve_at(self, address: tuple[str, int]) -> None:
        """Where the server listens; calls may come from now on."""
        self.switch.connect_to(address)

    def stop(self) -> None:
        self.switch.stop()


def write_demo(folder: Path) -> Path:
    """The demo's files in a folder; those that are there stay as they are. The path of its main file. Raises OSError."""
    packaged = resources.files("exoflow.sim") / "demo"
    (folder / "accounts").mkdir(parents=True, exist_ok=True)
    main, account, secret = folder / "exoflow.yaml", folder / "accounts" / "acme.yaml", folder / "accounts" / "acme.secret"
    if not main.exists():
        main.write_text((packaged / "exoflow.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    if not account.exists():
        text = (packaged / "accounts" / "acme.yaml").read_text(encoding="utf-8")
        account.write_text(text.replace(f":{DEMO_CRM_PORT}/", f":{_free_port(DEMO_CRM_PORT)}/"), encoding="utf-8")
    if not secret.exists():
        descriptor = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write("whsec_" + base64.b64encode(secrets.token_bytes(32)).decode() + "\n")
    return main


def crm_port(config: Config) -> int:
    """The port the demo's account expects its CRM on."""
    for account in config.accounts.values():
        if account.deliveries is not None:
            return urlsplit(account.deliveries.url).port or DEMO_CRM_PORT
    return DEMO_CRM_PORT


def _free_port(wanted: int) -> int:
    """`wanted` if nobody listens there, else one the system gives."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
