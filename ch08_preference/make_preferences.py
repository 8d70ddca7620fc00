"""Write preferences.json: pairs of the assistant's own answers, and which of the two the true judge prefers.

    python ch08_preference/make_preferences.py [--samples 32] [--out FILE]

For each word of `sentences.words()` the assistant draws answers. A pair is two of them, equally long to within two
tokens, of which one meets more of the judge's three demands: so length tells nothing. Each answer stands in one pair
at most. Of the training pairs, one in ten is turned round on purpose, as people err; `flipped` says so.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import random
from pathlib import Path

import torch

from shared import encodings, files, models, sentences
from shared.instruction import short_prompt
from shared.preference import sample_answers

HERE = Path(__file__).parent
LENGTH = 24  # tokens of an answer, at most
PAIRS = 2  # of a word
FLIPPED = 0.1


def answers_to(words: tuple[str, ...], samples: int, model, tokenizer, batch: int = 8) -> dict:
    """`{word: [token IDs, ...]}`: drawn answers, each with its end token; those without an end are left out."""
    found, end = {word: [] for word in words}, tokenizer.eot_token
    for start in range(0, len(words), batch):
        rows = [word for word in words[start : start + batch] for _ in range(samples)]
        prompts = [tokenizer.encode_ordinary(short_prompt(sentences.task(word))) for word in rows]
        for word, ids in zip(rows, sample_answers(model, prompts, LENGTH, end)):
            if ids and ids[-1] == end:
                found[word].append(ids[:-1])
    return found


def pairs_of(
    word: str, answers: list[list[int]], judge, rng: random.Random
) -> list[tuple[str, str]]:
    """Up to PAIRS pairs (better, worse) of a word's answers, all different, of like length."""
    texts = {judge.tokenizer.decode(ids).strip(): len(ids) for ids in answers}
    order = [text for text in texts if text]
    rng.shuffle(order)
    grades = dict(zip(order, judge.grades([word] * len(order), order).tolist())) if order else {}
    pairs, used = [], set()
    for better in sorted(order, key=lambda text: -grades[text]):
        for worse in order:
            near = abs(texts[better] - texts[worse]) <= 2 and grades[better] > grades[worse]
            if near and len(pairs) < PAIRS and not {better, worse} & used:
                pairs.append((better, worse))
                used |= {better, worse}
                break
    return pairs


def make(samples: int, model, tokenizer, judge, words=None, seed: int = 123) -> list[dict]:
    """All pairs, entries of chapter 7's kind with word, split, chosen, rejected, flipped."""
    torch.manual_seed(seed)
    rng, made = random.Random(seed), []
    for split, some in (words or sentences.words()).items():
        for word, answers in answers_to(some, samples, model, tokenizer).items():
            for better, worse in pairs_of(word, answers, judge, rng):
                flipped = split == "train" and rng.random() < FLIPPED
                chosen, rejected = (worse, better) if flipped else (better, worse)
                pair = {"chosen": chosen, "rejected": rejected, "flipped": flipped}
                made.append(sentences.task(word) | {"word": word, "split": split} | pair)
    return made


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=32, help="answers to a word (default: 32)")
    parser.add_argument("--out", type=Path, default=HERE / "preferences.json")
    options = parser.parse_args(arguments)
    tokenizer = encodings.course_encoding(first=True)
    judge = sentences.judge_for(models.pretrained(first=True)[0], tokenizer)
    made = make(options.samples, models.instruction_model()[0], tokenizer, judge)
    files.save_json(options.out, made)
    counts = {split: sum(pair["split"] == split for pair in made) for split in sentences.PARTS}
    print(f"{options.out}: {len(made)} pairs, {counts}")


if __name__ == "__main__":
    main()
