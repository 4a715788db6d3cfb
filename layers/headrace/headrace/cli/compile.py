"""`headrace compile`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import polars as pl
import typer
from rich.markup import escape
from rich.table import Table

from headrace.cli.terminal import (
    AsJson,
    err,
    errors_told,
    fail,
    model_dir_of,
    out,
    print_json,
)
from headrace.loading import load_definition
from headrace.offline.bundle import bundle_as_onnx, compile_bundle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.certificate import Certificate
    from headrace.manifest import Manifest
    from headrace.offline.edge_rows import Matrix


def compile_model(
    model_dir: Annotated[
        Path | None,
        typer.Argument(help="Folder with definition.py and bundle/; by default the project's."),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(help="Parquet file with the model's inputs, as `headrace replay` writes."),
    ] = None,
    onnx: Annotated[
        Path | None, typer.Option(help="Write the model as ONNX too, for other runtimes.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Compile the model of a bundle again, and print how its scores compare.

    `headrace train` does it at its end, on all training rows. Here the rows are the bundle's
    golden rows, edge rows made of them, and those of --rows. Without --rows, a bundle that comes
    out as it was keeps the certificate of its training. A model that does not score as
    scikit-learn does is refused, and the bundle stays as it was, unless the definition says
    `if_not_compiled="scikit-learn"`.
    """
    with errors_told():
        folder = model_dir_of(model_dir)
        inputs = load_definition(folder / "definition.py").inputs
        manifest = compile_bundle(folder, None if rows is None else _read_rows(rows, inputs))
        if onnx is not None:
            onnx.write_bytes(bundle_as_onnx(folder))
    if json:
        print_json(manifest)
    else:
        title = f"Bundle {manifest.model_version} in {folder / 'bundle'}"
        tell_serving(manifest, title)


def _read_rows(path: Path, inputs: Sequence[str]) -> Matrix:
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        fail(f"--rows: {path} cannot be read ({error}); expected a Parquet file")
    missing = [name for name in inputs if name not in frame.columns]
    if missing or frame.is_empty():
        fail(f"--rows: {path.name} lacks {', '.join(missing) or 'rows'}; expected every input")
    values: Matrix = frame.select(pl.col(list(inputs)).cast(pl.Float64)).to_numpy()
    return values


def tell_serving(manifest: Manifest, title: str) -> None:
    """What serves the model, loudly where that is scikit-learn, and the certificate."""
    if manifest.certificate is not None:
        out.print(certificate_table(manifest.certificate, title))
    if manifest.not_compiled:
        err.print(
            "[bold red]Served by scikit-learn, not compiled:[/]",
            escape(manifest.not_compiled),
            "\nScores cost many times more, functions need scikit-learn in their layer, and they"
            " unpickle model.joblib.",
            highlight=False,
        )


def certificate_table(certificate: Certificate, title: str) -> Table:
    """A certificate as a table for people."""
    table = Table(title=title, caption="compiled model against scikit-learn", show_header=False)
    for kind, count in certificate.rows.items():
        table.add_row(f"{kind} rows compared", f"{count:,}")
    table.add_row("refused by both", f"{certificate.refused:,}")
    worst = f" ({certificate.worst})" if certificate.worst else ", bit for bit"
    table.add_row("largest difference", f"{certificate.largest_difference:.3g}{worst}")
    table.add_row(f"rows over {certificate.tolerance:g}", f"{certificate.rows_over:,}")
    for threshold, count in certificate.flips.items():
        table.add_row(f"decisions flipped at {threshold}", f"{count:,}")
    table.add_row("rows that a batch changes", f"{certificate.rows_apart:,}")
    table.add_row("inputs that may be NaN", f"{len(certificate.takes_nan)}")
    return table
