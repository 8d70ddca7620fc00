"""Facts as prompts for where_facts_live.py: those that a model knows, each with the same sentence about another subject."""

import random
from collections.abc import Iterable
from dataclasses import dataclass

import knowledge
import probe
import torch
import tracing
from knowledge import Fact


@dataclass
class Asked:
    """A fact in one wording: token IDs, the places of the subject, the first tokens of four answers, the right first."""

    fact: Fact
    wording: int
    ids: list[int]
    places: range
    words: list[int]

    @property
    def between(self) -> range:
        """The places after the subject and before the last."""
        return range(self.places[-1] + 1, len(self.ids) - 1)


def asked(fact: Fact, wording: int, words: list[str], encoding) -> Asked | None:
    """The fact as a prompt; None if its subject stands at the end, or a wrong answer begins as the right one does."""
    prompt = knowledge.probes(fact)[wording][0]
    ids, start = encoding.encode_ordinary(prompt), prompt.rfind(fact.subject)
    ends, size = [], 0
    for token in ids:
        size += len(encoding.decode_single_token_bytes(token))
        ends.append(size)
    first = next(i for i, end in enumerate(ends) if end > start)
    last = next(i for i, end in enumerate(ends) if end >= start + len(fact.subject))
    begin = [encoding.encode_ordinary(f" {word}")[0] for word in words]
    if start < 0 or last == len(ids) - 1 or begin[0] in begin[1:]:
        return None
    return Asked(fact, wording, [encoding.eot_token, *ids], range(first + 1, last + 2), begin)


def padded(prompts: list[Asked]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token IDs `(N, T)`, filled up on the right, where no earlier token sees it; and each last place `(N,)`."""
    ends = torch.tensor([len(p.ids) - 1 for p in prompts])
    rows = [p.ids + [0] * (int(ends.max()) + 1 - len(p.ids)) for p in prompts]
    return torch.tensor(rows), ends


@torch.inference_mode()
def answers(model, x: torch.Tensor, prompts: list[Asked], places: torch.Tensor):
    """Read at a place of each prompt: `(right among four (N,), margin over the mean of the wrong ones (N,))`."""
    found = tracing.read(model, x[torch.arange(len(prompts)), places])  # (N, V)
    found = found.gather(1, torch.tensor([p.words for p in prompts]))  # (N, 4)
    return found[:, 0] > found[:, 1:].amax(dim=1), found[:, 0] - found[:, 1:].mean(dim=1)


def at_the_end(model, prompts: list[Asked]):
    """What the model answers: as `answers`, at the last places, after all blocks."""
    ids, ends = padded(prompts)
    return answers(model, tracing.streams(model, ids)[-1], prompts, ends)


def winners(model, prompts: list[Asked]) -> list[int]:
    """Which of its four words each prompt is completed with."""
    ids, ends = padded(prompts)
    found = tracing.read(model, tracing.streams(model, ids)[-1][torch.arange(len(prompts)), ends])
    return found.gather(1, torch.tensor([p.words for p in prompts])).argmax(dim=1).tolist()


def exchanged(prompt: Asked, told: Iterable[Fact], words: list[str], encoding) -> list[Asked]:
    """The same sentence about other subjects of as many tokens, to which the right answer does not belong."""
    found = []
    for fact in told:
        if fact.relation == prompt.fact.relation and words[0] not in (fact.answer, *fact.others):
            new = asked(fact, prompt.wording, words, encoding)
            if new and len(new.ids) == len(prompt.ids) and new.places == prompt.places:
                found.append(new)
    return found


def known(model, encoding, facts: Iterable[Fact], most: int, seed: int = 123):
    """Up to so many facts that the model knows, each in one wording: `([(the fact, another subject)], wins)`.

    Known: right among four in every wording, and no longer right when the sentence names some other subject, so
    that it hangs on the subject and on nothing else. `wins` has for each fact that was looked at which of the four
    wins in every wording, 0 the right one; None: not the same. What the wrong ones win, the right one may win by luck.
    """
    rng, told, found, wins = random.Random(f"known {seed}"), list(knowledge.load_facts()), [], []
    told = rng.sample(told, len(told))
    for fact in rng.sample(list(facts), len(facts)):
        wrong = probe.wrong_answers(fact, told, encoding, random.Random(f"{seed} {fact}"))
        words = [fact.answer, *wrong]
        each = [asked(fact, n, words, encoding) for n in range(len(knowledge.probes(fact)))]
        if len(words) < 4 or None in each:
            continue
        first, *more = winners(model, each)
        wins.append(first if set(more) <= {first} else None)
        if wins[-1] != 0:
            continue
        prompt = each[len(found) % len(each)]
        if others := exchanged(prompt, told, words, encoding)[:8]:
            lost = ~at_the_end(model, others)[0]
            found += [(prompt, others[int(lost.int().argmax())])] * bool(lost.any())
        if len(found) == most:
            break
    return found, wins
