"""The model that `headrace train` fits, and how it is trained and judged."""

from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline

from headrace.offline.training import AlertsPerDay, Training


def build():
    return make_pipeline(
        HistGradientBoostingClassifier(
            max_iter=80, learning_rate=0.1, max_leaf_nodes=15, early_stopping=False, random_state=0
        )
    )


training = Training(
    threshold=AlertsPerDay(20),
    top=20,
    meant_for="Demonstrations and tests, on simulated card transactions.",
    not_for="Anything about real cards: it has never seen one.",
)
