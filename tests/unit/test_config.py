"""The configuration: every mistake is named, in one line."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from raytrade.config import Config, check_config, load_config
from raytrade.core.events import Channel
from raytrade.errors import ConfigError
from raytrade.strategy import Fees, FillRule, RiskLimits

VENUES = "venues:\n  binance-spot: {symbols: [BTCUSDT]}\n"


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "pipeline.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def refused(tmp_path: Path, text: str) -> str:
    """Give what is said of a wrong configuration, after the file's name."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    words = str(caught.value)
    assert "\n" not in words
    assert words.startswith(f"{tmp_path / 'pipeline.yaml'}: ")
    return words.removeprefix(f"{tmp_path / 'pipeline.yaml'}: ")


def test_the_least_that_is_needed(tmp_path: Path) -> None:
    config = load(tmp_path, VENUES)
    assert (config.name, config.collectors.per_node, config.dedup.replicas) == ("raytrade", 1, 2)
    (subscription,) = config.venues["binance-spot"].subscriptions()
    assert (subscription.symbol, subscription.channels) == ("BTCUSDT", (Channel.BOOK, Channel.TRADES))


def test_everything(tmp_path: Path) -> None:
    text = """
name: my-pipeline
venues:
  binance-spot: {symbols: [BTCUSDT, ETHUSDT], channels: [book]}
  bybit-v5: {symbols: ["linear:BTCUSDT"], ws_url: ws://127.0.0.1:1}
collectors: {labels: {region: a}, per_node: 2}
dedup: {labels: {role: dedup}, replicas: 1, shards: 2}
strategies:
  - {name: one, strategy: "mine.py:One", params: {window: 20}, subscribe: ["binance-*"]}
recorders:
  - {directory: data, segment_age_s: 5, segment_mb: 2, compression: none}
links: {spacing_ms: 2, batch_kb: 10, in_flight: 1, ring_mb: 1}
"""
    config = load(tmp_path, text)
    assert config.collectors.labels == {"region": "a"}
    assert config.strategies[0].params == {"window": 20}
    sink = config.recorders[0].sink()
    assert (sink.segment_age_s_max, sink.segment_bytes_max, sink.compression) == (5, 2 * 1024 * 1024, "none")
    links = config.links.settings()
    assert (links.spacing_ns, links.batch_bytes_max, links.ring_bytes_max) == (2_000_000, 10_240, 1024 * 1024)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("venuess: {}\n" + VENUES, "venuess: unknown key; did you mean venues?"),
        ("venuess:\n  binance-spot: {symbols: [A]}\n", "venuess: unknown key; did you mean venues?"),
        ("venues:\n  binance-spot: {symbls: [A]}\n", "venues.binance-spot.symbls: unknown key; did you mean symbols?"),
        (VENUES + "recorders: [{directry: x}]\n", "recorders.0.directry: unknown key; did you mean directory?"),
        (VENUES + "strategies: [{nme: x}]\n", "strategies.0.nme: unknown key; did you mean name?"),
        (VENUES + "links: {spacing_us: 4}\n", "links.spacing_us: unknown key; did you mean spacing_ms?"),
        (VENUES + "dedup: {replica: 1}\n", "dedup.replica: unknown key; did you mean replicas?"),
        (VENUES + "quux: 1\n", "quux: unknown key; known are name, venues, collectors"),
    ],
)
def test_unknown_keys_name_the_nearest(tmp_path: Path, text: str, words: str) -> None:
    assert refused(tmp_path, text).startswith(words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("venues:\n  binance-spot: {symbols: BTCUSDT}\n", "venues.binance-spot.symbols: input should be a valid list"),
        ("venues:\n  binance-spot: {symbols: []}\n", "venues.binance-spot.symbols: list should have at least 1 item"),
        ("venues:\n  binance-spot: {symbols: [NO]}\n", "venues.binance-spot.symbols.0: input should be a valid string"),
        ("venues:\n  binance-spot: {symbols: [1]}\n", "venues.binance-spot.symbols.0: input should be a valid string"),
        ("venues:\n  binance-spot: {}\n", "venues.binance-spot.symbols: field required"),
        (
            "venues:\n  binance-spot: {symbols: [A], channels: [trade]}\n",
            "venues.binance-spot.channels.0: input should",
        ),
        ("venues:\n  binance-spot:\n", "venues.binance-spot: must be a mapping"),
        ("venues: 5\n", "venues: must be a mapping"),
        ("venues: {}\n", "venues: dictionary should have at least 1 item"),
        (VENUES + "collectors: {per_node: '2'}\n", "collectors.per_node: input should be a valid integer"),
        (VENUES + "collectors: {per_node: true}\n", "collectors.per_node: input should be a valid integer"),
        (VENUES + "collectors: {per_node: 0}\n", "collectors.per_node: input should be greater than or equal to 1"),
        (VENUES + "collectors: {per_node: 9}\n", "collectors.per_node: input should be less than or equal to 8"),
        (VENUES + "collectors: 3\n", "collectors: must be a mapping"),
        (VENUES + "collectors: {labels: {zone: 3}}\n", "collectors.labels.zone: input should be a valid string"),
        (VENUES + "collectors: {labels: [a]}\n", "collectors.labels: must be a mapping"),
        (VENUES + "links: {spacing_ms: .nan}\n", "links.spacing_ms: input should be"),
        (VENUES + "links: {spacing_ms: .inf}\n", "links.spacing_ms: input should be"),
        (VENUES + "name: Ünï\n", "name: string should match pattern"),
        (VENUES + "recorders: [{}]\n", "recorders.0.directory: field required"),
        (VENUES + "recorders: [{directory: ''}]\n", "recorders.0.directory: string should have at least 1 character"),
        (VENUES + "strategies: [{name: a, strategy: foo}]\n", "strategies.0.strategy: string should match pattern"),
        ("1: 2\n" + VENUES, "1: keys should be strings"),
        ("- 1\n", "a configuration is a mapping"),
        ("", "a configuration is a mapping"),
    ],
)
def test_wrong_values_name_their_key(tmp_path: Path, text: str, words: str) -> None:
    assert refused(tmp_path, text).startswith(words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (VENUES.replace("spot", "spt"), "venues.binance-spt: venue 'binance-spt': unknown; did you mean binance-spot?"),
        (VENUES.replace("binance-spot", "x"), "venues.x: venue 'x': unknown; known are"),
        (VENUES.replace("BTCUSDT", "'BTC USDT'"), "venues.binance-spot: 'BTC USDT': not a symbol"),
        (VENUES.replace("BTCUSDT", "''"), "venues.binance-spot: '': not a symbol"),
        (VENUES.replace("BTCUSDT", '"A\\nB"'), "venues.binance-spot: 'A\\nB': not a symbol"),
        (VENUES.replace("BTCUSDT", "A" * 65), f"venues.binance-spot: {'A' * 65!r}: not a symbol"),
        (VENUES.replace("binance-spot", "bybit-v5"), "venues.bybit-v5: BTCUSDT: a Bybit symbol is <category>:<symbol>"),
    ],
)
def test_unknown_venues_and_bad_symbols(tmp_path: Path, text: str, words: str) -> None:
    assert refused(tmp_path, text).startswith(words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (VENUES + "  binance-spot: {symbols: [ETHUSDT]}\n", "not YAML: the key 'binance-spot' is there twice"),
        (VENUES + VENUES, "not YAML: the key 'venues' is there twice"),
        (VENUES.replace("BTCUSDT", "A, B, A"), "venues.binance-spot: symbols: A is named twice"),
        (VENUES.replace("]}", "], channels: [book, book]}"), "venues.binance-spot: channels: book is named twice"),
        (
            VENUES + "strategies: [{name: a, strategy: 'm:C'}, {name: a, strategy: 'm:D'}]\n",
            "strategies: the name 'a' is used twice",
        ),
        (
            VENUES + "strategies: [{name: a, strategy: 'm:C', standby: true}, {name: a-standby, strategy: 'm:D'}]\n",
            "strategies: the name 'a-standby' is used twice",
        ),
        (
            VENUES + "strategies: [{name: a, strategy: 'm:C', standby: true, warmup: 5min}]\n",
            "strategies.0: standby: a strategy with a standby has neither a journal nor a warm-up",
        ),
        (VENUES + "recorders: [{directory: a}, {directory: b}]\n", "recorders: the name 'recorder' is used twice"),
        (
            VENUES + "recorders: [{name: a, directory: d}, {name: b, directory: ./d/}]\n",
            "recorders: two recorders must not share a directory",
        ),
    ],
)
def test_nothing_is_there_twice(tmp_path: Path, text: str, words: str) -> None:
    assert refused(tmp_path, text).startswith(words)


