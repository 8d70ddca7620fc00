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
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import families
import make_instructions
import pandas as pd
import torch
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
from shared.invented import VOWELS, invent, pieces
from shared.lexicon import second_words, upper
from shared.optimizers import Together, make_optimizers
from shared.scoring import is_right, text_bits

# these go into the letters of a word: four times as many are drawn
SLOW = {"spelling", "sorting", "capitalisation"}
MADE_UP = 3_000  # words that do not exist, for each purpose
# of what is written by hand there is little: an epoch has it so many times
AGAIN = {"talk": 5, "unknowable": 8, "look_alike": 8, "write_sentence": 3, "describe": 3, "explain": 3}  # fmt: skip
TEXT = 128  # tokens of a text to rehearse
STRANGERS = 1_000  # questions about people who do not exist, half of them with the answer in front


def inflected(word: str, ending: str) -> str:
    """A regular past (ending "ed") or plural ("s") of a word of several syllables."""
    if word[-1] == "y" and word[-2] not in VOWELS:
        return f"{word[:-1]}ie{ending[-1]}"
    if ending == "s":
        return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")
    return word + ("d" if word.endswith("e") else "ed")


def wide_pool(seed: int) -> SimpleNamespace:
    """The words to learn from, and far more, made up or put to another use.

    With a few hundred names and verbs a model learns those by heart, and forgets to read its prompt.
    """
    w, pool = second_words(None), make_instructions.learned_pool()
    pool.sums = dict(pool.sums)  # the other lists are replaced, not changed
    rng = random.Random(f"wide {seed}")

    def made_up(count=MADE_UP):
        return [rng.choice((invent, pieces))(rng, w) for _ in range(count)]

    def words():
        return made_up() + rng.choices(pool.spelled, k=MADE_UP)

    for use in ("spelled", "sorted", "counted", "capitalised"):
        setattr(pool, use, getattr(pool, use) + made_up())
    pool.names = 5 * pool.names + [word.capitalize() for word in words()]
    pool.cities = 10 * pool.cities + [word.capitalize() for word in words()]
    pool.jobs, pool.adjectives = 20 * pool.jobs + words(), 10 * pool.adjectives + words()
    ended = [invent(rng, w) + rng.choice(("", "", "e", "y")) for _ in range(MADE_UP)]
    regular = [[word, *2 * [inflected(word, "ed")]] for word in ended]
    things = words()
    verbs = 2 * pool.verbs + regular[: MADE_UP // 3]
    pool.done = 5 * pool.done + [(verb, rng.choices(things, k=5)) for verb in verbs]
    pool.asked = 10 * pool.asked + verbs
    pool.verbs = 3 * pool.verbs + regular[: MADE_UP // 3]
    pool.nouns = 3 * pool.nouns + [[word, inflected(word, "s")] for word in ended[: MADE_UP // 3]]
    negated = [[rng.choice(("un", "un", "dis")) + word, word] for word in rng.sample(things, 1_000)]
    pool.opposites = 4 * pool.opposites + negated
    more = [(one, two) for one in range(1, 60) for two in range(1, 60) if one + two > 40]
    pool.sums["+"] = 4 * pool.sums["+"] + more
    pool.sums["-"] = 4 * pool.sums["-"] + [(one, two) for one, two in more if one > max(two, 24)]
    rows = {row[0] + row[2]: row for row, _ in pool.amounts}.values()
    pool.amounts = 3 * pool.amounts + [(row, n) for row in rows for n in range(21, 60)]
    return pool


def strangers(count: int, pool: SimpleNamespace, seed: int) -> list[dict]:
    """Where somebody lives, or works as what, or how old they are: half of the questions after a sentence that says so."""
    rng, made = random.Random(f"strangers {seed}"), []
    for i in range(count):
        text, said = families.about_someone(rng, pool)
        form = rng.choice([form for form in said if form != "name"] or ["name"])
        asked = {
            "name": "What is the name of my neighbor?",
            "city": "In which city does {} live?",
            "job": "What is {}'s job?",
            "age": "How old is {}?",
        }[form].format(said.get("name", ""))
        if i % 2 and form in said:
            one = {"instruction": f"{upper(text)} {asked}", "output": f"{upper(said[form])}."}
        else:
            why = rng.choice(("I have never heard of that person.", "That name is new to me."))
            one = {"instruction": asked, "output": f"I don't know. {why}"}
        made.append(one | {"input": "", "family": "stranger", "split": "train"})
    return made


def drawn_items(count: int, seed: int, known: list[dict]) -> list[dict]:
    """`count` more training items of each family, or as many as there are, and of a slow one four times as many.

    None is known, and nothing that is reserved for the test is in them.
    """
    asked = {(entry["instruction"], entry["input"]) for entry in known}
    pool, drawn = wide_pool(seed), []
    for make in make_instructions.FAMILIES:
        n = 4 * count if make.__name__ in SLOW else count
        drawn += make_instructions.draw(make, pool, f"more {seed}", "train", n, asked)
    rng = random.Random(f"small letters {seed}")
    for entry in drawn:  # people type like this, too
        if entry["input"] and rng.random() < 0.15:
            entry["instruction"] = entry["instruction"].lower().rstrip(".?!")
    return drawn + strangers(min(count, STRANGERS), pool, seed)


def balanced(entries: list[dict]) -> list[dict]:
    """The entries, those of which there are few several times."""
    again = [
        one
        for one in entries
        if one["split"] == "train"
        for _ in range(AGAIN.get(one["family"], 1) - 1)
    ]
    return entries + again


def train(model, entries: list[dict], tokenizer, run, checkpoint: Path | None = None) -> list[dict]:
    """Fine-tune on the training entries as `run` says; the losses and the bits per byte of the story, a row an epoch.

    `run`: epochs, batch, peak, answers_only, prompt, optimizer (adamw, or muon for the blocks' matrices),
    keep_tokens: leave the tied embedding as it is (else tokens that are in no answer become ever less likely:
    each step pushes them down a little, which Adam makes as large as any other step); rehearse: how much the
    drift from what the model was at first counts, on `rows` texts in a step that it wrote itself.
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
    story = editions.STORY.read_text(encoding="utf-8")
    each = {"eval_freq": len(batches), "checkpoint": checkpoint, "dtype": fast_dtype(device)}
    each |= {
        "rehearse": rehearse,
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
