"""Loading a definition: every mistake with its place and mend, and a hash of the meaning."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from math import nan
from pathlib import Path
from typing import Any

import pytest

from headrace import loading
from headrace.definition import (
    LIFETIME,
    AsNan,
    Constant,
    Count,
    Entity,
    Feature,
    FirstOf,
    Flag,
    Label,
    LastKnown,
    LastN,
    Mean,
    Number,
    Required,
    Rule,
    RunningMean,
    Source,
    Text,
    TimeSinceLast,
    TrainingMean,
    TrainingMedian,
    View,
    days,
    hours,
    minutes,
)
from headrace.errors import DefinitionError
from headrace.loading import checked, definition_hash, load_definition
from tests.fakes import (
    card,
    disputes,
    make_definition,
    payments,
    risk,
    shop,
    spending,
    spread,
    traffic,
)

LIBRARY = Path(loading.__file__).parents[1]


def mistakes_of(**changes: Any) -> tuple[str, ...]:
    with pytest.raises(DefinitionError) as caught:
        make_definition(**changes)
    return caught.value.mistakes


def with_source(**changes: Any) -> dict[str, Any]:
    """The definition's attributes after a change of its scored source."""
    source = replace(payments, **changes)
    views = [replace(view, source=source) for view in (spending, spread, traffic)]
    return {"sources": [source, disputes], "scored": source, "views": [*views, risk]}


def with_view(**changes: Any) -> dict[str, Any]:
    """The definition's attributes after a change of the shop's view."""
    return {"views": [spending, spread, replace(traffic, **changes), risk]}


def one(event: Any) -> bool:
    return True


def misspells_a_feature(event: Any, features: Any) -> Any:
    return event.amount / features["card_amount_meen_1d"]


def gets_a_feature_of_none(event: Any, features: Any) -> Any:
    return features.get("nothing_like_it", 0)


def misspells_a_field(event: Any, features: Any) -> Any:
    return event.amuont


def is_small(event: Any) -> Any:
    return event.amonut < 3


def takes_another_event(event: Any, features: Any) -> Any:
    event = event.amount
    return event.real


def two_of_me(event: Any, features: Any) -> int:
    return 1


def amount(event: Any, features: Any) -> int:
    return 1


def policy(of_amount: Any) -> dict[str, Any]:
    """The definition's attributes with another policy for ``amount``."""
    return {"imputation": {"amount": of_amount}}


