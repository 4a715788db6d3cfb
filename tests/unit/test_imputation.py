"""Missing to value: the policies, and the cause that the record names."""

from __future__ import annotations

from dataclasses import replace
from math import isnan
from typing import TYPE_CHECKING, Any

import pytest

from headrace.definition import (
    AsNan,
    Constant,
    Feature,
    FirstOf,
    Last,
    LastKnown,
    Mean,
    MostFrequent,
    RunningMean,
    TrainingMean,
    TrainingMedian,
    View,
    days,
    hours,
)
from headrace.errors import BundleError
from headrace.feature_row import Assembler
from headrace.imputation import Absent, Cause, Imputed, Imputer, Statistic, fit_statistics, unfitted
from tests.fakes import (
    DAY,
    HOUR,
    INPUTS,
    MINUTE,
    NOON,
    SECOND,
    Lab,
    card,
    dispute,
    imputed_values,
    make_definition,
    payment,
    payments,
    record,
    risk,
    spending,
    spread,
    statistics_of,
    traffic,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.scores import ScoreRecord


def statistics(column: str, values: Sequence[float | None], **changes: Any) -> float | None:
    definition = make_definition(**changes)
    columns: dict[str, Sequence[float | None]] = {name: [1.0] for name in definition.columns}
    (found,) = fit_statistics(definition, columns | {column: values}, {})[column]
    return found.value


@pytest.mark.parametrize(
    ("policy", "expected"),
    [(TrainingMedian(), 2.0), (TrainingMean(), 4.0), (Constant(-1), -1.0)],
    ids=["median", "mean", "constant"],
)
def test_policy_of_a_column_is_fitted_on_its_present_values(policy: Any, expected: float) -> None:
    values = [None, 1.0, 9.0, 2.0, None]
    assert statistics("amount", values, imputation={"amount": policy}) == expected


def test_median_is_the_policy_where_none_is_named() -> None:
    assert statistics("amount", [1.0, 2.0, 9.0]) == 2.0


def test_policy_of_a_column_goes_before_that_of_its_view() -> None:
    name = "shop_risk_is_fraud_mean_1d"
    assert statistics(name, [1.0], imputation={"shop_risk": Constant(3)}) == 3.0
    both = {"shop_risk": Constant(3), name: Constant(4)}
    assert statistics(name, [1.0], imputation=both) == 4.0


def test_default_policy_can_be_chosen() -> None:
    assert statistics("amount", [1.0, 1.0, 4.0], default_imputation=TrainingMean()) == 2.0


def test_column_without_any_training_value_asks_for_a_constant() -> None:
    with pytest.raises(BundleError, match=r"'amount': the training data has no value.*Constant"):
        statistics("amount", [None, None])
    assert statistics("amount", [None], imputation={"amount": Constant(7)}) == 7.0


def test_column_without_a_statistic_is_named() -> None:
    definition = make_definition()
    known = statistics_of(definition)
    del known["discount"]
    with pytest.raises(BundleError, match=r"0 statistics for discount; expected 1, .*; train"):
        Imputer(definition, known)


def test_imputed_value_is_the_columns_own() -> None:
    definition = make_definition()
    imputer = Imputer(definition, statistics_of(definition))
    found = imputer.impute("card_count_1h", Absent(Cause.NO_EVENT, {}, None))
    assert found == Imputed(Cause.NO_EVENT, 1_000.0, "training_median")


# Causes in the score record


def causes(*events: tuple[dict[str, Any], int]) -> dict[str, Cause]:
    """Causes in the record of the last event, after all have come."""
    lab = Lab()
    for event, arrival in events:
        lab.stream.score([record(event, arrival)])
    found = lab.scores.get(str(events[-1][0]["payment_id"]))
    for name, each in found.imputed.items():
        assert found.features[name] == each.value == imputed_values(lab.bundle.definition)[name]
    return {name: each.cause for name, each in found.imputed.items()}


RISK = "shop_risk_is_fraud_mean_1d"
BEFORE = "card_before_amount_std_1d"


def test_feature_of_an_entity_that_was_never_seen() -> None:
    found = causes((payment(1), NOON))
    assert (found[RISK], found[BEFORE]) == (Cause.NEVER_SEEN, Cause.NEVER_SEEN)


def test_feature_of_a_window_that_holds_nothing() -> None:
    late = NOON + 2 * DAY
    found = causes((payment(1), NOON), (dispute(1), NOON), (payment(2, late), late))
    assert (found[RISK], found[BEFORE]) == (Cause.WINDOW_EMPTY, Cause.WINDOW_EMPTY)


def test_windows_with_a_value_are_not_imputed() -> None:
    found = causes((payment(1), NOON), (dispute(1), NOON), (payment(2), NOON))
    assert set(found) == {"discount"}


def test_field_that_did_not_come_in_the_event() -> None:
    found = causes((payment(1, NOON - HOUR), NOON), (payment(2, amount=None), NOON))
    assert (found["amount"], found["discount"]) == (Cause.NOT_IN_EVENT, Cause.NOT_IN_EVENT)


@pytest.mark.parametrize("amounts", [(None,), (0.0,)], ids=["absent", "division-by-zero"])
def test_request_feature_that_lacks_what_it_needs(amounts: tuple[float | None]) -> None:
    assert causes((payment(1, amount=amounts[0]), NOON))["amount_to_mean"] is Cause.NOT_COMPUTABLE


def test_request_features_see_absent_values_and_not_imputed_ones() -> None:
    found = causes((payment(1, amount=None), NOON))
    assert found["amount_to_mean"] is Cause.NOT_COMPUTABLE


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), "much", KeyError, ZeroDivisionError, TypeError, OverflowError],
    ids=repr,
)
def test_request_feature_that_gives_no_number_is_absent(value: Any) -> None:
    def odd(event: Any, features: Any) -> Any:
        if isinstance(value, type):
            raise value
        return value

    definition = make_definition(request_features=[odd], inputs=["amount", "odd"], imputation={})
    lab = Lab(definition)
    lab.stream.score([record(payment(1), NOON + SECOND)])
    assert lab.scores.get("1").imputed["odd"].cause is Cause.NOT_COMPUTABLE


