"""What the scoring layers unpack to, built as `make layers` does; prints one JSON object."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURE = "x86_64"
SCORING = ["HeadraceLayer", "RuntimeLayer", "ModelLayer"]
MB = 2**20


def main() -> None:
    """Build, then add up; what `make layers` prints goes to standard error."""
    command = [sys.executable, str(ROOT / "infra" / "layers.py"), ARCHITECTURE]
    subprocess.run(command, check=True, stdout=sys.stderr)
    built = json.loads((ROOT / "dist" / "layers" / ARCHITECTURE / "layers.json").read_text())
    parts = {name: round(built[name]["unzipped"] / MB, 2) for name in SCORING}
    zipped = sum(built[name]["zipped"] for name in SCORING)
    print(
        json.dumps(
            {
                "scoring_mb": round(sum(parts.values()), 1),
                "scoring_zipped_mb": round(zipped / MB, 1),
                **parts,
            }
        )
    )


if __name__ == "__main__":
    main()
