"""What the benchmark says of its figures."""

from bench.report import medians, spread


def test_one_round_has_figures_and_more_have_medians() -> None:
    assert (medians(1), spread([1234.5], 1)) == ("figures of 1 round", "1,234.5")
    assert medians(3) == "medians of 3 rounds (lowest to highest)"
    assert spread([3, 1, 2]) == "2 (1 to 3)"
