"""What the scripts that made the shipped models compute: the losses and settings that the cards name."""

import re
from pathlib import Path

import pandas as pd
import torch
from scripts import scripts

from shared import editions, encodings, instruction, models
from shared.gpt_model import GPTModel

ROOT = Path(__file__).resolve().parents[1]
CARD = (models.ASSISTANT_GPT / "README.md").read_text(encoding="utf-8")
CFG = {"vocab_size": 4096, "context_length": 128, "emb_dim": 16, "n_heads": 2, "n_layers": 1}
CFG |= {"drop_rate": 0.0, "qkv_bias": True, "tie_weights": True}


def script(chapter, *names):
    """The first of these scripts that is there."""
    folder = ROOT / chapter
    (found,) = scripts(folder, next(name for name in names if (folder / f"{name}.py").exists()))
    return found


assistant = script("ch07_instruction", "make_assistant", "finetune")
spam = script("ch06_classification", "make_spam_gpt", "finetune")


def test_the_assistant_learns_its_answers_alone(monkeypatch, tmp_path):
    """By what the script hands to training: targets, prompts, optimizers, rate, what is trained."""
    entries = editions.read_instructions(editions.INSTRUCTIONS)
    few = [e for e in entries if e["split"] == "train"][:8]
    few += [e for e in entries if e["split"] == "validation"][:2]
    model, seen = GPTModel(CFG), {}
    monkeypatch.setattr(models, "pretrained", lambda: (model, CFG))
    monkeypatch.setattr(editions, "instructions", lambda: few)

    class Enough(Exception):
        pass

    def training(model, loader, validation, optimizer, device, epochs, peak, **given):
        seen.update(batches=[*loader], optimizer=optimizer, epochs=epochs, peak=peak)
        seen["frozen"] = [n for n, p in model.named_parameters() if not p.requires_grad]
        raise Enough

    monkeypatch.setattr(assistant, "finetune", training)
    try:
        assistant.main(["--out", str(tmp_path / "model")])
    except Enough:
        pass
    tokenizer = encodings.course_encoding(first=True)
    learned = [targets[targets != -100] for _, batch in seen["batches"] for targets in batch]
    said = sorted(tokenizer.decode(ids[:-1].tolist()).strip() for ids in learned)
    assert said == sorted(e["output"] for e in few[:8]), "the loss is not on the answers alone"
    assert all(ids[-1] == tokenizer.eot_token for ids in learned), "no end is learned"
    read = sorted(tokenizer.decode(ids.tolist()) for batch, _ in seen["batches"] for ids in batch)
    prompts = sorted(instruction.short_prompt(entry) for entry in few[:8])
    assert all(text.startswith(prompt) for text, prompt in zip(read, prompts)), "another prompt"
    assert seen["frozen"] == ["tok_emb.weight"], "the card: the embedding is left as it was"
    kinds = [type(one).__name__ for one in seen["optimizer"].optimizers]
    assert len(kinds) == 2 and "AdamW" in kinds and any("Muon" in kind for kind in kinds), (
        f"the card: Muon and AdamW, not {kinds}"
    )
    assert (seen["epochs"], seen["peak"]) == (2, 8e-4), "the first command of the card says neither"


def test_the_card_names_the_assistants_settings():
    for part in (
        "`shared.instruction.short_prompt`",
        "batches of 32",
        "loss on the answers alone",
        "Muon for the blocks' matrices",
    ):
        assert part in CARD
    commands = re.findall(r"^python \S+ (--out .*)$", CARD, re.MULTILINE)
    seen = []

    def taken(options):
        seen.append((options.batch, options.epochs, options.peak, options.extra, options.seed))

    make, assistant.make_assistant = assistant.make_assistant, taken
    try:
        for command in commands:
            assistant.main(command.split())
    finally:
        assistant.make_assistant = make
    assert seen == [
        (32, 2, 8e-4, 3500, 123),
        (32, 1, 8e-4, 8000, 124),
        (32, 1, 8e-4, 8000, 125),
        (32, 1, 5e-4, 5000, 126),
    ], "the script's defaults are not those of the commands that made assistant_gpt"


def test_the_spam_classifier_reads_and_learns_as_its_card_says():
    """What the two stages hand to training; the card's numbers are compared in test_cards.py."""
    torch.manual_seed(1)
    model, seen = GPTModel(CFG).eval(), []
    texts = [f"message {i} of some words" for i in range(40)]
    split = ["train"] * 34 + ["validation"] * 6
    table = pd.DataFrame({"label": ["ham", "spam"] * 20, "text": texts, "split": split})
    train = spam.train

    def training(model, loader, loss_of, epochs, peak, *given):
        dropouts = {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)}
        kept = [name for name, p in model.named_parameters() if not p.requires_grad]
        seen.append((epochs, peak, max(map(len, (b[0] for b in loader))), dropouts, kept))
        return []

    spam.train = training
    try:
        tokenizer = encodings.course_encoding()
        spam.read_on(model, CFG, texts[:34], tokenizer)
        spam.learn_labels(model, CFG, table, tokenizer)
    finally:
        spam.train = train
    assert seen == [(4, 1e-3, 32, {0.1}, []), (3, 6e-4, 16, {0.1}, [])]
