"""The bundle: what training writes is what is served, and anything else is refused."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from headrace.errors import BundleError, DefinitionError, NotCompiled
from headrace.imputation import Statistic
from headrace.loading import load_definition
from headrace.model import (
    COMPILED,
    GOLDEN,
    IMPUTATION,
    MANIFEST,
    ONNX,
    ORIGINAL,
    REFERENCE,
    content_version,
    load_bundle,
    load_without_model,
    sha256,
)
from headrace.offline.bundle import compile_bundle, write_bundle
from headrace.offline.compile import compile_estimator, onnx_of
from headrace.offline.metrics import Measured
from headrace.offline.splits import Split
from headrace.offline.train import Trained
from headrace.onnx_model import OnnxModel

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = """
from headrace.definition import *

person = Entity("person")
visits = Source(name="visits", id="visit_id", time="at", entities={"person_id": person},
                fields={"length": Number(at_least=0), "bought": Flag()})
view = View(name="person", entity=person, source=visits, aggregates=[Count()], windows=[days(1)])
definition = Definition(
    sources=[visits], scored=visits, views=[view], inputs=["length", *view.features],
    batch_entity=person, label=Label(visits, "bought"),
)
"""
ROWS = [[float(n % 7), float(n % 5)] for n in range(60)]
LABELS = [int(length > 3) for length, _ in ROWS]


def written(folder: Path, estimator: Any, text: str = TEXT) -> Path:
    """A folder with a definition and the bundle of an estimator."""
    (folder / "definition.py").write_text(text)
    definition = load_definition(folder / "definition.py")
    at = [datetime(2025, 5, day, tzinfo=UTC) for day in (1, 2, 3, 4)]
    statistics = {name: [Statistic(2.5)] for name in definition.columns}
    fitted = estimator.fit(ROWS, LABELS)
    write_bundle(
        folder,
        definition,
        Trained(fitted, statistics, ROWS, Split(*at), 0.4, {"auc": Measured(1.0, 0.9, 1.0)}),
    )
    return folder


@pytest.fixture(scope="module")
def trained_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("model"), LogisticRegression())


@pytest.fixture
def pickled_dir(tmp_path: Path) -> Path:
    """A model that has no compiled form, under a definition that lets scikit-learn serve it."""
    folder = tmp_path / "pickled"
    folder.mkdir()
    text = TEXT.replace("batch_entity", 'if_not_compiled="scikit-learn", batch_entity')
    return written(folder, GaussianNB(), text)


@pytest.fixture
def model_dir(trained_dir: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(trained_dir, tmp_path / "copy"))


def change(path: Path, edit: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def reseal(folder: Path, **changes: Any) -> None:
    """Make the manifest fit the files again, as somebody would who means to deceive."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text()) | changes
    names = manifest["files"]
    manifest["files"] = {name: sha256((folder / name).read_bytes()) for name in names}
    manifest["model_version"] = content_version(manifest["files"], manifest["definition_hash"])
    path.write_text(json.dumps(manifest))


def with_onnx(folder: Path, data: bytes) -> None:
    """Make a bundle one from before there were programs, served by onnxruntime."""
    (folder / COMPILED).unlink()
    (folder / ONNX).write_bytes(data)
    golden = json.loads((folder / GOLDEN).read_text())
    scores = OnnxModel(data).score([row["inputs"] for row in golden])
    for row, score in zip(golden, scores, strict=True):
        row["score"] = score
    (folder / GOLDEN).write_text(json.dumps(golden))

    def listed(manifest: Any) -> None:
        manifest["files"] = {name: "" for name in manifest["files"] if name != COMPILED} | {
            ONNX: ""
        }

    change(folder / MANIFEST, listed)
    reseal(folder, serving="onnxruntime")


def refusal(model_dir: Path) -> str:
    with pytest.raises(BundleError) as caught:
        load_bundle(model_dir)
    return str(caught.value)


def test_bundle_scores_as_the_estimator_that_was_written(model_dir: Path) -> None:
    bundle = load_bundle(model_dir)
    expected = LogisticRegression().fit(ROWS, LABELS).predict_proba(ROWS)[:, 1].tolist()
    assert bundle.model.score(ROWS) == pytest.approx(expected, abs=1e-15)
    assert bundle.model.score([]) == []


def test_manifest_says_what_the_bundle_is_and_came_from(model_dir: Path) -> None:
    manifest = load_bundle(model_dir).manifest
    assert manifest.inputs == ["length", "person_count_1d"]
    assert (manifest.rows, manifest.prior, manifest.metrics) == (
        60,
        0.4,
        {"auc": 1.0},
    )
    assert manifest.trained_from == "2025-05-01T00:00:00+00:00"
    assert set(manifest.files) == {COMPILED, ORIGINAL, IMPUTATION, GOLDEN, REFERENCE}
    assert manifest.estimator == "LogisticRegression()"
    assert len(manifest.model_version) == 12
    assert manifest.libraries.keys() >= {"scikit-learn", "numpy"}


