"""PSALM under the same trainer as the others: each task learns, a run resumes to the bit, the options do their work."""

import numpy as np
import pytest
import torch
from psalming import facade, psalm_config, psalm_model, psalm_run, zoo

from anygrain import hub
from anygrain.data.psalm_tasks import PSALMBatchConfig
from anygrain.data.shards import write_shards
from anygrain.eval.training_psalm import evaluate_psalm
from anygrain.models.low_rank import LowRankLinear, merge_low_rank
from anygrain.models.psalm.loss import Target, segmentation_losses
from anygrain.models.psalm.network import Answer
from anygrain.models.psalm.tokenizer import BPETokenizer
from anygrain.train.log import draw_curves, read
from anygrain.train.optim import OptimConfig
from anygrain.train.trainer import Trainer


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """Drawing takes longer than these runs."""
    monkeypatch.setattr("anygrain.train.trainer._draw", lambda out_dir: None)


def losses(folder):
    rows = [{k: v for k, v in row.items() if k.startswith("loss/")} for row in read(folder / "log.jsonl")]
    return [row for row in rows if row]


def only(task):
    return PSALMBatchConfig(tasks={task: 1.0}, categories=4, regions=2, sentences=1)


# task, steps, figure of the evaluation, and what it must reach on the two photos it learnt
LEARNT = {
    "panoptic": (40, "panoptic/iou", 0.6),
    "referring": (40, "referring/iou", 0.6),
    "interactive": (40, "interactive/iou", 0.6),
    "chat": (50, "chat/accuracy", 0.8),
}


