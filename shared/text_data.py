"""Chapter 2: text data. Promoted from ch02_text_data/ch02.ipynb by `make promote`.

Edit the notebook, not this file; the comments below name the notebook's cells.
"""

import re
from collections import Counter, defaultdict
from itertools import pairwise

import regex
from torch.utils.data import DataLoader, Dataset

from shared import encodings, texts

__all__ = ["split_words", "SimpleTokenizerV1", "SimpleTokenizerV2", "split_into_bytes",
    "most_frequent_pair", "merge_pair", "GPT2_SPLIT_PATTERN", "split_into_chunks",
    "train_bpe_simple", "train_bpe", "bpe_encode", "make_encoding", "GPTDatasetV1",
    "create_dataloader_v1"]  # fmt: skip


# ch02.ipynb: split-words
def split_words(text):
    """Cut a text into words and punctuation marks; white space is dropped. `str -> list[str]`."""
    pieces = re.split(r'([,.:;?_!"()\']|--|\s)', text)
    return [piece.strip() for piece in pieces if piece.strip()]


# ch02.ipynb: simple-tokenizer-v1
class SimpleTokenizerV1:
    """A word-level tokenizer over a fixed vocabulary, `dict[str, int]`.

    `encode` raises KeyError for an unknown word. Example: `SimpleTokenizerV1({"a": 0}).encode("a a")`.
    """

    def __init__(self, vocab):
        self.str_to_int = texts.Vocabulary(vocab)
        self.int_to_str = {token_id: word for word, token_id in vocab.items()}

    def encode(self, text):
        return [self.str_to_int[word] for word in split_words(text)]

    def decode(self, ids):
        text = " ".join(self.int_to_str[token_id] for token_id in ids)
        return re.sub(r'\s+([,.:;?!"()\'])', r"\1", text)


# ch02.ipynb: simple-tokenizer-v2
class SimpleTokenizerV2(SimpleTokenizerV1):
    """As SimpleTokenizerV1, but unknown words become `<|unk|>` (ValueError if there is no such entry)."""

    def __init__(self, vocab):
        texts.check_unknown(vocab)
        super().__init__(vocab)

    def encode(self, text):
        unknown = self.str_to_int["<|unk|>"]
        return [self.str_to_int.get(word, unknown) for word in split_words(text)]


# ch02.ipynb: split-into-bytes
def split_into_bytes(text):
    """The bytes of a text, one by one: `str -> list[bytes]`."""
    return [bytes([byte]) for byte in text.encode()]


# ch02.ipynb: most-frequent-pair
def most_frequent_pair(counts):
    """The pair with the highest count; of equals, the lexicographically greater. None if all are 0."""
    top = max(counts.values(), default=0)
    return max((pair for pair, n in counts.items() if n == top > 0), default=None)


# ch02.ipynb: merge-pair
def merge_pair(tokens, pair):
    """Join every occurrence of `pair` in a list of tokens, left to right."""
    merged = []
    for token in tokens:
        if merged and (merged[-1], token) == pair:
            merged[-1] += token
        else:
            merged.append(token)
    return merged


# ch02.ipynb: split-into-chunks
# GPT-2's pattern (Radford et al., 2019). `regex` knows \p{L} (letters) and \p{N} (digits); `re` does not.
GPT2_SPLIT_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def split_into_chunks(text, special_tokens=(), *, pattern=GPT2_SPLIT_PATTERN):
    """Cut a text at its special tokens, which are dropped, and then by the pattern."""
    texts.encodable(text)  # half a character has no bytes: ValueError
    special = "|".join(map(regex.escape, special_tokens))
    parts = regex.split(special, text) if special else [text]
    return [chunk for part in parts for chunk in regex.findall(pattern, part)]


# ch02.ipynb: train-bpe-simple
def train_bpe_simple(
    text, vocab_size, special_tokens=("<|endoftext|>",), *, pattern=GPT2_SPLIT_PATTERN
):
    """`train_bpe` as one would first write it: every pair of the whole text is counted for every merge."""
    texts.check_bpe_input(text, vocab_size, special_tokens)
    chunks = split_into_chunks(text, special_tokens, pattern=pattern)
    words = [split_into_bytes(chunk) for chunk in chunks]
    ranks = {bytes([byte]): byte for byte in range(256)}
    while len(ranks) < vocab_size - len(special_tokens):
        best = most_frequent_pair(Counter(pair for word in words for pair in pairwise(word)))
        if best is None:
            break
        ranks[best[0] + best[1]] = len(ranks)
        words = [merge_pair(word, best) for word in words]
    return ranks


