"""Decoding: every fault has a reason and a message, and no bytes ever crash the decoder."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.definition import Rule
from headrace.errors import EventRejected, Fault
from headrace.events import (
    MAX_EVENT_BYTES,
    REASONS,
    Event,
    EventDecoder,
    id_digest,
    time_to_us,
    us_to_text,
    us_to_time,
)
from tests.fakes import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    SECOND,
    dispute,
    disputes,
    encoded,
    iso,
    make_definition,
    payment,
    payments,
    risk,
    spending,
    spread,
    traffic,
)


def one_card_only(event: Any) -> bool:
    return bool(event.card_id != 666)


ONE_CARD = replace(payments, rules=[Rule(one_card_only)])
DECODER = EventDecoder(
    make_definition(
        sources=[ONE_CARD, disputes],
        scored=ONE_CARD,
        views=[*(replace(v, source=ONE_CARD) for v in (spending, spread, traffic)), risk],
    )
)


def faults(data: bytes | dict[str, Any], arrival: int = NOON) -> tuple[Fault, ...]:
    with pytest.raises(EventRejected) as caught:
        DECODER.decode(data if isinstance(data, bytes) else encoded(data), arrival)
    return caught.value.faults


def without(event: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name not in names}


# What is valid


def test_valid_event_is_decoded_with_its_keys_and_fields() -> None:
    event = DECODER.decode(encoded(payment(17, card_id=3, shop_id="s-1")), NOON + SECOND)
    assert (event.source.name, event.id, event.time, event.arrival) == (
        "payments", "17", NOON, NOON + SECOND,
    )  # fmt: skip
    assert event.keys == {"card": "card#3", "shop": "shop#s-1"}
    assert event.digest == id_digest("payments", "17")
    assert (event.late, event.unknown) == (False, ())
    assert (event.fields.amount, event.fields.items) == (10.0, 1.0)


def test_events_of_each_source_are_told_apart_by_their_source_field() -> None:
    event = DECODER.decode(encoded(dispute(1, is_fraud=1)), NOON)
    assert (event.source.name, event.fields.is_fraud) == ("disputes", 1)


@pytest.mark.parametrize("number", [17, "17"], ids=["integer", "text"])
def test_integer_and_text_ids_are_the_same_id(number: int | str) -> None:
    event = DECODER.decode(encoded(payment(number, card_id=number)), NOON)
    assert (event.id, event.digest, event.keys["card"]) == (
        "17",
        id_digest("payments", "17"),
        "card#17",
    )


@pytest.mark.parametrize("name", ["amount", "discount", "channel", "contactless", "note"])
def test_absent_optional_field_is_none(name: str) -> None:
    absent = DECODER.decode(encoded(without(payment(1), name)), NOON)
    null = DECODER.decode(encoded(payment(1) | {name: None}), NOON)
    assert getattr(absent.fields, name) is getattr(null.fields, name) is None


def test_unknown_fields_are_passed_over_and_listed() -> None:
    event = DECODER.decode(encoded(payment(1, zone=None, colour={"a": [1]})), NOON)
    assert event.unknown == ("colour", "zone")
    known = DECODER.decode(encoded(payment(1)), NOON)
    assert event.fields == known.fields


@pytest.mark.parametrize("value", [True, False, 0, 1], ids=repr)
def test_flag_may_be_a_truth_value_or_a_digit(value: int) -> None:
    assert DECODER.decode(encoded(payment(1, contactless=value)), NOON).fields.contactless == value


@pytest.mark.parametrize(
    "text",
    ["2025-05-01T12:00:00Z", "2025-05-01T14:00:00+02:00", "2025-05-01T12:00:00.000000+00:00"],
)
def test_event_times_are_compared_in_utc(text: str) -> None:
    assert DECODER.decode(encoded(payment(1, paid_at=text)), NOON).time == NOON


@pytest.mark.parametrize(("lag", "late"), [(2 * HOUR, False), (2 * HOUR + 1, True)])
def test_event_is_late_beyond_the_lateness_of_its_source(lag: int, late: bool) -> None:
    assert DECODER.decode(encoded(payment(1, NOON - lag)), NOON).late is late
    assert not DECODER.decode(encoded(dispute(1, NOON - lag)), NOON).late


def test_producer_clock_may_run_ahead_by_what_the_source_allows() -> None:
    assert DECODER.decode(encoded(payment(1, NOON + 5 * MINUTE)), NOON).time > NOON
    assert faults(payment(1, NOON + 5 * MINUTE + 1))[0].reason == "absurd_time"


# What is refused, with its reason


REFUSED: list[tuple[str, bytes | dict[str, Any], str, str, list[str]]] = [
    ("too-large", b" " * (MAX_EVENT_BYTES + 1), "too_large", "", ["65,537", "65,536"]),
    ("not-utf8", b'{"source": "\xff"}', "not_utf8", "", ["byte 12"]),
    ("not-json", b"{", "not_json", "", ["JSON object"]),
    ("empty", b"", "not_json", "", ["JSON object"]),
    ("array", b"[1]", "not_an_object", "", ["list", "JSON object"]),
    ("nested", b"[" * 60_000, "not_json", "", ["JSON object"]),
    ("no-source", {"payment_id": 1}, "unknown_source", "source",
     ["None", "'payments', 'disputes'"]),
    ("other-source", payment(1, source="rain"), "unknown_source", "source", ["'rain'"]),
    ("list-source", payment(1, source=["a"]), "unknown_source", "source", ["['a']"]),
    ("no-id", without(payment(1), "payment_id"), "missing", "payment_id", ["missing", "integer"]),
    ("null-id", payment(1, card_id=None), "missing", "card_id", ["event 1", "1 to 256"]),
    ("no-time", without(payment(1), "paid_at"), "missing", "paid_at", ["UTC offset"]),
    ("no-required", without(payment(1), "items"), "missing", "items", ["a number"]),
    ("float-id", payment(1, card_id=1.5), "wrong_type", "card_id", ["1.5", "integer of 64 bits"]),
    ("true-id", payment(1, card_id=True), "wrong_type", "card_id", ["True"]),
    ("text-number", payment(1, amount="10"), "wrong_type", "amount", ["'10'", "a number"]),
    ("true-number", payment(1, amount=True), "wrong_type", "amount", ["True", "a number"]),
    ("number-text", payment(1, note=1), "wrong_type", "note", ["at most 10 characters"]),
    ("number-time", payment(1, paid_at=1), "wrong_type", "paid_at", ["ISO 8601"]),
    ("other-time", payment(1, paid_at="noon"), "wrong_type", "paid_at", ["'noon'", "ISO 8601"]),
    ("flag-2", payment(1, contactless=2), "wrong_type", "contactless", ["2", "true or false"]),
    ("empty-id", payment("", card_id=1), "out_of_bounds", "payment_id", ["''", "1 to 256"]),
    ("long-id", payment("x" * 257), "out_of_bounds", "payment_id", ["xxx...", "1 to 256"]),
    ("low", payment(1, amount=-0.5), "out_of_bounds", "amount",
     ["-0.5", "at least 0 and at most 1000"]),
    ("high", payment(1, amount=1_000.5), "out_of_bounds", "amount", ["1000.5"]),
    ("long-text", payment(1, note="x" * 11), "out_of_bounds", "note", ["at most 10 characters"]),
    ("other-text", payment(1, channel="mail"), "out_of_bounds", "channel",
     ["'mail'", "one of 'web', 'till'"]),
    ("naive", payment(1, paid_at="2025-05-01T12:00:00"), "naive_time", "paid_at",
     ["event 1", "'2025-05-01T12:00:00'", "'2024-05-01T12:00:00Z'"]),
    ("past", payment(1, paid_at="1999-12-31T23:59:59Z"), "absurd_time", "paid_at",
     ["1999-12-31T23:59:59Z", "2000-01-01T00:00:00Z"]),
    ("rule", payment(1, card_id=666), "broken_rule", "one_card_only",
     ["event '1'", "breaks the rule one_card_only"]),
    ("future", payment(1, NOON + DAY), "absurd_time", "paid_at",
     ["2025-05-02T12:00:00Z", "2025-05-01T12:05:00Z"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "reason", "field", "parts"), [case[1:] for case in REFUSED],
    ids=[case[0] for case in REFUSED],
)  # fmt: skip
def test_refused_event_says_what_was_got_and_what_was_expected(
    data: bytes | dict[str, Any], reason: str, field: str, parts: list[str]
) -> None:
    (fault,) = faults(data)
    assert (fault.reason, fault.field) == (reason, field)
    assert "expected" in fault.message
    for part in parts:
        assert part in fault.message


def test_every_reason_is_in_the_closed_list_and_met_here() -> None:
    assert {case[2] for case in REFUSED} == set(REASONS)


def test_every_fault_is_found_at_once() -> None:
    event = payment(
        1, paid_at="2025-05-01T12:00:00", amount=-1, items=None, shop_id=[], note=3, extra=1
    )
    found = {fault.field: fault.reason for fault in faults(without(event, "card_id"))}
    assert found == {
        "paid_at": "naive_time",
        "amount": "out_of_bounds",
        "items": "missing",
        "shop_id": "wrong_type",
        "note": "wrong_type",
        "card_id": "missing",
    }


def test_absurd_time_is_found_together_with_other_faults() -> None:
    found = {fault.reason for fault in faults(payment(1, NOON + DAY, amount=-1))}
    assert found == {"absurd_time", "out_of_bounds"}


@pytest.mark.parametrize(
    "event",
    [payment(1), payment(1, extra=1), payment(1, amount=-1)],
    ids=["valid", "unknown-field", "other-fault"],
)
@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_time_that_utc_cannot_hold_is_absurd(event: dict[str, Any], text: str) -> None:
    found = {fault.field: fault.reason for fault in faults(event | {"paid_at": text})}
    assert found["paid_at"] == "absurd_time"


def test_event_of_exactly_the_limit_is_taken() -> None:
    data = encoded(payment(1))
    data += b" " * (MAX_EVENT_BYTES - len(data))
    assert DECODER.decode(data, NOON).id == "1"


def test_messages_never_hold_a_whole_payload() -> None:
    for event in (
        payment("x" * 60_000),
        payment(1, note="y" * 60_000),
        payment(1, source="z" * 60_000),
    ):
        assert all(len(fault.message) < 400 for fault in faults(event))


# Whatever comes


@given(st.binary(max_size=400))
@settings(max_examples=300, derandomize=True)
def test_arbitrary_bytes_are_refused_with_a_reason(data: bytes) -> None:
    assert all(fault.reason in REASONS for fault in faults(data))


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat)
    | st.datetimes().map(lambda time: f"{time.isoformat()}+14:00")
    | st.datetimes().map(lambda time: f"{time.isoformat()}-12:00"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip


def decoded_or_refused(data: bytes) -> None:
    found: Event | EventRejected
    try:
        found = DECODER.decode(data, NOON)
    except EventRejected as error:
        found = error
    if isinstance(found, EventRejected):
        assert found.faults
        assert all(fault.reason in REASONS for fault in found.faults)
        assert all(fault.message in str(found) for fault in found.faults)
    else:
        assert us_to_text(found.time)
        assert set(found.keys) == {"card", "shop"}


@given(JSON_VALUES)
@settings(max_examples=200, derandomize=True)
def test_arbitrary_json_is_decoded_or_refused(value: Any) -> None:
    decoded_or_refused(json.dumps(value, allow_nan=True).encode())


@given(st.dictionaries(st.sampled_from([*payment(1), "discount", "note", "zone"]), JSON_VALUES))
@settings(max_examples=400, derandomize=True)
def test_mutated_event_is_decoded_or_refused(changes: dict[str, Any]) -> None:
    decoded_or_refused(json.dumps(payment(1) | changes).encode())


@given(st.integers(0, 120), st.binary(max_size=3), st.integers(0, 5))
@settings(max_examples=300, derandomize=True)
def test_damaged_bytes_are_decoded_or_refused(place: int, put: bytes, cut: int) -> None:
    data = encoded(payment(1))
    decoded_or_refused(data[:place] + put + data[place + cut :])


@given(st.integers(0, 4 * 10**15))
@settings(max_examples=100, derandomize=True)
def test_times_survive_text_and_back(us: int) -> None:
    at = datetime.fromisoformat(us_to_text(us))
    assert iso(us) == at.isoformat()
    assert us_to_text(us).endswith("Z")


@pytest.mark.parametrize("digits", [19, 20, 400, 3_000, 5_000])
@pytest.mark.parametrize("field", ["payment_id", "card_id"])
def test_an_integer_id_that_no_store_could_hold_is_refused(field: str, digits: int) -> None:
    data = encoded(payment(1) | {field: "long"}).replace(b'"long"', b"9" * digits)
    with pytest.raises(EventRejected) as refused:
        DECODER.decode(data, NOON)
    assert refused.value.faults[0].reason in {"out_of_bounds", "not_json", "wrong_type"}
    assert len(refused.value.faults[0].message) < 300


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(
    time=st.datetimes(),
    zone=st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
@settings(max_examples=100, derandomize=True)
def test_every_microsecond_of_a_time_counts(time: datetime, zone: timezone) -> None:
    us = time_to_us(time.replace(tzinfo=zone))
    assert us == (time.replace(tzinfo=zone) - EPOCH) // timedelta(microseconds=1)


@given(time=st.datetimes())
@settings(max_examples=100, derandomize=True)
def test_time_in_text_is_iso_8601_that_ends_in_z(time: datetime) -> None:
    us = time_to_us(time.replace(tzinfo=UTC))
    assert us_to_text(us) == us_to_time(us).isoformat().replace("+00:00", "Z")


@given(event_id=st.text(min_size=1, max_size=256) | st.integers(-(2**63), 2**63 - 1))
@settings(max_examples=100, derandomize=True)
def test_digest_of_an_event_is_that_of_its_source_and_id(event_id: str | int) -> None:
    event = DECODER.decode(encoded({**payment(1), "payment_id": event_id}), NOON)
    assert event.digest == id_digest(event.source.name, str(event_id))
