"""Packing by bytes and backing off, on devices that only add up."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.host.heartbeat import available
from orchestrator.host.slots import slots_that_pay
from orchestrator.scheduling.memory import (
    CONTEXT,
    CUDA,
    ENOUGH,
    MARGIN,
    SHARE,
    TELLING,
    DeviceMemory,
    Learned,
    data_bytes,
    form,
)
from orchestrator.workers.executor import Place
from trainer import RunSpec, cost
from trainer.data import datasets
from trainer.host.limits import Memory
from trainer.model.b_mlp import FAMILY

GIB = 2**30


def run(width=512, batch_size=64, seed=0, **said):
    settled = {"inputs": 3072, "classes": 10, "fingerprint": "f", "steps": 10, **said}
    return RunSpec(width=width, batch_size=batch_size, seed=seed, depth=4, **settled)


def memory_of(*places, data=lambda *_: 0, **said):
    return DeviceMemory(lambda: places, data=data, **said)


def test_a_device_is_filled_by_bytes_and_freed_again():
    one = run()
    needs = memory_of().bytes([one], "cuda")
    memory = memory_of(Place("gpu0", "cuda", 2.5 * needs / SHARE))
    assert [memory.give(i, [one], ["gpu0"]) for i in range(3)] == ["gpu0", "gpu0", None]
    memory.take_back(0)
    assert memory.give(3, [one], ["gpu0"]) == "gpu0"
    assert memory.give(4, [one], []) is None


def test_a_stack_that_is_only_tested_takes_memory_too():
    tested = [run(examples=0, steps=0, parent=parent) for parent in "pq"]
    assert form(tested) == 2 * form(tested[:1]) == form([run(), run(seed=1)])


def test_the_emptiest_device_comes_first():
    memory = memory_of(Place("gpu0", "cuda", 40 * GIB), Place("gpu1", "cuda", 80 * GIB))
    both = ["gpu0", "gpu1"]
    assert [memory.give(i, [run(width=4096)], both) for i in range(2)] == ["gpu1", "gpu1"]
    assert memory.give(2, [run(width=8192)], ["gpu0"]) == "gpu0"


def test_a_device_without_a_free_slot_is_given_nothing_though_it_is_the_emptiest():
    memory = memory_of(Place("gpu0", "cuda", 80 * GIB), Place("gpu1", "cuda", 40 * GIB))
    assert memory.give(0, [run()], ["gpu1"]) == "gpu1"
    assert memory.give(1, [run()], []) is None


def test_a_tenth_of_a_device_is_never_given_away():
    needs = memory_of().bytes([run()], "cuda")
    for size, place in ((2 * needs / 0.9 + 1, "gpu0"), (2 * needs / 0.9 - 1, None)):
        memory = memory_of(Place("gpu0", "cuda", size))
        memory.give(0, [run()], ["gpu0"])
        assert memory.give(1, [run()], ["gpu0"]) == place


def test_an_empty_device_takes_what_is_too_large_and_nothing_beside_it():
    memory = memory_of(Place("gpu0", "cuda", GIB))
    large = run(width=8192)
    assert not memory.fits([large])
    assert memory.give(0, [large], ["gpu0"]) == "gpu0"
    assert memory.give(1, [run(width=16)], ["gpu0"]) is None


def test_a_device_that_nobody_has_looked_at_holds_one_bundle():
    memory = memory_of(Place("gpu0", "cuda"))
    assert memory.fits([run(width=8192)])
    assert [memory.give(i, [run(width=16)], ["gpu0"]) for i in range(2)] == ["gpu0", None]


def test_a_stack_takes_as_much_as_its_widest_rung():
    runs = [run(seed=seed, steps=steps) for seed in range(3) for steps in (10, 20)]
    assert form(runs) == 3 * form(runs[:1])
    assert form([run(batch_size=4096, accumulate=4)]) < form([run(batch_size=4096)])


def test_an_evaluation_of_1024_examples_counts_where_it_takes_more_than_a_step():
    """Inputs, the widest hidden layer's input and output, and logits, in fp32: the first two lie there twice."""
    one, shape = run(batch_size=1), cost.shape_of(run(batch_size=1))
    layers = FAMILY.layers(shape)
    assert [layer.inputs + layer.outputs for layer in layers] == [3584, *[2560] * 8, 522]
    evaluation = 4 * 1024 * (2 * 3072 + 2 * 2560 + 4 * 10)
    without_batch = cost.memory_bytes(shape, 0, one.optimizer)
    assert cost.memory_bytes(shape, 1, one.optimizer) < form([one]) == without_batch + evaluation
    large = run(batch_size=8192)
    assert form([large]) == cost.memory_bytes(shape, 8192, one.optimizer) > without_batch + evaluation


