"""Further wrong and right answers to the exercises of chapters 1 to 4 and appendix A.

They were written before any check had seen them. What a wrong one does is said in its docstring.
"""

import copy
import math
from collections import Counter
from fractions import Fraction
from itertools import pairwise, zip_longest

import pytest
import torch
import torch.nn.functional as F

from shared.attention import (
    MultiHeadAttention,
    MultiHeadAttentionWrapper,
    SelfAttention_v1,
    causal_weights,
    merge_heads,
)
from shared.checks import appendix_a, ch01, ch02, ch03, ch04
from shared.gpt_model import GPT_CONFIG_124M, GPTModel
from shared.guards import evaluation_mode
from shared.intro import BigramModel
from shared.pytorch import finite_differences
from shared.text_data import create_dataloader_v1, make_encoding, merge_pair, train_bpe

MODULES = (ch01, ch02, ch03, ch04, appendix_a)
WRONG, RIGHT = [], []


def wrong(answer):
    WRONG.append(answer)
    return answer


def right(answer):
    RIGHT.append(answer)
    return answer


def judged(answer):
    name = answer.__name__.partition("__")[0]
    (check,) = [getattr(module, name) for module in MODULES if hasattr(module, name)]
    return check(answer)


@pytest.fixture(autouse=True)
def as_it_was():
    dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    yield
    torch.set_default_dtype(dtype)
    torch.set_grad_enabled(grad)


# --- wrong ---


@wrong
def four_probabilities__never():
    """What never occurs has the probability 0."""
    return [3 / 8, 3 / 7, 1 / 6, 0.0]


@wrong
def repaired_probabilities__filled(row, vocab_size, k):
    """Puts zeros into the row that it was given."""
    for b in range(vocab_size):
        row.setdefault(b, 0)
    total = sum(row.values()) + k * vocab_size
    return [(row[b] + k) / total for b in range(vocab_size)]


@wrong
def choose_k__first_tenth(ids, vocab_size, candidates):
    """Counts in the last nine tenths, judges on the first."""
    cut = len(ids) - len(ids) * 9 // 10
    known, kept = ids[cut:], ids[:cut]
    return min(candidates, key=lambda k: BigramModel(known, vocab_size, k).loss(kept))


@wrong
def trigram_loss__backs_off(known, new, vocab_size, k):
    """Asks the bigram where the pair was never seen."""
    rows, bigram = {}, BigramModel(known, vocab_size, k)
    for a, b, c in zip(known, known[1:], known[2:]):
        rows.setdefault((a, b), Counter())[c] += 1
    logs = []
    for a, b, c in zip(new, new[1:], new[2:]):
        if (a, b) in rows:
            row = rows[a, b]
            logs.append(math.log((row[c] + k) / (row.total() + k * vocab_size)))
        else:
            logs.append(math.log(bigram.next_token_probs(b)[c]))
    return -sum(logs) / len(logs)


@wrong
def trigram_loss__row_of_one(known, new, vocab_size, k):
    """Divides by how often the second token is followed, not the pair."""
    runs = Counter(zip(known, known[1:], known[2:]))
    ones = Counter(known[:-1])
    logs = [
        math.log((runs[a, b, c] + k) / (ones[b] + k * vocab_size))
        for a, b, c in zip(new, new[1:], new[2:])
    ]
    return -sum(logs) / len(logs)


