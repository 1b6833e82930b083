"""Workers per GPU: decided from measured curves, with the sweep's main stack, and remembered."""

from dataclasses import replace

import pytest

from orchestrator.host import slots as module
from orchestrator.host.slots import (
    MOST_SLOTS_PER_GPU,
    keep_slots,
    known_slots,
    main_stack,
    seconds_each,
    slots_that_pay,
)
from orchestrator.host.speed import TYPICAL
from orchestrator.scheduling.stacks import group_into_stacks


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path))


@pytest.mark.parametrize(
    ("seconds", "pay"),
    [
        ({1: 1.0, 2: 2.0, 4: 4.0, 8: 8.0}, 1),  # one captured stack keeps the card busy: others only take turns
        ({1: 1.0, 2: 2.3, 4: 10.6, 8: 30.0}, 1),  # workers that hold each other up
        ({1: 1.0, 2: 1.05, 4: 2.1, 8: 4.2}, 2),  # the card idles half of the time
        ({1: 1.0, 2: 1.0, 4: 1.1, 8: 1.3}, 8),  # launches are all that takes time
    ],
)
def test_as_many_workers_share_a_card_as_raise_what_it_does(seconds, pay):
    """Seconds of a step on so many workers at once."""
    assert slots_that_pay(lambda slots: slots / seconds[slots], MOST_SLOTS_PER_GPU) == pay


@pytest.mark.parametrize("most", [1, 2, 5, 8])
def test_all_that_is_tried_takes_three_seconds(most):
    tried = []
    slots_that_pay(lambda slots: tried.append(slots) or float(slots), most)
    assert len(tried) * seconds_each(most) == pytest.approx(module.SECONDS)


def test_the_stack_that_is_tried_is_one_that_takes_most_of_the_time(planned):
    runs = planned(width="[16, 512]", seeds=4).runs
    crop = [replace(run, augment="crop", seed=9) for run in runs if run.width == 512]
    dear = replace(TYPICAL, moved=1e-2)
    stacks = group_into_stacks([*runs, *crop], speed=dear)
    assert {run.augment for run in main_stack(stacks, dear)} == {"crop"}
    assert main_stack(stacks, dear) in stacks
    assert main_stack([], dear) == ()


def test_what_pays_is_remembered_for_like_stacks_and_the_present_code(planned, monkeypatch):
    (run,) = planned(width="64", seeds=1).runs
    assert known_slots([run]) is None
    keep_slots([run], 2)
    keep_slots([replace(run, width=512)], 1)
    assert known_slots([run]) == 2
    assert known_slots([replace(run, width=80)]) == 2
    assert known_slots([replace(run, width=512)]) == 1
    for other in (replace(run, width=160), replace(run, augment="crop"), replace(run, precision="bf16")):
        assert known_slots([other]) is None
    keep_slots([run], 4)
    assert known_slots([run]) == 4
    monkeypatch.setattr(module, "code_version", lambda: "later")
    assert known_slots([run]) is None
