"""Chapter 2: text data. Promoted from ch02_text_data/ch02.ipynb by `make promote`.

Edit the notebook, not this file; the comments below name the notebook's cells.
"""

import re
from collections import Counter, defaultdict
from itertools import pairwise

import regex
import tiktoken
import torch
from torch.utils.data import DataLoader, Dataset

from shared import encodings
from shared.texts import encodable

__all__ = ["split_words", "SimpleTokenizerV1", "SimpleTokenizerV2",
    "most_frequent_pair", "merge_pair", "GPT2_SPLIT_PATTERN", "split_into_chunks",
    "check_bpe_input", "train_bpe_simple", "train_bpe", "bpe_encode", "make_encoding",
    "GPTDatasetV1", "encode_to_tensor", "create_dataloader_v1"]  # fmt: skip


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
        self.str_to_int = vocab
        self.int_to_str = {token_id: word for word, token_id in vocab.items()}

    def encode(self, text):
        try:
            return [self.str_to_int[word] for word in split_words(text)]
        except KeyError as error:
            size = f"{len(self.str_to_int):,}"
            raise KeyError(f"{error} is not in the vocabulary of {size} words") from None

    def decode(self, ids):
        text = " ".join(self.int_to_str[token_id] for token_id in ids)
        return re.sub(r'\s+([,.:;?!"()\'])', r"\1", text)


# ch02.ipynb: simple-tokenizer-v2
class SimpleTokenizerV2(SimpleTokenizerV1):
    """As SimpleTokenizerV1, but unknown words become `<|unk|>` (ValueError if there is no such entry)."""

    def __init__(self, vocab):
        if "<|unk|>" not in vocab:
            raise ValueError("the vocabulary needs an entry '<|unk|>' for unknown words")
        super().__init__(vocab)

    def encode(self, text):
        unknown = self.str_to_int["<|unk|>"]
        return [self.str_to_int.get(word, unknown) for word in split_words(text)]


# ch02.ipynb: most-frequent-pair
def most_frequent_pair(counts):
    """The pair with the highest count; of equals, the lexicographically greater. None if all are 0."""
    top = max(counts.values(), default=0)
    return max((pair for pair, n in counts.items() if n == top), default=None) if top else None


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
    encodable(text)  # half a character has no bytes: ValueError
    special = "|".join(map(regex.escape, special_tokens))
    parts = regex.split(special, text) if special else [text]
    return [chunk for part in parts for chunk in regex.findall(pattern, part)]


# ch02.ipynb: check-bpe-input
def check_bpe_input(text, vocab_size, special_tokens):
    """Raise ValueError for an empty text, or a vocabulary without room for bytes and special tokens."""
    if isinstance(special_tokens, str):  # else each of its letters would become one
        raise TypeError(f"special_tokens must be a tuple of strings: ({special_tokens!r},)")
    if not text:
        raise ValueError("the text is empty: there are no pairs to count")
    if not vocab_size >= (least := 256 + len(special_tokens)):  # nan is not, either
        raise ValueError(f"vocab_size is {vocab_size}, bytes and special tokens need {least}")


# ch02.ipynb: train-bpe-simple
def train_bpe_simple(
    text, vocab_size, special_tokens=("<|endoftext|>",), *, pattern=GPT2_SPLIT_PATTERN
):
    """`train_bpe` as one would first write it: every pair of the whole text is counted for every merge."""
    check_bpe_input(text, vocab_size, special_tokens)
    chunks = split_into_chunks(text, special_tokens, pattern=pattern)
    words = [[bytes([byte]) for byte in chunk.encode()] for chunk in chunks]
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
    check_bpe_input(text, vocab_size, special_tokens)
    chunks = Counter(split_into_chunks(text, special_tokens, pattern=pattern))
    words = [[bytes([byte]) for byte in chunk.encode()] for chunk in chunks]
    counts, where = Counter(), defaultdict(set)

    def count(i, times):
        for pair in pairwise(words[i]):
            counts[pair] += times
            where[pair].add(i)

    times = list(chunks.values())
    for i in range(len(words)):
        count(i, times[i])
    ranks = {bytes([byte]): byte for byte in range(256)}
    while len(ranks) < vocab_size - len(special_tokens) and (best := most_frequent_pair(counts)):
        ranks[best[0] + best[1]] = len(ranks)
        for i in where.pop(best):  # only chunks that contain, or once contained, the pair
            count(i, -times[i])
            words[i] = merge_pair(words[i], best)
            count(i, times[i])
    return ranks


