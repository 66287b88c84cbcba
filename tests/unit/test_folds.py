"""Folds: balanced, grouped, and kept when patients are added."""

from collections import Counter

from petct.folds import assign_folds, choose_validation

PATIENTS = {f"p{n:02d}": n % 3 != 0 for n in range(30)}


def test_each_kind_is_spread_evenly() -> None:
    folds = assign_folds(PATIENTS, folds=5, seed=1, kept={})
    for kind in (True, False):
        counts = Counter(folds[p] for p in PATIENTS if PATIENTS[p] == kind)
        assert max(counts.values()) - min(counts.values()) <= 1
    counts = Counter(folds.values())
    assert max(counts.values()) - min(counts.values()) <= 1


def test_added_patients_move_nobody() -> None:
    before = assign_folds(PATIENTS, folds=5, seed=1, kept={})
    more = PATIENTS | {"a new one": True, "zz": False}
    after = assign_folds(more, folds=5, seed=1, kept=before)
    assert {p: after[p] for p in before} == before
    assert set(after) == set(more)


def test_the_seed_decides_and_the_order_of_patients_does_not() -> None:
    one = assign_folds(PATIENTS, folds=5, seed=1, kept={})
    assert one == assign_folds(dict(reversed(PATIENTS.items())), folds=5, seed=1, kept={})
    assert one != assign_folds(PATIENTS, folds=5, seed=2, kept={})


def test_a_kept_fold_that_no_longer_exists_is_drawn_again() -> None:
    folds = assign_folds({"a": True, "b": True}, folds=2, seed=0, kept={"a": 4, "b": 1})
    assert folds == {"a": 0, "b": 1}


def test_validation_patients_are_of_both_kinds_and_few() -> None:
    chosen = choose_validation(PATIENTS, share=0.2, seed=0)
    assert Counter(PATIENTS[p] for p in chosen) == {True: 4, False: 2}
    assert choose_validation(PATIENTS, share=0.0, seed=0) == set()
    # A share that rounds to nobody still takes one positive patient of three.
    assert len(choose_validation({"a": True, "b": True, "c": True}, share=0.1, seed=0)) == 1