def test_writing_the_same_bundle_again_gives_the_same_version(model_dir: Path) -> None:
    first = load_bundle(model_dir).manifest
    definition = load_definition(model_dir / "definition.py")
    at = [datetime(2025, 5, day, tzinfo=UTC) for day in (1, 2, 3, 4)]
    estimator = LogisticRegression().fit(ROWS, LABELS)
    statistics = {name: [Statistic(2.5)] for name in definition.columns}
    again = write_bundle(
        model_dir, definition, Trained(estimator, statistics, ROWS, Split(*at), 0.4, {})
    )
    assert again.model_version == first.model_version


@pytest.mark.parametrize("name", [COMPILED, IMPUTATION, GOLDEN])
def test_altered_file_is_refused_before_it_is_read(model_dir: Path, name: str) -> None:
    path = model_dir / "bundle" / name
    path.write_bytes(path.read_bytes() + b" ")
    assert refusal(model_dir).startswith(f"{name}: SHA-256 is ")


@pytest.mark.parametrize("name", [COMPILED, IMPUTATION, GOLDEN])
def test_missing_file_is_refused_by_name(model_dir: Path, name: str) -> None:
    (model_dir / "bundle" / name).unlink()
    assert refusal(model_dir).startswith(f"{name}: cannot be read (No such file or directory)")


def test_missing_bundle_says_how_to_make_one(model_dir: Path) -> None:
    shutil.rmtree(model_dir / "bundle")
    assert "expected a bundle: headrace train" in refusal(model_dir)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "manifest.json: "), ("{}", "missing required field"), ("", "manifest.json: ")],
    ids=["cut", "empty-object", "empty"],
)
def test_manifest_that_cannot_be_read_is_refused(model_dir: Path, text: str, message: str) -> None:
    (model_dir / "bundle" / MANIFEST).write_text(text)
    assert message in refusal(model_dir)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 1}, "format is 1; this version reads 3"),
        ({"definition_hash": "0" * 16}, "the model was trained with 0000000000000000: train"),
        ({"model_version": "0" * 12}, "model version: got 000000000000; the files make it"),
        ({"inputs": ["person_count_1d", "length"]}, "inputs: got ['person_count_1d', 'length']"),
        ({"files": {}}, "model version: got"),
        ({"serving": "telepathy"}, "serving is 'telepathy'"),
    ],
    ids=["format", "definition", "version", "inputs", "files", "serving"],
)  # fmt: skip
def test_altered_manifest_is_refused(
    model_dir: Path, changes: dict[str, Any], message: str
) -> None:
    change(model_dir / "bundle" / MANIFEST, lambda manifest: manifest.update(changes))
    assert message in refusal(model_dir)


@pytest.mark.parametrize(
    ("libraries", "message"),
    [
        ({"scikit-learn": "1.0.2"}, "the model was trained with 1.0.2: train again"),
        ({}, "the model was trained with unknown"),
    ],
    ids=["another", "unknown"],
)
def test_another_scikit_learn_hinders_only_a_model_that_it_serves(
    model_dir: Path, pickled_dir: Path, libraries: dict[str, str], message: str
) -> None:
    for folder in (model_dir, pickled_dir):
        change(folder / "bundle" / MANIFEST, lambda found: found.update(libraries=libraries))
    assert message in refusal(pickled_dir)
    assert load_bundle(model_dir).manifest.libraries == libraries


def test_patch_release_of_scikit_learn_is_no_obstacle(pickled_dir: Path) -> None:
    def patch(manifest: Any) -> None:
        libraries = manifest["libraries"]
        minor = libraries["scikit-learn"].rsplit(".", 1)[0]
        libraries["scikit-learn"] = f"{minor}.99"

    change(pickled_dir / "bundle" / MANIFEST, patch)
    assert load_bundle(pickled_dir).manifest.rows == 60


def test_model_without_compiled_form_is_served_by_scikit_learn_where_that_is_allowed(
    pickled_dir: Path,
) -> None:
    bundle = load_bundle(pickled_dir)
    expected = GaussianNB().fit(ROWS, LABELS).predict_proba(ROWS)[:, 1].tolist()
    assert bundle.model.score(ROWS) == expected
    assert bundle.manifest.serving == "scikit-learn"
    assert bundle.manifest.not_compiled.startswith("GaussianNB: no converter for this model")
    assert COMPILED not in bundle.manifest.files


