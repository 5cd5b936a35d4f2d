"""`Guard`: finds lines that say different things under one id, and decides which of them is not to be believed.

Ids are the venue's own, so what two lines say of one range of ids must be the same levels. Every copy is compared
with the first that came, levels against levels: no sample, no depth, and no book of the line's own (where books are
asked for, lines have none). What differs is a dispute:

* with a majority the odd ones out are demoted;
* else every line of the dispute is suspect and demoted, but for one if no other line is up, which is followed alone
  (the class "lead"); the next book that the venue itself sends tells who was right, where it can.

A demoted line is listened to, and believed again when it has agreed often enough in a row, twice as often each time,
or has connected anew, which helps twice. So there is a bound on how often one line can trouble a stream. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from raytrade.arbitration.line_levels import Claim, Comparison, Level, LineLevels
from raytrade.arbitration.stream import StreamCounts
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.message import Message
from raytrade.core.prices import FRACTION_DIGITS_MAX

REMEMBERED_MAX = 512
REMEMBERED_BYTES_MAX = 256 * 1024
"""How much of a stream's past copies are compared with: between this and twice as much."""
ALONE_MAX = 8192
"""So many updates that only one line has said are known one by one."""
DISPUTE_NS = SECOND
"""How long a dispute waits for what a third line says."""
DISPUTES_MAX = 64
AGREEMENTS = 32
AGREEMENTS_MAX = 65_536
RECONNECTS_MAX = 2
"""So many times a demoted line is believed again because it has connected anew."""
JUDGE_NS = 2 * SECOND
JUDGE_NS_MAX = 64 * SECOND
"""Between requests for a book that decides a dispute."""

AND = "\n"
UNMATCHED = 8
"""An update that no other line cut alike counts as much as so many that one did."""
DIFFERING, DIFFERING_MAX = 64, 256
"""Above this count windows differ: levels are compared, too, until for long all have been alike; so it begins."""


class Demotion(msgspec.Struct):
    """Why a line is not believed, and how often it has agreed since, of how many times. Not proved: one of several."""

    why: str
    is_proved: bool
    needed: int
    agreed: int = 0


class Dispute(msgspec.Struct):
    """What lines say of ``(id_prev, id_last]``, until when more is waited for; `messages` where windows are alike."""

    id_prev: int
    id_last: int
    due_ns: Nanos
    claims: dict[str, Claim]
    messages: dict[str, Message] = {}

    def camps(self, without: Iterable[str]) -> list[list[str]]:
        """Give the lines that say the same, the largest camp first."""
        camps: list[tuple[Claim, list[str]]] = []
        for line, claim in self.claims.items():
            if line in without:
                continue
            for said, lines in camps:
                if said == claim:
                    lines.append(line)
                    break
            else:
                camps.append((claim, [line]))
        return sorted((lines for _, lines in camps), key=len, reverse=True)

    def hear(self, line: str, claim: Claim) -> None:
        """One more line has said something; its first word counts."""
        self.claims.setdefault(line, claim)


class Verdict(msgspec.Struct, frozen=True):
    """Lines that are demoted from now on; what the `parties` alone have said may be wrong."""

    lines: tuple[str, ...]
    is_proved: bool
    cause: str
    parties: tuple[str, ...] = ()


