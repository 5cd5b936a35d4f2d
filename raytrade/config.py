"""The pipeline's configuration: one YAML file, checked once, every key known.

Units stand in the names. Anything left out has the default shown here.
"""

from __future__ import annotations

import re
from decimal import Decimal
from difflib import get_close_matches
from fnmatch import fnmatchcase
from ipaddress import ip_address
from os.path import normpath
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from raytrade.core.clock import MILLISECOND, SECOND
from raytrade.core.events import Channel
from raytrade.core.instrument import check_symbol
from raytrade.errors import ConfigError
from raytrade.links.writer import LinkSettings
from raytrade.observation.alerts import AlertSettings
from raytrade.storage.sink import SinkSettings
from raytrade.storage.wal import Sync
from raytrade.strategy.orders import Fees, FillRule, PaperSettings, RiskLimits
from raytrade.venues import VENUES, find_venue
from raytrade.venues.protocol import Subscription

MEGABYTE = 1024 * 1024
GIGABYTE = 1024 * MEGABYTE
MERGE_KEY = "<<"
COPIES_MAX = 64
UI_PORT = 8420
_SECONDS = {"s": 1, "min": 60, "h": 3600}
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
Labels = dict[str, str]
Amount = Annotated[Decimal, Field(strict=False, allow_inf_nan=False)]


def _redundancy(value: object) -> object:
    if value != "all" and not (isinstance(value, int) and 1 <= value <= COPIES_MAX):
        raise ValueError(f"must be all, or a number from 1 to {COPIES_MAX}")
    return value


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class VenueConfig(_Section):
    """What to collect of one venue; the addresses only to override the venue's own.

    `redundancy`: on how many nodes, each in another failure domain, every line runs; ``all`` of the collectors' nodes
    by default. `shares`: over how many lines the symbols are divided, by a stable hash. `weight_per_minute`: request
    weight that all collectors together may spend; by default half of what the venue states.
    """

    symbols: list[str] = Field(min_length=1)
    channels: list[Literal["book", "trades"]] = ["book", "trades"]
    redundancy: Annotated[Literal["all"] | int, BeforeValidator(_redundancy)] = "all"
    shares: int = Field(default=1, ge=1, le=256)
    weight_per_minute: int = Field(default=0, ge=0)
    ws_url: str = ""
    rest_url: str = ""

    @model_validator(mode="after")
    def _nothing_is_named_twice(self) -> VenueConfig:
        for kind, names in (("symbols", self.symbols), ("channels", list(map(str, self.channels)))):
            twice = _first_twice(names)
            if twice is not None:
                raise ValueError(f"{kind}: {twice} is named twice")
        return self

    def subscriptions(self) -> tuple[Subscription, ...]:
        """Give the symbols with their channels."""
        channels = tuple(Channel[name.upper()] for name in self.channels)
        return tuple(Subscription(symbol, channels) for symbol in self.symbols)


class EgressConfig(_Section):
    """How lines leave their host: those on nodes with these labels, to these venues (globs), of this collector.

    `number`: which of a node's collectors, from 0; any if left out. One of `source_address`, `interface` (its first
    IPv4 address) and `proxy`: ``http://host:port``, or with a password ``env:NAME`` or ``file:/path`` (mode 600) on the
    node.
    """

    labels: Labels = {}
    venues: list[str] = Field(default=["*"], min_length=1)
    number: int | None = Field(default=None, ge=0, le=7)
    source_address: str = ""
    interface: str = Field(default="", max_length=15)
    proxy: str = Field(default="", pattern=r"^(http://[^@/\s]+:\d+|env:[A-Za-z_][A-Za-z0-9_]*|file:/\S+)?$")

    @model_validator(mode="after")
    def _says_something(self) -> EgressConfig:
        if not (self.source_address or self.interface or self.proxy):
            raise ValueError("needs source_address, interface or proxy")
        if self.source_address and self.interface:
            raise ValueError("source_address and interface are two ways of saying one thing")
        if self.source_address:
            try:
                ip_address(self.source_address)
            except ValueError:
                raise ValueError(f"source_address: {self.source_address!r} is no IP address") from None
        return self

    def covers(self, labels: Labels, venue: str, number: int) -> bool:
        """Tell whether it is for the lines of this collector to this venue."""
        return (
            all(labels.get(key) == value for key, value in self.labels.items())
            and any(fnmatchcase(venue, glob) for glob in self.venues)
            and self.number in (None, number)
        )


class CollectorsConfig(_Section):
    """Every node with these labels runs `per_node` collectors, each with lines to the venues that fall to it.

    A subscription that is not served within `service_timeout_s` is reported as refused. Of `egress` the first entry
    that covers a line says how it leaves its host.
    """

    labels: Labels = {}
    per_node: int = Field(default=1, ge=1, le=8)
    egress: list[EgressConfig] = []
    service_timeout_s: float = Field(default=30.0, ge=1, le=3600)