CASES: list[tuple[str, dict[str, Any], str]] = [
    ("source-name", with_source(name="Pay"), "source 'Pay': expected lower case letters"),
    ("field-name", with_source(fields={**payments.fields, "2nd": Flag()}), "field '2nd'; expected"),
    ("two-roles", with_source(time="payment_id"), "'payment_id' has 2 roles; give each role"),
    ("source-field", with_source(fields={**payments.fields, "source": Text()}),
     "'source' has 2 roles"),
    ("no-entity", with_source(entities={"card_id": "card", "shop_id": shop}),
     "entities['card_id'] is 'card'; expected Entity("),
    ("entity-name", with_source(entities={"card_id": card, "shop_id": shop, "x": Entity("A b")}),
     "entities['x'] is Entity(name='A b'); expected"),
    ("entity-twice", with_source(entities={"card_id": card, "shop_id": shop, "other": card}),
     "2 fields hold a 'card'; declare an entity for each role"),
    ("field-kind", with_source(fields={**payments.fields, "x": float}),
     "field 'x' is <class 'float'>; expected Number(...), Flag() or Text(...)"),
    ("bounds", with_source(fields={**payments.fields, "x": Number(at_least=2, at_most=1)}),
     "field 'x': at_least 2 is above at_most 1; swap them"),
    ("text-length", with_source(fields={**payments.fields, "x": Text(max_length=0)}),
     "field 'x': max_length is 0; expected 1 or more"),
    ("lateness", with_source(lateness=days(400)), "lateness is 400 days, 0:00:00; expected 0 to"),
    ("revised-by", with_source(revised_by="channel"),
     "revised_by is 'channel'; expected one of its Number fields"),
    ("revised-score", with_source(revised_by="amount"),
     "scored: its source has revised_by; the first score of an event stays"),
    ("revised-where", {**with_source(revised_by="amount"),
                       "views": [replace(spending, source=replace(payments, revised_by="amount"),
                                         where=bool)]},
     "where on a source with revised_by; a revised event could not leave it"),
    ("ahead", with_source(ahead=minutes(-1)), "ahead is -1 day, 23:59:00; expected 0 or more"),
    ("naive-limit", with_source(not_before=datetime(2000, 1, 1)),  # noqa: DTZ001 - the mistake
     "not_before is 2000-01-01 00:00:00; expected an aware time"),
    ("sources-twice", {"sources": [payments, disputes, payments]},
     "sources: 'payments' is there 2 times; names must be unique"),
    ("views-twice", {"views": [spending, spread, traffic, risk, replace(risk, prefix="again")]},
     "views: 'shop_risk' is there 2 times"),
    ("features-twice", {"views": [spending, spread, traffic, risk,
                                  replace(traffic, name="other", prefix="shop")]},
     "features: 'shop_count_1d' is there 2 times"),
    ("request-feature-twice", {"request_features": [two_of_me, two_of_me], "inputs": ["amount"],
                               "imputation": {}},
     "features: 'two_of_me' is there 2 times"),
    ("scored", {"sources": [disputes]}, "scored: 'payments' is not among sources; add it there"),
    ("view-name", with_view(name="Shop"), "view 'Shop': expected lower case letters"),
    ("view-source", with_view(source=replace(payments, name="others")),
     "view 'shop': source 'others' is not among sources; add it there"),
    ("view-entity", with_view(entity=Entity("person")),
     "view 'shop': 'payments' has no 'person'; it has card, shop"),
    ("no-aggregate", with_view(aggregates=[]), "view 'shop': expected at least one aggregate"),
    ("no-window", with_view(windows=[]), "view 'shop': expected at least one aggregate and one"),
    ("not-an-aggregate", with_view(aggregates=[Count(), sum]),
     "is no aggregate; expected Count(), Mean('field') and so on"),
    ("aggregate-class", with_view(aggregates=[Count(), Mean]), "is no aggregate; expected Count()"),
    ("time-since", with_view(aggregates=[TimeSinceLast()]),
     "TimeSinceLast would always be 0; set include_current=False"),
    ("last-n", with_view(aggregates=[LastN("amount", 101)]), "LastN n is 101; expected 1 to 100"),
    ("unknown-field", with_view(aggregates=[Mean("amuont")]),
     "'payments' has no field 'amuont'; it has amount, discount"),
    ("text-mean", with_view(aggregates=[Mean("note")]),
     "mean of text 'note'; expected a Number or Flag"),
    ("short-window", with_view(windows=[timedelta(milliseconds=10)]),
     "window 0:00:00.010000; expected at least one second"),
    ("number-window", with_view(windows=[7]), "view 'shop': window 7; expected"),
    ("text-window", with_view(windows=["7d"]), "view 'shop': window '7d'; expected"),
    ("hop-divides", with_view(hop=hours(7)), "window 1d is no multiple of hop 7h; choose a hop"),
    ("short-hop", with_view(hop=timedelta(milliseconds=10)), "hop is 0:00:00.010000; expected at"),
    ("many-tiles", with_view(hop=timedelta(seconds=1)), "expected at most 2,000: choose a longer"),
    ("negative-delay", with_view(delay=days(-1)), "delay is -1 day, 0:00:00; expected 0 or more"),
    ("delay-excludes", with_view(delay=days(1), include_current=False),
     "a delayed window never holds the current event; drop include_current"),
    ("where", with_view(where="amount > 1"), "where is 'amount > 1'; expected a function"),
    ("head", with_view(head=0), "head is 0; expected 1 to 4,096 events"),
    ("large-head", with_view(head=50_000), "head is 50000; expected 1 to 4,096 events"),
    ("one-of", with_source(fields={**payments.fields, "x": Text(one_of=["a"])}),  # type: ignore[arg-type]
     "one_of is ['a']; expected a tuple of texts"),
    ("nothing-typed", {"imputation": None}, "imputation is None; expected a dict of feature"),
    ("fields-in-a-tuple", {"scored": replace(payments, name="x", fields=({"amount": Number()},))},  # type: ignore[arg-type]
     "source 'x': fields is ({'amount'"),
    ("no-inputs", {"inputs": []}, "inputs: empty; expected the names of the model's inputs"),
    ("unknown-input", {"inputs": ["amuont"]}, "'amuont' is unknown; did you mean 'amount'?"),
    ("text-input", {"inputs": ["note"]}, "inputs: 'note' is text, and a model takes numbers"),
    ("input-twice", {"inputs": ["amount", "amount"]}, "inputs: 'amount' is there 2 times"),
    ("feature-name", {"request_features": [misspells_a_feature], "inputs": ["amount"]},
     "features['card_amount_meen_1d'] is unknown; did you mean 'card_amount_mean_1d'?"),
    ("feature-get", {"request_features": [gets_a_feature_of_none], "inputs": ["amount"]},
     "features['nothing_like_it'] is unknown; expected one of card_"),
    ("field-name-used", {"request_features": [misspells_a_field], "inputs": ["amount"]},
     "event.amuont, but 'payments' has no such field; did you mean 'amount'?"),
    ("field-name-filter", with_view(where=is_small),
     "where: event.amonut, but 'payments' has no such field; did you mean 'amount'?"),
    ("field-name-rule", with_source(rules=[Rule(is_small)]),
     "rule 'is_small': event.amonut, but 'payments' has no such field"),
    ("source-kind", {"sources": [payments, disputes, "x"]}, "sources: 'x'; expected Source(...)"),
    ("view-kind", {"views": [spending, "x"]}, "views: 'x'; expected View(...)"),
    ("function-kind", {"request_features": ["x"]}, "request_features: 'x'; expected a named"),
    ("id-kind", with_source(id=3), "source 'payments': id is 3; expected the name of a field"),
    ("bound-kind", with_source(fields={**payments.fields, "x": Number(at_least="a")}),  # type: ignore[arg-type]
     "field 'x': bounds 'a' and None; expected finite numbers or None"),
    ("lambda", {"request_features": [lambda event, features: 1]},
     "expected a named function of (event, features)"),
    ("one-parameter", {"request_features": [one]},
     "request feature 'one': expected two parameters, event, features"),
    ("field-function", {"request_features": [amount]},
     "request feature 'amount': is a field's name too; rename it"),
    ("no-policy", {"imputation": {"amount": 0.0}},
     "imputation of 'amount': 0.0; expected Constant(x), TrainingMean()"),
    ("default-policy", {"default_imputation": "median"},
     "default_imputation: 'median'; expected Constant(x)"),
    ("imputed-name", {"imputation": {"amuont": Constant(0)}},
     "imputation: 'amuont' is neither feature, input, view nor table; mend the name"),
    ("text-imputed", {"imputation": {"channel": Constant(0)}}, "'channel' is text, which is no"),
    ("unused-imputed", {"inputs": ["discount"], "imputation": {"amount": Constant(0)}},
     "'amount' is a field, but no input; add it to inputs"),
    ("indicator-imputed", {"inputs": ["amount", "amount_is_missing"],
                           "imputation": {"amount_is_missing": Constant(0)}},
     "'amount_is_missing' is an indicator, which is never absent"),
    ("policy-class", {"imputation": {"amount": TrainingMedian}}, "expected TrainingMedian(...)"),
    ("policies-in-no-list", policy(FirstOf(Constant(1))),  # type: ignore[arg-type]
     "expected FirstOf([...]), with a list of policies"),
    ("policy-of-a-name", policy(FirstOf([LastKnown("card", days(1)), Constant(1)])),  # type: ignore[arg-type]
     "expected an Entity and a duration, such as days(7)"),
    ("policy-of-days", policy(FirstOf([RunningMean(card, 7), Constant(1)])),  # type: ignore[arg-type]
     "expected an Entity and a duration, such as days(7)"),
    ("known-by-default", {"default_imputation": FirstOf([LastKnown(card, days(1)), AsNan()])},
     "default_imputation: LastKnown is of a field of the event; name it for fields, one by one"),
    ("known-of-a-view", {"imputation": {"card": FirstOf([RunningMean(card, days(1)), AsNan()])}},
     "imputation of 'card': RunningMean is of a field of the event"),
    ("number-in-one-of", with_source(fields={**payments.fields, "x": Text(one_of=(1, 2))}),  # type: ignore[arg-type]
     "one_of is (1, 2); expected texts only"),
    ("text-bound", with_source(fields={**payments.fields, "x": Number(at_least="0")}),  # type: ignore[arg-type]
     "bounds '0' and None; expected finite numbers or None"),
    ("rule-field-in-no-tuple", with_source(rules=[Rule(one, "missing", "amount")]),  # type: ignore[arg-type]
     "fields is 'amount'; expected a tuple of names"),
    ("nan-constant", {"imputation": {"amount": Constant(nan)}}, "imputation of 'amount'"),
    ("batch-entity", {"batch_entity": Entity("person")},
     "batch_entity: 'person'; expected one of card, shop"),
    ("label", {"label": Label(disputes, "fraud")},
     "label: 'fraud' of 'disputes'; expected the name of a Flag field"),
    ("fresh-for", {"fresh_for": days(0)}, "fresh_for: 0:00:00; expected more than 0"),
    ("valid-for", {"batch_valid_for": days(-1)}, "batch_valid_for: -1 day, 0:00:00; expected more"),
    ("bare-source", {"sources": payments}, "sources is Source("),
    ("bare-window", with_view(windows=days(1)), "view 'shop': windows is "),
    ("bare-aggregate", with_view(aggregates=Count()), "view 'shop': aggregates is Count(); "),
    ("number-delay", with_view(delay=7), "view 'shop': delay is 7; "),
    ("number-hop", with_view(hop=60), "view 'shop': hop is 60; "),
    ("text-entity", with_view(entity="shop"), "view 'shop': entity is 'shop'; "),
    ("number-lateness", with_source(lateness=3600), "source 'payments': lateness is 3600; "),
    ("text-batch-entity", {"batch_entity": "card"}, "batch_entity is 'card'; "),
    ("text-label", {"label": "is_fraud"}, "label is 'is_fraud'; "),
    ("number-fresh-for", {"fresh_for": 3}, "fresh_for is 3; "),
    ("outcome", with_source(fields={**payments.fields, "x": Number(if_invalid="drop")}),
     "field 'x': if_invalid is 'drop'; expected one of quarantine, missing, accept"),
    ("required-missing",
     with_source(fields={**payments.fields, "x": Flag(required=True, if_invalid="missing")}),
     "field 'x': required, so what is invalid cannot be missing; drop one of both"),
    ("nan-bound", with_source(fields={**payments.fields, "x": Number(at_most=nan)}),
     "field 'x': bounds None and nan; expected finite numbers or None"),
    ("no-rule", with_source(rules=[one]), "; expected Rule(function of the event)"),
    ("lambda-rule", with_source(rules=[Rule(lambda event: True)]), "expected a named function of"),
    ("rule-parameters", with_source(rules=[Rule(amount)]),  # type: ignore[arg-type]
     "rule 'amount': expected one parameter, the event"),
    ("rule-outcome", with_source(rules=[Rule(one, "drop")]),
     "rule 'one': if_broken is 'drop'; expected one of quarantine, missing, accept"),
    ("rule-fields", with_source(rules=[Rule(one, "missing")]),
     "rule 'one': fields are (); expected those that go missing by it"),
    ("rule-required", with_source(rules=[Rule(one, "missing", ("items",))]),
     "rule 'one': field 'items'; expected a field of the source that is not required"),
    ("rule-unknown", with_source(rules=[Rule(one, "missing", ("amuont",))]), "field 'amuont'; exp"),
    ("rules", with_source(rules=Rule(one)), "source 'payments': rules is Rule("),
    ("indicator-name", with_source(fields={**payments.fields, "x_is_missing": Flag()}),
     "'x_is_missing': ends in _is_missing, as inputs do that say what is absent; rename it"),
    ("indicator", {"inputs": ["amuont_is_missing"]}, "inputs: 'amuont_is_missing' is unknown"),
    ("empty-chain", policy(FirstOf([])), "expected FirstOf([...]) of single policies"),
    ("nested-chain", policy(FirstOf([FirstOf([AsNan()])])), "FirstOf([...]) of single policies"),
    ("open-chain", policy(FirstOf([Feature("card_count_1d")])), "may find nothing; put it into Fi"),
    ("bare-feature", policy(Feature("card_count_1d")), "may find nothing; put it into FirstOf"),
    ("closed-chain", policy(FirstOf([Required(), AsNan()])), "nothing after it in FirstOf is ever"),
    ("strange-chain", policy(FirstOf([17, AsNan()])), "17; expected Constant(x)"),  # type: ignore[list-item]
    ("own-feature", {"imputation": {"card_count_1d": FirstOf([Feature("card_count_1d"), AsNan()])}},
     "is the column itself; expected another feature"),
    ("no-feature", policy(FirstOf([Feature("note"), AsNan()])), "is no windowed feature of the"),
    ("no-last", policy(FirstOf([LastKnown(card, days(3)), AsNan()])),
     "expected a view of 'card' over 'payments' without delay and filter, with Last('amount') and "
     "the window 3d: add it"),
    ("no-mean", policy(FirstOf([RunningMean(shop, days(1)), AsNan()])), "with Mean('amount') and"),
    ("number-group", policy(TrainingMedian(by="items")),
     "by is 'items'; expected a Text, Flag or entity field: channel, note, contactless, card_id"),
    ("no-group", policy(TrainingMean(by="note", least=0)), "least is 0; expected 1 or more rows"),
    ("freshness", {"freshness": {card: days(0)}},
     "freshness of 'card': datetime.timedelta(0); expected a duration of more than 0"),
    ("freshness-entity", {"freshness": {Entity("person"): days(1)}},
     "freshness: Entity(name='person') is no entity of the scored source; mend it"),
    ("if-not-compiled", {"if_not_compiled": "hope"},
     "if_not_compiled: 'hope'; expected 'refuse' or 'scikit-learn'"),
    ("if-not-compiled-type", {"if_not_compiled": None}, "if_not_compiled is None; expected 'ref"),
    ("freshness-list", {"freshness": [card]}, "freshness is [Entity(name='card')]; expected"),
    ("text-constant", {"imputation": {"amount": Constant("x")}}, "imputation of 'amount'"),  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "fragment"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_mistake_is_found_with_its_place_and_mend(changes: dict[str, Any], fragment: str) -> None:
    assert any(fragment in mistake for mistake in mistakes_of(**changes)), mistakes_of(**changes)


def test_all_mistakes_are_found_at_once() -> None:
    found = mistakes_of(
        inputs=["amuont"], fresh_for=days(0), batch_entity=Entity("person"), **with_view(head=0)
    )
    assert [mistake.split(":")[0] for mistake in found if "imputation" not in mistake] == [
        "view 'shop'", "inputs", "batch_entity", "fresh_for",
    ]  # fmt: skip


def test_definition_without_mistakes_is_returned_as_it_is() -> None:
    definition = make_definition()
    assert checked(definition) is definition


@pytest.mark.parametrize("window", [LIFETIME, hours(1), days(30)])
def test_usual_windows_are_no_mistake(window: timedelta) -> None:
    make_definition(**with_view(windows=[window, days(1)]))


# Files


def write(folder: Path, text: str) -> Path:
    """A file of its own for each text: Python may keep the bytecode of one it knows."""
    folder = folder / sha256(text.encode()).hexdigest()[:12]
    folder.mkdir(exist_ok=True)
    path = folder / "definition.py"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n\nx +\n", "definition.py: line 3: invalid syntax: x +"),
        ("import sys\nsys.exit(3)\n", "definition.py: line 2: SystemExit: 3"),
        (
            "from headrace.definition import window_label\nwindow_label(7)\n",
            "definition.py: line 2: TypeError: window 7; expected a duration, such as days(7)",
        ),
        ("x = 1\nimport nonesuch_module\n", "definition.py: line 2: ModuleNotFoundError"),
        ("def f():\n    return 1 / 0\n\nf()\n", "definition.py: line 2: ZeroDivisionError"),
        ("from headrace.definition import Mean\nMean()\n", "definition.py: line 2: TypeError"),
        ("x = 1\n", "variable `definition`: got NoneType; expected `definition = Definition("),
        ("definition = {}\n", "variable `definition`: got dict"),
    ],
    ids=["syntax", "exit", "window", "import", "nested", "argument", "absent", "dict"],
)
def test_file_that_cannot_be_run_is_told_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        load_definition(write(tmp_path, text))
    assert message in str(caught.value)


