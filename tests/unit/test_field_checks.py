"""What becomes of a value that breaks its field's type or bounds, and of broken rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.definition import Definition, Flag, Number, Rule, Text
from headrace.errors import EventRejected
from headrace.events import Event, EventDecoder
from headrace.imputation import Cause
from tests.fakes import (
    NOON,
    Lab,
    disputes,
    encoded,
    make_definition,
    payment,
    payments,
    record,
    risk,
    spending,
    spread,
    traffic,
)


def definition_with(**changes: Any) -> Definition:
    """The small definition after a change of its scored source."""
    source = replace(payments, **changes)
    views = [replace(view, source=source) for view in (spending, spread, traffic)]
    return make_definition(sources=[source, disputes], scored=source, views=[*views, risk])


def with_fields(**fields: Any) -> Definition:
    return definition_with(fields={**payments.fields, **fields})


def decode(definition: Definition, event: dict[str, Any]) -> Event:
    return EventDecoder(definition).decode(encoded(event), NOON)


LENIENT = with_fields(
    amount=Number(at_least=0, at_most=1_000, if_invalid="missing"),
    discount=Number(at_least=0, at_most=1, if_invalid="accept"),
    channel=Text(one_of=("web", "till"), if_invalid="accept"),
    contactless=Flag(if_invalid="missing"),
)


@pytest.mark.parametrize("value", [-1, 1_000.5, "12", True, [], {"a": 1}, 10**200])
def test_invalid_value_is_missing_where_its_field_says_so(value: Any) -> None:
    event = decode(LENIENT, payment(1, amount=value))
    assert (event.fields.amount, event.invalid, event.accepted) == (None, ("amount",), ())


@pytest.mark.parametrize("value", [0, 1_000, 0.5, None])
def test_valid_or_absent_value_is_not_invalid(value: Any) -> None:
    event = decode(LENIENT, payment(1, amount=value))
    assert (event.fields.amount, event.invalid) == (value, ())


@pytest.mark.parametrize(("field", "value"), [("discount", 1.5), ("channel", "mail")])
def test_value_out_of_bounds_is_taken_as_it_came_where_its_field_says_so(
    field: str, value: Any
) -> None:
    event = decode(LENIENT, payment(1, **{field: value}))
    assert (getattr(event.fields, field), event.invalid, event.accepted) == (value, (), (field,))


@pytest.mark.parametrize(("field", "value"), [("discount", "much"), ("channel", 3)])
def test_value_of_a_wrong_type_cannot_be_accepted_and_is_missing(field: str, value: Any) -> None:
    event = decode(LENIENT, payment(1, **{field: value}))
    assert (getattr(event.fields, field), event.invalid, event.accepted) == (None, (field,), ())


def test_number_too_large_to_sum_is_missing_though_its_field_accepts() -> None:
    event = decode(LENIENT, payment(1, discount=1e200))
    assert (event.fields.discount, event.invalid) == (None, ("discount",))


def test_other_fields_of_the_event_still_refuse_it() -> None:
    with pytest.raises(EventRejected) as refused:
        decode(LENIENT, payment(1, amount=-1, note="x" * 11))
    assert [fault.field for fault in refused.value.faults] == ["note"]


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_number_that_comes_as_text_is_the_number(value: float) -> None:
    definition = with_fields(amount=Number(from_text=True))
    event = decode(definition, payment(1, amount=repr(value)))
    assert (event.fields.amount, event.invalid) == (value, ())


@pytest.mark.parametrize(
    "text", ["", " 1", "1 ", "1,5", "0x10", "1_000", "nan", "inf", "ten", "1."]
)
def test_text_that_is_no_number_is_of_a_wrong_type(text: str) -> None:
    with pytest.raises(EventRejected) as refused:
        decode(with_fields(amount=Number(from_text=True)), payment(1, amount=text))
    (fault,) = refused.value.faults
    assert (fault.reason, fault.field) == ("wrong_type", "amount")
    assert "a number, or text that is one" in fault.message


def test_text_is_no_number_unless_the_field_says_so() -> None:
    with pytest.raises(EventRejected):
        decode(make_definition(), payment(1, amount="12"))


def test_number_that_comes_as_text_keeps_its_bounds() -> None:
    definition = with_fields(amount=Number(at_most=10, from_text=True))
    with pytest.raises(EventRejected) as refused:
        decode(definition, payment(1, amount="11"))
    assert refused.value.faults[0].reason == "out_of_bounds"


# Rules between fields


def discount_needs_web(event: Any) -> bool:
    return not (event.discount > 0 and event.channel != "web")


def ruled(**changes: Any) -> Definition:
    return definition_with(rules=[Rule(discount_needs_web, **changes)])


BROKEN = payment(1, discount=0.5, channel="till")


def test_event_that_breaks_a_rule_is_refused_by_its_name() -> None:
    with pytest.raises(EventRejected) as refused:
        decode(ruled(), BROKEN)
    (fault,) = refused.value.faults
    assert (fault.reason, fault.field) == ("broken_rule", "discount_needs_web")
    assert "event '1': breaks the rule discount_needs_web; expected" in fault.message


def test_fields_of_a_broken_rule_are_missing_where_it_says_so() -> None:
    event = decode(ruled(if_broken="missing", fields=("discount", "channel")), BROKEN)
    assert (event.fields.discount, event.fields.channel) == (None, None)
    assert event.invalid == ("discount", "channel")
    assert event.fields.amount == 10.0


def test_broken_rule_is_noted_and_nothing_changed_where_it_accepts() -> None:
    event = decode(ruled(if_broken="accept"), BROKEN)
    assert (event.fields.discount, event.accepted) == (0.5, ("discount_needs_web",))


@pytest.mark.parametrize("event", [payment(1), payment(1, discount=0.5, channel="web")])
def test_rule_that_holds_or_lacks_what_it_needs_does_nothing(event: dict[str, Any]) -> None:
    found = decode(ruled(), event)
    assert (found.invalid, found.accepted) == ((), ())


def test_rule_applies_where_another_field_had_to_be_looked_at_too() -> None:
    definition = definition_with(
        rules=[Rule(discount_needs_web, "missing", ("discount",))],
        fields={**payments.fields, "amount": Number(at_least=0, if_invalid="missing")},
    )
    event = decode(definition, BROKEN | {"amount": -1, "extra": 3})
    assert (event.invalid, event.unknown) == (("amount", "discount"), ("extra",))


# On the way through a batch


def test_event_with_an_invalid_value_is_scored_folded_and_counted_by_field() -> None:
    lab = Lab(LENIENT)
    outcome = lab.stream.score(
        [
            record(payment(1, amount=100), NOON),
            record(payment(2, amount=-5), NOON, 1),
            record(payment(3, discount=7), NOON, 2),
        ]
    )
    assert (outcome.scored, outcome.folded, outcome.quarantined) == (3, 3, {})
    assert (outcome.invalid, outcome.accepted) == ({"amount": 1}, {"discount": 1})
    second = lab.scores.get("2")
    assert second.imputed["amount"].cause is Cause.INVALID
    assert second.features["card_count_1h"] == 2.0
    assert second.features["card_amount_mean_1h"] == 100.0
    assert lab.scores.get("3").features["discount"] == 7.0
