"""Training: what a batch holds, that chance is pinned down, the schedule, and that it learns."""

from __future__ import annotations

import math
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from array_studies import TRAINING, Box, make_arrays
from petct.errors import PetctError
from petct.grids import Grid
from petct.networks import build_network
from petct.patches import Source, image_of, open_source
from petct.training import draw_batches, draw_validation, train
from petct.training_state import TrainingState, load_state

Batches = list[tuple[torch.Tensor, torch.Tensor]]
CPU = torch.device("cpu")
GRID = Grid((20, 20, 20), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
PATCH = (8, 8, 8)
AUGMENTATION: dict[str, Any] = {
    "RandomFlip": {"axes": [0, 1, 2]},
    "RandomAffine": {"scales": 0.1, "degrees": 15},
    "RandomNoise": {"std": [0.0, 0.1], "p": 0.5},
    "RandomGamma": {"log_gamma": 0.2},
}


def make_sources(*lesions: list[Box], prior: bool = False) -> list[Source]:
    """Studies of 20³ voxels that differ in their noise and in their lesions."""
    coarse = (np.full((10, 10, 10), 0.25, np.float32), GRID.respace((8.0, 8.0, 8.0)))
    return [
        open_source(make_arrays(GRID, boxes, seed=seed), None, coarse if prior else None, PATCH)
        for seed, boxes in enumerate(lesions)
    ]


def ignore(row: dict[str, float]) -> None:
    pass


def run(
    network: torch.nn.Module,
    sources: list[Source],
    validation: list[Source],
    settings: dict[str, Any],
    seed: int = 0,
) -> TrainingState:
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            network, sources, validation, PATCH, settings, seed, CPU, rows.append, Path(folder), ""
        )
    assert rows == result.history
    return result


def assert_same(one: Batches, two: Batches) -> None:
    for batch, other in zip(one, two, strict=True):
        assert torch.equal(batch[0], other[0]) and torch.equal(batch[1], other[1])


# Where the patches come from.


