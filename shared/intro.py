"""Chapter 1: intro. Promoted from ch01_intro/ch01.ipynb by `make promote`.

Edit the notebook, not this file; the comments below name the notebook's cells.
"""

import math
import random
from collections import Counter
from itertools import pairwise

from shared.finite import not_negative, whole_ids

__all__ = ["count_pairs", "BigramModel"]


# ch01.ipynb: count-pairs
def count_pairs(items):
    """What follows what, and how often: a dictionary of Counters, one for each item that is followed."""
    rows = {}
    for a, b in pairwise(items):
        rows.setdefault(a, Counter())[b] += 1
    return rows


# ch01.ipynb: bigram-model
class BigramModel:
    """Predicts a token from the one before it, by counted pairs: P(b | a) = (n(ab) + k) / (n(a) + k V).

    n(ab): how often b follows a in `token_ids`, a list or a tensor `(T,)`; n(a): how often anything does. To every
    pair's count k is added (add-k smoothing; Lidstone, 1920). ValueError for IDs or a k that make no sense.
    """

    def __init__(self, token_ids, vocab_size, k=1.0):
        self.vocab_size = vocab_size
        self.k = not_negative(k, "k", "with 0, pairs count as they occur")
        self.rows = count_pairs(whole_ids(token_ids, vocab_size, at_least=2))

    def next_token_probs(self, token_id):
        """The probability of each token after this one: a list of V numbers that sum to 1."""
        [a] = whole_ids([token_id], self.vocab_size, at_least=1)
        row = self.rows.get(a, Counter())
        total = row.total() + self.k * self.vocab_size
        if total == 0:
            why = "without k above 0 no guess is possible"
            raise ValueError(f"nothing ever followed token {a}: {why}")
        return [(row[b] + self.k) / total for b in range(self.vocab_size)]

    def generate(self, token_ids, max_new_tokens, seed=None):
        """The IDs and as many drawn after them, each by the probabilities that follow the last one."""
        ids, draw = whole_ids(token_ids, self.vocab_size, at_least=1), random.Random(seed)
        for _ in range(max_new_tokens):
            ids += draw.choices(range(self.vocab_size), self.next_token_probs(ids[-1]))
        return ids

    def loss(self, token_ids):
        """Mean of -log P over all tokens but the first, in nats; inf where one had no chance."""
        surprises = []
        for a, b in pairwise(whole_ids(token_ids, self.vocab_size, at_least=2)):
            row = self.rows.get(a, Counter())
            count, total = row[b] + self.k, row.total() + self.k * self.vocab_size
            surprises.append(-math.log(count / total) if count else math.inf)
        return sum(surprises) / len(surprises)