def test_model_without_compiled_form_is_refused_by_default_and_the_old_bundle_stays(
    model_dir: Path,
) -> None:
    before = load_bundle(model_dir).manifest
    with pytest.raises(NotCompiled, match=r"GaussianNB: no converter.*if_not_compiled='scikit-l"):
        written(model_dir, GaussianNB())
    assert load_bundle(model_dir).manifest == before


def test_manifest_alone_cannot_have_a_model_unpickled(model_dir: Path) -> None:
    trace = model_dir / "trace"
    joblib.dump(_Tracer(trace), model_dir / "bundle" / ORIGINAL)
    reseal(model_dir / "bundle", serving="scikit-learn")
    assert "which the definition does not allow" in refusal(model_dir)
    assert not trace.exists()


def test_compiling_a_bundle_again_gives_the_same_model_and_keeps_the_rest(model_dir: Path) -> None:
    before = load_bundle(model_dir).manifest
    again = compile_bundle(model_dir, np.array(ROWS))
    assert again == before
    assert load_bundle(model_dir).manifest == again


def test_certificate_of_training_stands_while_nothing_changed(model_dir: Path) -> None:
    before = load_bundle(model_dir).manifest
    assert compile_bundle(model_dir) == before
    other = LogisticRegression(C=0.1).fit(ROWS, LABELS)
    (model_dir / "bundle" / COMPILED).write_bytes(compile_estimator(other, np.array(ROWS)))
    reseal(model_dir / "bundle")
    again = compile_bundle(model_dir)
    assert (again.files, again.libraries) == (before.files, before.libraries)
    assert again.certificate is not None
    assert "training" not in again.certificate.rows


def test_bundle_from_before_there_were_programs_loads_and_becomes_one(model_dir: Path) -> None:
    after = load_bundle(model_dir)
    with_onnx(model_dir / "bundle", onnx_of(LogisticRegression().fit(ROWS, LABELS), np.array(ROWS)))
    before = load_bundle(model_dir)
    assert before.model.score(ROWS) == pytest.approx(after.model.score(ROWS), abs=1e-15)
    assert compile_bundle(model_dir).files == after.manifest.files
    assert load_bundle(model_dir).manifest.serving == "program"
    assert not (model_dir / "bundle" / ONNX).exists()


def test_manifest_has_the_certificate(model_dir: Path) -> None:
    found = load_bundle(model_dir).manifest.certificate
    assert found is not None
    assert (found.tolerance, found.rows_over, found.rows_apart) == (1e-9, 0, 0)
    assert found.rows["training"] == 60
    assert found.flips.keys() == {"0.5", "0.4"}
    assert found.takes_nan == []


def test_altered_original_is_not_compiled(model_dir: Path) -> None:
    path = model_dir / "bundle" / ORIGINAL
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(BundleError, match=r"model\.joblib: SHA-256 is"):
        compile_bundle(model_dir)


def test_compiled_model_whose_score_depends_on_its_place_in_a_batch_is_refused(
    model_dir: Path,
) -> None:
    """In ONNX, the sum of all numbers in a batch; a program has no way to write that."""
    zero = numpy_helper.from_array(np.zeros((2, 1)), "zero")
    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["inputs"], ["total"], keepdims=1),
            helper.make_node("MatMul", ["inputs", "zero"], ["zeros"]),
            helper.make_node("Add", ["zeros", "total"], ["score"]),
        ],
        "model",
        [helper.make_tensor_value_info("inputs", TensorProto.DOUBLE, ["rows", 2])],
        [helper.make_tensor_value_info("score", TensorProto.DOUBLE, ["rows", 1])],
        [zero],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    with_onnx(model_dir / "bundle", made.SerializeToString())
    assert "alone and" in refusal(model_dir)


@pytest.mark.parametrize("fate", ["altered", "lost"])
def test_original_is_not_read_where_the_compiled_model_serves(model_dir: Path, fate: str) -> None:
    original = model_dir / "bundle" / ORIGINAL
    original.write_bytes(b"altered") if fate == "altered" else original.unlink()
    assert load_bundle(model_dir).model.score(ROWS)


def test_definition_that_changed_after_training_is_refused(model_dir: Path) -> None:
    (model_dir / "definition.py").write_text(TEXT.replace("days(1)", "days(2)"))
    assert refusal(model_dir).startswith("definition hash: got ")


def test_definition_with_mistakes_is_told_as_such(model_dir: Path) -> None:
    (model_dir / "definition.py").write_text("definition = None\n")
    with pytest.raises(DefinitionError):
        load_bundle(model_dir)


def test_nothing_is_unpickled_before_the_manifest_fits(pickled_dir: Path) -> None:
    """A pickle that writes a file when it is loaded stands in for a hostile one."""
    trace = pickled_dir / "trace"
    joblib.dump(_Tracer(trace), pickled_dir / "bundle" / ORIGINAL)
    assert "SHA-256" in refusal(pickled_dir)
    assert not trace.exists()
    reseal(pickled_dir / "bundle", libraries={"scikit-learn": "0.1"})
    assert "scikit-learn: got" in refusal(pickled_dir)
    assert not trace.exists()