@pytest.mark.parametrize("task", LEARNT)
def test_each_task_learns_two_photos(task, tmp_path):
    steps, figure, least = LEARNT[task]
    write_shards(zoo(), tmp_path / "data" / "zoo")
    model = psalm_model()
    rate = OptimConfig(lr=2e-3, image_lr_factor=1.0, schedule="cosine", grad_clip=5.0)
    run = psalm_run(batch=only(task), steps=steps, optim=rate, data=(str(tmp_path / "data" / "zoo"),))
    Trainer(run, model, tmp_path / "run").train()
    totals = [row["loss/total"] for row in losses(tmp_path / "run")]
    assert np.mean(totals[-5:]) < 0.5 * np.mean(totals[:5])
    figures = evaluate_psalm(model.eval(), tmp_path / "data", only(task), 4)
    assert figures[figure] > least
    if task == "panoptic":
        assert figures["panoptic/named"] == 1.0


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_of_all_tasks_resumes_to_the_bit(tmp_path):
    varied = OptimConfig(ema_decay=0.9, weight_decay=0.05, grad_clip=1.0)
    batch = PSALMBatchConfig(tasks={"referring": 1.0, "chat": 1.0, "interactive": 1.0, "panoptic": 1.0}, categories=4)
    run = psalm_run(batch=batch, steps=6, checkpoint_every=3, optim=varied, batch_images=1)
    sources = {"zoo": zoo(), "street": [facade()]}
    straight = psalm_model()
    assert Trainer(run, straight, tmp_path / "one", sources=sources).train() == 6
    first = Trainer(run, psalm_model(), tmp_path / "two", sources=sources)
    save = first._save
    first._save = lambda name, step: (save(name, step), exec("raise KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        first.train()
    torch.manual_seed(12345)
    fresh = psalm_model()
    assert Trainer(run, fresh, tmp_path / "two", sources=sources).train() == 6
    assert same(weights(straight), weights(fresh))
    assert not same(weights(straight), weights(first.model))
    rows = losses(tmp_path / "two")
    assert len({name.split("/")[1] for row in rows for name in row} - {"total"}) >= 2  # curves by task
    draw_curves(tmp_path / "two" / "log.jsonl", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_a_run_is_not_resumed_with_other_words(tmp_path):
    run = psalm_run(batch=only("chat"), steps=1, checkpoint_every=1)
    Trainer(run, psalm_model(), tmp_path, sources={"zoo": zoo()}).train()
    other = psalm_model()
    other.tokenizer = BPETokenizer.learn(["quite other texts"] * 9, 300)
    with pytest.raises(ValueError, match="is not the tokenizer that the data make now"):
        Trainer(run, other, tmp_path, sources={"zoo": zoo()}).train()


def test_the_first_stage_moves_the_projector_alone(tmp_path):
    from anygrain.recipes.psalm_align import PARTS

    model = psalm_model()
    assert all(name.startswith(PARTS) for name, _ in model.named_parameters())
    before = weights(model)
    frozen = tuple(part for part in PARTS if part != "projector.")
    trainer = Trainer(psalm_run(batch=only("caption"), steps=2, freeze=frozen), model, tmp_path, sources={"zoo": zoo()})
    trainer.train()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(before[name], value)}
    assert moved
    assert all(name.startswith("projector.") for name in moved)
    assert losses(tmp_path)[0].keys() == {"loss/caption/text", "loss/total"}
    assert not model.image_encoder.training  # frozen: no path is dropped


def test_low_rank_products_learn_and_become_part_of_the_weights(tmp_path):
    model = psalm_model()
    before = weights(model.language)
    run = psalm_run(batch=only("referring"), steps=3, lora_rank=2, checkpointing=True, freeze=("image_encoder.",))
    Trainer(run, model, tmp_path, sources={"zoo": zoo()}).train()
    assert model.language.checkpointing
    products = [m for m in model.language.modules() if isinstance(m, LowRankLinear)]
    assert len(products) == 2 * 6  # q, k, v, output, two of the feed-forward
    assert all(m.up.weight.any() for m in products)
    tokens = torch.randn(1, 5, 64)
    with torch.no_grad():
        expected = model.eval().language(tokens)
        merge_low_rank(model)
        found = model.language(tokens)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    after = weights(model.language)
    assert after.keys() == before.keys()
    assert torch.equal(after["embedding.weight"], before["embedding.weight"])
    assert not torch.equal(after["layers.0.mlp.fc1.weight"], before["layers.0.mlp.fc1.weight"])
    assert hub.read_model(hub.save(model, tmp_path / "model", card="# tiny\n"))


def test_what_is_unknown_costs_nothing():
    """Outside of its mask a prediction may say anything where nothing is known."""
    torch.manual_seed(0)
    mask = torch.zeros(1, 32, 32)
    mask[:, :16] = 1
    logits = torch.full((2, 32, 32), 9.0)  # wrong in the lower half
    unknown = torch.zeros(32, 32, dtype=torch.bool)
    unknown[15:] = True
    answer = [[Answer(torch.zeros(2, 1), logits)]]
    numbers = torch.zeros(1, dtype=torch.long)
    known, _ = segmentation_losses(answer, [Target(mask, numbers)], "phrase")
    spared, _ = segmentation_losses(answer, [Target(mask, numbers, unknown)], "phrase")
    assert known["mask"] > 5
    assert known["dice"] > 1
    assert spared["mask"] < 0.05
    assert spared["dice"] < 0.05


def test_options_for_a_language_model_need_one(tmp_path):
    from clicking import clicking_model, clicking_run, write_nested

    data = write_nested(tmp_path / "data")
    with pytest.raises(ValueError, match="lora_rank and checkpointing are for a network with a language model"):
        Trainer(clicking_run(data, lora_rank=4), clicking_model(), tmp_path / "run")
    with pytest.raises(ValueError, match="lora_rank must be at least 0"):
        psalm_run(lora_rank=-1)


def test_the_small_recipe_s_size_and_words():
    from anygrain.recipes import psalm_nano

    with pytest.raises(ValueError, match="must be a multiple of 32"):
        psalm_config(input_size=100)
    texts = list(psalm_nano.texts_of([zoo()]))
    assert {"the dog on the grass", "window", "the cat", "It is a dog."} <= set(texts)
    one, two = (BPETokenizer.learn(texts, 400) for _ in range(2))
    assert one.text() == two.text()
    assert len(one.encode("the dog on the grass")) <= 12
