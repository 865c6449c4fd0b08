"""exoflow under a supervisor beside a real FreeSWITCH, to be killed and frozen; and when that was done."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from ring2.agents import answers
from ring2.freeswitch import fill
from ring2.site import Site
from sqlalchemy import create_engine
from support.audio import Sound, sine, write_wav
from support.supervisor import Supervisor

from faults.ledger import Tee

HERE = Path(__file__).parent
TONES = {
    # file: Hz and seconds; whole periods in a telephone frame, so that one is not heard in another
    "first": (600, 3.0),
    "second": (750, 1.0),
    "third": (900, 2.0),
    "fourth": (1050, 0.6),
}
ASKED = ("/idle", "/order", "/rating", "/lookup", "/agents", "/after")
FALLBACK_TALK = 2.0  # seconds
FALLBACK_AGENTS = ("9845000031", "9845000032")


class Killed(Site):
    """A site whose exoflow has a supervisor, reads the CDR files, and writes each number's own fallback."""

    supervisor: Supervisor
    tee: Tee  # the switch's CDRs are kept for the checker

    def start(self) -> None:
        """Returns when exoflow accepts calls."""
        self.kills: list[float] = []  # epoch seconds, freezes too
        self.died_at = 0.0  # the last time that it was killed at once
        self.crm.start()
        self._dripping.__enter__()
        for path in ASKED:
            self.crm.script(path, self._reply)
        self._write_configuration()
        self.tee = Tee(self.box.cdr_folder, self.folder / "cdr")
        self.tee.start()
        where = (self.box.exoflow_hosts.host, self.box.exoflow_hosts.port)
        self.supervisor = Supervisor(self.folder / "exoflow.yaml", log=self.log, listen=where).start()
        self.supervisor.wait_ready(30)
        self._engine = create_engine(f"sqlite:///{self.folder / 'exoflow.db'}")
        for number in FALLBACK_AGENTS:
            self.exchange.agent(number).behave(answers(after=0.5, talk=FALLBACK_TALK))

    def stop(self) -> None:
        self.supervisor.stop()
        super().stop()
        self.tee.stop()
        (self.box.conf / "dialplan" / "fallback" / "exoflow.xml").unlink(missing_ok=True)

    def kill(self) -> None:
        """With SIGKILL."""
        self.died_at = time.time()
        self.kills.append(self.died_at)
        self.supervisor.kill()

    def freeze(self) -> float:
        """With SIGSTOP; the supervisor's watchdog ends it, if it looks."""
        self.kills.append(time.time())
        self.supervisor.kill(signal.SIGSTOP)
        return self.kills[-1]

    @property
    def database(self) -> Path:
        return self.folder / "exoflow.db"

    def _write_configuration(self) -> None:
        super()._write_configuration()
        fill(HERE / "kills.yaml", self.folder / "accounts" / "killed.yaml", {"CRM": self.crm.url("")})
        for name, (hz, seconds) in TONES.items():
            write_wav(self.folder / "tones" / f"{name}.wav", Sound([sine(hz, seconds)], 8000))
        main = self.folder / "exoflow.yaml"
        keys = f"  cdr: {self.folder / 'cdr'}\n  fallback: {self.box.conf / 'dialplan' / 'fallback'}\n"
        main.write_text(main.read_text().replace("  recordings:", f"{keys}  recordings:"))
