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


def test_a_line_that_is_given_up_is_not_missed() -> None:
    lines = VenueLines()
    for line in ("old", "new", "other"):
        lines.hear(line, True)
    assert (lines.retire("old"), lines.retire("old")) == (True, False)
    assert (lines.left, lines.most, lines.share()) == (2, 2, 1.0)
    assert (lines.is_new("old"), lines.is_new("more")) == (False, True)
    lines.hear("old", True)
    assert (lines.left, lines.most) == (3, 3)


def test_what_was_lost_before_is_still_missed_when_another_is_given_up() -> None:
    lines = VenueLines()
    for line in ("old", "new", "lost"):
        lines.hear(line, True)
    lines.hear("lost", False)
    lines.retire("old")
    assert (lines.left, lines.most) == (1, 2)