@wrong
def epochs__whole(tokens, weights, read):
    """Whole epochs only."""
    total = sum(weights.values())
    return {name: weights[name] / total * read // tokens[name] for name in tokens}


@wrong
def take_apart__unique(word, tokenizer):
    """A token that comes twice is there once."""
    ids = tokenizer.encode(word)
    return list({i: tokenizer.decode_single_token_bytes(i) for i in ids}.items())


@wrong
def every_token_once__behind_the_target(text, tokenizer, max_length):
    """The next window begins behind the last target."""
    return create_dataloader_v1(
        text,
        batch_size=4,
        max_length=max_length,
        stride=max_length + 1,
        shuffle=False,
        drop_last=False,
        tokenizer=tokenizer,
    )


@wrong
def number_of_windows__rounded(n_tokens, max_length, stride):
    """Rounds instead of rounding down."""
    return max(0, round((n_tokens - max_length - 1) / stride) + 1)


@wrong
def number_of_windows__while(n_tokens, max_length, stride):
    """A loop, which the card forbids."""
    count = start = 0
    while start + max_length < n_tokens:
        count += 1
        start += stride
    return count


@wrong
def repaired_encoder__letters(chunk, ranks):
    """Begins with characters, not with bytes."""
    tokens = [letter.encode() for letter in chunk.decode()]
    while len(tokens) > 1:
        best = min(pairwise(tokens), key=lambda pair: ranks.get(pair[0] + pair[1], len(ranks)))
        if best[0] + best[1] not in ranks:
            break
        tokens = merge_pair(tokens, best)
    return [ranks[token] for token in tokens]


def counts_of(text, unseen, sizes):
    ordered, counts = list(train_bpe(text, sizes[-1]).items()), []
    for size in sizes:
        bpe = make_encoding("part", dict(ordered[: size - 1]))
        counts.append(len(bpe.encode(unseen)))
    return counts


@wrong
def large_enough__or_equal(text, unseen, sizes, saving):
    """Stops where a step saves exactly the share, too."""
    for size, (before, after) in zip(sizes, pairwise(counts_of(text, unseen, sizes))):
        if 1 - after / before <= saving:
            return size
    return sizes[-1]


@wrong
def large_enough__both(text, unseen, sizes, saving):
    """Trains on the unseen text, too."""
    for size, (before, after) in zip(sizes, pairwise(counts_of(text + unseen, unseen, sizes))):
        if 1 - after / before < saving:
            return size
    return sizes[-1]


def gap(one, other):
    return ((one**2).sum(dim=0) - (other**2).sum(dim=0)).norm().item()


@wrong
def order_lost_and_found__back(token_vectors, position_vectors, order):
    """Applies the inverse of the order."""
    moved = token_vectors[order.argsort()]
    without = gap(token_vectors, moved)
    return without, gap(token_vectors + position_vectors, moved + position_vectors)


@wrong
def two_numbers__nothing(d_in, context_length, num_heads):
    """Three heads of 0 numbers."""
    return MultiHeadAttentionWrapper(d_in, 2 // num_heads, context_length, 0.0, num_heads)


@wrong
def predicted_parameters__from_d_in(d_in, d_out, num_heads, qkv_bias):
    """The output layer goes from d_in to d_out."""
    return 4 * d_in * d_out + d_out + 3 * d_out * qkv_bias


@wrong
def gpt2_attention__asleep():
    """Has dropout, only switched off."""
    return MultiHeadAttention(768, 768, 1024, 0.1, num_heads=12).eval()


@wrong
def peeking_weights__least(scores, ahead=0):
    """Hides by a score well below the least."""
    T = scores.shape[-1]
    hidden = torch.ones(T, T, dtype=torch.bool).triu(diagonal=1 + ahead)
    return scores.masked_fill(hidden, scores.min().item() - 10).softmax(dim=-1)


@wrong
def repaired_attention__root_of_T(queries, keys, values, num_heads):
    """Divides by the root of the number of tokens."""
    B, T, C = queries.shape
    q, k, v = (x.reshape(B, T, num_heads, -1).transpose(1, 2) for x in (queries, keys, values))
    scores = q @ k.mT / T**0.5
    scores = scores.masked_fill(torch.ones(T, T).triu(diagonal=1).bool(), -torch.inf)
    return (scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(B, T, C)


@wrong
def repaired_attention__interleaved(queries, keys, values, num_heads):
    """A head gets every H-th number."""
    B, T, C = queries.shape
    q, k, v = (x.reshape(B, T, -1, num_heads).permute(0, 3, 1, 2) for x in (queries, keys, values))
    return (causal_weights(q, k) @ v).permute(0, 2, 3, 1).reshape(B, T, C)


@wrong
def order_matters__mean(attention, x):
    """Looks at the mean of the last output only."""
    shuffled = torch.cat([x[:, :-1].flip(1), x[:, -1:]], dim=1)
    with torch.no_grad():
        gaps = attention(shuffled)[:, -1].mean(dim=-1) - attention(x)[:, -1].mean(dim=-1)
    return gaps.abs().max().item() > 1e-6


@wrong
def parameters_in_block__norms(cfg):
    """Counts the norms, one with each part."""
    C = cfg["emb_dim"]
    attention = 4 * C * C + C + 3 * C * cfg["qkv_bias"] + 2 * C
    return attention, 8 * C * C + 5 * C + 2 * C


SIZES = {
    size: GPT_CONFIG_124M | {"n_layers": depth, "emb_dim": width, "n_heads": width // 64}
    for size, depth, width in (
        ("small", 12, 768),
        ("medium", 24, 1024),
        ("large", 36, 1280),
        ("xl", 48, 1600),
    )
}


@wrong
def gpt2_config__table(size):
    """Hands out its own table."""
    return SIZES[size]


@wrong
def with_dropout_rates__first_block(cfg, embedding, attention, shortcut):
    """Sets the rates of the first block only."""
    model = GPTModel(cfg)
    model.drop_emb.p = embedding
    model.trf_blocks[0].att.dropout.p = attention
    model.trf_blocks[0].drop_shortcut.p = shortcut
    return model


@wrong
def forward_flops__last_head(cfg, T):
    """The head reads the last token only."""
    C, L, V = cfg["emb_dim"], cfg["n_layers"], cfg["vocab_size"]
    return 2 * T * L * 12 * C * C + L * 4 * T * T * C + 2 * V * C


def logits_of(weights, idx, n_heads, eps):
    def linear(x, name):
        return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def norm(x, name):
        scale, shift = weights[f"{name}.scale"], weights[f"{name}.shift"]
        return F.layer_norm(x, scale.shape, scale, shift, eps)

    def heads(x):
        return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)

    x = weights["tok_emb.weight"][idx] + weights["pos_emb.weight"][: idx.shape[1]]
    depth = len({name.split(".")[1] for name in weights if name.startswith("trf_blocks")})
    for at in [f"trf_blocks.{i}" for i in range(depth)]:
        h = norm(x, f"{at}.norm1")
        q, k, v = (heads(linear(h, f"{at}.att.W_{part}")) for part in ["query", "key", "value"])
        x = x + linear(merge_heads(causal_weights(q, k) @ v), f"{at}.att.out_proj")
        wide = linear(norm(x, f"{at}.norm2"), f"{at}.ff.layers.0")
        x = x + linear(F.gelu(wide, approximate="tanh"), f"{at}.ff.layers.2")
    return linear(norm(x, "final_norm"), "out_head")


@wrong
def repaired_logits__eps(weights, idx, n_heads):
    """Another small number in the norm."""
    return logits_of(weights, idx, n_heads, 1e-6)


@wrong
def repaired_generator__grad_off(model, idx, max_new_tokens, context_size):
    """Switches gradients off for everybody, for ever."""
    torch.set_grad_enabled(False)
    with evaluation_mode(model):
        for _ in range(max_new_tokens):
            logits = model(idx[:, -context_size:])
            idx = torch.cat((idx, logits[:, -1].argmax(dim=-1, keepdim=True)), dim=1)
    return idx


@wrong
def looks_ahead__argmax(model, idx, vocab_size):
    """Compares the likeliest tokens, not the logits."""
    with evaluation_mode(model), torch.no_grad():
        before = model(idx).argmax(dim=-1)
        for j in range(1, idx.shape[1]):
            changed = idx.clone()
            changed[:, j] = (changed[:, j] + 1) % vocab_size
            if not model(changed).argmax(dim=-1)[:, :j].equal(before[:, :j]):
                return True
    return False


@wrong
def looks_ahead__mirrored(model, idx, vocab_size):
    """V - 1 - ID replaces nothing in the middle of an odd vocabulary."""
    with evaluation_mode(model), torch.no_grad():
        before = model(idx)
        for j in range(1, idx.shape[1]):
            changed = idx.clone()
            changed[:, j] = vocab_size - 1 - changed[:, j]
            if not torch.allclose(model(changed)[:, :j], before[:, :j], atol=1e-6):
                return True
    return False


@wrong
def parameters_of__three_layers(sizes):
    """Only for the network of the lesson."""
    a, b, c, d = sizes
    return a * b + b + b * c + c + c * d + d


@wrong
def broadcast_shape__multiples(first, second):
    """A length fits each of its multiples."""
    result = []
    for n, m in zip_longest(first[::-1], second[::-1], fillvalue=1):
        if 0 in (n, m) and 1 in (n, m):
            result.append(0)
        elif n == m or n and m and (n % m == 0 or m % n == 0):
            result.append(max(n, m))
        else:
            raise ValueError(f"{n} and {m} do not fit")
    return tuple(result[::-1])


def trained(model, loader, num_epochs, lr, step, count):
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=lr), []
    for _ in range(num_epochs):
        model.train()
        total = 0
        for features, labels in loader:
            loss = F.cross_entropy(model(features), labels)
            step(optimizer, loss)
            total += loss.item() * len(labels)
        losses.append(total / count(loader))
    return losses


def as_it_should(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@wrong
def repaired_training__cleared_too_late(model, loader, num_epochs, lr):
    """Clears the gradients between backward and step."""

    def step(optimizer, loss):
        loss.backward()
        optimizer.zero_grad()
        optimizer.step()

    return trained(model, loader, num_epochs, lr, step, lambda loader: len(loader.dataset))


@wrong
def repaired_training__full_batches(model, loader, num_epochs, lr):
    """Counts the last batch as a full one."""

    def count(loader):
        return len(loader) * loader.batch_size

    return trained(model, loader, num_epochs, lr, as_it_should, count)


@wrong
def gradient_is_right__generous(f, x):
    """Two percent are close enough."""
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).double()
    leaf = x.detach().clone().requires_grad_()
    (claimed,) = torch.autograd.grad((weights * f(leaf)).sum(), leaf)
    with torch.no_grad():
        measured = finite_differences(lambda at: (weights * f(at)).sum(), x.clone())
    return torch.allclose(claimed, measured, rtol=0.02)


@wrong
def gradient_is_right__default_dtype(f, x):
    """Leaves float64 behind as everybody's default."""
    torch.set_default_dtype(torch.float64)
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    leaf = x.detach().clone().requires_grad_()
    (claimed,) = torch.autograd.grad((weights * f(leaf)).sum(), leaf)
    with torch.no_grad():
        measured = finite_differences(lambda at: (weights * f(at)).sum(), x.clone())
    return torch.allclose(claimed, measured, atol=1e-6, rtol=1e-4)


@wrong
def combined_gradients__by_shares(gradients, counts):
    """Weighs by counts, and divides by the number of shares."""
    return {
        name: sum(share[name] * n for share, n in zip(gradients, counts)) / len(counts)
        for name in gradients[0]
    }


@wrong
def seconds_taken__mean_of_three(run, synchronize, clock):
    """Runs three times."""
    synchronize()
    start = clock()
    for _ in range(3):
        run()
    synchronize()
    return (clock() - start) / 3


# --- right ---


@right
def four_probabilities__fractions():
    return [Fraction(3, 8), Fraction(3, 7), Fraction(1, 6), Fraction(1, 5)]


@right
def repaired_probabilities__loop(row, vocab_size, k):
    probabilities = [k] * vocab_size
    for b, count in row.items():
        probabilities[b] += count
    total = sum(probabilities)
    return [p / total for p in probabilities]


@right
def choose_k__by_pairs(ids, vocab_size, candidates):
    cut = len(ids) * 9 // 10
    losses = [(BigramModel(ids[:cut], vocab_size, k).loss(ids[cut:]), k) for k in candidates]
    return sorted(losses)[0][1]


@right
def trigram_loss__two_counters(known, new, vocab_size, k):
    runs = Counter(zip(known, known[1:], known[2:]))
    pairs = Counter(pairwise(known[:-1]))
    total = 0.0
    for a, b, c in zip(new, new[1:], new[2:]):
        total += math.log(pairs[a, b] + k * vocab_size) - math.log(runs[a, b, c] + k)
    return total / (len(new) - 2)


@right
def epochs__loop(tokens, weights, read):
    found = {}
    for name, weight in weights.items():
        found[name] = read * weight / (sum(weights.values()) * tokens[name])
    return found


@right
def take_apart__lists(word, tokenizer):
    ids = tokenizer.encode_ordinary(word)
    return [list(pair) for pair in zip(ids, tokenizer.decode_tokens_bytes(ids))]


@right
def every_token_once__one_window(text, tokenizer, max_length):
    return create_dataloader_v1(
        text, 1, max_length, max_length, shuffle=False, drop_last=False, tokenizer=tokenizer
    )


@right
def number_of_windows__rounded_up(n_tokens, max_length, stride):
    return math.ceil(max(0, n_tokens - max_length) / stride)


@right
def repaired_encoder__one_at_a_time(chunk, ranks):
    tokens = [chunk[i : i + 1] for i in range(len(chunk))]
    while True:
        joined = [(ranks.get(a + b, math.inf), i) for i, (a, b) in enumerate(pairwise(tokens))]
        rank, i = min(joined, default=(math.inf, 0))
        if rank == math.inf:
            return [ranks[token] for token in tokens]
        tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]


@right
def large_enough__trained_anew(text, unseen, sizes, saving):
    counts = [len(make_encoding("x", train_bpe(text, size)).encode(unseen)) for size in sizes]
    for i in range(len(sizes) - 1):
        if counts[i] - counts[i + 1] < saving * counts[i]:
            return sizes[i]
    return sizes[-1]


@right
def order_lost_and_found__tensors(token_vectors, position_vectors, order):
    def gap(x, y):
        return torch.linalg.vector_norm(x.square().sum(0) - y.square().sum(0))

    shuffled = torch.index_select(token_vectors, 0, order)
    whole, parts = token_vectors + position_vectors, shuffled + position_vectors
    return [gap(token_vectors, shuffled), gap(whole, parts)]


@right
def same_attention__copied(v2):
    v1 = SelfAttention_v1(v2.W_query.in_features, v2.W_query.out_features)
    with torch.no_grad():
        v1.W_query.copy_(v2.W_query.weight.T)
        v1.W_key.copy_(v2.W_key.weight.T)
        v1.W_value.copy_(v2.W_value.weight.T)
    return v1


@right
def same_attention__turned(v2):
    """Thought to turn v2's own matrices; `.data.t_()` turns what `.data` made, so it is right."""
    d_out, d_in = v2.W_query.weight.shape
    v1 = SelfAttention_v1(d_in, d_out)
    for name in ["W_query", "W_key", "W_value"]:
        weight = getattr(v2, name).weight.data.t_()
        setattr(v1, name, torch.nn.Parameter(weight.clone()))
    return v1


@right
def two_numbers__looked_up(d_in, context_length, num_heads):
    try:
        d_out = {1: 2, 2: 1}[num_heads]
    except KeyError:
        raise ValueError("only one head or two can share two numbers") from None
    return MultiHeadAttentionWrapper(
        d_in=d_in, d_out=d_out, context_length=context_length, dropout=0.0, num_heads=num_heads
    )


@right
def predicted_parameters__layers(d_in, d_out, num_heads, qkv_bias):
    layers = [(d_in, d_out, qkv_bias)] * 3 + [(d_out, d_out, True)]
    return sum(n * m + m * bias for n, m, bias in layers)


@right
def gpt2_attention__asleep_for_nothing():
    return MultiHeadAttention(
        d_in=768, d_out=12 * 64, context_length=2**10, dropout=0, num_heads=12, qkv_bias=False
    ).eval()


@right
def peeking_weights__where(scores, ahead=0):
    place = torch.arange(scores.shape[-1])
    seen = place[None, :] <= place[:, None] + ahead
    return torch.where(seen, scores, torch.tensor(float("-inf"))).softmax(-1)


@right
def repaired_attention__by_head(queries, keys, values, num_heads):
    D = queries.shape[-1] // num_heads
    parts = zip(queries.split(D, dim=-1), keys.split(D, dim=-1), values.split(D, dim=-1))
    found = [F.scaled_dot_product_attention(q, k, v, is_causal=True) for q, k, v in parts]
    return torch.cat(found, dim=-1)


@right
def order_matters__rolled(attention, x):
    others = x.clone()
    others[:, :-1] = x[:, :-1].roll(1, dims=1)
    one, other = attention(x)[:, -1], attention(others)[:, -1]
    return not torch.allclose(one, other, atol=1e-5)


@right
def parameters_in_block__list(cfg):
    C, biases = cfg["emb_dim"], 4 if cfg["qkv_bias"] else 1
    return [4 * C**2 + biases * C, 2 * 4 * C**2 + 5 * C]


@right
def gpt2_config__copied(size):
    cfg = copy.deepcopy(GPT_CONFIG_124M)
    cfg["n_layers"] = {"small": 12, "medium": 24, "large": 36, "xl": 48}[size]
    cfg["n_heads"] = {"small": 12, "medium": 16, "large": 20, "xl": 25}[size]
    cfg["emb_dim"] = 64 * cfg["n_heads"]
    return cfg


@right
def with_dropout_rates__by_name(cfg, embedding, attention, shortcut):
    model = GPTModel(cfg)
    rates = {"drop_emb": embedding, "dropout": attention, "drop_shortcut": shortcut}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = rates[name.rpartition(".")[2]]
    return model


@right
def forward_flops__products(cfg, T):
    C = cfg["emb_dim"]
    block = [(T, C, C)] * 4 + [(T, C, T), (T, T, C), (T, C, 4 * C), (T, 4 * C, C)]
    products = block * cfg["n_layers"] + [(T, C, cfg["vocab_size"])]
    return sum(2 * n * k * m for n, k, m in products)


@right
def repaired_logits__explicit(weights, idx, n_heads):
    return logits_of(weights, idx, n_heads, 1e-5)


@right
def repaired_generator__try(model, idx, max_new_tokens, context_size):
    was, text = model.training, idx.clone()
    model.eval()
    try:
        for _ in range(max_new_tokens):
            with torch.inference_mode():
                new = model(text[:, -context_size:])[:, -1].max(dim=-1).indices
            text = torch.cat([text, new[:, None]], dim=-1)
    finally:
        model.train(was)
    return text


@right
def looks_ahead__all_that_follows(model, idx, vocab_size):
    was = model.training
    model.eval()
    found = False
    with torch.no_grad():
        for t in range(1, idx.shape[1]):
            other = torch.cat([idx[:, :t], (idx[:, t:] + 1) % vocab_size], dim=1)
            found |= (model(other)[:, :t] - model(idx)[:, :t]).abs().max().item() > 1e-6
    model.train(was)
    return found


@right
def parameters_of__recursive(sizes):
    if len(sizes) < 2:
        return 0
    return (sizes[0] + 1) * sizes[1] + parameters_of__recursive(sizes[1:])


@right
def broadcast_shape__from_the_right(first, second):
    result = ()
    for n, m in zip_longest(reversed(first), reversed(second), fillvalue=1):
        lengths = {n, m} - {1}
        if len(lengths) > 1:
            raise ValueError(f"lengths {n} and {m} do not fit")
        result = (lengths.pop() if lengths else 1, *result)
    return result


@right
def repaired_training__sums(model, loader, num_epochs, lr):
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=lr), []
    for _ in range(num_epochs):
        model.train()
        found = []
        for features, labels in loader:
            optimizer.zero_grad()
            each = F.cross_entropy(model(features), labels, reduction="none")
            each.mean().backward()
            optimizer.step()
            found += each.tolist()
        losses.append(sum(found) / len(found))
    return losses


@right
def gradient_is_right__gradcheck(f, x):
    leaf = x.detach().double().clone().requires_grad_()
    return torch.autograd.gradcheck(f, (leaf,), raise_exception=False)


@right
def combined_gradients__stacked(gradients, counts):
    share = torch.tensor(counts) / sum(counts)
    return {
        name: torch.tensordot(share, torch.stack([one[name] for one in gradients]), dims=1)
        for name in gradients[0]
    }


@right
def seconds_taken__named(run, synchronize, clock):
    synchronize()
    before = clock()
    run()
    synchronize()
    after = clock()
    return after - before


@pytest.mark.parametrize("answer", WRONG, ids=lambda answer: answer.__name__)
def test_wrong_answers_are_refused(answer):
    result = judged(answer)
    assert not result.ok and result.text.startswith("wrong: "), result.text


@pytest.mark.parametrize("answer", RIGHT, ids=lambda answer: answer.__name__)
def test_right_answers_are_accepted(answer):
    assert judged(answer).ok, judged(answer).text


def test_they_are_many():
    assert len(WRONG) >= 35 and len(RIGHT) >= 23
