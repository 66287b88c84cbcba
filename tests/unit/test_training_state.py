"""What a training goes on from: whole, its own, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from petct.training_state import TrainingState, load_state, save_state


def make_state(epoch: int) -> TrainingState:
    network = torch.nn.Conv3d(2, 1, 1)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2, 3, 3, 3)).sum().backward()
    optimiser.step()
    last = {name: w.detach() for name, w in network.state_dict().items()}
    history = [{"epoch": 1.0, "validation_loss": float("nan")}]
    return TrainingState(epoch, last, optimiser.state_dict(), {}, 9, 0.5, history, ["float32"])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_state_comes_back_and_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    assert load_state(tmp_path, "key") is None
    save_state(tmp_path, "key", make_state(1))
    state = make_state(2)
    save_state(tmp_path, "key", state)
    assert names(tmp_path) == ["epoch-2.pt", "state.json"]
    loaded = load_state(tmp_path, "key")
    assert loaded is not None
    assert (loaded.epoch, loaded.best_epoch, loaded.best_loss) == (2, 9, 0.5)
    assert str(loaded.history) == str(state.history)
    for name, weights in state.last.items():
        assert torch.equal(loaded.last[name], weights)
        assert loaded.last[name].stride() == weights.stride()
    for number, moments in state.optimiser["state"].items():
        assert all(torch.equal(loaded.optimiser["state"][number][k], moments[k]) for k in moments)


def test_a_state_of_another_job_is_ignored_and_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_state(tmp_path, "key", make_state(7))
    assert load_state(tmp_path, "other") is None
    assert "is of other code, settings or data: starting anew" in capsys.readouterr().out
    save_state(tmp_path, "other", make_state(1))
    assert names(tmp_path) == ["epoch-1.pt", "state.json"]
    assert load_state(tmp_path, "key") is None


@pytest.mark.parametrize("name", ["epoch-3.pt", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "emptied", "removed"])
def test_a_damaged_state_is_ignored(
    tmp_path: Path, name: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_state(tmp_path, "key", make_state(3))
    path = tmp_path / name
    content = path.read_bytes()
    middle = len(content) // 2
    if damage == "removed":
        path.unlink()
    else:
        changed = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes({"cut": content[:-9], "changed": changed, "emptied": b""}[damage])
    assert load_state(tmp_path, "key") is None
    told = capsys.readouterr().out
    assert ("starting anew" in told) != (name == "state.json" and damage == "removed")


def test_what_a_kill_left_half_written_is_of_no_account_and_goes(tmp_path: Path) -> None:
    save_state(tmp_path, "key", make_state(3))
    whole = (tmp_path / "epoch-3.pt").read_bytes()
    (tmp_path / "epoch-4.pt.tmp").write_bytes(whole[:100])
    loaded = load_state(tmp_path, "key")
    assert loaded is not None and loaded.epoch == 3
    save_state(tmp_path, "key", make_state(5))
    assert names(tmp_path) == ["epoch-5.pt", "state.json"]
