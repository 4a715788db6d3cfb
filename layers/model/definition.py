"""Card fraud: score each card transaction as it happens.

Transactions are scored. Labels (was it fraud?) arrive days later as events of their own and feed
the fraud rate of terminals, which therefore looks seven days into the past.
"""

from headrace.definition import (
    Constant,
    Count,
    Definition,
    Entity,
    FirstOf,
    Flag,
    Label,
    Mean,
    Number,
    RunningMean,
    Source,
    TrainingMedian,
    View,
    days,
    hours,
)

SATURDAY = 5
LAST_HOUR_OF_NIGHT = 6

customer = Entity("customer")
terminal = Entity("terminal")

transactions = Source(
    name="transactions",
    id="transaction_id",
    time="event_time",
    entities={"customer_id": customer, "terminal_id": terminal},
    fields={"amount": Number(at_least=0, at_most=100_000, if_invalid="missing")},
    lateness=hours(24),
)

labels = Source(
    name="labels",
    id="transaction_id",
    time="event_time",  # of the transaction; the label itself arrives up to a week later
    entities={"customer_id": customer, "terminal_id": terminal},
    fields={"is_fraud": Flag(required=True)},
    lateness=days(7),
)

WINDOWS = [days(1), days(7), days(30)]

spending = View(
    name="customer",
    entity=customer,
    source=transactions,
    aggregates=[Count(), Mean("amount")],
    windows=WINDOWS,
)

traffic = View(
    name="terminal",
    entity=terminal,
    source=transactions,
    aggregates=[Count()],
    windows=WINDOWS,
    delay=days(7),
)

risk = View(
    name="terminal_risk",
    prefix="terminal",
    entity=terminal,
    source=labels,
    aggregates=[Mean("is_fraud")],
    windows=WINDOWS,
    delay=days(7),
)


def is_weekend(event, features):
    return event.event_time.weekday() >= SATURDAY


def is_night(event, features):
    return event.event_time.hour <= LAST_HOUR_OF_NIGHT


def amount_to_mean_7d(event, features):
    return event.amount / features["customer_amount_mean_7d"]


definition = Definition(
    sources=[transactions, labels],
    scored=transactions,
    views=[spending, traffic, risk],
    request_features=[is_weekend, is_night, amount_to_mean_7d],
    inputs=[
        "amount",
        "is_weekend",
        "is_night",
        "amount_to_mean_7d",
        *spending.features,
        *traffic.features,
        *risk.features,
    ],
    imputation={
        "amount": FirstOf([RunningMean(customer, days(30)), TrainingMedian()]),
        "terminal_risk": Constant(0.0),  # no label seen: no fraud known
    },
    batch_entity=customer,
    label=Label(labels, "is_fraud"),
    freshness={customer: days(30)},  # who has been away for longer has empty windows
)
