"""The log of copies: every copy once, the winners marked, numbers that show what was lost."""

from __future__ import annotations

from raytrade.core.arrivals import COPY, LOST, WON, WON_LATE, ArrivalBlock, ArrivalLog, decode_block
from raytrade.core.clock import SECOND
from raytrade.core.events import Flag, LineDown
from tests.unit.storage.streams import delta, message, snapshot


def outcomes(block: ArrivalBlock) -> list[tuple[str, int]]:
    copies = COPY.iter_unpack(block.copies)
    return [(block.lines[line], outcome) for line, _, _, outcome in copies]


def cut(log: ArrivalLog) -> ArrivalBlock:
    log.cut(0, is_due=True)
    return decode_block(log.since(log.incarnation, log._next - 1)[0])


def test_the_winner_of_each_message_is_marked() -> None:
    log = ArrivalLog("d", 7)
    first, second = delta(1, line="a"), delta(1, line="b")
    log.note([first], 10)
    log.note([second], 20)
    log.give([first])
    block = cut(log)
    assert outcomes(block) == [("a", WON), ("b", LOST)]
    assert block.batches == [(1, 10), (1, 20)]
    assert len(block.heads) == 2 * 56


def test_what_goes_out_after_its_block_was_cut_wins_late() -> None:
    log = ArrivalLog("d", 7)
    held = delta(5, line="a")
    log.note([held], 10)
    assert outcomes(cut(log)) == [("a", LOST)]
    log.give([held])
    assert outcomes(cut(log)) == [("a", WON_LATE)]


def test_images_and_history_are_no_copies_and_lost_lines_are_noted() -> None:
    log = ArrivalLog("d", 7)
    image = snapshot(3).flagged(Flag.IMAGE)
    down = message(LineDown(venue="binance-spot", cause="cut", ts_recv_ns=5), "a")
    log.note([image, delta(4).flagged(Flag.HISTORY), down], 10)
    log.give([image])
    block = cut(log)
    assert outcomes(block) == [("a", LOST)]
    assert block.instruments == ["binance-spot"]


def test_blocks_are_cut_in_time_and_numbered_and_the_oldest_go_first() -> None:
    log = ArrivalLog("d", 7, bytes_max=300)
    for number in range(1, 5):
        log.note([delta(number)], number * SECOND)
        log.cut(number * SECOND)
        log.cut(number * SECOND)
    numbers = [decode_block(data).number for data in log.since(7, 0)]
    assert numbers[-1] == 3
    assert numbers == list(range(numbers[0], 4))
    assert numbers[0] > 0
    assert [decode_block(data).number for data in log.since(7, 3)] == [3]
    assert log.since(7, 4) == []
    assert len(log.since(8, 4)) == len(numbers)


def test_an_answer_is_bounded() -> None:
    log = ArrivalLog("d", 7)
    for number in range(1, 9):
        log.note([delta(number)], number)
        log.cut(number, is_due=True)
    assert len(log.since(7, 0, bytes_max=10)) == 1
