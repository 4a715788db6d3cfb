"""AWS on one machine: what template.yaml says, played on moto in this process.

Start reading at ``stack.py``. What cannot be played fails loudly with `NotEmulated`.
"""

from __future__ import annotations

from headrace.errors import Misconfigured


class NotEmulated(Misconfigured):
    """The template, or a call, asks for something that local mode does not play."""