def test_line_is_told_of_a_file_that_is_named_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "x = 1\ny = 1 / 0\n")
    monkeypatch.chdir(path.parent)
    with pytest.raises(DefinitionError) as caught:
        load_definition(Path(path.name))
    assert "definition.py: line 2: ZeroDivisionError: division by zero" in str(caught.value)


def test_parameter_that_comes_to_stand_for_something_else_is_no_mistake() -> None:
    make_definition(request_features=[takes_another_event], inputs=["amount"], imputation={})


def test_missing_file_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"nonesuch.py: no such file"):
        load_definition(tmp_path / "nonesuch.py")


def test_reference_definition_has_the_columns_of_card_fraud(root: Path) -> None:
    definition = load_definition(root / "layers" / "model" / "definition.py")
    windows = ("1d", "7d", "30d")
    assert definition.columns == (
        *(f"customer_{what}_{w}" for w in windows for what in ("count", "amount_mean")),
        *(f"terminal_count_{w}" for w in windows),
        *(f"terminal_is_fraud_mean_{w}" for w in windows),
        "is_weekend",
        "is_night",
        "amount_to_mean_7d",
        "amount",
    )


# The hash


TEXT = """
from headrace.definition import *

LIMIT = 5
HOURS = [22, 23]
NAMES = {"a", "b", "c", "d", "e"}
card = Entity("card")
source = Source(name="s", id="i", time="t", entities={"c": card},
                fields={"amount": Number(), "flag": Flag()})


def half(value):
    return value / 2


def at_least(limit):
    return lambda event: event.amount > limit


def large(event, features):
    return half(event.amount) > LIMIT or event.t.hour in HOURS or "a" in NAMES


view = View(name="v", entity=card, source=source, aggregates=[Count()], windows=[days(1)],
            where=at_least(10))
definition = Definition(
    sources=[source], scored=source, views=[view], request_features=[large],
    inputs=["amount", "large", *view.features], batch_entity=card, label=Label(source, "flag"),
)
"""