# ch02.ipynb: train-bpe
def train_bpe(text, vocab_size, special_tokens=("<|endoftext|>",), *, pattern=GPT2_SPLIT_PATTERN):
    """Train byte-level BPE (Sennrich et al., 2016; on bytes, Radford et al., 2019): `dict[bytes, int]`.

    The 256 bytes, then merges in order (fewer if no pair is left); special tokens take the IDs after
    them. Raises ValueError as `check_bpe_input` does. Example: `train_bpe("low low lower", 260)`.
    """
    texts.check_bpe_input(text, vocab_size, special_tokens)
    times = Counter(split_into_chunks(text, special_tokens, pattern=pattern))
    words = {chunk: split_into_bytes(chunk) for chunk in times}
    counts, where = Counter(), defaultdict(set)
    for chunk in words:
        for pair in pairwise(words[chunk]):
            counts[pair] += times[chunk]
            where[pair].add(chunk)
    ranks = {bytes([byte]): byte for byte in range(256)}
    while len(ranks) < vocab_size - len(special_tokens) and (best := most_frequent_pair(counts)):
        ranks[best[0] + best[1]] = len(ranks)
        for chunk in where.pop(best):  # the chunks with the pair, and perhaps some that had it once
            for pair in pairwise(words[chunk]):
                counts[pair] -= times[chunk]
            words[chunk] = merge_pair(words[chunk], best)
            for pair in pairwise(words[chunk]):
                counts[pair] += times[chunk]
                where[pair].add(chunk)
    return ranks


# ch02.ipynb: bpe-encode
def bpe_encode(text, ranks, *, pattern=GPT2_SPLIT_PATTERN):
    """Encode a text by its merges, slowly: `str, dict[bytes, int] -> list[int]`. No special tokens."""

    def rank(pair):
        return ranks.get(pair[0] + pair[1], len(ranks))  # last of all, if it is no token

    ids = []
    for chunk in split_into_chunks(text, pattern=pattern):
        tokens = split_into_bytes(chunk)
        while len(tokens) > 1 and rank(best := min(pairwise(tokens), key=rank)) < len(ranks):
            tokens = merge_pair(tokens, best)
        ids += [ranks[token] for token in tokens]
    return ids


# ch02.ipynb: make-encoding
def make_encoding(name, ranks, special_tokens=("<|endoftext|>",), *, pattern=GPT2_SPLIT_PATTERN):
    """A `tiktoken.Encoding` from BPE ranks; special tokens take the IDs after the last rank.

    Raises ValueError unless the ranks are 0 .. n-1 and hold all 256 single bytes.
    """
    encodings.check_ranks(ranks, special_tokens)
    special = {token: len(ranks) + i for i, token in enumerate(special_tokens)}
    return encodings.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)


# ch02.ipynb: gpt-dataset-v1
class GPTDatasetV1(Dataset):
    """Windows of `max_length` tokens and their targets, one token later: item `-> (T,), (T,)` int64.

    Window i starts at token `i * stride`. Raises ValueError if the text has fewer than
    `max_length + 1` tokens, or if `max_length` or `stride` is below 1.
    """

    def __init__(self, txt, tokenizer, max_length, stride):
        self.token_ids = encodings.encode_to_tensor(txt, tokenizer)  # (N,) int32, to save memory
        texts.check_windows(len(self.token_ids), max_length, stride)
        self.max_length = max_length
        self.starts = range(0, len(self.token_ids) - max_length, stride)

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, idx):
        start = self.starts[idx]
        window = self.token_ids[start : start + self.max_length + 1].long()  # (T + 1,)
        return window[:-1], window[1:]  # (T,), (T,)


# ch02.ipynb: create-dataloader-v1
def create_dataloader_v1(txt, batch_size=4, max_length=256, stride=128, shuffle=True,
                         drop_last=True, num_workers=0, *, tokenizer=None):  # fmt: skip
    """A DataLoader over GPTDatasetV1; each batch is inputs and targets, `(B, T), (B, T)` int64.

    Without a tokenizer GPT-2's is used, as in the book. Raises ValueError as GPTDatasetV1 does, and
    if `drop_last` would leave no batch at all.
    """
    tokenizer = encodings.gpt2_encoding() if tokenizer is None else tokenizer
    dataset = GPTDatasetV1(txt, tokenizer, max_length, stride)
    texts.check_batches(len(dataset), batch_size, drop_last)
    return DataLoader(dataset, batch_size, shuffle, drop_last=drop_last, num_workers=num_workers)
