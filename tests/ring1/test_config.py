"""What a good configuration becomes: typed, paths located, secrets read, and whose call is whose."""

import shutil
from pathlib import Path

import pytest

from exoflow.config.checks.secrets import EVENT_SOCKET_VARIABLE
from exoflow.config.load import load
from exoflow.config.model import Account, Config, Number, Prompts, Switch, Trunk
from exoflow.config.promptpath import prompt_path
from exoflow.config.steps import ConnectStep, GatherStep, GreetingStep, MenuStep, Prompt
from exoflow.linesound import wav

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "tests/config"


@pytest.fixture
def design():
    loaded = load(CONFIGS / "design/exoflow.yaml", {})
    assert loaded.config is not None
    return loaded.config


def test_example_has_no_errors():
    loaded = load(ROOT / "examples/acme/exoflow.yaml", {EVENT_SOCKET_VARIABLE: "secret"})
    assert loaded.config is not None
    # the prompts are rendered on the box
    assert {f.code for f in loaded.findings} <= {"W603"}


def test_paths_start_at_the_file_that_names_them(design):
    assert design.base == CONFIGS / "design"
    assert design.switch.recordings == CONFIGS / "design/recordings"
    assert design.prompts.folder == CONFIGS / "design/prompts"
    assert design.store == f"sqlite:///{CONFIGS}/design/exoflow.db"


def test_paths_of_an_accounts_file_start_at_its_own_folder(tmp_path):
    shutil.copytree(CONFIGS / "design", tmp_path, dirs_exist_ok=True)
    file = tmp_path / "accounts/acme.yaml"
    file.write_text(file.read_text().replace('{say: "Welcome to Acme."}', "{play: sounds/welcome.wav}"))
    sound = tmp_path / "accounts/sounds/welcome.wav"
    sound.parent.mkdir()
    sound.write_bytes(wav(bytes(1600)))
    config = load(tmp_path / "exoflow.yaml", {}).config
    assert config is not None
    step = config.accounts["acme"].flows["main"].steps["welcome"]
    assert isinstance(step, GreetingStep)
    assert prompt_path(config.prompts, step.greeting) == sound


def test_absolute_store_stays(tmp_path):
    shutil.copytree(CONFIGS / "design", tmp_path, dirs_exist_ok=True)
    file = tmp_path / "exoflow.yaml"
    file.write_text(file.read_text().replace("sqlite:///exoflow.db", "sqlite:////var/lib/exoflow/exoflow.db"))
    config = load(file, {}).config
    assert config is not None
    assert config.store == "sqlite:////var/lib/exoflow/exoflow.db"


def test_steps_are_typed(design):
    steps = design.accounts["acme"].flows["main"].steps
    assert isinstance(steps["choose"], MenuStep)
    assert steps["choose"].keys == {"1": "lookup", "2": "sales", "3": "feedback"}
    assert isinstance(steps["agents"], ConnectStep)
    assert steps["agents"].connect.fallback.group == "support"
    assert steps["lookup"].branches() == {"ok": "agents", "redirect": "closed", "failed": "sales"}


def test_a_gather_is_one(design):
    feedback = design.accounts["acme"].flows["main"].steps["feedback"]
    assert isinstance(feedback, GatherStep)
    assert feedback.gather.say == "Rate us from 1 to 5."
    assert (feedback.gather.fewest, feedback.gather.longest) == (1, 1)
    assert feedback.branches() == {"next": "bye"}


def test_prompts_are_named_by_engine_voice_and_text():
    prompts = Prompts(engine="espeak-ng", folder=Path("/p"))
    path = prompt_path(prompts, Prompt(say="Welcome."))
    assert path.parent == Path("/p")
    assert len(path.stem) == 24
    assert path == prompt_path(prompts, Prompt(say="Welcome."))
    others = [
        prompt_path(prompts, Prompt(say="Welcome!")),
        prompt_path(Prompts(engine="text", folder=Path("/p")), Prompt(say="Welcome.")),
        prompt_path(Prompts(engine="espeak-ng", voice="hi", folder=Path("/p")), Prompt(say="Welcome.")),
    ]
    assert len({path, *others}) == 4


def test_a_recording_in_place_of_the_text_needs_no_engine(tmp_path):
    shutil.copytree(CONFIGS / "no_engine", tmp_path, dirs_exist_ok=True)
    (tmp_path / "esl.password").write_text("test\n")
    findings = load(tmp_path / "exoflow.yaml", {}).findings
    spoken = [Path(f.message.rsplit(" ", 1)[1]) for f in findings if f.code == "E601"]
    assert len(spoken) == 5
    (tmp_path / "prompts").mkdir()
    for path in spoken:
        path.touch()
    assert load(tmp_path / "exoflow.yaml", {}).config is not None


# --- secrets ------------------------------------------------------------------------------------