# ch02.ipynb: bpe-encode
def bpe_encode(text, ranks, *, pattern=GPT2_SPLIT_PATTERN):
    """Encode a text by its merges, slowly: `str, dict[bytes, int] -> list[int]`. No special tokens."""
    ids = []
    for chunk in split_into_chunks(text, pattern=pattern):
        tokens = [bytes([byte]) for byte in chunk.encode()]
        while len(tokens) > 1:
            best = min(pairwise(tokens), key=lambda pair: ranks.get(pair[0] + pair[1], len(ranks)))
            if best[0] + best[1] not in ranks:
                break
            tokens = merge_pair(tokens, best)
        ids += [ranks[token] for token in tokens]
    return ids


# ch02.ipynb: make-encoding
def make_encoding(name, ranks, special_tokens=("<|endoftext|>",), *, pattern=GPT2_SPLIT_PATTERN):
    """A `tiktoken.Encoding` from BPE ranks; special tokens take the IDs after the last rank.

    Raises ValueError unless the ranks are 0 .. n-1 and hold all 256 single bytes.
    """
    if isinstance(special_tokens, str) or len(set(special_tokens)) < len(special_tokens):
        raise ValueError("special_tokens must be a tuple of different strings")
    single_bytes = {bytes([byte]) for byte in range(256)}  # without one, tiktoken would crash on it
    if sorted(ranks.values()) != list(range(len(ranks))) or not single_bytes <= set(ranks):
        raise ValueError("the ranks must be 0, 1, 2, ..., and all 256 single bytes must be there")
    return encodings.Encoding(  # tiktoken's, which says why where it cannot encode
        name,
        pat_str=pattern,
        mergeable_ranks=ranks,
        special_tokens={token: len(ranks) + i for i, token in enumerate(special_tokens)},
    )


# ch02.ipynb: gpt-dataset-v1
class GPTDatasetV1(Dataset):
    """Windows of `max_length` tokens and their targets, one token later: item `-> (T,), (T,)` int64.

    Window i starts at token `i * stride`. Raises ValueError if the text has fewer than
    `max_length + 1` tokens, or if `max_length` or `stride` is below 1.
    """

    def __init__(self, txt, tokenizer, max_length, stride):
        if max_length < 1 or stride < 1:
            raise ValueError(f"max_length ({max_length}) and stride ({stride}) must be at least 1")
        self.token_ids = encode_to_tensor(txt, tokenizer)
        self.max_length = max_length
        self.starts = range(0, len(self.token_ids) - max_length, stride)
        if not self.starts:  # else a loader would yield nothing, and say nothing
            raise ValueError(
                f"the text has {len(self.token_ids)} tokens, a window and its targets need at least "
                f"{max_length + 1}: take a longer text or a smaller max_length"
            )

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, idx):
        start = self.starts[idx]
        # kept as int32 for space, returned as int64 because embedding layers and losses want it
        window = self.token_ids[start : start + self.max_length + 1].long()
        return window[:-1], window[1:]


def encode_to_tensor(txt, tokenizer):
    """Token IDs as an int32 tensor `(N,)`; without a Python list in between where tiktoken allows."""
    if isinstance(tokenizer, tiktoken.Encoding):
        array = tokenizer.encode_to_numpy(txt, allowed_special={"<|endoftext|>"})
        return torch.from_numpy(array.astype("int32"))
    return torch.tensor(tokenizer.encode(txt), dtype=torch.int32)


# ch02.ipynb: create-dataloader-v1
def create_dataloader_v1(
    txt,
    batch_size=4,
    max_length=256,
    stride=128,
    shuffle=True,
    drop_last=True,
    num_workers=0,
    *,
    tokenizer=None,
):
    """A DataLoader over GPTDatasetV1; each batch is inputs and targets, `(B, T), (B, T)` int64.

    Without a tokenizer GPT-2's is used, as in the book. Raises ValueError as GPTDatasetV1 does, and
    if `drop_last` would leave no batch at all.
    """
    if tokenizer is None:
        tokenizer = encodings.gpt2_encoding()
    dataset = GPTDatasetV1(txt, tokenizer, max_length, stride)
    if drop_last and len(dataset) < batch_size:
        raise ValueError(f"{len(dataset)} windows fill no batch of {batch_size}: lower batch_size")
    return DataLoader(dataset, batch_size, shuffle, drop_last=drop_last, num_workers=num_workers)
