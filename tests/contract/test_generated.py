"""Generators make clients of the OpenAPI document that compile and work, in several languages."""

import aiohttp
import pytest

from tests.conftest import Serve
from tests.support import generated
from tests.support.examples import skip_without

pytestmark = pytest.mark.elsewhere
EXPECTED = """\
started a/b by {language} for 60
refused: 409 conflict
started 12
running: 2
the same: true
killed via http: enough
exit 4294967295
history: weekly 4294967295
event started
event started
event killed
event stopped
"""


async def fetched(url: str) -> bytes:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/openapi.json") as response:
        return await response.read()


@pytest.mark.parametrize("language", generated.PROGRAMS)
async def test_a_generated_client_works(serve: Serve, language: str) -> None:
    skip_without(generated.NEEDS)
    app = await serve()
    await generated.built()
    assert await fetched(app.url) == generated.DOCUMENT.read_bytes()
    assert await generated.run(language, app.url) == EXPECTED.format(language=language)
