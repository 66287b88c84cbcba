"""Opening a strategy's studies: which boxes, which prior, and what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from array_studies import (
    BODY_STRATEGY,
    BOX_STRATEGY,
    Box,
    make_arrays,
    write_predictions,
    write_regions,
)
from petct.arrays import save_arrays
from petct.errors import PetctError
from petct.grids import Grid
from petct.patches import Source, cut_window, image_of
from petct.predictions import merge_entries, read_probability
from petct.sources import open_sources

FINE = Grid((16, 16, 16), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
COARSE = FINE.respace((8.0, 8.0, 8.0))
FOUND: list[Box] = [(2, 2, 2, 6, 6, 6)]
REFERENCE: list[Box] = [(10, 10, 10, 12, 12, 12)]
PRIOR_STRATEGY = BODY_STRATEGY | {"coarse": "coarse", "prior": True}
ORACLE_STRATEGY = BOX_STRATEGY | {"coarse": None, "prior": False}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three studies; in fold 0 ``a`` and ``b``, in fold 1 ``c``; nothing is found in ``c``."""
    for number, study in enumerate("abc"):
        arrays = make_arrays(FINE, REFERENCE, seed=number)
        save_arrays(tmp_path / study / "fine", arrays.image, arrays.label, arrays.label, FINE)
    for fold, studies in (("fold-0", "ab"), ("fold-1", "c")):
        constant = {s: np.full(COARSE.shape_zyx, 0.125 * (ord(s) - 96)) for s in studies}
        write_predictions(tmp_path / fold / "predictions.json", COARSE, constant)
        boxes = {study: [] if study == "c" else FOUND for study in studies}
        write_regions(tmp_path / fold / "regions.json", boxes, {"a": REFERENCE})
    return tmp_path


def open_from(
    root: Path, studies: str, strategy: dict[str, Any], for_training: bool, folds: int = 2
) -> dict[str, Source]:
    return open_sources(
        list(studies),
        root,
        strategy,
        [root / f"fold-{fold}" / "predictions.json" for fold in range(folds)],
        [root / f"fold-{fold}" / "regions.json" for fold in range(folds)],
        (4, 4, 4),
        for_training,
    )


@pytest.mark.parametrize("for_training", [True, False])
def test_the_whole_body_in_the_given_order(root: Path, for_training: bool) -> None:
    sources = open_sources(list("cab"), root, BODY_STRATEGY, [], [], (4, 4, 4), for_training)
    assert list(sources) == ["c", "a", "b"]
    for source in sources.values():
        assert source.boxes_zyx.tolist() == [[0, 0, 0, 16, 16, 16]]
        assert source.prior is None and source.grid == FINE


def test_each_study_gets_its_own_prior_from_any_of_the_manifests(root: Path) -> None:
    sources = open_from(root, "abc", PRIOR_STRATEGY, for_training=True)
    for study, expected in (("a", 0.125), ("b", 0.25), ("c", 0.375)):
        window = cut_window(sources[study], (3, 5, 7), (4, 4, 4))
        np.testing.assert_allclose(image_of(window, "prior"), expected, atol=1e-6)
        assert sources[study].boxes_zyx.tolist() == [[0, 0, 0, 16, 16, 16]]


def test_in_prediction_boxes_are_those_found(root: Path) -> None:
    sources = open_from(root, "abc", BOX_STRATEGY, for_training=False)
    assert list(sources) == ["a", "b", "c"]
    assert [sources[s].boxes_zyx.tolist() for s in "abc"] == [[list(FOUND[0])]] * 2 + [[]]


def test_training_sees_the_reference_too_and_skips_what_has_no_box(root: Path) -> None:
    sources = open_from(root, "abc", BOX_STRATEGY, for_training=True)
    assert list(sources) == ["a", "b"]
    assert sources["a"].boxes_zyx.tolist() == [list(FOUND[0]), list(REFERENCE[0])]
    assert sources["b"].boxes_zyx.tolist() == [list(FOUND[0])]


def test_a_study_padded_to_the_window_shifts_its_boxes(root: Path) -> None:
    regions = [root / "fold-0" / "regions.json"]
    sources = open_sources(["a"], root, ORACLE_STRATEGY, [], regions, (20, 16, 18), False)
    assert sources["a"].grid.shape_zyx == (20, 16, 18)
    assert sources["a"].boxes_zyx.tolist() == [[4, 2, 3, 8, 6, 7]]


def test_a_missing_study_is_named_with_those_that_are_there(root: Path) -> None:
    with pytest.raises(PetctError, match=r"study c has no coarse predictions; .*: a, b$"):
        open_from(root, "abc", PRIOR_STRATEGY, for_training=True, folds=1)
    with pytest.raises(PetctError, match=r"study c has no regions; these are there: a, b$"):
        open_from(root, "abc", ORACLE_STRATEGY, for_training=True, folds=1)


def test_a_coarse_probability_is_read_with_its_grid(root: Path) -> None:
    predictions = merge_entries([root / "fold-0" / "predictions.json"])
    probability, grid = read_probability(predictions, "b", "predictions")
    assert grid == COARSE and probability.shape == COARSE.shape_zyx
    assert isinstance(probability, np.memmap) and (probability == 0.25).all()
    with pytest.raises(PetctError, match="study c has no predictions; these are there: a, b"):
        read_probability(predictions, "c", "predictions")
