"""What the benchmark says of its figures."""

from pathlib import Path

import pytest

from bench import holding
from bench.report import medians, spread


def test_one_round_has_figures_and_more_have_medians() -> None:
    assert (medians(1), spread([1234.5], 1)) == ("figures of 1 round", "1,234.5")
    assert medians(3) == "medians of 3 rounds (lowest to highest)"
    assert spread([3, 1, 2]) == "2 (1 to 3)"


@pytest.mark.slow
async def test_what_is_held_can_be_tried_on_a_small_scale(tmp_path: Path) -> None:
    table = await holding.measure(tmp_path, 0.01, "readers")
    assert [name for name, *_ in table.rows] == ["stalled readers", "readers that vanish"]
    for _, share, before, after, most in table.rows:
        assert 0 < int(before) <= int(most) < int(before) + int(share)
        assert int(after) <= int(most)