class RegionalConfig(_Section):
    """Dedups next to the collectors: `replicas` in each region, on nodes with `labels` and the region as their `label`.

    The other dedups then follow those, and get each message over the long way once: those in their own region send all
    they have; else one of the others does, first of the `primary` region; the rest send only which ids they have.
    """

    label: str = Field(default="region", min_length=1, max_length=63)
    labels: Labels = {}
    replicas: int = Field(default=2, ge=1, le=4)
    primary: str = ""


class DedupConfig(_Section):
    """Replicas of each shard, on different nodes with these labels where there are enough.

    `regional`: a tier before them, in each of the collectors' regions. `crossed_ms`: how long a book may be crossed
    before it is doubted; 0: any time.
    """

    labels: Labels = {}
    replicas: int = Field(default=2, ge=1, le=4)
    shards: int = Field(default=1, ge=1, le=64)
    crossed_ms: float = Field(default=1000, ge=0, le=3_600_000)
    regional: RegionalConfig | None = None


class FeesConfig(_Section):
    """A venue's fees in basis points; below zero is a rebate."""

    maker_bps: Amount = Decimal(0)
    taker_bps: Amount = Decimal(0)


class PaperConfig(_Section):
    """The paper account of a strategy, as `raytrade backtest` has it.

    `fill`: see `raytrade.strategy.fill_models`. `max_loss` in the quote; beyond it the strategy is stopped.
    """

    fill: Literal["cross", "queue", "queue-pro-rata"] = "cross"
    fees: dict[str, FeesConfig] = {}
    order_latency_ms: float = Field(default=0.0, ge=0, le=3_600_000)
    max_position: Amount | None = None
    max_order: Amount | None = None
    max_loss: Amount | None = None

    @model_validator(mode="after")
    def _is_possible(self) -> PaperConfig:
        try:
            self.settings()
        except ConfigError as error:
            raise ValueError(f"{error.key}: {error.problem}") from None
        return self

    def settings(self) -> PaperSettings:
        """Give the account's settings."""
        fees = {venue: Fees(maker_bps=one.maker_bps, taker_bps=one.taker_bps) for venue, one in self.fees.items()}
        risk = RiskLimits(position_max=self.max_position, order_max=self.max_order, loss_max=self.max_loss)
        latency_ns = round(self.order_latency_ms * MILLISECOND)
        return PaperSettings(fees=fees, fill_rule=FillRule(self.fill), order_latency_ns=latency_ns, risk=risk)


class StrategyConfig(_Section):
    """A strategy by ``module:Class`` or ``file.py:Class``, and the streams it gets (globs).

    `policy` when it does not keep up: `skip` (a gap, then an image), `conflate` (the latest books only), `fail` (its
    links are closed). `journal` keeps all that the strategy was given, for `raytrade replay --as strategy:NAME`: in a
    directory of its own host, or with `true` in ``journal`` below the first recorder's; at most `journal_mb`.
    `warmup` (``15min``, ``90s``, ``2h``) shows it that much of the recording in `history` first (the first recorder's
    directory if left out, which must be on its host), then goes on live behind the last recorded id.
    `standby`: run it twice, on different nodes where there are any, of which one trades, through a gateway of its own;
    that keeps orders, fills and the strategy's state under `state` of its host. Not together with the last two.
    """

    name: Name
    strategy: str = Field(pattern=r"^[^:]+:[A-Za-z_][A-Za-z0-9_]*$")
    params: dict[str, Any] = {}
    subscribe: list[str] = Field(default=["*"], min_length=1)
    labels: Labels = {}
    policy: Literal["skip", "conflate", "fail"] = "skip"
    paper: PaperConfig = PaperConfig()
    journal: bool | str = False
    journal_mb: int = Field(default=1024, ge=1, le=1_000_000)
    warmup: str = Field(default="", pattern=r"^([1-9]\d{0,5}(s|min|h))?$")
    history: str = ""
    standby: bool = False
    state: str = ""

    @property
    def warmup_s(self) -> int:
        """Give the span of history in seconds."""
        number = self.warmup.rstrip("sminh")
        return int(number) * _SECONDS[self.warmup[len(number) :]] if number else 0

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> StrategyConfig:
        if self.standby and (self.journal or self.warmup):
            raise ValueError("standby: a strategy with a standby has neither a journal nor a warm-up")
        return self

    def replicas(self) -> list[str]:
        """Give the names of its copies, the first one first."""
        return [self.name, f"{self.name}-standby"] if self.standby else [self.name]