class _Tracer:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_golden_row_that_scores_otherwise_is_refused(model_dir: Path) -> None:
    def shift(golden: Any) -> None:
        golden[3]["score"] += 1e-6

    change(model_dir / "bundle" / GOLDEN, shift)
    reseal(model_dir / "bundle")
    assert refusal(model_dir).startswith("golden row 3: score is ")


def test_bundle_without_golden_rows_is_refused(model_dir: Path) -> None:
    (model_dir / "bundle" / GOLDEN).write_text("[]")
    reseal(model_dir / "bundle")
    assert "no rows; expected some" in refusal(model_dir)


def test_bundle_without_a_statistic_is_refused(model_dir: Path) -> None:
    change(model_dir / "bundle" / IMPUTATION, lambda found: found.pop("length"))
    reseal(model_dir / "bundle")
    assert "0 statistics for length; expected 1" in refusal(model_dir)


@pytest.mark.parametrize("name", [COMPILED, ORIGINAL])
def test_manifest_that_does_not_list_the_model_that_serves_is_refused(
    model_dir: Path, pickled_dir: Path, name: str
) -> None:
    folder = model_dir if name == COMPILED else pickled_dir
    change(folder / "bundle" / MANIFEST, lambda manifest: manifest["files"].pop(name))
    reseal(folder / "bundle")
    assert f"files lacks {name}" in refusal(folder)


@pytest.mark.parametrize(
    "content", [b"not a pickle", b"", b"cnonesuch_module\nThing\n."], ids=["text", "empty", "class"]
)
def test_model_that_cannot_be_unpickled_is_refused(pickled_dir: Path, content: bytes) -> None:
    (pickled_dir / "bundle" / ORIGINAL).write_bytes(content)
    reseal(pickled_dir / "bundle")
    assert refusal(pickled_dir).startswith("model.joblib: cannot be unpickled")


@pytest.mark.parametrize("content", [b"not a model", b""], ids=["text", "empty"])
def test_compiled_model_that_cannot_be_loaded_is_refused(model_dir: Path, content: bytes) -> None:
    (model_dir / "bundle" / COMPILED).write_bytes(content)
    reseal(model_dir / "bundle")
    assert refusal(model_dir).startswith("model.program: no program (")
    golden = (model_dir / "bundle" / GOLDEN).read_bytes()
    with_onnx(model_dir / "bundle", onnx_of(LogisticRegression().fit(ROWS, LABELS), np.array(ROWS)))
    (model_dir / "bundle" / ONNX).write_bytes(content)
    (model_dir / "bundle" / GOLDEN).write_bytes(golden)
    reseal(model_dir / "bundle")
    assert refusal(model_dir).startswith("model.onnx: onnxruntime ")


def test_model_for_other_inputs_is_refused(model_dir: Path, pickled_dir: Path) -> None:
    rows = np.array([[0.0], [1.0]])
    narrow = LogisticRegression().fit(rows, [0, 1])
    (model_dir / "bundle" / COMPILED).write_bytes(compile_estimator(narrow, rows))
    joblib.dump(narrow, pickled_dir / "bundle" / ORIGINAL)
    for folder in (model_dir, pickled_dir):
        reseal(folder / "bundle")
    assert "model.program: takes 1 inputs; the manifest lists 2" in refusal(model_dir)
    assert "golden" in refusal(pickled_dir)


def test_reference_bundle_loads_and_scores(root: Path) -> None:
    bundle = load_bundle(root / "layers" / "model")
    (score,) = bundle.model.score([[0.0] * len(bundle.manifest.inputs)])
    assert 0 <= score <= 1
    assert 0 < bundle.manifest.prior < 1


@pytest.mark.parametrize("lost", [COMPILED, GOLDEN, IMPUTATION])
def test_without_its_model_a_bundle_still_knows_definition_and_prior(
    trained_dir: Path, tmp_path: Path, lost: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(trained_dir, folder)
    (folder / "bundle" / lost).unlink()
    with pytest.raises(BundleError, match=lost):
        load_bundle(folder)
    found = load_without_model(folder, "why")
    assert found.manifest.prior == 0.4
    assert found.definition.scored.name == "visits"
    with pytest.raises(BundleError, match="why"):
        found.model.score([[1.0, 2.0]])


def test_without_its_manifest_a_bundle_knows_nothing(trained_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(trained_dir, folder)
    (folder / "bundle" / MANIFEST).unlink()
    with pytest.raises(BundleError, match=r"manifest\.json: cannot be read"):
        load_without_model(folder, "why")
