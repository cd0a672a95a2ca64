"""Clients that generators make from the OpenAPI document, and programs that use them."""

from server.config import Config
from server.contract.messages import encode
from server.contract.openapi import document
from server.contract.validation import Checker
from tests.support import examples
from tests.support.servers import ROOT

FOLDER = ROOT / "tests/generated"
DOCUMENT = FOLDER / "build/openapi.json"
NEEDS = {"javac": "17", "mvn": "3.6", "go": "1.26", "node": "20", "npm": ""}
PROGRAMS = {
    "java": ["mvn", "--quiet", "--batch-mode", "exec:exec"],
    "go": ["build/program"],
    "typescript": ["npm", "start", "--silent"],
}


def begin_build() -> None:
    """Generate the clients and build the programs, if this machine can."""
    if examples.lacking(NEEDS):
        return
    config = Config()
    found = encode(document(config, Checker(config)))
    DOCUMENT.parent.mkdir(exist_ok=True)
    if not DOCUMENT.exists() or DOCUMENT.read_bytes() != found:
        DOCUMENT.write_bytes(found)
    examples.begin_build("generated", "./build.sh", FOLDER)


async def built() -> None:
    """Wait until all is built."""
    begin_build()
    await examples.built("generated")


async def run(language: str, url: str) -> str:
    """What the program in a language prints."""
    return await examples.run(PROGRAMS[language], FOLDER / language, url)