class RecorderConfig(_Section):
    """A recording under `directory` of the recorder's own host; with `arrivals` the log of every line's copies too.

    `policy` when its disk does not keep up: `spill` (to nameless files under `spill_directory`, else under `directory`,
    of at most `spill_mb` together, and only then a gap), `skip` (a gap, then an image), `fail` (its links are closed).
    `wal`: a log, written ten times a second, keeps what a killed recorder had not yet put into files (`off`: there is
    none); against a loss of power it is forced to the device never (`none`), once a second or at each write (`always`).
    `retention`: how many days are kept, as in `30d`; by default all. `target`: a URI (`s3://...`, `gs://...`, `file://...`)
    to which what is closed is carried; days are removed from `directory` only when they are there. `database`: to which
    it is copied too (`postgresql://...`, or `env:NAME` or `file:/path` of mode 600 with such an address).
    """

    name: Name = "recorder"
    directory: str = Field(min_length=1)
    subscribe: list[str] = Field(default=["*"], min_length=1)
    labels: Labels = {}
    segment_age_s: int = Field(default=60, ge=1, le=3600)
    segment_mb: int = Field(default=64, ge=1, le=1024)
    compression: Literal["zstd", "snappy", "lz4", "none"] = "zstd"
    arrivals: bool = True
    policy: Literal["spill", "skip", "fail"] = "spill"
    spill_mb: int = Field(default=1024, ge=1, le=1_000_000)
    spill_directory: str = ""
    wal: Literal["off", "none", "interval", "always"] = "interval"
    target: str = Field(default="", pattern=r"^([a-z][a-z0-9+.-]+://.*)?$")
    database: str = Field(default="", pattern=r"^(postgresql://\S+|env:[A-Za-z_][A-Za-z0-9_]*|file:/\S+)?$")
    retention: str = Field(default="", pattern=r"^([1-9]\d{0,4}d)?$")

    def sink(self) -> SinkSettings:
        """Give the sink's settings."""
        return SinkSettings(
            segment_age_s_max=self.segment_age_s,
            segment_bytes_max=self.segment_mb * MEGABYTE,
            compression=self.compression,
            wal=None if self.wal == "off" else Sync(self.wal),
        )


class LinksConfig(_Section):
    """The data plane. `same_node`: the lane between actors of one host (`shm` falls back to `call` by itself).

    `spacing_ms`: least time between two batches of a call lane under load. `busy_poll`: have the threads of these roles
    (`true`: all three) look at their links without ever sleeping; each takes a core for itself.
    """

    same_node: Literal["shm", "call"] = "shm"
    spacing_ms: float = Field(default=4.0, ge=0.1, le=1000)
    batch_kb: int = Field(default=88, ge=1, le=10_000)
    in_flight: int = Field(default=4, ge=1, le=64)
    ring_mb: int = Field(default=256, ge=1, le=65_536)
    busy_poll: bool | list[Literal["dedup", "strategy", "recorder"]] = False

    def spins(self, role: str) -> bool:
        """Tell whether actors of the role never sleep."""
        return self.busy_poll if isinstance(self.busy_poll, bool) else role in self.busy_poll

    def settings(self) -> LinkSettings:
        """Give the links' settings."""
        return LinkSettings(
            spacing_ns=int(self.spacing_ms * MILLISECOND),
            batch_bytes_max=self.batch_kb * 1024,
            in_flight_max=self.in_flight,
            ring_bytes_max=self.ring_mb * MEGABYTE,
        )


class AlertsConfig(_Section):
    """Who is told when something is wrong: each notice is one JSON object, posted to `webhook` (empty: to nobody).

    `redundancy`: how many collectors must have their lines to each venue up. A standing alert is told again every
    `repeat_s`; a lost line or actor must be so for `hold_s`.
    """

    webhook: str = Field(default="", pattern=r"^(https?://.+)?$")
    redundancy: int = Field(default=2, ge=1, le=64)
    disk_free_gb: float = Field(default=5.0, ge=0, le=1_000_000)
    recorder_behind_s: float = Field(default=30.0, ge=1, le=3600)
    hold_s: float = Field(default=5.0, ge=0, le=3600)
    repeat_s: float = Field(default=300.0, ge=1, le=86_400)

    def settings(self) -> AlertSettings:
        """Give the rules' thresholds."""
        return AlertSettings(
            redundancy=self.redundancy,
            disk_free_bytes_min=int(self.disk_free_gb * GIGABYTE),
            recorder_behind_ns=int(self.recorder_behind_s * SECOND),
            hold_ns=int(self.hold_s * SECOND),
            repeat_ns=int(self.repeat_s * SECOND),
        )


class UiConfig(_Section):
    """Where `raytrade run` serves the page; on another host than this one's own it is shown with a token only."""

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=UI_PORT, ge=1, le=65_535)


