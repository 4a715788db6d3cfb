"""Real-time scoring of scikit-learn models on AWS Lambda, runnable on one machine.

Start reading at `scoring.py`; `definition.py` is what users write.
"""

__version__ = "0.1.0"