class Guard:
    """Watches the lines of one stream of book updates with global ids."""

    def __init__(self, counts: StreamCounts, *, is_loose: bool) -> None:
        self.demoted: dict[str, Demotion] = {}
        self.disputes: dict[tuple[int, Level | None], Dispute] = {}
        self.undecided: deque[Dispute] = deque(maxlen=DISPUTES_MAX)
        """What suspects and others said lately that a book of the venue's may decide."""
        self.spoilt: set[str] = set()
        """Lines whose own book holds what they were blamed for, until the venue sends them a new one."""
        self.changes = 0
        """How often a line was demoted or believed again."""
        self._counts = counts
        self._new: dict[int, Message] = {}
        self._old: dict[int, Message] = {}
        self._bytes = 0
        self._agreed: dict[int, str] = {}
        self._agreed_old: dict[int, str] = {}
        self._alone: dict[int, str] = {}
        self._alone_before: set[str] = set()
        self._times: dict[str, int] = {}
        self._levels = LineLevels() if is_loose else None
        self._unmatched = DIFFERING_MAX
        self._furthest = 0
        self._forgotten = 0
        self._judge_ns: Nanos = 0
        self._judge_wait_ns = JUDGE_NS

    # Comparing.

    def see(self, line: str, message: Message, now_ns: Nanos) -> None:
        """Compare an update with what the first line said under its id, and with others where windows differ."""
        id_last = message.id_last
        known = self._new.get(id_last) or self._old.get(id_last)
        if self._unmatched > DIFFERING and self._levels is not None:
            is_alone = known is None or known.line == line or known.id_prev != message.id_prev
            self._compare_levels(self._levels, line, message, now_ns, is_alone=is_alone)
        if known is None:
            self._remember(message)
            return
        first = known.line
        if first == line or known.id_prev != message.id_prev:
            return
        if is_same(known, message):
            self._confirm(first, line, id_last)
        else:
            self._contradict(known, line, message, now_ns)
        if self.disputes and (dispute := self.disputes.get((id_last, None))) is not None:
            dispute.messages.setdefault(line, message)
            dispute.hear(line, claim_of(message))

    def _confirm(self, first: str, line: str, id_last: int) -> None:
        agreed = self._agreed.get(id_last)
        self._agreed[id_last] = line if agreed is None else f"{agreed}{AND}{line}"
        self._alone.pop(id_last, None)
        if self._unmatched:
            self._unmatched -= 1
        if self.demoted:
            self._agree(line, first)
            if agreed is None:
                self._agree(first, line)

    def _compare_levels(
        self, levels: LineLevels, line: str, message: Message, now_ns: Nanos, *, is_alone: bool
    ) -> None:
        open_ids = [number for number, _ in self.disputes] if self.disputes else ()
        differing, compared = levels.follow(line, message, open_ids)
        is_contradicted = False
        for found in differing:
            if found.size != found.other_size:
                is_contradicted |= found.other not in self.demoted
                self._differ(found, now_ns)
            if (dispute := self.disputes.get((found.id_last, found.level))) is not None:
                dispute.hear(line, {found.level: found.size})
                dispute.hear(found.other, {found.level: found.other_size})
        if self.demoted and is_alone and not is_contradicted:
            for witness in [other for other in compared if other not in self.demoted][:1]:
                self._agree(line, witness)

    def _differ(self, found: Comparison, now_ns: Nanos) -> None:
        claims = {found.line: {found.level: found.size}, found.other: {found.level: found.other_size}}
        dispute = Dispute(found.id_last - 1, found.id_last, now_ns + DISPUTE_NS, claims)
        if not self._is_of_doubtful(dispute) and len(self.disputes) < DISPUTES_MAX:
            self.disputes.setdefault((found.id_last, found.level), dispute)

    def _is_of_doubtful(self, dispute: Dispute) -> bool:
        """Tell whether one of two lines is demoted already; then that is all that follows."""
        doubtful = [line for line in dispute.claims if line in self.demoted]
        for line in doubtful:
            self.demoted[line].agreed = 0
            self.spoilt.add(line)
            self._counts.line(line).disagreements += 1
        if any(not self.demoted[line].is_proved for line in doubtful):
            self.undecided.append(dispute)
        return bool(doubtful)

    def _remember(self, message: Message) -> None:
        if message.id_last <= self._forgotten:
            return  # it lags too far behind to be compared with anything
        if message.id_prev < self._furthest:
            self._unmatched = min(self._unmatched + UNMATCHED, DIFFERING_MAX)
        self._furthest = max(self._furthest, message.id_last)
        self._new[message.id_last] = message
        self._bytes += len(message.raw)
        if len(self._new) >= REMEMBERED_MAX or self._bytes >= REMEMBERED_BYTES_MAX:
            self._forgotten = max(self._old, default=self._forgotten)
            self._old, self._new, self._bytes = self._new, {}, 0
            self._agreed_old, self._agreed = self._agreed, {}

    def forget(self) -> None:
        """The venue's ids run anew: nothing of before can be compared."""
        self._new, self._old, self._bytes = {}, {}, 0
        self._agreed, self._agreed_old = {}, {}
        self._furthest = self._forgotten = 0
        if self._levels is not None:
            self._levels.forget()
        self.disputes.clear()
        self.undecided.clear()
        self.begin()

    # What the stream has taken.

    def begin(self) -> None:
        """The stream starts from a book: what lines gave before it is of no account any more."""
        self._alone.clear()
        self._alone_before.clear()

    def take(self, line: str, id_last: int) -> None:
        """The stream took this update from the line; until another says the same, the line is alone with it."""
        if id_last not in self._agreed:
            self._alone[id_last] = line
            if len(self._alone) > ALONE_MAX:
                self._alone_before.update(self._alone.values())
                self._alone.clear()

    def may_have_given(self, lines: tuple[str, ...]) -> bool:
        """Tell whether the stream took something that only one of these lines has said."""
        return not self._alone_before.isdisjoint(lines) or any(line in lines for line in self._alone.values())

    def _agree(self, line: str, witness: str) -> None:
        demotion = self.demoted.get(line)
        if demotion is not None and witness not in self.demoted:
            demotion.agreed += 1
            if demotion.agreed >= demotion.needed:
                self.readmit(line)

    def _contradict(self, known: Message, line: str, message: Message, now_ns: Nanos) -> None:
        first, id_last = known.line, message.id_last
        dispute = Dispute(
            message.id_prev,
            id_last,
            now_ns + DISPUTE_NS,
            {first: claim_of(known), line: claim_of(message)},
            {first: known, line: message},
        )
        if self._is_of_doubtful(dispute):
            if first in self.demoted and line not in self.demoted:
                self._new[id_last] = message
        elif (id_last, None) not in self.disputes and len(self.disputes) < DISPUTES_MAX:
            same = self._agreed.get(id_last) or self._agreed_old.get(id_last)
            for each in same.split(AND) if same else ():
                dispute.hear(each, claim_of(known))
                dispute.messages.setdefault(each, known)
            self.disputes[id_last, None] = dispute

    # Deciding.

    def deadline_ns(self) -> Nanos | None:
        """When a dispute is decided without those who have said nothing."""
        return min(dispute.due_ns for dispute in self.disputes.values()) if self.disputes else None

    def decide(self, up: list[str], now_ns: Nanos) -> list[Verdict]:
        """Decide the disputes that can be; `up` are the lines that may have a say."""
        verdicts: list[Verdict] = []
        for key, dispute in list(self.disputes.items()):
            verdict = self._decide(dispute, [line for line in up if line not in self.demoted], now_ns)
            if verdict is not None:
                del self.disputes[key]
                verdicts.append(verdict)
                self._demote(verdict)
        return verdicts

    def _decide(self, dispute: Dispute, up: list[str], now_ns: Nanos) -> Verdict | None:
        open_ = [line for line in dispute.claims if line not in self.demoted]
        camps = dispute.camps(without=self.demoted)
        if len(camps) < 2:
            return Verdict((), True, "")
        winner, runner_up = camps[0], camps[1]
        where = f"({dispute.id_prev}, {dispute.id_last}]"
        if len(winner) > len(runner_up):
            liars = tuple(sorted(line for camp in camps[1:] for line in camp))
            self._believe(dispute, winner[0])
            return Verdict(liars, True, f"contradicts {', '.join(sorted(winner))} at {where}")
        if now_ns < dispute.due_ns and not (up and all(line in open_ for line in up)):
            return None
        suspects = sorted(open_, key=lambda line: (self._times.get(line, 0), self._disagreements(line), line))
        self.undecided.append(dispute)
        if all(line in open_ for line in up):
            self._believe(dispute, suspects.pop(0))
        lines = " and ".join(sorted(open_))
        return Verdict(tuple(suspects), False, f"{lines} contradict each other at {where}", tuple(open_))

    def _believe(self, dispute: Dispute, line: str) -> None:
        """Compare what is still to come with what this line said."""
        if line in dispute.messages:
            self._new[dispute.id_last] = dispute.messages[line]

    def _disagreements(self, line: str) -> int:
        return self._counts.line(line).disagreements

    def _demote(self, verdict: Verdict) -> None:
        for line in verdict.parties or verdict.lines:
            self._counts.line(line).disagreements += 1
        for line in verdict.lines:
            self.changes += 1
            self.spoilt.add(line)
            times = self._times[line] = self._times.get(line, 0) + 1
            needed = min(AGREEMENTS << (times - 1), AGREEMENTS_MAX)
            self.demoted[line] = Demotion(verdict.cause, verdict.is_proved, needed)

    def blame(self, line: str, cause: str) -> Verdict:
        """Demote a line for what was found elsewhere; everything that it gave since the last book may be wrong."""
        verdict = Verdict((line,), False, cause)
        self._demote(verdict)
        return verdict

    def is_agreed(self, id_last: int) -> bool:
        """Tell whether two lines said the same under an id."""
        return id_last in self._agreed or id_last in self._agreed_old

    def readmit(self, line: str) -> None:
        """The line is believed again."""
        self.changes += 1
        del self.demoted[line]
        if not self.suspects():
            self.undecided.clear()
            self._judge_wait_ns = JUDGE_NS

    def reconnect(self, line: str) -> None:
        """The line is lost: what it says on its next connection is believed, unless that was tried too often."""
        demotion = self.demoted.get(line)
        if demotion is not None and self._times[line] <= RECONNECTS_MAX:
            self.readmit(line)

    def suspects(self) -> list[str]:
        """Name the demoted lines that may be right."""
        return [line for line, demotion in self.demoted.items() if not demotion.is_proved]

    # Judging by a book of the venue's own.

    def wants_book(self, now_ns: Nanos) -> bool:
        """Tell whether to ask for a book that may decide who is right: less and less often."""
        if not self.undecided or now_ns < self._judge_ns:
            return False
        self._judge_ns = now_ns + self._judge_wait_ns
        self._judge_wait_ns = min(2 * self._judge_wait_ns, JUDGE_NS_MAX)
        return True

    def judge(self, snapshot: Message) -> Verdict | None:
        """Let a book of the venue decide a dispute; who is right is believed again, who is not is demoted."""
        truth = claim_of(snapshot)
        for dispute in reversed(self.undecided):
            if dispute.id_last <= snapshot.id_last:
                verdict = self._judge(dispute, snapshot, truth)
                if verdict is not None:
                    return verdict
        return None

    def _judge(self, dispute: Dispute, snapshot: Message, truth: Claim) -> Verdict | None:
        claims = dispute.claims
        touched = self._touched(dispute.id_last, snapshot.id_last)
        wrong: set[str] = set()
        right: set[str] = set()
        for level in {level for claim in claims.values() for level in claim} - touched:
            said = {line: claim.get(level) for line, claim in claims.items()}
            if len(set(said.values())) > 1 and _is_known(level, truth, snapshot.depth):
                right |= {line for line, size in said.items() if size == truth.get(level, 0)}
                wrong |= {line for line, size in said.items() if size != truth.get(level, 0)}
        right -= wrong
        if not right or not wrong:
            return None
        for line in sorted(right & self.demoted.keys()):
            self.readmit(line)
        cause = f"the venue's book of {snapshot.id_last} contradicts it at ({dispute.id_prev}, {dispute.id_last}]"
        verdict = Verdict(tuple(sorted(wrong)), True, cause)
        self._demote(verdict)
        if not self.suspects():
            self.undecided.clear()
        return verdict

    def _touched(self, after: int, last: int) -> set[Level]:
        """Give the levels that any line says were touched between a dispute and a book."""
        between = [m for seen in (self._old, self._new) for m in seen.values() if m.id_last > after]
        return {level for message in between if message.id_prev < last for level in claim_of(message)}

    # What was held back.

    def trusted_copy(self, message: Message) -> Message | None:
        """Give what stands for a message of a demoted line: itself if another line said the same, or that one's."""
        id_last = message.id_last
        if self.is_agreed(id_last):
            return message
        first = self._new.get(id_last) or self._old.get(id_last)
        if first is not None and first.line not in self.demoted and first.id_prev == message.id_prev:
            return first
        return None


def is_same(one: Message, other: Message) -> bool:
    """Tell whether two messages have the same levels, in any order and scale."""
    if (
        one.bid_count == other.bid_count
        and one.price_scale == other.price_scale
        and one.size_scale == other.size_scale
        and one.raw[one.body_start :] == other.raw[other.body_start :]
    ):
        return True
    return claim_of(one) == claim_of(other)


def claim_of(message: Message) -> Claim:
    """Give the levels of a message in the finest scale; of a price that repeats the last size."""
    price_factor = 10 ** (FRACTION_DIGITS_MAX - message.price_scale)
    size_factor = 10 ** (FRACTION_DIGITS_MAX - message.size_scale)
    return {
        (side, price * price_factor): size * size_factor
        for side, levels in enumerate(message.levels())
        for price, size in zip(levels[::2], levels[1::2], strict=True)
    }


def _is_known(level: Level, book: Claim, depth: int) -> bool:
    """Tell whether the book would show the level: inside the depth that it is known to."""
    side, price = level
    if not depth:
        return True
    prices = [at for of, at in book if of == side]
    return bool(prices) and (price >= min(prices) if side == 0 else price <= max(prices))
