"""What a model knows: facts evaluated by completion, the right one against three that are right elsewhere.

    python ch05_pretraining/probe.py                # both models of the course, into probe.csv
    python ch05_pretraining/probe.py --model RUN --tokenizer ch02_text_data/course_tokenizer_2.txt

Each probe is the start of a sentence in a wording that no training text contains. Its four completions are answers
of the same relation, of about as many tokens and about as frequent; a model that knows nothing gets one in four right.
There are two controls. Facts that were left out of all training must stay at chance. And in each probe another subject
takes the subject's place: what is still chosen then is chosen for other reasons than the subject (`exchanged`). What a
model has by heart, in a wording that it has read, is a column beside them (`read`).
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import experiment
import knowledge
import pandas as pd
import torch
import torch.nn.functional as F
from knowledge import Fact

from shared.guards import evaluation_mode

# what is true of the members of a kind, too
TRUE_TOO = {"bird": {"animal", "food"}, "fish": {"animal", "food"}, "insect": {"animal"}}
TRUE_TOO |= {"fruit": {"food"}, "vegetable": {"food"}}


def wrong_answers(fact: Fact, facts: Iterable[Fact], encoding, rng: random.Random) -> list[str]:
    """Three answers of other facts of the relation, of as many tokens as the right one where there are such.

    Among those, about as frequent: answers to about as many facts, of tokens that were merged about as early.
    """
    right = {fact.subject, fact.answer, *fact.others, *TRUE_TOO.get(fact.answer, ())}
    told = Counter(f.answer for f in facts if f.relation == fact.relation)
    order = {word: rng.random() for word in sorted(told.keys() - right)}

    def measured(word):
        ids = encoding.encode_ordinary(f" {word}")
        return len(ids), math.log2(1 + told[word]), math.log2(1 + max(ids))

    length, often, rank = measured(fact.answer)

    def distance(word):
        its = measured(word)
        return (
            abs(its[0] - length),
            round((abs(its[1] - often) + abs(its[2] - rank)) / 2),
            order[word],
        )

    return sorted(order, key=distance)[:3]


def other_subject(fact: Fact, facts: Iterable[Fact], words: list[str], rng: random.Random) -> str:
    """The subject of another fact of the relation, none of whose answers is among the words, if there is one."""
    others = [f for f in facts if f.relation == fact.relation and f.subject != fact.subject]
    others = [f for f in others if f.answer != fact.answer and f.subject not in words]
    apart = [f for f in others if not {f.answer, *f.others} & set(words)]
    return rng.choice(apart or others).subject


@torch.inference_mode()
def log_probabilities(model, prompts: list[list[int]], ends: list[list[int]]) -> torch.Tensor:
    """The log-probability of each end after its prompt, summed over its tokens: `(B,)`."""
    rows = [prompt + end for prompt, end in zip(prompts, ends)]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])  # (B, T), padded right
    weight = next(model.parameters(), None)
    ids = ids if weight is None else ids.to(weight.device)
    found = F.log_softmax(model(ids[:, :-1]), dim=-1)  # (B, T - 1, V)
    found = found.gather(-1, ids[:, 1:, None])[..., 0]  # (B, T - 1)
    return torch.stack(
        [found[i, len(p) - 1 : len(p) - 1 + len(e)].sum() for i, (p, e) in enumerate(zip(prompts, ends))]
    )  # fmt: skip


def asked(model, encoding, facts: Iterable[Fact], among=None, seed: int = 123,
          exchange: bool = False) -> pd.DataFrame:  # fmt: skip
    """A row for each probe of each fact: whether the right answer wins, by the sum and by the mean over tokens.

    The wrong ones are answers of `among` (default: of these facts). `exchange` adds a column `exchanged`: whether the
    same answer wins, by the mean, when the probe names another subject; and `read`: whether it wins in a wording of the
    training, where the relation has one that ends with the answer.
    """
    facts = list(facts)
    among = among or facts
    rows = []
    with evaluation_mode(model):
        for fact in facts:
            rng = random.Random(f"probe {seed} {fact}")
            words = [fact.answer, *wrong_answers(fact, among, encoding, rng)]
            rng.shuffle(words)  # the first of equals wins
            right = words.index(fact.answer)
            ends = [encoding.encode_ordinary(f" {word}") for word in words]

            def chosen(prompt, ends=ends):
                """Whether the right one wins, by the sum and by the mean."""
                start = [encoding.eot_token, *encoding.encode_ordinary(prompt)]
                sums = log_probabilities(model, [start] * len(ends), ends)
                means = sums / sums.new_tensor([len(end) for end in ends])
                return [int(found.argmax() == right) for found in (sums, means)]

            for number, (prompt, _) in enumerate(knowledge.probes(fact)):
                row = {"family": fact.family, "relation": fact.relation, "subject": fact.subject}
                row |= {"answer": fact.answer, "probe": number, "choices": len(ends)}
                row |= dict(zip(("by_sum", "by_mean"), chosen(prompt)))
                if exchange:
                    other = Fact(fact.relation, fact.family, other_subject(fact, among, words, rng), fact.answer)  # fmt: skip
                    row["exchanged"] = chosen(knowledge.probes(other)[number][0])[1]
                    if number < len(read := read_wordings(fact)):
                        prompt, phrase = read[number]
                        phrases = [encoding.encode_ordinary(f" {phrase(word)}") for word in words]
                        row["read"] = chosen(prompt, phrases)[1]
                rows.append(row)
    return pd.DataFrame(rows)


def read_wordings(fact: Fact) -> list[tuple[str, Callable]]:
    """Starts of sentences as the training has them, and what an answer is there: itself, or with its article."""
    found = []
    for wording in fact.wordings:
        ending = re.search(r"\{(a?)1\}\.?$", wording)
        if ending and wording.count("1}") == 1 and re.search(r"\{[aAC]?0\}", wording):
            start = knowledge.fill(
                wording[: ending.start()].rstrip(), fact, fact.subject, fact.answer
            )
            found.append((start, knowledge.with_article if ending[1] else str))
    return found


def left_out() -> list[Fact]:
    """The control: facts that occur in no training text."""
    return [Fact(name, "left out", *row) for name, *row in knowledge.reserved_items()["left_out"]]


def reserved_questions() -> list[Fact]:
    """Facts that are stated in pretraining, and about which no training text ever asks."""
    return [fact for fact in knowledge.load_facts() if knowledge.reserved(fact)]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Right answers by family: facts, shares, a 95 % interval from the means of facts; `exchanged` and `read` if they are there."""
    shares = [name for name in ("by_sum", "by_mean", "exchanged", "read") if name in table]
    groups = table.groupby(["family", "relation", "subject"])[shares].mean().groupby("family")
    mean, count = groups.mean(), groups.by_mean.count()
    error = 1.96 * groups.by_mean.std() / count**0.5
    found = pd.DataFrame({"facts": count, "by_sum": mean.by_sum, "by_mean": mean.by_mean})
    found = found.assign(low=mean.by_mean - error, high=mean.by_mean + error)
    return found.join(mean[shares[2:]]).round(3)


def measure(subject: experiment.Subject, options) -> pd.DataFrame:
    """A row for each family of reserved facts, for all of them, and for the facts left out."""
    given = subject.model, subject.encoding
    read = asked(*given, reserved_questions(), among=knowledge.load_facts(), exchange=True)
    never = asked(*given, left_out(), exchange=True)  # against one another: none was ever read
    if options.probes:
        pd.concat([read, never]).to_csv(options.probes, index=False, lineterminator="\n")
    tables = [read, read.assign(family="all reserved"), never]
    table = pd.concat([summary(table) for table in tables]).reset_index()
    return table.assign(wordings=int(read.probe.max()) + 1)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--probes", type=Path, help="write each probe of the last model here")
    experiment.run(parser, arguments, measure, Path(__file__).with_suffix(".csv"))


if __name__ == "__main__":
    main()