@pytest.mark.parametrize(
    ("fields", "kind", "width"),
    [
        ({}, "cuda", 4),
        ({"precision": "bf16"}, "cuda", 2),
        ({"augment": "crop"}, "cuda", 4),
        ({"augment": "resized-crop"}, "cuda", 0),
        ({}, "mps", 0),
        ({}, "cpu", None),
        ({"augment": "crop"}, "cpu", 1),
        ({"augment": "resized-crop"}, "cpu", None),
        ({"loader": "mmap"}, "cuda", None),
    ],
)
def test_bytes_of_a_data_set_on_a_device(fields, kind, width, planned):
    """As it came and, on a GPU, as the first layer takes it, too. In a machine's memory it lies once for all.

    Not so the mirror images that a CPU keeps; they are bytes.
    """
    one = replace(planned().runs[0], **fields)
    inputs = datasets.load(one).inputs
    assert inputs.size == len(inputs) * one.inputs > 0
    assert data_bytes(one, kind) == (0 if width is None else inputs.nbytes + width * inputs.size)


def test_a_data_set_on_the_device_counts():
    memory = memory_of(data=lambda _, kind: 5 * GIB if kind == "cuda" else 0)
    assert memory.bytes([run()], "cuda") - memory.bytes([run()], "cpu") == CUDA + 5 * GIB


# what peaks teach


def taught(factor, context=GIB, ratios=ENOUGH):
    known = Learned().after(1000, context)
    for _ in range(ratios):
        known = known.after(4 * TELLING, int(context + 4 * TELLING * factor))
    return known


@pytest.mark.parametrize("factor", [0.8, 2.5])
def test_the_factor_and_the_context_are_learned_from_peaks(factor):
    memory = memory_of(learned=dict.fromkeys(("cpu", "cuda"), taught(factor).__dict__))
    big = run(width=2048)
    assert memory.bytes([big], "cpu") == pytest.approx(GIB + factor * form([big]), rel=0.06)
    assert memory.bytes([big], "cuda") == CUDA + memory.bytes([big], "cpu")  # torch does not see CUDA's own
    assert memory_of().bytes([big], "cpu") == CONTEXT + MARGIN * form([big])


def test_a_data_set_on_the_device_teaches_nothing_about_the_process():
    memory = memory_of(Place("gpu0", "cuda", 80 * GIB), data=lambda *_: 5 * GIB)
    memory.give(0, [run(width=64)], ["gpu0"])
    memory.take_back(0, [run(width=64)], 5 * GIB + 1000)
    assert memory.to_dict()["cuda"]["context"] == 1000


def test_a_few_peaks_raise_the_promise_and_do_not_lower_it():
    assert taught(0.5, ratios=ENOUGH - 1).factor == MARGIN
    assert taught(3.0, ratios=1).factor > 3


def test_what_was_learned_is_kept():
    memory = memory_of(Place("gpu0", "cuda", 80 * GIB))
    for peak in (2 * GIB, 3 * GIB):
        memory.give(0, [run(width=4096)], ["gpu0"])
        memory.take_back(0, [run(width=4096)], peak)
    again = memory_of(Place("gpu0", "cuda", 80 * GIB), learned=memory.to_dict())
    assert again.bytes([run()], "cuda") == memory.bytes([run()], "cuda")
    assert again.to_dict()["cuda"]["n"] == 2


# out of memory


