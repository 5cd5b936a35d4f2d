from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from raytrade.strategy.lines import VenueLines


def test_without_word_the_share_is_whole() -> None:
    assert (VenueLines().share(), VenueLines().left) == (1.0, 0)


def test_only_news_counts() -> None:
    lines = VenueLines()
    assert [lines.hear("a", True), lines.hear("a", True), lines.hear("b", False)] == [True, False, True]
    assert (lines.left, lines.most, lines.share()) == (1, 2, 0.5)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans())))
def test_share_is_what_is_left_of_the_most(words: list[tuple[str, bool]]) -> None:
    lines = VenueLines()
    most = 0
    up: dict[str, bool] = {}
    for line, is_up in words:
        before_loss = sum(up.values()) + (line not in up and not is_up)
        up[line] = is_up
        most = max(most, before_loss, sum(up.values()))
        lines.hear(line, is_up)
    assert (lines.left, lines.most) == (sum(up.values()), most)
    assert 0 <= lines.share() <= 1
