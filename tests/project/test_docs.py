"""What the documents say is true: settings, examples, commands, error codes."""

import asyncio
import dataclasses
import re
import sys
from pathlib import Path

import pytest
from msgspec.structs import fields

from hourglass.cli import parser
from hourglass.errors import Exit
from server import errors
from server.app import App
from server.config import Config, ConfigError
from server.contract.messages import COMMANDS, LOG_EVENTS
from server.contract.openapi import ROUTES, STATUS, document
from server.contract.validation import Checker
from tests.conftest import Serve
from tests.support.servers import ROOT, Process, command
from tests.support.tokens import SECRET

README = (ROOT / "README.md").read_text()
CONFIGURATION = (ROOT / "docs/configuration.md").read_text()
PROGRAMS = (ROOT / "docs/programs.md").read_text()
PROTOCOL = (ROOT / "docs/protocol.md").read_text()
CLI = (ROOT / "docs/cli.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])
PATH = re.compile(r"\w[\w/.-]*(?:/|\.(?:py|js|lua|toml|md))")


def settings_table() -> str:
    """The settings of `Config` as docs/configuration.md shows them."""
    lines = ["| variable | default | unit | what |", "| --- | --- | --- | --- |"]
    for item in dataclasses.fields(Config):
        default = f"`{item.default}`" if item.default != "" else "empty"
        unit, text = item.metadata["unit"], item.metadata["help"]
        lines.append(f"| `{item.name.upper()}` | {default} | {unit} | {text} |")
    return "\n".join(lines)


def example(document: str, language: str, after: str = "") -> str:
    """The first example in a language, after some text."""
    found = re.search(rf"{after}.*?```{language}\n(.*?)```", document, re.S)
    assert found is not None
    return found[1]


async def run_example(
    command: list[str], code: str, url: str, folder: Path, exit_code: int = 0
) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    code = code.replace("http://127.0.0.1:8000", url)
    output, _ = await asyncio.wait_for(process.communicate(code.encode()), 20)
    assert process.returncode == exit_code, output.decode()
    return output.decode()


def test_the_configuration_lists_every_setting() -> None:
    assert settings_table() in CONFIGURATION


def test_a_setting_is_also_taken_by_its_old_name() -> None:
    assert Config.from_env({"ROOM_KEEP": "5"}).room_retention == 5
    assert Config.from_env({"OUTPUT_KEEP": "5"}).output_retention == 5
    assert Config.from_env({"ROOM_KEEP": "5", "ROOM_RETENTION": "6"}).room_retention == 6
    with pytest.raises(ConfigError, match="ROOM_RETENTION must be at least 0"):
        Config.from_env({"ROOM_KEEP": "-1"})


async def test_the_log_says_that_a_setting_has_a_new_name(tmp_path: Path) -> None:
    server = Process(tmp_path / "jobs.db", ROOM_KEEP="0")
    await server.start()
    await server.terminate()
    assert "ROOM_KEEP is now called ROOM_RETENTION" in server.log


async def test_the_python_example_runs(app: App) -> None:
    output = await run_example([sys.executable, "-"], example(PROGRAMS, "python"), app.url, ROOT)
    assert output == "nightly-backup finished: done\n"


async def test_the_python_examples_say_why_they_were_not_let_in(serve: Serve) -> None:
    app = await serve(auth_secret=SECRET)
    program = ROOT / "examples/python/main.py"
    for code in (example(PROGRAMS, "python"), program.read_text()):
        output = await run_example([sys.executable, "-"], code, app.url, ROOT, exit_code=1)
        assert "not connected: token required" in output


async def test_the_javascript_example_runs(app: App) -> None:
    command = ["node", "--input-type=module", "-"]
    output = await run_example(command, example(PROGRAMS, "js"), app.url, ROOT)
    assert output == "0 running\nimport was killed by bo: just trying\n"


async def test_the_command_line_example_runs(app: App, tmp_path: Path) -> None:
    (tmp_path / "backup.sh").write_text("#!/bin/sh\necho saved\n")
    (tmp_path / "backup.sh").chmod(0o755)
    python = Path(sys.executable).parent
    environment = f"PATH={python}:$PATH\nexport HOURGLASS_URL={app.url}\n"
    code = environment + example(README, "sh", "Wrap a command")
    output = await run_example(["sh", "-e"], code, app.url, tmp_path)
    assert output.endswith("saved\n")
    (job,) = (await command(app, "history"))["jobs"]
    assert (job["connid"], job["time"], job["outcome"]) == ("backup.sh", 600, "done")


async def test_the_curl_examples_run(app: App, tmp_path: Path) -> None:
    lines = [line for line in PROGRAMS.splitlines() if line.startswith("curl ")]
    output = await run_example(["sh", "-e"], "\n".join(lines), app.url, tmp_path)
    assert '"result":"started"' in output
    assert '"result":"killed"' in output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name: str) -> None:
    assert f"`{name}`" in PROGRAMS
    assert f"`{name}`" in PROTOCOL


@pytest.mark.parametrize(
    "name", [*LOG_EVENTS, "snapshot", "progress", "output", "presence", "available", "closing"]
)
def test_every_event_is_documented(name: str) -> None:
    assert f"`{name}`" in PROTOCOL


