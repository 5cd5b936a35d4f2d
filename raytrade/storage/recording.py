"""`Recording`: the reading side of a directory of segments; ``raytrade.open(directory)`` makes one.

Tables come as Arrow, without a Python object per row; events come as the live stream gives them. Every answer
leaves out what is there twice, and says where something is missing: see `raytrade.storage.runs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from itertools import chain, takewhile
from os import PathLike
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import unquote

import pyarrow as pa

from raytrade.core.book import BookState, L2Book
from raytrade.core.clock import Nanos
from raytrade.core.events import BookSnapshot, Channel, Gap, GapKind
from raytrade.core.instrument import Filter, instrument_name
from raytrade.core.message import encode, parse
from raytrade.errors import ConfigError, StorageError
from raytrade.replay import Timed, apply, between, merge, merge_runs
from raytrade.storage.checkpoints import checkpoint_before
from raytrade.storage.coverage import coverage_of
from raytrade.storage.decoding import LINE
from raytrade.storage.merging import put_together
from raytrade.storage.names import segments_in, start_of
from raytrade.storage.quotes import bars_of, quotes_of, quotes_table
from raytrade.storage.remote import is_uri, mirror
from raytrade.storage.runs import Unit, place_gaps, runs_of
from raytrade.storage.schema import GAPS
from raytrade.storage.segments import SCHEMAS, Segment, read_gaps, read_segment, read_states, verify
from raytrade.storage.site import View
from raytrade.storage.source import Place, RecordedEvent, Stream, TimedEvent, TimedItem, check_messages
from raytrade.storage.stalls import Placed, place_states, states_of
from raytrade.storage.times import Instant, instant_ns, interval_ns

StreamKey = tuple[str, Channel]
NEAR_MESSAGES = 2_000
"""So few messages are folded faster than a checkpoint is looked for."""
_Read = TypeVar("_Read")
_Arguments = ParamSpec("_Arguments")


class Recording:
    """What is recorded under one directory.

    A segment that cannot be read is a `StorageError` that names it; with `skip_bad` it is left out and stands in
    `skipped`, and the streams have a `Gap` in its place. Times are receive times: ns as an integer, a datetime or
    ISO 8601 text.
    """

    def __init__(self, directory: Path, *, skip_bad: bool = False) -> None:
        """Look what streams there are; files are read when they are asked for.

        Raises:
            ConfigError: there is no such directory, or no recording in it.
        """
        self.directory = directory
        self.skipped: list[StorageError] = []
        self._skip_bad = skip_bad
        self._folders = _folders_of(directory)
        self._streams: dict[StreamKey, Stream] = {}
        self._gaps: list[tuple[str, pa.Table]] | None = None
        self._states: list[Placed] | None = None
        self._end_ns: Nanos | None = None

    # What there is.

    def instruments(self) -> list[str]:
        """Give the names of all instruments, sorted."""
        return sorted({instrument for instrument, _ in self._folders})

    def streams(
        self, instruments: str | Iterable[str] | None = None, channels: Iterable[Channel | str] | None = None
    ) -> list[StreamKey]:
        """Give the streams that the globs and channels take, sorted.

        Raises:
            ConfigError: a glob takes no instrument, or there is no such channel.
        """
        globs = [instruments] if isinstance(instruments, str) else list(instruments or ["*"])
        names = {instrument for instrument, _ in self._folders}
        for glob in globs:
            if not any(Filter(glob).accepts(*key) for key in self._folders) and names:
                raise _unknown(glob, names)
        wanted = set(Channel) if channels is None else {_channel(channel) for channel in channels}
        chosen = Filter(*globs)
        return sorted(key for key in self._folders if key[1] in wanted and chosen.accepts(*key))

    def end_ns(self) -> Nanos:
        """Give the last receive time of all streams: what came later is not known."""
        if self._end_ns is None:
            newest = [(path, key[1]) for key, folder in self._folders.items() for path in _newest(folder)]
            segments = [self._try(read_segment, path, channel) for path, channel in newest]
            times = [group.ts_last_ns for segment in segments if segment is not None for group in segment.groups]
            self._end_ns = max(times, default=0)
        return self._end_ns

    def start_ns(self) -> Nanos:
        """Give the first receive time of all streams; 0 where nothing is recorded."""
        first = [units[0].ts_first_ns for key in self._folders if (units := self._units(key))]
        return min(first, default=0)

    def _units(self, key: StreamKey) -> list[Unit]:
        return [unit for run in self._stream(key).runs for unit in run.taken]

    # Tables.

    def book(
        self, instrument: str, start: Instant | None = None, end: Instant | None = None, *, use_threads: bool = True
    ) -> pa.Table:
        """Give the level rows (`raytrade.storage.schema.BOOK`) with ``start <= ts_recv_ns < end``, in order.

        Raises:
            ConfigError: the instrument is not recorded, or a time cannot be read.
            StorageError: a segment cannot be read.
        """
        return self._known(instrument, Channel.BOOK).rows(*interval_ns(start, end), use_threads=use_threads)

    def trades(self, instrument: str, start: Instant | None = None, end: Instant | None = None) -> pa.Table:
        """Give the trades (`raytrade.storage.schema.TRADES`) with ``start <= ts_recv_ns < end``, in order.

        Raises:
            ConfigError: the instrument is not recorded, or a time cannot be read.
            StorageError: a segment cannot be read.
        """
        return self._known(instrument, Channel.TRADES).rows(*interval_ns(start, end))

    def gaps(self) -> pa.Table:
        """Give the gaps that were recorded (`raytrade.storage.schema.GAPS`) by time, each once.

        Raises:
            StorageError: a segment cannot be read.
        """
        table = pa.concat_tables([GAPS.empty_table(), *(table for _, table in self._gap_tables())])
        once = table.group_by(table.schema.names).aggregate([])
        return once.sort_by([(name, "ascending") for name in _GAP_ORDER]).cast(GAPS)

    def coverage(self) -> pa.Table:
        """Give per instrument, channel and date: first and last id, messages, rows, missing ranges of the index.

        Raises:
            StorageError: a segment cannot be read.
        """
        return coverage_of([self._stream(key) for key in sorted(self._folders)])

    def bbo(self, instrument: str, start: Instant | None = None, end: Instant | None = None) -> pa.Table:
        """Give the best bid and ask after every message of the book with ``start <= ts_recv_ns < end``, exact.

        Prices and sizes are missing where the book was not LIVE, or had no such side.

        Raises:
            ConfigError: the instrument is not recorded, or a time cannot be read.
            StorageError: a segment cannot be read.
        """
        start_ns, end_ns = interval_ns(start, end)
        self._known(instrument, Channel.BOOK)
        return quotes_table(quotes_of(instrument, self._whole(instrument, start_ns), start_ns, end_ns))

    def bars(
        self, instrument: str, seconds: float, start: Instant | None = None, end: Instant | None = None
    ) -> pa.Table:
        """Give bars of `seconds` by receive time: open, high, low, close and volume of the trades, exact decimals.

        `bid`, `ask` and `mid` are those of the book at the bar's end, missing where it was not LIVE or is not recorded.
        A bar without trades is left out, and so are trades from before the subscription (`HISTORY`).

        Raises:
            ConfigError: the instrument is not recorded, a time cannot be read, or `seconds` is not positive.
            StorageError: a segment cannot be read.
        """
        step_ns = round(seconds * 1_000_000_000)
        if step_ns <= 0:
            raise ConfigError("", f"{seconds} seconds", "a bar takes a positive time")
        trades = self.trades(instrument, start, end)
        has_book = (instrument, Channel.BOOK) in self._folders
        start_ns, _ = interval_ns(start, end)
        return bars_of(trades, step_ns, self._whole(instrument, start_ns) if has_book else iter(()), instrument)

    # Books and events.

    def book_at(self, instrument: str, at: Instant) -> L2Book:
        """Give the book as it was known at an instant.

        Its state is SYNCING before the first whole book, STALE inside a gap, while no line was up, between recordings,
        and after the last receive time of the whole recording; else LIVE.

        Raises:
            ConfigError: the instrument is not recorded, or the time cannot be read.
            StorageError: a segment cannot be read.
        """
        at_ns = instant_ns(at)
        stream = self._known(instrument, Channel.BOOK)
        book = L2Book(instrument)
        place, floor_ns = stream.snapshot_place(at_ns)
        checkpoint = self._checkpoint(stream, place, at_ns)
        if checkpoint is not None:
            place, image = checkpoint
            floor_ns = max(floor_ns, image.ts_recv_ns)
            apply(book, image)
        for _, event in takewhile(lambda timed: timed[0] <= at_ns, stream.events(place, floor_ns)):
            apply(book, event)
        if at_ns > self.end_ns():
            book.invalidate()
        return book

    def _checkpoint(self, stream: Stream, place: Place, at_ns: Nanos) -> tuple[Place, BookSnapshot] | None:
        """Give a checkpoint between a place and an instant, and the place of the message that it stands behind."""
        last = stream.last_place(at_ns)
        if last is None or (last[0] == place[0] and last[1] - place[1] < NEAR_MESSAGES):
            return None
        run = stream.runs[last[0]]
        first = max(run.index_from, place[1] + 1 if last[0] == place[0] else 0)
        found = checkpoint_before(self.directory, stream.instrument, run.start, (first, last[1]), self._note)
        return None if found is None else ((last[0], found[0]), found[1])

    def messages(
        self,
        start: Instant | None = None,
        end: Instant | None = None,
        instruments: str | Iterable[str] | None = None,
        channels: Iterable[Channel | str] | None = None,
        *,
        images: bool = False,
    ) -> Iterator[Timed]:
        """Give the messages of all streams in the order of time (then instrument, channel), each with its time in ns.

        Memory is that of a piece of each stream, however long they are. With `images` each book that is whole at
        `start` opens with an image of it, as a link does.

        Raises:
            ConfigError: a glob takes no instrument, there is no such channel, or a time cannot be read.
            StorageError: a segment cannot be read.
        """
        start_ns, end_ns = interval_ns(start, end)
        keys = self.streams(instruments, channels)
        streams = {key: self._from(key, start_ns, is_imaged=images and start is not None) for key in keys}
        return takewhile(lambda timed: timed[0] < end_ns, merge(streams))

    def events(
        self,
        start: Instant | None = None,
        end: Instant | None = None,
        instruments: str | Iterable[str] | None = None,
        channels: Iterable[Channel | str] | None = None,
    ) -> Iterator[RecordedEvent]:
        """Give the events of all streams as they came live, in the order of time (then instrument, channel).

        A message that was held back stands where it was given out; see `raytrade.storage.runs` for its time.

        Raises:
            ConfigError: a glob takes no instrument, there is no such channel, or a time cannot be read.
            StorageError: a segment cannot be read.
        """
        return (event for _, event in self.timed_events(start, end, instruments, channels))

    def timed_events(
        self,
        start: Instant | None = None,
        end: Instant | None = None,
        instruments: str | Iterable[str] | None = None,
        channels: Iterable[Channel | str] | None = None,
        *,
        images: bool = False,
        site: View | None = None,
    ) -> Iterator[TimedEvent]:
        """Give what `messages` gives, as events: decoded straight from the columns, which is what plays back fast.

        With a `site` each event comes when that line had brought it, or otherwise as this view has it.

        Raises:
            ConfigError: a glob takes no instrument, there is no such channel, a time cannot be read, or the site did
                not carry a stream.
            StorageError: a segment cannot be read.
        """
        start_ns, end_ns = interval_ns(start, end)
        keys = self.streams(instruments, channels)
        streams = {key: self._events_from(key, start_ns, is_imaged=images and start is not None) for key in keys}
        if site is not None:
            streams = {key: site.seen(key, stream) for key, stream in streams.items()}
        merged = merge(streams)
        return merged if end is None else takewhile(lambda timed: timed[0] < end_ns, merged)

    def timed_runs(
        self,
        start: Instant | None = None,
        end: Instant | None = None,
        instruments: str | Iterable[str] | None = None,
        channels: Iterable[Channel | str] | None = None,
        *,
        images: bool = False,
    ) -> Iterator[TimedItem]:
        """Give what `timed_events` gives, but plain deltas that follow on each other as parts of runs: the fastest way.

        Raises:
            ConfigError: a glob takes no instrument, there is no such channel, or a time cannot be read.
            StorageError: a segment cannot be read.
        """
        start_ns, end_ns = interval_ns(start, end)
        streams: dict[StreamKey, Iterator[TimedItem]] = {}
        keys = self.streams(instruments, channels)
        for key in keys:
            image = self._image(key, start_ns) if images and start is not None else None
            opening: list[TimedItem] = [] if image is None else [(start_ns, image)]
            streams[key] = chain(opening, self._stream(key).items_since(start_ns, len(keys)))
        return between(merge_runs(streams), start_ns, end_ns)

    def _from(self, key: StreamKey, start_ns: Nanos, *, is_imaged: bool) -> Iterator[Timed]:
        image = self._image(key, start_ns) if is_imaged else None
        opening = [] if image is None else [(start_ns, parse(encode(image, LINE)))]
        return chain(opening, self._stream(key).since(start_ns))

    def _events_from(self, key: StreamKey, start_ns: Nanos, *, is_imaged: bool) -> Iterator[TimedEvent]:
        image = self._image(key, start_ns) if is_imaged else None
        opening = [] if image is None else [(start_ns, image)]
        return chain(opening, self._stream(key).events_since(start_ns))

    def _image(self, key: StreamKey, start_ns: Nanos) -> BookSnapshot | None:
        """Give the book as it stands before an instant, where it is whole."""
        if key[1] is not Channel.BOOK:
            return None
        book = self.book_at(key[0], start_ns - 1)
        return book.snapshot() if book.state is BookState.LIVE else None

    def _whole(self, instrument: str, start_ns: Nanos) -> Iterator[Timed]:
        """Give the messages from the last whole book before the interval on."""
        stream = self._stream((instrument, Channel.BOOK))
        return stream.messages(*stream.snapshot_place(start_ns - 1))

    # Files.

    def stream(self, instrument: str, channel: Channel) -> Stream:
        """Give one stream.

        Raises:
            ConfigError: the instrument is not recorded.
            StorageError: a segment cannot be read.
        """
        return self._known(instrument, channel)

    def folders(self) -> dict[StreamKey, Path]:
        """Give the folder of each stream."""
        return dict(self._folders)

    def segment_paths(self, instrument: str, channel: Channel) -> list[Path]:
        """Give the files of a stream that are not left out."""
        skipped = {error.path for error in self.skipped}
        paths = segments_in(self._folders[instrument, channel], "date=*")
        return [path for path in paths if str(path) not in skipped]

    def leave_out(self, damage: StorageError) -> bool:
        """Leave a damaged segment out from now on, if that is wanted at all."""
        if self._skip_bad:
            self._note(damage)
            self._streams.clear()
        return self._skip_bad

    def _known(self, instrument: str, channel: Channel) -> Stream:
        if (instrument, channel) in self._folders:
            return self._stream((instrument, channel))
        names = {name for name, _ in self._folders}
        if instrument in names:
            return Stream(instrument, channel, [])
        raise _unknown(instrument, names)

    def _stream(self, key: StreamKey) -> Stream:
        stream = self._streams.get(key)
        if stream is None:
            paths = self.segment_paths(*key)
            segments = [self._try(self._segment, path, key[1]) for path in paths]
            found = runs_of([segment for segment in segments if segment is not None])
            runs = put_together(*key, found)
            gaps = [pair for pair in self.recorded_gaps() if (pair[1].instrument, pair[1].channel) == key]
            place_gaps(runs, gaps, {run.start for run in found} - {run.start for run in runs})
            place_states(runs, [row for row in self._recorded_states() if (row[2].instrument, row[2].channel) == key])
            stream = self._streams[key] = Stream(*key, runs)
        return stream

    def _segment(self, path: Path, channel: Channel) -> Segment:
        segment = read_segment(path, channel)
        if self._skip_bad:
            verify(path, SCHEMAS[channel])
            check_messages(segment)
        return segment

    def _try(
        self, read: Callable[_Arguments, _Read], *arguments: _Arguments.args, **named: _Arguments.kwargs
    ) -> _Read | None:
        """Read, or note what was skipped where that is wanted."""
        try:
            return read(*arguments, **named)
        except StorageError as error:
            if not self._skip_bad:
                raise
            self._note(error)
            return None

    def _note(self, damage: StorageError) -> None:
        if damage.path not in {known.path for known in self.skipped}:
            self.skipped.append(damage)

    def _gap_tables(self) -> list[tuple[str, pa.Table]]:
        if self._gaps is None:
            paths = segments_in(self.directory / "gaps")
            tables = [(start_of(path), self._try(read_gaps, path)) for path in paths]
            self._gaps = [(start, table) for start, table in tables if table is not None]
        return self._gaps

    def _recorded_states(self) -> list[Placed]:
        if self._states is None:
            paths = segments_in(self.directory / "states")
            tables = [(path, self._try(read_states, path)) for path in paths]
            self._states = [
                row for path, table in tables if table is not None for row in states_of(start_of(path), table, path)
            ]
        return self._states

    def recorded_gaps(self) -> Iterator[tuple[str, Gap]]:
        """Give the gaps that were recorded, each beside the start that wrote it.

        Raises:
            StorageError: a segment cannot be read, or has a gap of unknown kind.
        """
        for start, table in self._gap_tables():
            for row in table.to_pylist():
                try:
                    row |= {"channel": Channel[row["channel"].upper()], "kind": GapKind[row["kind"].upper()]}
                except KeyError as error:
                    raise StorageError(str(self.directory / "gaps"), f"has a gap of unknown kind {error}") from None
                yield start, Gap(**row | {"lines": tuple((row["lines"] or "").split())})


_GAP_ORDER = ("ts_recv_ns", "instrument", "channel", "id_prev", "id_last", "epoch", "kind", "cause", "lines")


def open_recording(directory: str | PathLike[str], *, skip_bad: bool = False) -> Recording:
    """Open the recording in a directory, or at a URI (a copy of it in a cache: `raytrade.storage.remote`).

    Raises:
        ConfigError: there is no such directory or place, or no recording in it.
        StorageError: what is at a URI cannot be fetched.
    """
    if isinstance(directory, str) and is_uri(directory):
        return Recording(mirror(directory), skip_bad=skip_bad)
    return Recording(Path(directory), skip_bad=skip_bad)


def _folders_of(directory: Path) -> dict[StreamKey, Path]:
    if not directory.is_dir():
        raise ConfigError("", str(directory), "is no directory" if directory.exists() else "no such directory")
    channels = {channel.name.lower(): channel for channel in Channel}
    folders: dict[StreamKey, Path] = {}
    for path in sorted(directory.glob("venue=*/instrument=*/channel=*")):
        venue, symbol, name = (unquote(part.partition("=")[2]) for part in path.parts[-3:])
        if name in channels:
            folders[instrument_name(venue, symbol), channels[name]] = path
    if not folders and not (directory / "gaps").is_dir():
        raise ConfigError("", str(directory), "has no recording in it (no venue=.../instrument=... below)")
    return folders


def _newest(folder: Path) -> list[Path]:
    """Give the segments of the last two days: days are those of the venue's time, which may differ from ours."""
    return [path for day in sorted(folder.glob("date=*"))[-2:] for path in segments_in(day)]


def _channel(channel: Channel | str) -> Channel:
    if isinstance(channel, Channel):
        return channel
    try:
        return Channel[channel.upper()]
    except KeyError:
        known = ", ".join(known.name.lower() for known in Channel)
        raise ConfigError("", channel, f"no such channel; there are {known}") from None


def _unknown(name: str, names: set[str]) -> ConfigError:
    symbols = {known.partition(":")[2]: known for known in sorted(names)}
    near = get_close_matches(name, sorted(names), n=1, cutoff=0.5)
    near = near or [symbols[symbol] for symbol in get_close_matches(name, symbols, n=1)]
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(names)[:8])}"
    return ConfigError("", name, f"not in the recording; {hint}")
