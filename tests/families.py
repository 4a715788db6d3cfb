"""Estimators of every family that compiles, and of some that do not, fitted on small data.

`python -m tests.families` writes the table of infra/compiled-models.md anew.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    ElasticNet,
    LinearRegression,
    LogisticRegression,
    Ridge,
    SGDClassifier,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, LinearSVC, LinearSVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from headrace.errors import NotCompiled
from headrace.offline.compile import certify, compile_estimator
from headrace.program import program_of

if TYPE_CHECKING:
    from headrace.certificate import Certificate

PAGE = Path(__file__).parents[1] / "infra" / "compiled-models.md"
INPUTS = ["amount", "ratio", "visits", "channel", "weekend"]


@dataclass(frozen=True, slots=True)
class Family:
    """A row of the table.

    Attributes:
        name: As the table has it.
        estimator: Unfitted.
        with_nan: Whether it is fitted on rows with missing values.
    """

    name: str
    estimator: Any
    with_nan: bool = False


def _columns() -> ColumnTransformer:
    scaled = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    return ColumnTransformer(
        [("scaled", scaled, [0, 1, 2]), ("one_hot", OneHotEncoder(handle_unknown="ignore"), [3])],
        remainder="passthrough",
    )


def _strict_columns() -> ColumnTransformer:
    encoder = OneHotEncoder(drop="first")
    return ColumnTransformer([("one_hot", encoder, [3])], remainder="passthrough")


def _scaled(model: Any) -> Any:
    return make_pipeline(StandardScaler(), model)


_LOGISTIC = LogisticRegression(random_state=0)
_SMALL_FOREST = RandomForestClassifier(8, random_state=0)

COMPILES = [
    Family("HistGradientBoostingClassifier", HistGradientBoostingClassifier(max_iter=20), True),
    Family("RandomForestClassifier", RandomForestClassifier(20, random_state=0)),
    Family(
        "RandomForestClassifier, trained with NaN", RandomForestClassifier(20, random_state=0), True
    ),
    Family("ExtraTreesClassifier", ExtraTreesClassifier(20, random_state=0)),
    Family("GradientBoostingClassifier", GradientBoostingClassifier(n_estimators=20)),
    Family(
        "GradientBoostingClassifier, exponential loss",
        GradientBoostingClassifier(n_estimators=20, loss="exponential"),
    ),
    Family("DecisionTreeClassifier", DecisionTreeClassifier(max_depth=5, random_state=0)),
    Family("LogisticRegression", _LOGISTIC),
    Family(
        "SimpleImputer, StandardScaler, LogisticRegression",
        make_pipeline(SimpleImputer(), StandardScaler(), _LOGISTIC),
        True,
    ),
    Family(
        "ColumnTransformer with imputer, indicator, scaler, one-hot; LogisticRegression",
        make_pipeline(_columns(), _LOGISTIC),
        True,
    ),
    Family(
        "the same before HistGradientBoostingClassifier",
        make_pipeline(_columns(), HistGradientBoostingClassifier(max_iter=20)),
        True,
    ),
    Family(
        "OneHotEncoder that refuses unknown categories, RandomForestClassifier",
        make_pipeline(_strict_columns(), _SMALL_FOREST),
    ),
    Family(
        "FeatureUnion of MinMaxScaler and SelectKBest, LogisticRegression",
        make_pipeline(
            FeatureUnion([("scaled", MinMaxScaler(clip=True)), ("best", SelectKBest(k=2))]),
            _LOGISTIC,
        ),
    ),
    Family(
        "RobustScaler, MaxAbsScaler, RandomForestClassifier",
        make_pipeline(RobustScaler(), MaxAbsScaler(), _SMALL_FOREST),
    ),
    Family("SGDClassifier, log loss", _scaled(SGDClassifier(loss="log_loss", random_state=0))),
    Family(
        "SGDClassifier, modified Huber",
        _scaled(SGDClassifier(loss="modified_huber", random_state=0)),
    ),
    Family("LinearSVC, calibrated by sigmoid", CalibratedClassifierCV(_scaled(LinearSVC()))),
    Family(
        "SVC with linear kernel, calibrated by isotonic regression",
        CalibratedClassifierCV(_scaled(SVC(kernel="linear")), method="isotonic"),
    ),
    Family(
        "RandomForestClassifier, calibrated by isotonic regression",
        CalibratedClassifierCV(_SMALL_FOREST, method="isotonic"),
    ),
    Family(
        "HistGradientBoostingClassifier, calibrated by sigmoid",
        CalibratedClassifierCV(HistGradientBoostingClassifier(max_iter=8)),
        True,
    ),
    Family("MLPClassifier, relu", _scaled(MLPClassifier((12, 6), max_iter=80, random_state=0))),
    Family(
        "MLPClassifier, tanh",
        _scaled(MLPClassifier((12,), activation="tanh", max_iter=80, random_state=0)),
    ),
    Family(
        "VotingClassifier, soft, weighted",
        VotingClassifier(
            [("line", _LOGISTIC), ("forest", _SMALL_FOREST)], voting="soft", weights=[1, 3]
        ),
    ),
    Family("HistGradientBoostingRegressor", HistGradientBoostingRegressor(max_iter=20), True),
    Family(
        "HistGradientBoostingRegressor, poisson loss",
        HistGradientBoostingRegressor(max_iter=20, loss="poisson"),
    ),
    Family("RandomForestRegressor", RandomForestRegressor(20, random_state=0)),
    Family("ExtraTreesRegressor", ExtraTreesRegressor(20, random_state=0)),
    Family("GradientBoostingRegressor", GradientBoostingRegressor(n_estimators=20)),
    Family("DecisionTreeRegressor", DecisionTreeRegressor(max_depth=5, random_state=0)),
    Family("LinearRegression", LinearRegression()),
    Family("Ridge", _scaled(Ridge())),
    Family("ElasticNet", _scaled(ElasticNet(alpha=0.01))),
    Family("LinearSVR", _scaled(LinearSVR(random_state=0))),
    Family(
        "MLPRegressor",
        _scaled(MLPRegressor(hidden_layer_sizes=(12,), max_iter=80, random_state=0)),
    ),
]
REFUSED = [
    Family("AdaBoostClassifier", AdaBoostClassifier(n_estimators=3)),
    Family("BaggingClassifier", BaggingClassifier(n_estimators=3)),
    Family("StackingClassifier", StackingClassifier([("line", _LOGISTIC)])),
    Family("KNeighborsClassifier", KNeighborsClassifier()),
    Family("GaussianNB", GaussianNB()),
    Family("SVC with another kernel, calibrated", CalibratedClassifierCV(SVC())),
    Family(
        "HistGradientBoostingClassifier with categorical features",
        HistGradientBoostingClassifier(categorical_features=[3], max_iter=3),
    ),
    Family(
        "GradientBoostingClassifier that starts from a model",
        GradientBoostingClassifier(n_estimators=3, init=LogisticRegression()),
    ),
    Family(
        "OneHotEncoder that groups rare categories",
        make_pipeline(OneHotEncoder(max_categories=3, handle_unknown="ignore"), _LOGISTIC),
    ),
    Family(
        "FunctionTransformer with a function",
        make_pipeline(FunctionTransformer(np.log1p), _LOGISTIC),
    ),
]


def data(with_nan: bool = False) -> tuple[Any, Any]:
    """600 rows of INPUTS with labels; cents, a quotient, counts, a category, a flag."""
    random = np.random.default_rng(7)
    amount = np.round(random.lognormal(3, 1, 600), 2)
    columns = [
        amount,
        amount / random.lognormal(3, 0.5, 600),
        random.poisson(3, 600),
        random.integers(0, 4, 600),
        random.integers(0, 2, 600),
    ]
    rows = np.column_stack(columns).astype(np.float64)
    chance = 1 / (1 + np.exp(2 - rows[:, 1] - 0.3 * rows[:, 2] + 0.5 * rows[:, 3]))
    labels = (random.random(600) < chance).astype(int)
    if with_nan:
        rows[random.random(rows.shape) < 0.05] = np.nan
        rows[:, 3:] = np.nan_to_num(rows[:, 3:])
    return rows, labels


@cache
def fitted(name: str) -> Any:
    """The estimator of a family, fitted once."""
    family = _family(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return clone(family.estimator).fit(*data(family.with_nan))


@cache
def compiled(name: str) -> bytes:
    """Its compiled form."""
    return compile_estimator(fitted(name), data(_family(name).with_nan)[0])


@cache
def certificate(name: str) -> Certificate:
    """How that compares."""
    rows = {"training": data(_family(name).with_nan)[0]}
    return certify(fitted(name), program_of(compiled(name)), rows, (0.5, 0.25), INPUTS)


def table() -> str:
    """The page's table in Markdown."""
    lines = ["| model | compiles | scores | NaN |", "|---|---|---|---|"]
    for family in COMPILES:
        found = certificate(family.name)
        scores = "within 1e-9" if found.largest_difference else "bit for bit"
        places = len(found.takes_nan)
        taken = {0: "refused", len(INPUTS): "taken"}.get(places, "taken in some inputs")
        lines.append(f"| {family.name} | yes | {scores} | {taken} |")
    for family in REFUSED:
        lines.append(f"| {family.name} | no | {_refusal(family.name)} | |")
    return "\n".join(lines)


def _family(name: str) -> Family:
    (family,) = (each for each in COMPILES + REFUSED if each.name == name)
    return family


def _refusal(name: str) -> str:
    try:
        compiled(name)
    except NotCompiled as error:
        return re.sub(r" at 0x\w+", "", str(error).partition("; there are ")[0])
    return "compiles after all"


def table_on_page() -> str:
    """The table that the page has now."""
    page = PAGE.read_text(encoding="utf-8")
    found = re.search(r"^\| model \|.*?(?=\n\n)", page, re.M | re.S)
    return found[0] if found else ""


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text.replace(table_on_page(), table()), encoding="utf-8")