def test_counts_of_nothing_are_zero_and_not_imputed() -> None:
    lab = Lab()
    late = payment(1, NOON - 3 * HOUR)
    lab.stream.score([record(payment(0), NOON), record(late, NOON, 1)])
    assert "card_count_1h" not in lab.scores.get("1").imputed


def test_features_of_a_late_event_that_find_nothing_say_that_it_is_late() -> None:
    found = causes((payment(1), NOON), (payment(2, NOON - 3 * HOUR), NOON))
    assert (found[RISK], found[BEFORE]) == (Cause.LATE, Cause.LATE)


def grown(before: View, after: View, gap: int) -> ScoreRecord:
    """The record of a payment ``gap`` later, when a window was widened after the first payments."""
    lab = Lab(make_definition(views=[spending, spread, before, risk]))
    for number, at in enumerate((NOON, NOON + MINUTE, NOON + 10 * DAY)):
        lab.stream.score([record(payment(number, at, amount=30), at)])
    wider = make_definition(views=[spending, spread, after, risk], inputs=["amount", "discount"])
    now = Lab(wider, states=lab.states)
    now.stream.score([record(payment(9, NOON + gap), NOON + gap)])
    found: ScoreRecord = now.scores.get("9")
    return found


def test_window_that_has_grown_over_what_was_kept_is_absent_and_not_wrong() -> None:
    after = replace(traffic, windows=[days(1), days(40)])
    found = grown(traffic, after, 10 * DAY + HOUR)
    assert found.features["shop_count_1d"] == 2.0  # of the last day, all is there
    assert found.imputed["shop_count_40d"].cause is Cause.NOT_KEPT
    assert found.imputed["shop_amount_sum_40d"].cause is Cause.NOT_KEPT


def test_window_that_has_grown_counts_again_once_all_of_it_was_kept() -> None:
    after = replace(traffic, windows=[days(1), days(3)])
    found = grown(traffic, after, 12 * DAY)
    assert (found.features["shop_count_3d"], found.features["shop_count_1d"]) == (2.0, 1.0)


def test_event_so_late_that_its_windows_are_gone_has_no_counts_of_what_is_left() -> None:
    lab = Lab()
    lab.stream.score(
        [record(payment(n, NOON + n * HOUR), NOON + n * HOUR, n) for n in (0, 1, 60, 61)]
    )
    now = NOON + 61 * HOUR
    lab.stream.score([record(payment(9, NOON + 2 * HOUR), now)])
    found = lab.scores.get("9")
    assert found.late
    assert found.imputed["card_count_1d"].cause is Cause.LATE
    assert found.features["card_count_1h"] == 1.0  # nothing of that hour has left


# Policies, each as the stream applies it


def scored_last(policy: Any, events: Sequence[dict[str, Any]], **changes: Any) -> ScoreRecord:
    """The record of the last event, under a policy for ``amount``, an event a minute."""
    definition = make_definition(
        imputation={"discount": Constant(0.0), "amount": policy, "shop_risk": Constant(0.25)},
        views=[spending, spread, traffic, risk, known],
        **changes,
    )
    lab = Lab(definition)
    fitted = statistics_of(definition) | unfitted(definition)
    if isinstance(policy, TrainingMedian):
        fitted["amount"] = [Statistic(50.0, {"web": 5.0, "7": 7.0, "1": 1.0})]
    lab.scorer.assembler = Assembler(definition, lab.scorer.codec, Imputer(definition, fitted))
    for number, event in enumerate(events):
        lab.stream.score([record(event, NOON + number * MINUTE)])
    found: ScoreRecord = lab.scores.get(str(events[-1]["payment_id"]))
    return found