def test_every_error_code_is_documented_and_has_a_status() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.code for kind in kinds if issubclass(kind, errors.CommandError)}
    assert codes == set(STATUS)
    for code in codes:
        assert f"| `{code}` | {STATUS[code]} |" in PROTOCOL


def anchors(document: Path) -> set[str]:
    """What a link may name of a document: its headings."""
    titles = re.findall(r"^#+ (.*)$", document.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_within_the_documents_leads_somewhere(document: Path) -> None:
    text = document.read_text()
    links = re.findall(r"\]\(([^)]+)\)|(?:src|srcset)=\"([^\"]+)\"", text)
    for link in (first or second for first, second in links):
        if not link.startswith("https://"):
            name, _, anchor = link.partition("#")
            target = document.parent / name if name else document
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def drawn_folders() -> set[str]:
    """The folders in the picture of ARCHITECTURE.md, with their paths."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    found: set[str] = set()
    above: list[str] = []
    picture = example(text, "", "## Folders")
    for indent, name in re.findall(r"^( *)([\w-]+)/ ", picture, re.M):
        above[len(indent) // 2 :] = [name]
        found.add("/".join(above))
    return found


def folders(top: Path, deep: bool) -> set[str]:
    """The folders in one that hold files of the project, with their paths."""
    found = {path for path in (top.rglob("*") if deep else top.iterdir()) if path.is_dir()}
    named = {str(path.relative_to(ROOT)) for path in found}
    return {name for name in named if not re.search(r"(^|/)[._]|node_modules", name)}


def test_the_picture_of_the_folders_is_that_of_the_disk() -> None:
    drawn = drawn_folders()
    whole = folders(ROOT / "server", deep=True) | folders(ROOT / "client", deep=True)
    assert whole == {name for name in drawn if name.startswith(("server/", "client/"))}
    assert folders(ROOT, deep=False) == {name for name in drawn if "/" not in name}
    assert all((ROOT / name).is_dir() for name in drawn)


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_every_file_that_is_named_is_there(name: str) -> None:
    parts = [part for top in ("server", "client") for part in (ROOT / top).rglob("*")]
    names = {part.name for part in parts}
    text = (ROOT / name).read_text()
    words = [word for code in re.findall(r"`([^`\n]+)`", text) for word in code.split()]
    paths = [word.rstrip("/") for word in words if PATH.fullmatch(word)]
    assert paths
    missing = {path for path in paths if not (ROOT / path).exists() and path not in names}
    assert not missing


def test_settings_come_from_the_environment() -> None:
    environ = {"PORT": "9000", "MAX_TIME": "60", "HISTORY": "", "DATABASE": "x.db"}
    config = Config.from_env(environ, database="y.db", host=None)
    assert (config.port, config.max_time, config.history) == (9000, 60.0, 10_000)
    assert (config.database, config.host) == ("y.db", "127.0.0.1")


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"PORT": "abc"}, "PORT must be a whole number"),
        ({"PORT": "70000"}, "PORT must be at most 65535"),
        ({"HISTORY": "0"}, "HISTORY must be at least 1"),
        ({"MAX_TIME": "nan"}, "MAX_TIME must be at least"),
        ({"AUTH_SECRET": "short"}, "AUTH_SECRET is too short: each secret in it"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL must be"),
        ({"REDIS_DEAF": "1"}, "REDIS_DEAF must be at least 2, twice REDIS_HEARTBEAT"),
        ({"REDIS_TLS_VERIFY": "perhaps"}, "REDIS_TLS_VERIFY must be yes or no"),
        ({"TRANSPORTS": "pigeon"}, "TRANSPORTS must be websocket, polling or both"),
    ],
)
def test_a_bad_setting_is_named(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config.from_env(environ)


def command_line() -> dict[str, set[str]]:
    """The commands of the command line, each with its options."""
    (commands,) = (found.choices for found in parser()._actions if isinstance(found.choices, dict))
    return {name: set(parser._option_string_actions) for name, parser in commands.items()}


def test_every_command_and_option_of_the_command_line_is_documented() -> None:
    for name, options in command_line().items():
        assert f"hourglass {name}" in CLI
        for option in options - {"-h", "--help", "--quiet"}:
            assert re.search(rf"`{option}\b|\[{option}\b| {option}\b", CLI), option


def test_every_exit_code_of_the_command_line_is_documented() -> None:
    codes = {value for name, value in vars(Exit).items() if name.isupper()}
    for code in codes:
        assert re.search(rf"^\| [\d, ]*{code}\b", CLI, re.M), code


def test_the_openapi_document_tells_of_every_command_of_http() -> None:
    config = Config()
    told = document(config, Checker(config))
    assert {route.command for route in ROUTES} == set(COMMANDS) - {"join", "leave"}
    for route in ROUTES:
        operation = told["paths"][route.path][route.method.lower()]
        body = operation.get("requestBody", {"content": {"application/json": {"schema": {}}}})
        shown = {item["name"] for item in operation["parameters"]}
        shown |= set(body["content"]["application/json"]["schema"].get("properties", ()))
        assert shown - {"name"} == {
            field.name for field in fields(COMMANDS[route.command]) if field.name != "route"
        }
        assert {str(status) for status in STATUS.values()} < set(operation["responses"])
