"""Missing to value: the policies, and the cause that the record names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headrace.definition import Constant, TrainingMean, TrainingMedian
from headrace.errors import BundleError
from headrace.imputation import Cause, Imputed, Imputer, fit_statistics
from tests.fakes import (
    DAY,
    HOUR,
    NOON,
    SECOND,
    Lab,
    dispute,
    imputed_values,
    make_definition,
    payment,
    record,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


def statistics(column: str, values: Sequence[float | None], **changes: Any) -> float:
    definition = make_definition(**changes)
    columns: dict[str, Sequence[float | None]] = {name: [1.0] for name in definition.columns}
    return fit_statistics(definition, columns | {column: values})[column]


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
    known = imputed_values(definition)
    del known["amount"], known["discount"]
    with pytest.raises(BundleError, match="no statistic for amount, discount; train"):
        Imputer(definition, known)


def test_imputed_value_is_the_columns_own() -> None:
    definition = make_definition()
    imputer = Imputer(definition, imputed_values(definition))
    found = imputer.impute("card_count_1h", Cause.NO_EVENT)
    assert found == Imputed(Cause.NO_EVENT, 1_000.0)


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
