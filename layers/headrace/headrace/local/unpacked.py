"""What a function sees of Lambda's file system: its code, its layers and Lambda's own image.

Standard library only, since LocalStack's process imports it too (infra/localstack).
Source: AWS Lambda Developer Guide, "Packaging your layer content": layers are unpacked into /opt
one after the other, so that of two files with one name the later layer's is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

OPT = "/opt/"


@dataclass(frozen=True, slots=True)
class Unpacked:
    """Folders on this machine.

    Attributes:
        code: /var/task.
        layers: What is unpacked into /opt, in this order.
        image: What Lambda's image brings to import.
    """

    code: Path
    layers: tuple[Path, ...]
    image: Path

    def imports(self) -> list[Path]:
        """Where modules are looked for; of two layers with one module the later one counts."""
        return [self.code, *(layer / "python" for layer in reversed(self.layers)), self.image]

    def below_opt(self, path: str) -> Path | None:
        """What the last layer that has it has at a path below /opt."""
        found = (layer / path for layer in reversed(self.layers))
        return next((each for each in found if each.exists()), None)

    def placed(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Variables with what they name below /opt where it is here, and what finds modules."""
        places = {
            name: str(self.below_opt(value.removeprefix(OPT)) or value)
            for name, value in environment.items()
            if value.startswith(OPT)
        }
        return {
            **environment,
            **places,
            "LAMBDA_TASK_ROOT": str(self.code),
            "PYTHONPATH": ":".join(map(str, self.imports())),
            "PYTHONDONTWRITEBYTECODE": "1",  # /var/task and /opt cannot be written to
        }