@pytest.mark.parametrize(
    ("size", "lesion_share", "uptake_share", "lesions", "organs"),
    [
        (8, 0.25, 0.5, 2, 4),
        (7, 0.25, 0.5, 2, 3),  # 1.75 lesions, rounded up; 3.5 hot organs, rounded down
        (4, 0.0, 0.0, 0, 0),
        (3, 1.0, 0.5, 3, 0),  # lesions first
        (4, 0.0, 1.0, 0, 4),
    ],
)
@pytest.mark.parametrize("engine", ["torch", "torchio"])
def test_shares_of_a_batch(
    size: int, lesion_share: float, uptake_share: float, lesions: int, organs: int, engine: str
) -> None:
    # One voxel of lesion and one of hot organ in 100³: a patch from anywhere meets neither.
    grid = Grid((100, 100, 100), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    arrays = make_arrays(grid, [(20, 20, 20, 21, 21, 21)], [(70, 70, 70, 71, 71, 71)])
    arrays.image[1] = 10 * arrays.label
    arrays.image[1, 70, 70, 70] = 5
    settings = TRAINING | {
        "batch_size": size,
        "lesion_share": lesion_share,
        "uptake_share": uptake_share,
        "steps_per_epoch": 3,
        "augmentation_engine": engine,
    }
    source = open_source(arrays, None, None, PATCH)
    batches = list(draw_batches([source], PATCH, settings, seed=0, epoch=1))
    assert len(batches) == 3
    for images, labels in batches:
        assert images.shape == (size, 2, *PATCH) and images.dtype == torch.float32
        assert labels.shape == (size, 1, *PATCH) and labels.dtype == torch.float32
        hottest = images[:, 1].amax(dim=(1, 2, 3)).tolist()
        assert hottest == [10.0] * lesions + [5.0] * organs + [0.0] * (size - lesions - organs)
        assert labels.sum(dim=(1, 2, 3, 4)).tolist() == [float(h == 10) for h in hottest]


def test_lesion_patches_come_from_studies_with_lesions_and_others_from_all() -> None:
    sources = make_sources([(9, 9, 9, 11, 11, 11)], [], [])
    settings = TRAINING | {"batch_size": 2, "lesion_share": 0.5, "steps_per_epoch": 40}
    batches = list(draw_batches(sources, PATCH, settings, seed=0, epoch=1))
    assert all(labels[0].any() for _, labels in batches)
    origins = [number_of_study(images[1], sources) for images, _ in batches]
    assert set(origins) == {0, 1, 2}


def number_of_study(image: torch.Tensor, sources: list[Source]) -> int:
    """Which study holds an unchanged patch, by the place of its first voxel's two values."""
    ct, suv = image[0, 0, 0, 0], image[1, 0, 0, 0]
    (number,) = (
        n
        for n, source in enumerate(sources)
        if ((image_of(source.subject, "ct") == ct) & (image_of(source.subject, "suv") == suv)).any()
    )
    return number


# Chance.


@pytest.mark.parametrize("engine", ["torch", "torchio"])
def test_an_epochs_batches_depend_on_seed_and_epoch_alone(engine: str) -> None:
    sources = make_sources([(9, 9, 9, 12, 12, 12)], [], prior=True)
    settings = TRAINING | {"augmentation": AUGMENTATION, "augmentation_engine": engine}
    window = [open_source(make_arrays(GRID, []), None, None, PATCH)]

    def draw(seed: int, epoch: int) -> Batches:
        return list(draw_batches(sources, PATCH, settings, seed, epoch))

    fresh = draw(0, 2)
    draw(0, 1)
    list(draw_validation(window, PATCH, settings, 0))
    torch.rand(7)
    np.random.rand(7)  # noqa: NPY002
    assert_same(draw(0, 2), fresh)
    for other in (draw(0, 3), draw(1, 2)):
        assert not any(torch.equal(a[0], b[0]) for a, b in zip(fresh, other, strict=True))
    assert not torch.equal(fresh[0][0], fresh[1][0])


@pytest.mark.parametrize("engine", ["torch", "torchio"])
def test_shares_of_a_batch_are_the_batch(engine: str) -> None:
    sources = make_sources([(9, 9, 9, 12, 12, 12)], [], prior=True)
    augmentation = AUGMENTATION | {"RandomElasticDeformation": {"max_displacement": 5}}
    settings = TRAINING | {"augmentation": augmentation, "augmentation_engine": engine}
    settings |= {"batch_size": 6}
    whole = list(draw_batches(sources, PATCH, settings, 0, 1))
    shares = [list(draw_batches(sources, PATCH, settings, 0, 1, rank, 3)) for rank in range(3)]
    for (images, labels), *parts in zip(whole, *shares, strict=True):
        assert [len(part[0]) for part in parts] == [2, 2, 2]
        torch.testing.assert_close(torch.cat([part[0] for part in parts]), images)
        assert torch.equal(torch.cat([part[1] for part in parts]), labels)


def test_a_batch_without_equal_shares_is_refused(tmp_path: Path) -> None:
    sources = make_sources([(9, 9, 9, 12, 12, 12)])
    with pytest.raises(PetctError, match="batch_size is 2, which 3 GPUs cannot share equally"):
        train(
            torch.nn.Conv3d(2, 1, 1), sources, [], PATCH, TRAINING, 0, CPU, ignore, tmp_path, "",
            rank=0, processes=3,
        )  # fmt: skip


def test_validation_patches_are_fixed_and_at_lesions_and_organs_in_turn() -> None:
    lesions: list[Box] = [(2, 2, 2, 4, 4, 4)]
    arrays = [make_arrays(GRID, lesions, [(16, 16, 16, 18, 18, 18)], seed) for seed in (0, 1)]
    sources = [open_source(study, None, None, PATCH) for study in arrays]
    settings = TRAINING | {"validation_patches": 6, "augmentation": AUGMENTATION}
    patches = list(draw_validation(sources, PATCH, settings, seed=0))
    torch.rand(3)
    assert_same(list(draw_validation(sources, PATCH, settings, seed=0)), patches)
    assert all(images.shape == (1, 2, *PATCH) for images, _ in patches)
    # Both studies at their lesion, both at their hot organ, both at their lesion again.
    assert [bool(label.any()) for _, label in patches] == [True, True, False, False, True, True]
    assert [number_of_study(images[0], sources) for images, _ in patches] == [0, 1, 0, 1, 0, 1]
    assert all((images[0, 1] > 0.7).any() for images, _ in patches)
    other = list(draw_validation(sources, PATCH, settings, seed=1))
    assert not all(torch.equal(a[0], b[0]) for a, b in zip(patches, other, strict=True))
    assert list(draw_validation([], PATCH, settings, seed=0)) == []


def test_one_seed_gives_the_same_weights_to_the_bit() -> None:
    sources = make_sources([(4, 4, 4, 9, 9, 9)], [], [(8, 9, 10, 14, 14, 14)], prior=True)
    settings = TRAINING | {"augmentation": AUGMENTATION}
    results = []
    for seed in (3, 3, 4):
        torch.rand(5)  # the state of the global generator is of no account
        network = build_network(
            "UNet", {"channels": [4, 8], "strides": [2], "num_res_units": 1}, 3, PATCH, seed=0
        )
        results.append(run(network, sources[:2], sources[2:], settings, seed))
    one, two, other = results
    for part in ("last", "best"):
        first, second = getattr(one, part), getattr(two, part)
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(one.last[name], other.last[name]) for name in one.last)
    assert [r | {"seconds": 0} for r in one.history] == [r | {"seconds": 0} for r in two.history]