known = View(
    name="known", entity=card, source=payments, aggregates=[Last("amount"), Mean("amount")],
    windows=[hours(1), days(7)],
)  # fmt: skip
GAP = payment(3, NOON + 2 * MINUTE, amount=None, channel="web", card_id=1, shop_id=7)
TWO = [payment(1, amount=30), payment(2, NOON + MINUTE, amount=40)]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (LastKnown(card, hours(1)), (40.0, "last_known")),
        (RunningMean(card, days(7)), (35.0, "running_mean")),
        (Feature("shop_amount_sum_1d"), (99.0, "constant")),
        (Feature("card_amount_max_1d"), (40.0, "feature")),
    ],
    ids=["last-known", "running-mean", "feature-without-a-value", "feature"],
)
def test_value_of_the_entity_stands_in(policy: Any, expected: tuple[float, str]) -> None:
    found = scored_last(FirstOf([policy, Constant(99.0)]), [*TWO, GAP]).imputed["amount"]
    assert found == Imputed(Cause.NOT_IN_EVENT, *expected)


def test_last_known_value_has_an_age_limit() -> None:
    old = [payment(1, NOON - 61 * MINUTE, amount=30)]
    policy = FirstOf([LastKnown(card, hours(1)), LastKnown(card, days(7)), Constant(3)])
    found = scored_last(policy, [*old, payment(2, NOON + MINUTE, amount=None)]).imputed["amount"]
    assert (found.value, found.policy) == (30.0, "last_known")
    policy = FirstOf([LastKnown(card, hours(1)), Constant(3)])
    found = scored_last(policy, [*old, payment(2, NOON + MINUTE, amount=None)]).imputed["amount"]
    assert (found.value, found.policy) == (3.0, "constant")


@pytest.mark.parametrize(
    ("by", "event", "expected"),
    [
        ("channel", GAP, 5.0),
        ("channel", GAP | {"channel": "till"}, 50.0),
        ("channel", GAP | {"channel": None}, 50.0),
        ("shop_id", GAP, 7.0),
        ("shop_id", GAP | {"shop_id": "7"}, 7.0),
        ("contactless", GAP | {"contactless": True}, 1.0),
        ("contactless", GAP | {"contactless": 1}, 1.0),
        ("contactless", GAP | {"contactless": False}, 50.0),
    ],
)
def test_statistic_of_the_events_group_goes_before_that_of_all(
    by: str, event: dict[str, Any], expected: float
) -> None:
    found = scored_last(TrainingMedian(by=by), [event]).imputed["amount"]
    assert (found.value, found.policy) == (expected, "training_median")


def test_model_gets_nan_where_the_value_is_left_absent() -> None:
    found = scored_last(AsNan(), [GAP])
    assert (found.features["amount"], found.imputed["amount"].value) == (None, None)
    assert isnan(found.score)


def test_indicator_says_what_was_absent() -> None:
    inputs = [*INPUTS, "amount_is_missing", f"{BEFORE}_is_missing"]
    found = scored_last(TrainingMean(), [*TWO, GAP], inputs=inputs)
    assert found.features["amount_is_missing"] == 1.0
    assert found.features[f"{BEFORE}_is_missing"] == 0.0
    whole = scored_last(TrainingMean(), TWO, inputs=inputs)
    assert whole.features["amount_is_missing"] == 0.0


# Statistics


GROUPED = [(10.0, "a"), (20.0, "a"), (90.0, "a"), (5.0, "b"), (None, "b"), (7.0, None)]


@pytest.mark.parametrize(
    ("policy", "value", "groups"),
    [
        (TrainingMedian(by="channel", least=3), 10.0, {"a": 20.0}),
        (TrainingMean(by="channel", least=3), 26.4, {"a": 40.0}),
        (TrainingMedian(by="channel", least=1), 10.0, {"a": 20.0, "b": 5.0}),
        (MostFrequent(by="channel", least=1), 5.0, {"a": 10.0, "b": 5.0}),
    ],
)
def test_groups_with_enough_rows_have_a_statistic_of_their_own(
    policy: Any, value: float, groups: dict[str, float]
) -> None:
    definition = make_definition(imputation={"amount": policy})
    columns: dict[str, Sequence[float | None]] = {
        name: [1.0] * len(GROUPED) for name in definition.columns
    }
    columns["amount"] = [amount for amount, _ in GROUPED]
    keys = {"channel": [key for _, key in GROUPED]}
    assert fit_statistics(definition, columns, keys)["amount"] == [Statistic(value, groups)]


def test_most_frequent_value_is_the_smallest_of_equally_common_ones() -> None:
    values = [3.0, 1.0, 3.0, 1.0, 2.0, None]
    assert statistics("amount", values, imputation={"amount": MostFrequent()}) == 1.0


def test_each_policy_of_a_chain_has_its_own_statistic() -> None:
    chain = FirstOf([Feature("card_amount_max_1d"), TrainingMean()])
    definition = make_definition(imputation={"amount": chain})
    columns: dict[str, Sequence[float | None]] = {n: [1.0, 2.0] for n in definition.columns}
    assert fit_statistics(definition, columns, {})["amount"] == [Statistic(), Statistic(1.5)]
