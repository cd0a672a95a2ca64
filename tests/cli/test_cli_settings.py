"""What the command line guesses or reads from files never keeps a command from running."""

import pwd
from pathlib import Path

import pytest

from hourglass.errors import SettingsError
from hourglass.naming import MOST_NAME, name_of, numbered
from hourglass.settings import Settings
from server.app import App
from server.contract.text import is_name
from tests.support.cli import Cli
from tests.support.servers import command

pytestmark = pytest.mark.slow


def user_file(folder: Path, text: str) -> dict[str, str]:
    """The environment of a user with this file."""
    (folder / "hourglass.toml").write_text(text)
    return {"XDG_CONFIG_HOME": str(folder)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('colour = "red"\nroom = "ops"', "colour must be url, token, room or by, and a text"),
        ('url = 5\nroom = "ops"', "url must be"),
        ("url =", "cannot be read"),
        ("caf\xe9", "cannot be read"),
    ],
)
async def test_a_typo_in_the_file_is_told_and_the_command_runs(
    app: App, tmp_path: Path, text: str, said: str
) -> None:
    environ = user_file(tmp_path, text)
    async with Cli(app.url, "run", "--", "echo", "it runs", **environ) as cli:
        assert await cli.end() == 0
    assert cli.stdout == b"it runs\n"
    assert f"hourglass: {tmp_path}/hourglass.toml" in cli.said and said in cli.said
    room = "ops" if "ops" in text else "main"
    (job,) = (await command(app, "history", room=room))["jobs"]
    assert job["outcome"] == "done"


async def test_a_home_that_cannot_be_read_is_told_and_the_command_runs(
    app: App, tmp_path: Path
) -> None:
    (tmp_path / ".config/hourglass.toml").mkdir(parents=True)  # As unreadable for root, too.
    environ = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": ""}
    async with Cli(app.url, "run", "--", "echo", "it runs", **environ) as cli:
        assert await cli.end() == 0
    assert (cli.stdout, "cannot be read" in cli.said) == (b"it runs\n", True)


def test_nobody_needs_a_home_or_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    settings = Settings.load({}, {})
    assert (settings.room, settings.read_token()) == ("main", None)
    assert settings.by.partition("@")[0].isdigit()


async def test_an_address_that_is_none_is_told_and_the_command_runs() -> None:
    async with Cli("htp://nowhere", "run", "--", "echo", "it runs") as cli:
        assert await cli.end() == 0
    assert cli.stdout == b"it runs\n"
    assert "url must be like https://hourglass.example, not htp://nowhere" in cli.said
    async with Cli("htp://nowhere", "status") as cli:
        assert await cli.end() == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run", "-n", "x"], 125),
        (["--colour", "run", "--", "true"], 125),
        (["run", "--time", "soon", "--", "true"], 125),
        (["run", "--url", "htp://x", "--", "true"], 125),
        (["run"], 125),
        (["status", "-n"], 2),
        (["--colour"], 2),
    ],
)
async def test_wrong_usage_has_the_exit_code_of_the_manual(arguments: list[str], code: int) -> None:
    async with Cli("http://127.0.0.1:1", *arguments) as cli:
        assert await cli.end() == code
    assert cli.said


async def test_a_project_says_in_which_room_it_is(app: App, tmp_path: Path) -> None:
    (tmp_path / ".hourglass.toml").write_text('room = "night"\ntime = "2m"\nnote = "of a project"')
    (tmp_path / "deep/er").mkdir(parents=True)
    cli = await Cli(app.url, "run", "--", "true").start(cwd=tmp_path / "deep/er")
    assert await cli.end() == 0
    (job,) = (await command(app, "history", room="night"))["jobs"]
    assert (job["time"], job["note"], cli.said) == (120, "of a project", "")
    flags = ("--room", "main", "--time", "3m", "--note", "of a flag")
    cli = await Cli(app.url, "run", *flags, "--", "true").start(cwd=tmp_path)
    assert await cli.end() == 0
    (job,) = (await command(app, "history"))["jobs"]
    assert (job["time"], job["note"]) == (180, "of a flag")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('url = "http://evil.example"\ntoken = "x"\n', "url, token must be room, time or note"),
        ('time = "soon"', "'soon' must be seconds"),
        ("room", "cannot be read"),
    ],
)
async def test_a_project_says_not_where_the_server_is(
    app: App, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / ".hourglass.toml").write_text(text)
    cli = await Cli(app.url, "run", "--", "true").start(cwd=tmp_path)
    assert await cli.end() == 0
    assert said in cli.said
    (job,) = (await command(app, "history"))["jobs"]
    assert job["time"] == 600


def test_what_is_wrong_with_a_file_is_an_error_to_all_but_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".hourglass.toml").write_text("room = 5")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=r"\.hourglass\.toml: room must be"):
        Settings.load({}, {})


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("./bin/backup.sh --all", "backup.sh"),
        ("python3.12 -u jobs/nightly.py x", "nightly.py"),
        ("/usr/bin/python3 -m backup.main", "backup.main"),
        ("python -mpip install", "pip"),
        ("python -W ignore train.py", "train.py"),
        ("python -X dev -m http.server 80", "http.server"),
        ("python3 - x", "python3"),
        ("env -i A=1 B=2 nightly x", "nightly"),
        ("env -S", "env"),
        ("sudo -u bob -E A=1 /opt/tool -x", "tool"),
        ("sudo -- /opt/tool", "tool"),
        ("nice -n 10 make -j", "make"),
        ("nice -5 make", "make"),
        ("timeout -k 5 --signal=INT 10m ./sync.sh", "sync.sh"),
        ("nohup nice env timeout 5 stdbuf -oL ./sync.sh", "sync.sh"),
        ("flock -n /tmp/lock backup", "backup"),
        ("bash -euo pipefail ./deploy.sh", "deploy.sh"),
        ("bash -x deploy.sh -c now", "deploy.sh"),
        ("node -r ts-node/register app.ts", "app.ts"),
        ("perl -I lib run.pl", "run.pl"),
        ("sh", "sh"),
    ],
)
def test_a_job_is_called_what_does_the_work(line: str, name: str) -> None:
    assert name_of(line.split()) == name


@pytest.mark.parametrize(
    "line",
    [
        "bash -c",
        "bash -euo pipefail -c",
        "bash -lc",
        "env nice timeout 5 bash -xc",
        "flock /tmp/lock -c",
        "python -W ignore -c",
        "python3 -Ic",
        "node -e",
        "node --eval",
        "node -pe",
        "perl -ne",
        "ruby -rjson -e",
        "php -r",
        "env -S",
        "sh -s",
        "su - bob -c",
        "ssh host",
    ],
)
def test_the_text_of_a_script_is_no_name(line: str) -> None:
    assert "PASSWORD" not in name_of([*line.split(), "PASSWORD=secret deploy"])


def test_a_name_fits_whatever_the_program_is_called() -> None:
    for path in ("x" * 500, "a\nb", "a\u200bb", "\udcff", "", "/", "naïve \N{SNOWMAN}"):
        name = name_of([path])
        assert is_name(name, MOST_NAME), path
        assert is_name(numbered(name, 12), MOST_NAME)
    assert numbered("sleep", 2) == "sleep-2"