def test_dropout_is_pinned_down_too_and_the_global_generator_left_alone() -> None:
    sources = make_sources([(4, 4, 4, 9, 9, 9)])
    results = []
    for state in (1, 2):
        network = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Conv3d(2, 1, 1))
        torch.nn.init.ones_(network[1].weight)  # type: ignore[arg-type]
        torch.nn.init.zeros_(network[1].bias)  # type: ignore[arg-type]
        torch.manual_seed(state)
        before = torch.get_rng_state()
        results.append(run(network, sources, [], TRAINING).last)
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(results[0]["1.weight"], results[1]["1.weight"])


# The schedule.


def test_learning_rate_warms_up_falls_as_a_cosine_and_restarts() -> None:
    settings = TRAINING | {
        "epochs": 6,
        "steps_per_epoch": 1,
        "learning_rate": 0.1,
        "minimum_learning_rate": 0.02,
        "restart_epochs": 3,
        "warmup_steps": 2,
    }
    sources = make_sources([(9, 9, 9, 12, 12, 12)])
    history = run(torch.nn.Conv3d(2, 1, 1), sources, [], settings).history
    # 0.02 + 0.08 (1 + cos(pi t / 3)) / 2 is 0.1, 0.08, 0.04 at t = 0, 1, 2; the first of two
    # steps of warming up takes half of it.
    assert [row["learning_rate"] for row in history] == pytest.approx(
        [0.05, 0.08, 0.04, 0.1, 0.08, 0.04]
    )


def test_the_cosine_falls_within_an_epoch_and_the_last_step_is_told() -> None:
    settings = TRAINING | {"epochs": 2, "steps_per_epoch": 4, "restart_epochs": 1}
    settings |= {"learning_rate": 0.1, "minimum_learning_rate": 0.0}
    sources = make_sources([(9, 9, 9, 12, 12, 12)])
    history = run(torch.nn.Conv3d(2, 1, 1), sources, [], settings).history
    last = 0.1 * (1 + math.cos(math.pi * 3 / 4)) / 2
    assert [row["learning_rate"] for row in history] == pytest.approx([last, last])


# Learning.


def test_bright_blocks_are_learnt() -> None:
    boxes: list[Box] = [(3, 3, 3, 8, 8, 8), (11, 11, 11, 16, 17, 18)]
    sources = make_sources(boxes[:1], boxes[1:], boxes)
    settings = TRAINING | {"epochs": 4, "steps_per_epoch": 10, "learning_rate": 0.2}
    result = run(torch.nn.Conv3d(2, 1, 1), sources[:2], sources[2:], settings)
    losses = [row["train_loss"] for row in result.history]
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4]
    assert losses[-1] < 0.5 * losses[0]
    assert result.history[-1]["validation_dice"] > 0.95
    # What was learnt is that SUV, the second channel, tells lesions.
    ct, suv = result.last["weight"].ravel().tolist()
    assert suv > 1 > abs(ct)


