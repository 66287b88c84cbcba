"""Training curves: what is drawn for which experiment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from petct.errors import PetctError
from petct.plots import style
from plot_history import draw_histories, experiment_of, plot_history

HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "train_loss": [0.9, 0.5, 0.4],
        "validation_loss": [float("nan"), 0.6, 0.5],
        "validation_dice": [float("nan"), 0.1, 0.3],
        "learning_rate": [1e-4] * 3,
        "seconds": [2.0] * 3,
    }
)


def write(folder: Path) -> Path:
    folder.mkdir(parents=True)
    HISTORY.to_csv(folder / "history.tsv", sep="\t", index=False, na_rep="nan")
    return folder / "history.tsv"


def test_experiment_is_read_from_the_path() -> None:
    path = Path("results/phantom/train_network/coarse/unet_small/all/fold-12/history.tsv")
    assert experiment_of(path) == ("coarse", "unet_small", "all", 12)


@pytest.mark.parametrize("path", ["history.tsv", "coarse/unet/all/0/history.tsv"])
def test_path_without_a_fold_is_refused(path: str) -> None:
    with pytest.raises(PetctError, match=f"got history {path}, expected <strategy>"):
        experiment_of(Path(path))


def test_a_panel_per_experiment_and_a_line_per_fold() -> None:
    folds = {0: HISTORY, 1: HISTORY}
    with style():
        figure = draw_histories(
            {("coarse", "unet", "all"): folds, ("one_step", "unet", "all"): {0: HISTORY}}
        )
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]
    assert titles == ["coarse\nunet · all", "one_step\nunet · all"]
    assert [len(axes.lines) for axes in figure.axes] == [4, 2, 2, 1]
    # Epochs without validation are bridged, not broken off.
    assert np.array(figure.axes[1].lines[0].get_xydata()).tolist() == [[2, 0.1], [3, 0.3]]


def test_history_without_validation() -> None:
    with style():
        figure = draw_histories({("a", "b", "c"): {0: HISTORY[["epoch", "train_loss"]]}})
    assert [len(axes.lines) for axes in figure.axes] == [1, 0]


def test_picture_repeats_itself(tmp_path: Path) -> None:
    histories = [write(tmp_path / "coarse" / "unet" / "all" / f"fold-{k}") for k in (0, 1)]
    plot_history(histories, tmp_path / "a.png")
    plot_history(histories[::-1], tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
