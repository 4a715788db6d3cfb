"""The model that `headrace train` fits: any scikit-learn classifier with predict_proba."""

from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline


def build():
    return make_pipeline(
        HistGradientBoostingClassifier(
            max_iter=80, learning_rate=0.1, max_leaf_nodes=15, early_stopping=False, random_state=0
        )
    )