class Answers(torch.nn.Module):
    """Takes the next of some constant logits in each epoch of one step, and learns nothing."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.number = torch.nn.Parameter(torch.zeros(1))
        self.logits = logits
        self.epoch = torch.nn.Buffer(torch.tensor(-1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.epoch.add_(1)
        return 0 * self.number + torch.full_like(images[:, :1], self.logits[int(self.epoch)])


def test_the_best_epoch_has_the_lowest_validation_loss() -> None:
    sources = make_sources([(9, 9, 9, 12, 12, 12)], [])
    settings = TRAINING | {"epochs": 4, "steps_per_epoch": 1, "lesion_share": 1.0}
    # A study without lesions: the lower the logit, the lower the loss.
    result = run(Answers([0.0, -3.0, -9.0, -3.0]), sources[:1], sources[1:], settings)
    losses = [row["validation_loss"] for row in result.history]
    assert losses.index(min(losses)) == 2
    assert result.best_epoch == 3
    assert (result.best["epoch"], result.last["epoch"]) == (2, 3)
    # All background where there is no lesion: Dice is not defined, at a half it is 0.
    assert math.isnan(result.history[2]["validation_dice"])


def test_without_validation_the_last_epoch_is_the_best() -> None:
    sources = make_sources([(9, 9, 9, 12, 12, 12)])
    result = run(torch.nn.Conv3d(2, 1, 1), sources, [], TRAINING)
    assert result.best_epoch == TRAINING["epochs"]
    assert all(torch.equal(result.best[name], result.last[name]) for name in result.last)
    assert all(math.isnan(row["validation_loss"]) for row in result.history)


def test_saved_weights_do_not_change_as_training_goes_on(tmp_path: Path) -> None:
    sources = make_sources([(9, 9, 9, 12, 12, 12)])
    # Turned labels for validation: the better it is trained, the worse it does there.
    turned = make_arrays(GRID, [(9, 9, 9, 12, 12, 12)])
    turned.image[1] *= -1
    settings = TRAINING | {"epochs": 3, "learning_rate": 0.5}
    network = torch.nn.Conv3d(2, 1, 1)
    torch.nn.init.zeros_(network.weight)
    seen = []

    def look(row: dict[str, float]) -> None:
        seen.append(network.weight.detach().clone())

    validation = [open_source(turned, None, None, PATCH)]
    result = train(network, sources, validation, PATCH, settings, 0, CPU, look, tmp_path, "key")
    assert result.best_epoch == 1
    assert torch.equal(result.best["weight"], seen[0])
    assert torch.equal(result.last["weight"], seen[-1])
    assert not any(torch.equal(a, b) for a, b in pairwise(seen))


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    sources = make_sources([(9, 9, 9, 12, 12, 12)], [])
    settings = TRAINING | {"epochs": 4, "steps_per_epoch": 2}
    network = Answers([0.0, 0.0, 0.0, float("nan"), 0.0, 0.0])
    with pytest.raises(PetctError, match=r"in step 2 of epoch 2; lower training.learning_rate \("):
        train(network, sources, [], PATCH, settings, 0, CPU, ignore, tmp_path, "key")
    state = load_state(tmp_path, "key")
    assert state is not None and (state.epoch, state.last["epoch"]) == (1, 1)
    assert [row["epoch"] for row in state.history] == [1]
    # Other settings are another key: what is kept is not gone on from.
    result = train(
        Answers([0.0] * 8), sources, [], PATCH, settings, 0, CPU, ignore, tmp_path, "new"
    )
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4]


class Explodes(torch.nn.Module):
    """Its loss is finite and its gradient is not: the derivative of a root at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.number = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.number.sqrt() + torch.zeros_like(images[:, :1])


def test_a_gradient_that_is_not_a_number_stops_before_it_is_saved(tmp_path: Path) -> None:
    sources = make_sources([(9, 9, 9, 12, 12, 12)], [])
    with pytest.raises(PetctError, match=r"in step 1 of epoch 1; .*; no epoch was finished before"):
        train(Explodes(), sources, [], PATCH, TRAINING, 0, CPU, ignore, tmp_path, "key")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("validation", [True, False])
def test_a_training_goes_on_to_the_bit(
    tmp_path: Path, validation: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = make_sources([(4, 4, 4, 9, 9, 9)], [], [(8, 9, 10, 14, 14, 14)])
    settings = TRAINING | {
        **{"epochs": 6, "restart_epochs": 4, "warmup_steps": 5, "learning_rate": 0.1},
        "augmentation": AUGMENTATION,
    }
    arguments = {
        "channels": [4, 8],
        "strides": [2],
        "num_res_units": 1,
        "dropout": 0.3,
        "norm": "batch",
    }

    def run_until(stop: int, folder: Path, key: str = "key") -> TrainingState:
        def report(row: dict[str, float]) -> None:
            if row["epoch"] == stop:
                raise InterruptedError

        network = build_network("UNet", arguments, 2, PATCH, seed=0)
        watched = sources[2:] if validation else []
        return train(network, sources[:2], watched, PATCH, settings, 0, CPU, report, folder, key)

    whole = run_until(7, tmp_path / "whole")
    assert "going on" not in capsys.readouterr().out
    for stop in (2, 3, 5):
        with pytest.raises(InterruptedError):
            run_until(stop, tmp_path / "parts")
    result = run_until(7, tmp_path / "parts")
    assert capsys.readouterr().out.count("going on after epoch") == 3
    for part in ("last", "best"):
        first, second = getattr(whole, part), getattr(result, part)
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert result.best_epoch == whole.best_epoch
    rows = [[row | {"seconds": 0} for row in each.history] for each in (result, whole)]
    assert str(rows[0]) == str(rows[1])
    # Of another job nothing is taken.
    other = run_until(7, tmp_path / "parts", "other")
    assert str(other.last) == str(whole.last) and "going on" not in capsys.readouterr().out