def _with_deliveries(tmp_path, deliveries, environ):
    shutil.copytree(CONFIGS / "design", tmp_path, dirs_exist_ok=True)
    with (tmp_path / "accounts/acme.yaml").open("a") as file:
        file.write(f'\ndeliveries: {{url: "https://crm.example/calls"{deliveries}}}\n')
    loaded = load(tmp_path / "exoflow.yaml", environ)
    assert loaded.config is not None, loaded.findings
    return loaded.config.accounts["acme"].deliveries


SECRET = "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0"


def test_secret_from_a_file_is_its_first_line(tmp_path):
    (tmp_path / "accounts").mkdir()
    (tmp_path / "accounts/acme.secret").write_text(f"{SECRET}\r\n# made in May\n")
    assert _with_deliveries(tmp_path, ", secret_file: acme.secret", {}).secret_text() == SECRET


def test_secret_from_the_environment(tmp_path):
    assert _with_deliveries(tmp_path, ', secret: "${ACME_SECRET}"', {"ACME_SECRET": SECRET}).secret_text() == SECRET


def test_no_secret(tmp_path):
    assert _with_deliveries(tmp_path, "", {}).secret_text() is None


def test_secrets_never_show(tmp_path):
    deliveries = _with_deliveries(tmp_path, f', secret: "{SECRET}"', {})
    assert SECRET not in repr(deliveries)
    assert deliveries.secret_text() == SECRET


def test_event_socket_password(design):
    assert design.switch.event_socket.password_text() == "test"
    assert "password=SecretStr('**********')" in repr(design.switch.event_socket)


def test_event_socket_password_from_the_environment():
    loaded = load(ROOT / "examples/acme/exoflow.yaml", {EVENT_SOCKET_VARIABLE: "from outside"})
    assert loaded.config is not None
    assert loaded.config.switch.event_socket.password_text() == "from outside"


def test_listen_address():
    assert Switch(listen="[::1]:8084").listen_address == ("::1", 8084)
    assert Switch().listen_address == ("127.0.0.1", 8084)


# --- whose call it is ---------------------------------------------------------------------------


def _config(*numbers):
    accounts = {
        account_id: Account(
            name=account_id,
            numbers=[n for owner, n in numbers if owner == account_id],
            flows={"main": {"start": "bye", "steps": {"bye": {"hangup": {}}}}},
        )
        for account_id in {owner for owner, _ in numbers}
    }
    trunks = {"PRI1": Trunk(span="PRI1", std_code="80"), "PRI2": Trunk(span="PRI2")}
    return Config(Path("/"), Switch(), "sqlite:///x", Prompts(), trunks, accounts)


def _number(number, trunk="PRI1", dnis=None):
    return Number(number=number, trunk=trunk, dnis=dnis, flow="main")


@pytest.mark.parametrize(
    "dialled",
    [
        "+918030752400",
        "918030752400",
        "00918030752400",
        "08030752400",
        "8030752400",
        "30752400",  # local: the trunk's STD code goes in front
        "752400",
        "2400",
        "00",
    ],
)
def test_a_number_is_known_by_all_that_exchanges_send(dialled):
    config = _config(("acme", _number("+918030752400")), ("beta", _number("+918030753311")))
    route = config.route(dialled, "PRI1")
    assert route is not None
    assert (route.account_id, route.number.number) == ("acme", "+918030752400")


@pytest.mark.parametrize("dialled", ["", "0", "99", "2401", "18030752400", "24OO", "२४००", "2400x", "+", "+00"])
def test_other_digits_are_nobodys(dialled):
    assert _config(("acme", _number("+918030752411"))).route(dialled, "PRI1") is None


def test_a_number_belongs_to_its_trunk():
    config = _config(("acme", _number("+918030752400", "PRI2")))
    assert config.route("2400", "PRI1") is None
    assert config.route("2400", "PRI9") is None
    assert config.route("2400", "PRI2") is not None


def test_ambiguous_digits_are_nobodys_and_the_candidates_are_told():
    config = _config(("acme", _number("+918030752400")), ("beta", _number("+918040002400")))
    assert config.route("2400", "PRI1") is None
    assert {r.account_id for r in config.candidates("2400", "PRI1")} == {"acme", "beta"}
    assert config.route("02400", "PRI1").account_id == "beta"
    assert config.route("8040002400", "PRI1").account_id == "beta"


def test_what_the_engineer_wrote_as_dnis_comes_first():
    config = _config(("acme", _number("+918030752400")), ("beta", _number("+918040001111", dnis="2400")))
    assert config.route("2400", "PRI1").account_id == "beta"
    assert config.route("8030752400", "PRI1").account_id == "acme"
    assert config.route("8040001111", "PRI1").account_id == "beta"


def test_numbers_become_e164():
    assert _number("080-3075 2400").number == "+918030752400"
