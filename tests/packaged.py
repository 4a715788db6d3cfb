"""template.yaml as `sam package` hands it on: code in a bucket, all else unchanged."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

from samtranslator.yaml_helper import yaml_parse

_URIS = ("CodeUri", "ContentUri", "DefinitionUri")


def packaged(template: Path, bucket: str, folders: dict[str, Path], s3: Any) -> str:
    """The template with addresses in a bucket in place of folders, which are put there as zips.

    Args:
        template: The SAM template.
        bucket: Exists.
        folders: What is built, by logical id: in place of the template's own folders.
        s3: Client of S3.

    Returns:
        The template, as JSON.
    """
    source: dict[str, Any] = yaml_parse(template.read_text(encoding="utf-8"))
    for name, resource in source["Resources"].items():
        properties = resource.get("Properties", {})
        for uri in filter(properties.get, _URIS):
            place = folders.get(name) or template.parent / properties[uri]
            properties[uri] = f"s3://{bucket}/{name}"
            body = zipped(place) if place.is_dir() else place.read_bytes()
            s3.put_object(Bucket=bucket, Key=name, Body=body)
    return json.dumps(source)


def zipped(folder: Path) -> bytes:
    """A zip of a folder's files, lightly compressed: it travels no further than this machine."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                archive.write(path, path.relative_to(folder))
    return target.getvalue()