def hash_of(folder: Path, text: str = TEXT) -> str:
    return definition_hash(load_definition(write(folder, text)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("days(1)", "days(2)"),
        ("LIMIT = 5", "LIMIT = 6"),
        ("HOURS = [22, 23]", "HOURS = [21, 23]"),
        ('"d", "e"', '"d"'),
        ("value / 2", "value / 3"),
        ("Count()", "Count(), Mean('amount')"),
        ('inputs=["amount", "large",', 'inputs=["large", "amount",'),
        ("Number()", "Number(at_most=9)"),
        ("batch_entity=card", "default_imputation=TrainingMean(), batch_entity=card"),
        ("at_least(10)", "at_least(20)"),
    ],
    ids=["window", "constant", "list", "set", "helper", "aggregate", "inputs", "bound",
         "imputation", "closure"],
)  # fmt: skip
def test_hash_changes_with_the_meaning(tmp_path: Path, old: str, new: str) -> None:
    assert TEXT.count(old) == 1
    assert hash_of(tmp_path, TEXT.replace(old, new)) != hash_of(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 5", "# a comment\nLIMIT = 5  # another\n"),
        ("card = Entity", "\n\nUNUSED = 17\n\ncard = Entity"),
        ("sources=[source], scored=source,", "scored=source,\n\n    sources=[source],"),
        ('{"a", "b", "c", "d", "e"}', '{"e", "d", "c", "b", "a"}'),
        ("batch_entity=card", "fresh_for=days(1), imputation={}, batch_entity=card"),
    ],
    ids=["comment", "unused", "order", "set-order", "defaults"],
)
def test_hash_does_not_change_with_the_rest_of_the_file(tmp_path: Path, old: str, new: str) -> None:
    assert TEXT.count(old) == 1
    assert hash_of(tmp_path, TEXT.replace(old, new)) == hash_of(tmp_path)