def test_merged_mappings_are_no_duplicates(tmp_path: Path) -> None:
    text = "venues:\n  binance-spot: &a {symbols: [A]}\n  binance-us: {<<: *a, channels: [book]}\n"
    assert load(tmp_path, text).venues["binance-us"].symbols == ["A"]


@pytest.mark.parametrize(
    "text",
    [
        "venues:\n  binance-spot: {symbols: [BTCUSDT\n",
        "a:\n\t- b",
        "[" * 20_000,
        "\x00",
        "name: 2020-13-45\n" + VENUES,
        VENUES + f"links: {{in_flight: {'9' * 5000}}}\n",
        "? [1, 2]\n: 3\n",
        "venues: !!python/object:os.system x\n",
        "venues: *nothing\n",
        "!!map x",
    ],
)
def test_what_is_not_yaml(tmp_path: Path, text: str) -> None:
    assert refused(tmp_path, text).startswith("not YAML: ")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xfa")
    for path, words in (
        (tmp_path / "binary.yaml", "not YAML"),
        (tmp_path / "missing.yaml", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert str(caught.value).startswith(f"{path}: {words}")


def test_data_from_elsewhere_is_checked_the_same() -> None:
    with pytest.raises(ConfigError, match="demo: a configuration is a mapping"):
        check_config(None, "demo")


def test_a_paper_account_is_that_of_a_backtest() -> None:
    paper = {
        "fill": "queue",
        "fees": {"binance-spot": {"maker_bps": -0.5, "taker_bps": "7.5"}},
        "order_latency_ms": 2.5,
        "max_position": 1,
        "max_loss": "100.25",
    }
    part = {"name": "s", "strategy": "m:C", "paper": paper}
    config = check_config({"venues": {"binance-spot": {"symbols": ["BTCUSDT"]}}, "strategies": [part]}, "p.yaml")
    settings = config.strategies[0].paper.settings()
    assert settings.fill_rule is FillRule.QUEUE and settings.order_latency_ns == 2_500_000
    assert settings.fees["binance-spot"] == Fees(maker_bps=Decimal("-0.5"), taker_bps=Decimal("7.5"))
    assert settings.risk == RiskLimits(position_max=Decimal(1), loss_max=Decimal("100.25"))
    again = check_config(msgspec.json.decode(msgspec.json.encode(config.model_dump())), "again")
    assert again == config
    for wrong in ({"max_loss": "-1"}, {"fill": "luck"}, {"fees": {"x": {"maker_bps": "1e9"}}}):
        bad = {"name": "s", "strategy": "m:C", "paper": wrong}
        with pytest.raises(ConfigError, match=r"strategies\.0\.paper"):
            check_config({"venues": {"binance-spot": {"symbols": ["BTCUSDT"]}}, "strategies": [bad]}, "p.yaml")


@pytest.mark.parametrize(
    ("text", "spinning"),
    [("", set()), ("busy_poll: true", {"dedup", "strategy", "recorder"}), ("busy_poll: [strategy]", {"strategy"})],
)
def test_who_never_sleeps(tmp_path: Path, text: str, spinning: set[str]) -> None:
    links = load(tmp_path, VENUES + f"links: {{{text}}}\n").links
    assert {role for role in ("dedup", "strategy", "recorder") if links.spins(role)} == spinning


def test_policies_have_defaults_that_suit_their_consumers(tmp_path: Path) -> None:
    text = VENUES + "strategies: [{name: a, strategy: 'a.b:C'}]\nrecorders: [{directory: /d}]\n"
    config = load(tmp_path, text)
    assert (config.strategies[0].policy, config.recorders[0].policy) == ("skip", "spill")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("strategies: [{name: a, strategy: 'a.b:C', policy: spill}]", "strategies.0.policy"),
        ("recorders: [{directory: /d, policy: conflate}]", "recorders.0.policy"),
        ("recorders: [{directory: /d, spill_mb: 0}]", "recorders.0.spill_mb"),
        ("links: {busy_poll: [collector]}", "links.busy_poll"),
    ],
)
def test_a_policy_that_a_consumer_cannot_have_is_refused(tmp_path: Path, text: str, key: str) -> None:
    assert refused(tmp_path, f"{VENUES}{text}\n").startswith(key)