class Config(_Section):
    """A pipeline. `failure_domain`: the node label whose values fail apart (zone, region, network); else each node.

    `ui`: `true`, or where, and `raytrade run` serves the page for as long as it stays.
    """

    name: Name = "raytrade"
    venues: dict[str, VenueConfig] = Field(min_length=1)
    collectors: CollectorsConfig = CollectorsConfig()
    dedup: DedupConfig = DedupConfig()
    strategies: list[StrategyConfig] = []
    recorders: list[RecorderConfig] = []
    links: LinksConfig = LinksConfig()
    alerts: AlertsConfig = AlertsConfig()
    failure_domain: str = Field(default="", max_length=63)
    ui: bool | UiConfig = False

    def page(self) -> UiConfig | None:
        """Give where the page is served, if it is."""
        return self.ui if isinstance(self.ui, UiConfig) else UiConfig() if self.ui else None

    @model_validator(mode="after")
    def _names_are_unique(self) -> Config:
        for kind, names in (
            ("strategies", [name for part in self.strategies for name in part.replicas()]),
            ("recorders", [part.name for part in self.recorders]),
        ):
            twice = _first_twice(names)
            if twice is not None:
                raise ValueError(f"{kind}: the name {twice!r} is used twice")
        if _first_twice([normpath(part.directory) for part in self.recorders]) is not None:
            raise ValueError("recorders: two recorders must not share a directory")
        for part in self.strategies:
            if not self.recorders and (part.journal is True or (part.warmup and not part.history)):
                key = "journal" if part.journal is True else "history"
                raise ValueError(f"strategies: {part.name}: without a recorder, {key} must name a directory")
        return self


def _first_twice(names: list[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def config_schema() -> dict[str, Any]:
    """Give the JSON Schema (draft 2020-12) of the configuration; the venues that there are stand in it by name."""
    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "raytrade pipeline"
    schema["properties"]["venues"]["propertyNames"] = {"enum": sorted(VENUES)}
    return schema


class _Loader(yaml.SafeLoader):
    """Reads YAML and refuses a mapping that has a key twice, where the standard loader forgets the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = _first_twice(keys)
        if twice is not None and twice != MERGE_KEY:
            where = next(key.start_mark for key, _ in reversed(node.value) if key.value == twice)
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} is there twice", where)
        return super().construct_mapping(node, deep)


def load_config(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: the file cannot be read, is no YAML, or a key or value is wrong; names the first one.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ConfigError(str(path), "", error.strerror or str(error)) from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(str(path), "", f"not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(str(path), "", "not YAML: nested too deeply") from None
    return check_config(data, str(path))


def check_config(data: object, path: str) -> Config:
    """Check configuration data that came from `path`.

    Raises:
        ConfigError: a key or value is wrong; names the first one.
    """
    if not isinstance(data, dict):
        raise ConfigError(path, "", "a configuration is a mapping with at least the key 'venues'")
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        raise _first_error(error, path) from None
    for venue, part in config.venues.items():
        try:
            machine = find_venue(venue).machine
            for symbol in part.symbols:
                check_symbol(symbol)
            machine.endpoints(part.ws_url, part.rest_url, part.subscriptions())
            _check_weight(venue, part)
        except ConfigError as error:
            raise ConfigError(path, f"venues.{venue}", f"{error.key}: {error.problem}") from None
    return config


def _check_weight(venue: str, part: VenueConfig) -> None:
    weight = find_venue(venue).limits.snapshot_weight
    if part.weight_per_minute and part.weight_per_minute < weight:
        raise ConfigError("", "weight_per_minute", f"one book costs {weight} of the venue's request weight")


def _first_error(error: ValidationError, path: str) -> ConfigError:
    """Give an unknown key before anything else: what is said to be missing may be a key written wrongly."""
    errors = error.errors(include_url=False)
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    location = [str(part) for part in first["loc"]]
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        near = get_close_matches(location[-1], _known_keys(location[:-1]), n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(_known_keys(location[:-1]))}"
        return ConfigError(path, key, f"unknown key{hint}")
    if first["type"] in ("model_type", "dict_type"):
        return ConfigError(path, key, "must be a mapping")
    problem = re.sub(r"^Value error, ", "", first["msg"])
    return ConfigError(path, key, problem[:1].lower() + problem[1:])


_SECTIONS: dict[str, type[_Section]] = {
    "venues": VenueConfig,
    "collectors": CollectorsConfig,
    "dedup": DedupConfig,
    "strategies": StrategyConfig,
    "recorders": RecorderConfig,
    "links": LinksConfig,
    "alerts": AlertsConfig,
}


def _known_keys(location: list[str]) -> list[str]:
    if location[:2] == ["collectors", "egress"]:
        return list(EgressConfig.model_fields)
    if location[:2] == ["dedup", "regional"]:
        return list(RegionalConfig.model_fields)
    section = _SECTIONS[location[0]] if location else Config
    return list(section.model_fields)
