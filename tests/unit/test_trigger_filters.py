"""Filter criteria: which records a function gets to see."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.local import NotEmulated
from headrace.local.delivery import Delivery
from headrace.local.filters import RecordFilter
from headrace.local.records import StreamRecord
from tests.streams import US, Bench


def passes(pattern: Any, data: bytes | Any, key: str = "a key") -> bool:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    text = pattern if isinstance(pattern, str) else json.dumps(pattern)
    return RecordFilter([text]).passes(StreamRecord("shard", "0", key, body, 0.0, 0.0))


@pytest.mark.parametrize(
    ("rules", "matching", "other"),
    [
        (["a"], "a", "A"),
        (["a", "b"], "b", "c"),
        ([""], "", "a"),
        ([None], None, "null"),
        ([True], True, "true"),
        ([False], False, 0),
        ([{"prefix": "us-"}], "us-east-1", "eu-us-"),
        ([{"suffix": ".png"}], "a.png", "a.png.gz"),
        ([{"equals-ignore-case": "aLiCe"}], "Alice", "Alic"),
        ([{"anything-but": "a"}], "b", "a"),
        ([{"anything-but": ["a", "b"]}], "c", "b"),
        ([{"anything-but": 5}], 6, 5),
        ([{"numeric": ["=", 100]}], 100.0, 101),
        ([{"numeric": [">", 10, "<=", 20]}], 20, 10),
        ([{"numeric": ["<", 0]}], -0.5, 0),
        ([{"numeric": [">=", 3]}], 3, "3"),
        (["a", {"prefix": "b"}], "bc", "cb"),
        (["a"], ["b", "a"], ["b"]),
        ([{"prefix": "a"}], [["b"], ["ab"]], []),
    ],
)
def test_rule_lets_through_what_matches_and_nothing_else(
    rules: list[Any], matching: Any, other: Any
) -> None:
    pattern = {"data": {"field": rules}}
    assert passes(pattern, {"field": matching})
    assert not passes(pattern, {"field": other})
    assert not passes(pattern, {"other": matching})


def test_exists_looks_at_leaves_only() -> None:
    exists, missing = ({"data": {"a": [{"exists": wanted}]}} for wanted in (True, False))
    for there in ({"a": 1}, {"a": None}, {"a": ["b"]}):
        assert passes(exists, there)
        assert not passes(missing, there)
    absences: list[dict[str, Any]] = [{"b": 1}, {"a": {"b": 1}}, {"a": []}, {"a": [{"b": 1}]}]
    for absent in absences:
        assert not passes(exists, absent)
        assert passes(missing, absent)


def test_numbers_are_equal_only_where_they_are_written_alike() -> None:
    assert passes('{"data": {"n": [300]}}', b'{"n": 300}')
    assert not passes('{"data": {"n": [300]}}', b'{"n": 300.0}')
    assert not passes('{"data": {"n": [300]}}', b'{"n": 3.0e2}')
    assert passes('{"data": {"n": [{"numeric": ["=", 300]}]}}', b'{"n": 3.0e2}')


def test_number_with_an_exponent_beyond_all_bounds_is_in_no_range() -> None:
    pattern = {"data": {"n": [{"numeric": [">", 0]}]}}
    assert passes(pattern, b'{"n": 1e400}')
    assert not passes(pattern, b'{"n": 1e99999999999999999999}')


def test_all_fields_must_match_and_nested_ones_in_the_same_object() -> None:
    pattern = {"data": {"order": {"type": ["buy"], "stock": ["ANY"]}, "open": [True]}}
    assert passes(pattern, {"order": {"type": "buy", "stock": "ANY"}, "open": True, "more": 1})
    assert not passes(pattern, {"order": {"type": "buy", "stock": "ANY"}})
    orders = [{"type": "buy", "stock": "NO"}, {"type": "sell", "stock": "ANY"}]
    assert not passes(pattern, {"order": orders, "open": True})
    assert not passes(pattern, {"order": "buy", "open": True})


def test_or_takes_any_of_several_fields() -> None:
    pattern = {"data": {"$or": [{"a": [1]}, {"b": [{"numeric": [">", 1]}]}], "c": ["x"]}}
    assert passes(pattern, {"a": 1, "c": "x"})
    assert passes(pattern, {"b": 2, "c": "x"})
    assert not passes(pattern, {"a": 2, "b": 1, "c": "x"})
    assert not passes(pattern, {"a": 1})
    outside = {"$or": [{"partitionKey": ["k"]}, {"data": {"a": [1]}}]}
    assert passes(outside, {}, "k")
    assert passes(outside, {"a": 1}, "other")
    assert not passes(outside, {"a": 2}, "other")


def test_partition_key_is_matched_together_with_the_data() -> None:
    pattern = {"partitionKey": ["1"], "data": {"city": ["Los Angeles"]}}
    assert passes(pattern, {"city": "Los Angeles"}, "1")
    assert not passes(pattern, {"city": "Los Angeles"}, "2")
    assert not passes(pattern, {"city": "Seattle"}, "1")


@pytest.mark.parametrize(
    "data", [b"plain", b"\xff\xfe", b"", b"{'a': 1}", b'{"a": NaN}', b"[" * 100_000]
)
def test_record_that_is_not_json_passes_no_filter_on_its_data(data: bytes) -> None:
    assert not passes({"data": {"a": [{"exists": False}]}}, data)
    assert passes({"partitionKey": ["a key"]}, data)


@pytest.mark.parametrize("data", [b"5", b'"a"', b"null", b'[{"a": 1}]'])
def test_json_that_is_no_object_has_no_fields(data: bytes) -> None:
    assert not passes({"data": {"b": ["a"]}}, data)


def test_any_of_several_filters_lets_a_record_through() -> None:
    patterns = ['{"data": {"a": [1]}}', '{"partitionKey": ["k"]}']
    chosen = RecordFilter(patterns)
    for data, key, expected in ((b'{"a": 1}', "x", 1), (b"plain", "k", 1), (b"{}", "x", 0)):
        assert chosen.passes(StreamRecord("shard", "0", key, data, 0.0, 0.0)) == bool(expected)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{'data': {}}", "not JSON"),
        ('["data"]', "an object with data and partitionKey"),
        ('{"data": {}}', "at least one field"),
        ("{}", "at least one field"),
        ('{"sequenceNumber": ["1"]}', "an object with data and partitionKey"),
        ('{"kinesis": {"data": {"a": [1]}}}', "an object with data and partitionKey"),
        ('{"data": ["text"]}', r"filter on data: got \['text'\]"),
        ('{"data": {"a": 1}}', "filter on data on a: got .*a list of rules"),
        ('{"data": {"a": []}}', "a list of rules"),
        ('{"data": {"a": [[1]]}}', "a plain value or an operator"),
        ('{"data": {"a": [{"wildcard": "*"}]}}', "wildcard.*one of anything-but, equals"),
        ('{"data": {"a": [{"cidr": "10.0.0.0/8"}]}}', "cidr"),
        ('{"data": {"a": [{"anything-but": {"prefix": "a"}}]}}', "anything-but: got"),
        ('{"data": {"a": [{"anything-but": [null]}]}}', "anything-but: got"),
        ('{"data": {"a": [{"prefix": 1}]}}', "prefix: got .*a text"),
        ('{"data": {"a": [{"exists": "yes"}]}}', "exists: got 'yes'.*true or false"),
        ('{"data": {"a": [{"numeric": [">"]}]}}', "numeric: got .*comparisons"),
        ('{"data": {"a": [{"numeric": ["!=", 1]}]}}', "comparisons"),
        ('{"data": {"a": [{"numeric": [">", "1"]}]}}', "comparisons"),
        ('{"data": {"a": [{"prefix": "a", "suffix": "b"}]}}', "one of"),
        ('{"data": {"$or": [{"a": [1]}]}}', r"\$or: got .*two objects or more"),
        ('{"$or": [{"data": {"a": [1]}}, {"eventID": ["1"]}]}', "an object with data"),
    ],
)
def test_filter_that_is_wrong_or_not_played_is_refused(pattern: str, expected: str) -> None:
    with pytest.raises(NotEmulated, match=expected):
        RecordFilter([pattern])


def test_more_filters_than_aws_takes_are_refused() -> None:
    with pytest.raises(NotEmulated, match="got 11 filters"):
        RecordFilter(['{"partitionKey": ["1"]}'] * 11)


def test_records_that_no_filter_lets_through_are_passed_over_and_counted() -> None:
    bench = Bench(
        [b'{"a": 1}', b'{"a": 2}', b"plain", b'{"a":  1}', b'{"a": 1, "b": 2}'],
        filters=('{"data": {"a": [1]}}',),
        batch_size=2,
    )
    assert bench.trigger.drain() == Delivery(records=3, batches=2, filtered=2)
    # What passes is delivered byte for byte.
    assert bench.function.batches == [[b'{"a": 1}', b'{"a":  1}'], [b'{"a": 1, "b": 2}']]
    assert bench.trigger.drain() == Delivery()


def test_filtered_records_neither_fill_a_batch_nor_begin_its_window() -> None:
    bench = Bench([], filters=('{"partitionKey": ["in"]}',), window_seconds=5.0, batch_size=2)
    bench.put((b"a", "out"), (b"b", "out"), (b"c", "out"))
    bench.trigger.run_until(bench.clock.now() + 4 * US)
    bench.put((b"d", "in"))
    bench.trigger.run_until(bench.clock.now() + 4 * US)
    assert bench.function.batches == []
    bench.trigger.run_until(bench.clock.now() + 2 * US)
    assert bench.function.batches == [[b"d"]]
