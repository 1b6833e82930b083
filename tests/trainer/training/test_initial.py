"""Runs that begin with another's parameters: probes, fine-tuning, test-time augmentation. The validation split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.trainer.reference import forward, initial_row, numbers, slots
from trainer import RunSpec, SpecError, cost, train
from trainer.checkpoints.checkpoints import kept_parameters
from trainer.data import datasets
from trainer.data.augment.draws import placement_block, placement_planes
from trainer.data.augment.transforms import planes, resized
from trainer.data.batches import Resident
from trainer.model.official import save_official
from trainer.presets import PRESETS
from trainer.training.evaluate import CHUNK, Evaluation
from trainer.training.stack import Stack

CPU = torch.device("cpu")
PARENT = RunSpec(width=16, batch_size=64, examples=64 * 40)
CROPS = {"augment": "flip+resized-crop", "crop_scale": 0.5}


def resolved(spec):
    return datasets.resolve(spec, datasets.describe(spec))


def go(specs, folder, **said):
    return train(specs, device="cpu", evaluations=3, checkpoints=folder, **said)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """(folder, result) of a parent that was kept."""
    folder = tmp_path_factory.mktemp("kept")
    return folder, go(PARENT, folder, keep=True)


def child(kept, **said):
    return replace(PARENT, parent=kept[1].run_id, **said)


# beginning


def test_a_run_tested_only_is_its_parent_and_costs_nothing(kept):
    result = go(child(kept, examples=0), kept[0])
    assert (result.state, result.error, result.loss) == ("done", kept[1].error, kept[1].loss)
    assert (result.steps, result.flops, result.history) == (0, 0, ())


def test_training_goes_on_from_the_parents_parameters(kept):
    result = go(child(kept, lr=1e-6, examples=64), kept[0])
    assert result.error == pytest.approx(kept[1].error, abs=0.01)
    assert result.loss == pytest.approx(kept[1].loss, rel=1e-3)


def test_another_data_set_gets_a_head_of_its_own(kept, tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 16, (80, 8, 8), dtype=np.uint8), np.arange(80) % 10
    np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    spec = child(kept, examples=64, dataset="own", path=str(tmp_path / "own.npz"), trains="head", lr=1e-30)
    weights = kept_parameters(kept[0], go(spec, kept[0], keep=True).run_id)[1]
    theirs, shape = kept_parameters(kept[0], kept[1].run_id)[1], cost.shape_of(resolved(spec))
    fresh = initial_row(shape, spec.seed)
    for slot in slots(shape):
        end = slot.start + weights[slot.name].numel()
        expected = fresh[slot.start : end] if slot.name.startswith("head.") else theirs[slot.name].flatten()
        assert torch.equal(weights[slot.name].flatten(), expected)


@pytest.mark.parametrize(
    ("said", "about"),
    [({"width": 32}, "embed.weight is"), ({"depth": 3}, "block2"), ({"depth": 1}, "block1"), ({}, "No such file")],
)
def test_a_parent_that_does_not_fit_is_refused(kept, tmp_path, said, about):
    with pytest.raises(SpecError, match=about):
        go(child(kept, examples=0, **said), kept[0] if said else tmp_path)


def test_a_parent_needs_a_folder(kept):
    with pytest.raises(SpecError, match="needs the folder of checkpoints"):
        train(child(kept, examples=0), device="cpu")


def test_nothing_to_train_needs_a_parent():
    with pytest.raises(SpecError, match="examples: 0 is not a whole number of at least 1"):
        RunSpec(examples=0)


def test_an_official_checkpoint_is_a_start(kept, tmp_path):
    file, shape = tmp_path / "B_2-Wi_16", cost.shape_of(resolved(PARENT))
    save_official(file, shape, kept_parameters(kept[0], kept[1].run_id)[1], channels=1)
    spec = replace(PARENT, start=str(file), examples=0)
    assert train(spec, device="cpu").error == kept[1].error
    moved = file.rename(tmp_path / "elsewhere")
    assert resolved(spec_at(spec, moved)).run_id == resolved(spec_at(spec, moved)).run_id != resolved(PARENT).run_id
    with pytest.raises(SpecError, match="start: no checkpoint at"):
        train(spec, device="cpu")


def test_an_official_checkpoint_may_lie_behind_a_url(kept, ftp):
    file, shape = ftp.folder / "data" / "B_2-Wi_16", cost.shape_of(resolved(PARENT))
    save_official(file, shape, kept_parameters(kept[0], kept[1].run_id)[1], channels=1)
    far = replace(PARENT, start=ftp.url(file.name), examples=0)
    assert train(far, device="cpu").error == kept[1].error
    ftp.stop()
    assert resolved(far).run_id == resolved(spec_at(far, file)).run_id


def spec_at(spec, file):
    return replace(spec, start=str(file))


# probes


@pytest.mark.parametrize("optimizer", ["lion", "sgd", "adamw"])
def test_a_probe_trains_its_head_and_nothing_else(kept, optimizer):
    said = {"optimizer": optimizer, "trains": "head", "weight_decay": 0.1, "lr": 1e-2}
    weights = kept_parameters(kept[0], go(child(kept, **said), kept[0], keep=True).run_id)[1]
    before = kept_parameters(kept[0], kept[1].run_id)[1]
    changed = {name for name in weights if not torch.equal(weights[name], before[name])}
    assert changed == {"head.weight", "head.bias"}


@pytest.mark.parametrize("family", ["b-mlp", "s-mlp"])
def test_a_probes_flops_are_those_that_torch_counts(family):
    run = resolved(RunSpec(family=family, depth=3, width=32, trains="head", examples=64, batch_size=32))
    stack = Stack([run], CPU)
    with FlopCounterMode(display=False) as counter:
        stack.backward(stack.logits(torch.randn(1, 32, 64)).sum())
    assert cost.flops_per_example(cost.shape_of(run)) * 32 == counter.get_total_flops()


def test_probes_of_several_parents_are_the_same_in_any_company(kept):
    other = go(replace(PARENT, seed=1), kept[0], keep=True)
    probes = [child(kept, trains="head", lr=1e-2), child(kept, trains="head", lr=1e-3, clip=0.1)]
    probes.append(replace(probes[0], parent=other.run_id, seed=1))
    alone = [numbers(go(probe, kept[0])) for probe in probes]
    assert len(set(alone)) == 3
    assert [numbers(result) for result in go(probes, kept[0])] == alone


def test_a_stopped_probe_goes_on_as_if_it_never_was(kept):
    probe = child(kept, trains="head", optimizer="lion", examples=64 * 200)
    whole, asked = go(probe, kept[0]), []
    stopped = go(probe, kept[0], should_stop=lambda: asked.append(1) or len(asked) == 2)
    assert stopped.state == "cancelled"
    assert numbers(go(probe, kept[0])) == numbers(whole)


# test-time augmentation


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_tta_averages_the_outputs_of_augmented_copies(kept, average):
    spec = child(kept, examples=0, tta=3, tta_average=average, **CROPS)
    result, run = go(spec, kept[0]), resolved(spec)
    arrays = datasets.load(run)
    test = datasets.split(arrays, run).test
    padded = np.pad(test, (0, -len(test) % 32))
    weights = {name: w[None] for name, w in kept_parameters(kept[0], kept[1].run_id)[1].items()}
    images, names = torch.from_numpy(arrays.inputs[padded]), placement_planes(run)
    drawn = torch.from_numpy(placement_block(run, "tta/0", (3, len(padded))))
    assert len(test) < CHUNK
    outputs = []
    for copy in drawn:
        made = resized(images, planes(names, copy.unbind()), (8, 8, 1), torch.float32)
        x = (made.reshape(1, -1, 64) - 5) / 6
        logits = forward(weights, x, cost.shape_of(run), "gelu")[0, : len(test)]
        outputs.append(logits if average == "logits" else logits.softmax(-1))
    mean = torch.stack(outputs).mean(0)
    wrong = mean.argmax(-1).numpy() != arrays.labels[test]
    assert result.error == pytest.approx(wrong.mean(), abs=1e-12)
    p = mean.softmax(-1) if average == "logits" else mean
    nll = -p[torch.arange(len(test)), torch.from_numpy(arrays.labels[test])].log().mean()
    assert result.loss == pytest.approx(float(nll), rel=1e-5)


def test_tta_is_the_same_in_any_company(kept):
    specs = [child(kept, examples=64, tta=2, seed=seed, **CROPS) for seed in range(3)]
    assert [numbers(r) for r in go(specs, kept[0])] == [numbers(go(s, kept[0])) for s in specs]


def test_tta_without_augmentation_is_refused():
    with pytest.raises(SpecError, match="tta: averages over augmented copies"):
        RunSpec(examples=64, tta=2)


# validation


def test_records_are_of_the_validation_split_and_the_end_of_the_test_split():
    spec = replace(PARENT, validation=0.2)
    result = train(spec, device="cpu")
    last = result.history[-1]
    assert (result.val_error, result.val_loss) == (last.error, last.loss)
    assert result.error != last.error
    plain = train(replace(PARENT, dataset_size=resolved(spec).dataset_size), device="cpu")
    assert np.isnan(plain.val_error)
    assert plain.error == plain.history[-1].error


def test_a_stopped_run_with_a_validation_split_has_no_test_error():
    asked = replace(PARENT, validation=0.2, examples=64 * 300)
    result = train(asked, device="cpu", should_stop=lambda: True, evaluations=12)
    assert result.state == "cancelled"
    assert np.isnan(result.error)
    assert 0 <= result.val_error <= 1


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_validation_split_is_stratified_apart_and_the_same_for_runs_of_one_test_fold(share):
    runs = [resolved(replace(PARENT, validation=share, seed=seed, dataset_size=200)) for seed in (0, 5)]
    arrays = datasets.load(runs[0])
    splits = [datasets.split(arrays, run) for run in runs]
    assert set(splits[0].validation) == set(splits[1].validation)
    assert set(splits[0].train) != set(splits[1].train)
    for split in splits:
        assert len(split.validation) == round(share * 1437)
        parts = [set(split.train), set(split.validation), set(split.test)]
        assert sum(map(len, parts)) == len(set.union(*parts))
        counts = np.bincount(arrays.labels[split.validation])
        everything = np.bincount(arrays.labels[np.setdiff1d(np.arange(1797), split.test)])
        assert np.abs(counts - share * everything).max() <= 1


def test_what_is_held_out_cannot_be_trained_on():
    with pytest.raises(SpecError, match="1,437, 287 of them held out"):
        resolved(replace(PARENT, validation=0.2, dataset_size=1200))
    with pytest.raises(SpecError, match="validation: zipf"):
        resolved(replace(PARENT, dataset="zipf", validation=0.2))


# metrics


def test_top5_and_real_errors_are_those_of_a_direct_computation():
    rng = np.random.default_rng(0)
    run = resolved(PARENT)
    stack = Stack([run], CPU)
    real = rng.integers(-1, 10, (1797, 2))
    arrays = replace(datasets.load(run), real=real)
    split = datasets.split(arrays, run)
    found = Evaluation(Resident(arrays, CPU), [split])(stack)
    x = (torch.from_numpy(arrays.inputs[split.test]).float() - 5) / 6
    logits = stack.logits(x[None])[0].detach().numpy()
    order = np.argsort(-logits, axis=1)
    in_top5 = (order[:, :5] == arrays.labels[split.test][:, None]).any(1)
    assert found.top5_error[0] == pytest.approx(1 - in_top5.mean(), abs=1e-12)
    labels = real[split.test]
    known = (labels >= 0).any(1)
    right = (labels == order[:, :1]).any(1)
    assert found.real_error[0] == pytest.approx(1 - right[known].mean(), abs=1e-12)
    assert 0 < known.sum() < len(known)


@pytest.mark.parametrize("name", ["probe", "finetune", "tta"])
def test_the_presets_of_the_chain_run(kept, name):
    said = {
        "batch_size": 64,
        **({} if name == "tta" else {"examples": 640}),
        **({"tta": 3} if name == "tta" else {}),
    }
    result = go(RunSpec(parent=kept[1].run_id, width=16, **{**PRESETS[name], **said}), kept[0])
    assert result.state == "done"
    assert result.error < 0.9
