"""Chapter 1: intro. Promoted from ch01_intro/ch01.ipynb by `make promote`.

Edit the notebook, not this file; the comments below name the notebook's cells.
"""

import math
import operator
import random
from collections import Counter
from itertools import pairwise

__all__ = ["count_pairs", "whole_ids", "BigramModel"]


# ch01.ipynb: count-pairs
def count_pairs(items):
    """What follows what, and how often: a dictionary of Counters, one for each item that is followed."""
    rows = {}
    for a, b in pairwise(items):
        rows.setdefault(a, Counter())[b] += 1
    return rows


# ch01.ipynb: whole-ids
def whole_ids(token_ids, vocab_size, at_least):
    """Token IDs of a list or a tensor `(T,)`, as a list of ints; ValueError unless all are in 0 ... V - 1."""
    try:
        # index takes whole numbers of every library, and refuses 2.0
        ids = [operator.index(token_id) for token_id in token_ids]
    except (TypeError, ValueError):  # text, fractions, a tensor of two dimensions
        raise ValueError(
            "token IDs must be one row of whole numbers: encode a text first"
        ) from None
    if len(ids) < at_least:
        raise ValueError(f"{len(ids)} token IDs, but at least {at_least} are needed")
    if outside := [token_id for token_id in ids if not 0 <= token_id < vocab_size]:
        raise ValueError(f"token ID {outside[0]} is outside 0 ... {vocab_size - 1}")
    return ids


# ch01.ipynb: bigram-model
class BigramModel:
    """Guesses a token from the one before it, by pairs counted: P(b | a) = (n(ab) + k) / (n(a) + k V).

    n(ab): how often b follows a in `token_ids`, a list or a tensor `(T,)`; n(a): how often anything does. To every
    pair's count k is added (add-k smoothing; Lidstone, 1920). ValueError for what makes no sense.
    """

    def __init__(self, token_ids, vocab_size, k=1.0):
        if not 0 <= k < math.inf:
            raise ValueError(f"k is {k}; it must be 0 (pairs count as they occur) or above")
        self.vocab_size, self.k = vocab_size, k
        self.rows = count_pairs(whole_ids(token_ids, vocab_size, at_least=2))

    def next_token_probs(self, token_id):
        """The probability of each token after this one: a list of V numbers that sum to 1."""
        [a] = whole_ids([token_id], self.vocab_size, at_least=1)
        row = self.rows.get(a, Counter())
        total = row.total() + self.k * self.vocab_size
        if total == 0:
            raise ValueError(
                f"nothing ever followed token {a}: without k above 0 no guess is possible"
            )
        return [(row[b] + self.k) / total for b in range(self.vocab_size)]

    def generate(self, token_ids, max_new_tokens, seed=None):
        """The IDs and as many drawn after them, each by the probabilities that follow the last one."""
        ids, draw = whole_ids(token_ids, self.vocab_size, at_least=1), random.Random(seed)
        for _ in range(max_new_tokens):
            ids += draw.choices(range(self.vocab_size), self.next_token_probs(ids[-1]))
        return ids

    def loss(self, token_ids):
        """Mean of -log P over all tokens but the first, in nats; inf where one was held impossible."""
        ids, total = whole_ids(token_ids, self.vocab_size, at_least=2), 0.0
        # not by next_token_probs: of its V numbers one a token is needed
        for a, b in pairwise(ids):
            row = self.rows.get(a, Counter())
            if row[b] + self.k == 0:
                return math.inf
            total -= math.log((row[b] + self.k) / (row.total() + self.k * self.vocab_size))
        return total / (len(ids) - 1)