def test_a_run_that_ran_out_goes_alone_then_in_parts_then_is_given_up_with_the_figure():
    one, memory = run(batch_size=96), memory_of(Place("gpu0", "cuda", GIB))
    before = memory.bytes([one], "cuda")
    assert memory.exhausted(one)
    assert memory.as_tried([one]) == [one]
    beside = CUDA + CONTEXT
    assert memory.bytes([one], "cuda") - beside == pytest.approx(1.5 * (before - beside))
    parts = []
    while memory.exhausted(one):
        parts.append(memory.as_tried([one])[0].accumulate)
    assert parts == [4, 16, 96]
    assert all(replace(one, accumulate=n).run_id == one.run_id for n in parts)
    assert "GiB on gpu0, with batches in 96 parts" in memory.figure(one)
    assert memory.as_tried([run(seed=1)]) == [run(seed=1)]


def test_a_stack_takes_as_much_as_its_hungriest_run_was_found_to():
    memory, guilty, other = memory_of(Place("gpu0", "cuda", 40 * GIB)), run(seed=0), run(seed=1)
    before = memory.bytes([guilty, other], "cuda") - CUDA - CONTEXT
    memory.exhausted(guilty)
    for stack in ([guilty, other], [other, guilty]):
        assert memory.bytes(stack, "cuda") - CUDA - CONTEXT == pytest.approx(1.5 * before)


@settings(deadline=None, max_examples=60)
@given(
    factors=st.lists(st.floats(0.3, 3), min_size=1, max_size=12),
    widths=st.lists(st.sampled_from([64, 512, 2048]), min_size=12, max_size=12),
    room=st.floats(1, 8),
)
def test_whatever_runs_really_take_all_end_and_only_those_are_given_up_that_fit_nowhere(factors, widths, room):
    """A fake device: what really is in use above its cap ends the stack that came last, as CUDA does."""
    cap = int(room * GIB)
    memory = memory_of(Place("gpu0", "cuda", cap), Place("gpu1", "cuda", cap))
    waiting = [run(width=w, seed=i) for i, w in enumerate(widths[: len(factors)])]
    truth = {one.run_id: factor for one, factor in zip(waiting, factors, strict=True)}

    def really(one):
        return CONTEXT // 2 + truth[one.run_id] * form([one])

    flying, done, given_up, rounds = {}, [], [], 0
    while waiting or flying:
        rounds += 1
        assert rounds < 500
        one = waiting[0] if waiting else None
        place = memory.give(rounds, [one], ["gpu0", "gpu1"]) if one else None
        if place is None:
            stack, (tried, _) = flying.popitem()
            memory.take_back(stack, [tried], int(really(tried)))
            done.append(tried)
            continue
        waiting.pop(0)
        tried = memory.as_tried([one])[0]
        in_use = sum(really(other) for other, where in flying.values() if where == place) + really(tried)
        if in_use <= cap:
            flying[rounds] = tried, place
            continue
        memory.take_back(rounds, [tried])
        (waiting if memory.exhausted(one) else given_up).append(one)
    assert len(done) + len(given_up) == len(factors)
    smallest = [CONTEXT // 2 + truth[one.run_id] * form([replace(one, accumulate=64)]) for one in given_up]
    assert all(needs > cap for needs in smallest)


# how many slots


@pytest.mark.parametrize(
    ("rates", "most", "slots"),
    [
        ({1: 10, 2: 19, 4: 30, 8: 31}, 16, 4),  # grows to 4, and 8 gain nothing
        ({1: 10, 2: 9}, 16, 1),  # a device that one run fills
        ({1: 10, 2: 20, 3: 30}, 3, 3),
        ({1: 10}, 1, 1),
    ],
)
def test_slots_grow_while_the_device_does_more(rates, most, slots):
    asked = []
    assert slots_that_pay(lambda n: (asked.append(n), rates[n])[1], most) == slots
    assert sorted(set(asked)) == sorted(asked)
    assert math.isfinite(max(asked))


def test_a_worker_counts_on_the_least_that_its_machine_or_its_container_has_left(monkeypatch):
    machine, container = Memory(256 * GIB, 200 * GIB), Memory(8 * GIB, 2 * GIB)
    for levels, left in [
        ([machine, container], (0.25, 2 * GIB)),
        ([machine._replace(available=GIB), container], (1 / 256, GIB)),
        ([machine], (200 / 256, 200 * GIB)),
        ([], (1.0, 0)),
    ]:
        monkeypatch.setattr("orchestrator.host.heartbeat.memory", lambda levels=levels: levels)
        assert available() == left