def hash_in_another_process(path: Path, seed: str) -> str:
    code = (
        "import sys; from pathlib import Path; "
        "from headrace.loading import definition_hash, load_definition; "
        "print(definition_hash(load_definition(Path(sys.argv[1]))))"
    )
    environment = os.environ | {
        "PYTHONHASHSEED": seed,
        "PYTHONPATH": str(LIBRARY),
    }
    command = [sys.executable, "-c", code, str(path)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return found.stdout.strip()


STEPS = """
def third(value):
    return value / 3


STEPS = (half, third)
TABLE = {"half": half}


def large(event, features):
    return STEPS[0](event.amount) > TABLE["half"](LIMIT)
"""
LARGE = TEXT[TEXT.index("def large") : TEXT.index("view = View")]


@pytest.mark.parametrize(
    "text", [TEXT, TEXT.replace(LARGE, STEPS + "\n\n")], ids=["values", "functions-in-tables"]
)
def test_hash_is_the_same_in_every_process(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    assert {hash_in_another_process(path, seed) for seed in ("1", "2")} == {hash_of(tmp_path, text)}


def test_hash_does_not_depend_on_where_the_file_is(root: Path, tmp_path: Path) -> None:
    path = root / "layers" / "model" / "definition.py"
    assert hash_of(tmp_path, path.read_text()) == definition_hash(load_definition(path))


def test_view_and_source_are_what_they_were_declared_as(tmp_path: Path) -> None:
    definition = load_definition(write(tmp_path, TEXT))
    (view,) = definition.views
    assert isinstance(view, View)
    assert isinstance(view.source, Source)
    assert view.features == ("v_count_1d",)
