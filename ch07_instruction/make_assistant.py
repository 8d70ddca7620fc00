"""Fine-tune a pretrained model to follow instructions: so chapter 7's assistant was made.

    python ch07_instruction/make_assistant.py --out FOLDER

FOLDER gets config.json, the weights in half precision, log.csv and SHA256SUMS. The state is saved after every
epoch, beside FOLDER. The same command continues a run that was stopped or killed, to the same result. A FOLDER that
holds something else is left alone.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import copy
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import torch
from drawn import balanced, drawn_items, in_talk
from torch.utils.data import DataLoader

from shared import editions, encodings, models, program
from shared.assets import AssetError
from shared.classification import BatchesByLength
from shared.files import landing, written_by
from shared.instruction import (
    InstructionDataset,
    custom_collate_fn,
    fast_dtype,
    finetune,
    generate_responses,
    own_texts,
    reduced,
    rehearsal,
    short_prompt,
)
from shared.optimizers import Together, make_optimizers
from shared.scoring import is_right, text_bits

TEXT = 128  # tokens of a text to rehearse


def train(
    model, entries: list[dict], tokenizer, run, checkpoint: Path | None = None, look=None
) -> list[dict]:
    """Fine-tune on the training entries as `run` says; the losses and the bits per byte of the story, a row an epoch.

    `run`: epochs, batch, peak, answers_only, prompt, optimizer (adamw, or muon for the blocks' matrices),
    keep_tokens: leave the tied embedding as it is (else tokens that are in no answer become ever less likely:
    each step pushes them down a little, which Adam makes as large as any other step); rehearse: how much the
    drift from what the model was at first counts, on `rows` texts in a step that it wrote itself. `look(model, step)`
    is called before the steps in `run.looks`.
    """
    base = copy.deepcopy(model).eval().requires_grad_(False) if run.rehearse else None
    model.tok_emb.weight.requires_grad_(not run.keep_tokens)
    device = next(model.parameters()).device
    collate = functools.partial(
        custom_collate_fn,
        pad_token_id=tokenizer.eot_token,
        allowed_max_length=model.pos_emb.num_embeddings,
        device=device,
    )
    training, validation = (
        InstructionDataset(
            [entry for entry in entries if entry["split"] == split],
            tokenizer,
            mask_instruction=run.answers_only,
            prompt=run.prompt,
        )
        for split in ("train", "validation")
    )
    lengths = [len(item[0] if run.answers_only else item) for item in training]
    batches = BatchesByLength(lengths, run.batch)
    loaders = (
        DataLoader(training, batch_sampler=batches, collate_fn=collate),
        DataLoader(validation, batch_size=64, collate_fn=collate),
    )
    given = SimpleNamespace(optimizer=run.optimizer, lr=run.peak, weight_decay=0.1)
    optimizer = Together(make_optimizers(model, given))
    rehearse = None
    if base:
        texts = written(base, run.texts, tokenizer, checkpoint)
        rehearse = rehearsal(base, texts, run.rehearse, run.rows)

    def at_each_step(model, step):
        """The looks of the caller, and the second loss."""
        if look and step in run.looks:
            look(model, step)
        return rehearse(model, step) if rehearse else 0.0

    story = editions.STORY.read_text(encoding="utf-8")
    each = {"eval_freq": len(batches), "checkpoint": checkpoint, "dtype": fast_dtype(device)}
    each |= {
        "rehearse": at_each_step,
        "watch": lambda model: {"bits": text_bits(model, story, tokenizer)},
    }
    history = finetune(model, *loaders, optimizer, device, run.epochs, run.peak, **each)
    model.tok_emb.weight.requires_grad_(True)
    return history


def written(base, count: int, tokenizer, checkpoint: Path | None) -> torch.Tensor:
    """Texts of the model's own, `(count, TEXT)`; kept beside the checkpoint, for a run that goes on."""
    kept = checkpoint and checkpoint.with_suffix(".texts")
    if kept and kept.exists():
        return torch.load(kept, weights_only=True)
    with torch.random.fork_rng(devices=[]), reduced("cpu", fast_dtype(torch.device("cpu"))):
        torch.manual_seed(0)
        texts = own_texts(base, count, TEXT, tokenizer.eot_token)
    if kept:
        with landing(kept) as file:
            torch.save(texts, file)
    return texts


def share_right(model, entries: list[dict], tokenizer) -> float:
    """The share of entries answered right, of those that a rule can judge."""
    device = next(model.parameters()).device
    with reduced(device, fast_dtype(device)):
        responses = generate_responses(model, entries, tokenizer)
    found = [is_right(*pair) for pair in zip(entries, responses)]
    return found.count(True) / max(1, len(found) - found.count(None))


def whole(least: int) -> Callable[[str], int]:
    """A whole number from `least` on, for argparse."""

    def number(text: str) -> int:
        if (found := int(text)) < least:
            raise argparse.ArgumentTypeError(f"{found} is below {least}")
        return found

    return number


def make_assistant(options) -> None:
    """The whole way: items, training, files, validation. ValueError where the folder holds anything but this run's."""
    tokenizer = encodings.tokenizer()
    model, cfg = models.load_model(options.start) if options.start else models.pretrained()
    entries = editions.instructions()
    if options.extra:
        if editions.choice("COURSE_DATA") != "course":
            raise ValueError(
                "--extra draws items like the course's: leave it out, or set COURSE_DATA=course"
            )
        entries = balanced(drawn_items(options.extra, options.seed, entries) + entries)
        entries = in_talk(entries, options.seed)
    sums = (options.start / "SHA256SUMS").read_text(encoding="utf-8") if options.start else ""
    given = sorted((name, value) for name, value in vars(options).items() if name != "out")
    identity = hashlib.sha256(repr((given, entries, cfg, sums)).encode()).hexdigest()[:12]
    checkpoint = options.out.absolute().parent / f"{options.out.name}.state-{identity}.pt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    run = f"make_assistant.py (run {identity})"
    finished = written_by(run, options.out)
    if finished and not checkpoint.exists():
        print(f"{options.out}: finished")
        return
    if not finished:
        train_and_save(options, model, cfg, entries, tokenizer, checkpoint, run)
    validation = [entry for entry in entries if entry["split"] == "validation"]
    share = share_right(models.load_model(options.out)[0], validation, tokenizer)
    print(f"{options.out}: {100 * share:.1f} % of the validation items answered right")
    checkpoint.with_suffix(".texts").unlink(missing_ok=True)
    checkpoint.unlink()


def train_and_save(options, model, cfg, entries, tokenizer, checkpoint: Path, run: str) -> None:
    """Train and write the folder; the state of the training is still there afterwards."""
    torch.manual_seed(options.seed)
    print(f"{sum(entry['split'] == 'train' for entry in entries):,} training items; {checkpoint}")
    recipe = {
        "answers_only": True,
        "prompt": short_prompt,
        "optimizer": "muon",
        "keep_tokens": True,
    }
    history = train(
        model, entries, tokenizer, SimpleNamespace(**vars(options), **recipe), checkpoint
    )
    log = pd.DataFrame(history).round(4)
    if options.start:
        earlier = pd.read_csv(options.start / "log.csv")
        log = pd.concat([earlier, log.assign(step=log["step"] + earlier["step"].iloc[-1])])
    log = log.to_csv(index=False, lineterminator="\n")
    models.save_model(options.out, model, cfg, log, run=run)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, default=argparse.SUPPRESS, help="folder for the model")
    add("--start", type=Path, help="folder that an earlier run made, to go on from")
    add("--epochs", type=whole(1), default=3, help="times through all items")
    add("--batch", type=whole(1), default=48, help="items in a step")
    add("--peak", type=program.positive, default=6e-4, help="highest learning rate")
    add(
        "--rehearse",
        type=float,
        default=1.0,
        help="weight of the drift from the first model; 0: none",
    )
    add("--rows", type=whole(1), default=2, help=f"texts of {TEXT} tokens to rehearse in a step")
    add("--texts", type=whole(1), default=2048, help="texts that the first model writes for it")
    add(
        "--extra",
        type=whole(0),
        default=0,
        help="further items drawn for each family",
    )
    add("--seed", type=int, default=123, help="of the order, and of the further items")
    options = parser.parse_args(arguments)
    with program.in_one_line("make_assistant", "after the last whole epoch", AssetError):
        make_assistant(options)


if __name__ == "__main__":
    main()
