"""Wrong answers that the checks of chapters 1 to 4 and appendix A once took for right, or explained wrongly."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shared.attention import MultiHeadAttention, MultiHeadAttentionWrapper, SelfAttention_v1
from shared.checks import appendix_a, ch01, ch02, ch03, ch04
from shared.gpt_model import GPT_CONFIG_124M, GPTModel, TransformerBlock
from shared.guards import evaluation_mode
from shared.intro import BigramModel
from shared.pytorch import finite_differences
from shared.text_data import GPTDatasetV1, make_encoding, merge_pair, train_bpe

BYTES = make_encoding("bytes", {bytes([byte]): byte for byte in range(256)})


# --- what belongs to the caller


def sorts_candidates(ids, vocab_size, candidates):
    candidates.sort()
    cut = len(ids) * 9 // 10
    return min(candidates, key=lambda k: BigramModel(ids[:cut], vocab_size, k).loss(ids[cut:]))


def adds_in_place(token_vectors, position_vectors, order):
    moved = token_vectors[order]
    without = float(((token_vectors**2).sum(0) - (moved**2).sum(0)).norm())
    token_vectors += position_vectors
    moved += position_vectors
    return without, float(((token_vectors**2).sum(0) - (moved**2).sum(0)).norm())


def divides_in_place(queries, keys, values, num_heads):
    queries /= (queries.shape[-1] // num_heads) ** 0.5
    q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (queries, keys, values))
    return (
        F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)
        .transpose(1, 2)
        .flatten(2)
    )


def pops_the_bias(cfg):
    C, biases = cfg["emb_dim"], 3 * cfg.pop("qkv_bias") + 1
    return 4 * C * C + biases * C, 8 * C * C + 5 * C


def freezes(model, idx, max_new_tokens, context_size):
    model.requires_grad_(False)
    with evaluation_mode(model):
        for _ in range(max_new_tokens):
            new = model(idx[:, -context_size:])[:, -1].argmax(dim=-1, keepdim=True)
            idx = torch.cat([idx, new], dim=1)
    return idx


def wants_a_gradient(f, x):
    x.requires_grad_()
    return appendix_a_right(f, x)


def appendix_a_right(f, x, made=lambda y, w: (w * y).sum()):
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).double()
    leaf = x.detach().clone().requires_grad_()
    (claimed,) = torch.autograd.grad(made(f(leaf), weights), leaf)
    with torch.no_grad():
        measured = finite_differences(lambda at: made(f(at), weights), x.detach().clone())
    return torch.allclose(claimed, measured, atol=1e-6, rtol=1e-4)


# --- chapter 2


def enough(share, on=None):
    """2.5 with another share: of the counts before and after a step, the first count, the text."""

    def large_enough(text, unseen, sizes, saving):
        ordered, counts = list(train_bpe(text, sizes[-1]).items()), []
        for size in sizes:
            bpe = make_encoding("part", dict(ordered[: size - 1]))
            counts.append(len(bpe.encode(text if on == "text" else unseen)))
        for size, (a, b) in zip(sizes, pairwise(counts)):
            if share(a, b, counts[0], len(unseen)) < saving:
                return size
        return sizes[-1]

    return large_enough


def byte_for_its_id(chunk, ranks):
    tokens = [bytes([byte]) for byte in chunk]
    while len(tokens) > 1:
        best = min(pairwise(tokens), key=lambda pair: ranks.get(pair[0] + pair[1], len(ranks)))
        if best[0] + best[1] not in ranks:
            break
        tokens = merge_pair(tokens, best)
    return [token[0] if len(token) == 1 else ranks[token] for token in tokens]


def panics(chunk, ranks):
    return make_encoding("x", ranks)._core_bpe.encode_single_piece(chunk)


def gap_as(measure):
    def order_lost_and_found(tokens, positions, order):
        def gap(one, other):
            return float(measure((one**2).sum(0) - (other**2).sum(0), len(tokens)))

        moved = tokens[order]
        return gap(tokens, moved), gap(tokens + positions, moved + positions)

    return order_lost_and_found


def vectors(tokens, positions, order):
    return tokens, positions


def the_dataset(text, tokenizer, max_length):
    return GPTDatasetV1(text, tokenizer, max_length, max_length)


# --- chapter 3


def copied(weight_of):
    def same_attention(v2):
        v1 = SelfAttention_v1(v2.W_query.in_features, v2.W_query.out_features)
        for name in ["W_query", "W_key", "W_value"]:
            made = weight_of(getattr(v2, name).weight)
            if not isinstance(made, nn.Parameter):
                delattr(v1, name)
            setattr(v1, name, made)
        return v1

    return same_attention


def heads_if(refuses, error):
    def two_numbers(d_in, context_length, num_heads):
        if refuses(num_heads):
            raise error
        return MultiHeadAttentionWrapper(d_in, 2 // num_heads, context_length, 0.0, num_heads)

    return two_numbers


def asserted_heads(d_in, context_length, num_heads):
    assert num_heads in (1, 2), "only one or two heads"
    return MultiHeadAttentionWrapper(d_in, 2 // num_heads, context_length, 0.0, num_heads)


def counted_layer(d_in, d_out, num_heads, qkv_bias):
    layer = MultiHeadAttention(d_in, d_out, 4, 0.0, num_heads, qkv_bias)
    return sum(p.numel() for p in layer.parameters())


def compared(part):
    def order_matters(attention, x):
        others = torch.cat([x[:, :-1].flip(1), x[:, -1:]], dim=1)
        with torch.no_grad():
            return not torch.allclose(part(attention(x)), part(attention(others)), atol=1e-5)

    return order_matters


# --- chapter 4


def counted_block(cfg):
    block = TransformerBlock(cfg)
    return tuple(sum(p.numel() for p in part.parameters()) for part in (block.att, block.ff))


def text_for_a_number(size):
    depth, heads = {"small": (12, 12), "medium": (24, 16), "large": (36, 20), "xl": (48, 25)}[size]
    return GPT_CONFIG_124M | {"n_layers": str(depth), "emb_dim": 64 * heads, "n_heads": heads}


def asleep(cfg, embedding, attention, shortcut):
    model = GPTModel(cfg)
    model.drop_emb.p = embedding
    for block in model.trf_blocks:
        block.att.dropout.p, block.drop_shortcut.p = attention, shortcut
    return model.eval()


def wrong_logits(*mistakes, heads=None):
    def repaired_logits(weights, idx, n_heads):
        return ch04._logits(weights, idx, heads or n_heads, mistakes)

    return repaired_logits


def peeks(replace, seen=lambda logits: logits, tolerance=1e-6):
    def looks_ahead(model, idx, vocab_size):
        with evaluation_mode(model), torch.no_grad():
            before = seen(model(idx))
            for t in range(1, idx.shape[1]):
                changed = idx.clone()
                changed[:, t] = replace(idx, t, vocab_size)
                if not torch.allclose(seen(model(changed))[:, :t], before[:, :t], atol=tolerance):
                    return True
        return False

    return looks_ahead


def next_token(idx, t, V):
    return (idx[:, t] + 1) % V


# --- appendix A


def built(sizes):
    return sum(nn.Linear(n, m).weight.numel() + m for n, m in pairwise(sizes))


def torch_asked(first, second):
    try:
        return tuple(torch.broadcast_shapes(first, second))
    except RuntimeError as error:
        raise ValueError(str(error)) from None


def tensors_added(first, second):
    try:
        return tuple((torch.empty(first) + torch.empty(second)).shape)
    except RuntimeError as error:
        raise ValueError(str(error)) from None


def numpy_asked(first, second):
    return np.broadcast_shapes(first, second)


def training(start=nn.Module.train, loss_as=lambda loss: loss.item(), returns=list):
    def repaired_training(model, loader, num_epochs, lr):
        start(model)
        optimizer, losses = torch.optim.SGD(model.parameters(), lr=lr), []
        for _ in range(num_epochs):
            total = 0
            for features, labels in loader:
                loss = F.cross_entropy(model(features), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss_as(loss) * len(labels)
            losses.append(total / len(loader.dataset))
        return returns(losses)

    return repaired_training


def timed(of):
    def seconds_taken(run, synchronize, clock):
        synchronize()
        start = clock()
        run()
        synchronize()
        return of(clock() - start)

    return seconds_taken


def index_of_the_sorted(ids, vocab_size, candidates):
    cut, tried = len(ids) * 9 // 10, sorted(candidates)
    losses = [BigramModel(ids[:cut], vocab_size, k).loss(ids[cut:]) for k in tried]
    return candidates[losses.index(min(losses))]


WRONG = {
    "1.1 bare shares": (
        ch01.four_probabilities,
        lambda: [2 / 8, 2 / 8, 0.0, 0.0],
        "all eight words",
    ),
    "1.3 sorted": (ch01.choose_k, sorts_candidates, "changed what it was given, `candidates`"),
    "1.3 index": (ch01.choose_k, index_of_the_sorted, "looked up with its own k"),
    "2.1 dict": (ch02.take_apart, lambda w, t: dict.fromkeys(t.encode(w)), "a list of pairs"),
    "2.1 bare": (ch02.take_apart, lambda w, t: t.encode(w), "a list of pairs"),
    "2.2 dataset": (ch02.every_token_once, the_dataset, "a loader is asked for"),
    "2.3 range": (ch02.number_of_windows, lambda n, m, s: len(range(0, n - m, s)), "range in it"),
    "2.3 dataset": (
        ch02.number_of_windows,
        lambda n, m, s: 0 if n <= m else len(GPTDatasetV1("a" * n, BYTES, m, s)),
        "build the dataset",
    ),
    "2.4 bytes": (ch02.repaired_encoder, byte_for_its_id, "a byte, too, has its ID"),
    "2.4 panic": (ch02.repaired_encoder, panics, "calling `panics` raised PanicException"),
    "2.5 first": (ch02.large_enough, enough(lambda a, b, c, n: (a - b) / c), "by the first count"),
    "2.5 length": (ch02.large_enough, enough(lambda a, b, c, n: (a - b) / n), "length of the text"),
    "2.5 after": (
        ch02.large_enough,
        enough(lambda a, b, c, n: (a - b) / b),
        "count after the step",
    ),
    "2.5 from the first": (
        ch02.large_enough,
        enough(lambda a, b, c, n: 1 - b / c),
        "with the first",
    ),
    "2.5 on the text": (
        ch02.large_enough,
        enough(lambda a, b, c, n: 1 - b / a, on="text"),
        "the text of the training",
    ),
    "2.6 in place": (
        ch02.order_lost_and_found,
        adds_in_place,
        "changed what it was given, `token_v",
    ),
    "2.6 square": (ch02.order_lost_and_found, gap_as(lambda d, T: (d**2).sum()), "square of the"),
    "2.6 absolute": (ch02.order_lost_and_found, gap_as(lambda d, T: d.abs().sum()), "absolute val"),
    "2.6 mean": (
        ch02.order_lost_and_found,
        gap_as(lambda d, T: (d / T).norm()),
        "mean over the tok",
    ),
    "2.6 vectors": (ch02.order_lost_and_found, vectors, "two numbers are asked for"),
    "3.1 view": (
        ch03.same_attention,
        copied(lambda weight: nn.Parameter(weight.T.contiguous())),
        "shares its memory with v2",
    ),
    "3.1 graph": (ch03.same_attention, copied(lambda w: w.T.clone()), "no parameter of v1"),
    "3.1 frozen": (
        ch03.same_attention,
        copied(lambda weight: nn.Parameter(weight.T.clone(), requires_grad=False)),
        "no parameter of v1 that can learn",
    ),
    "3.2 zero": (
        ch03.two_numbers,
        heads_if(lambda heads: 2 % heads, ValueError("cannot be shared")),
        "0 heads cannot share 2 numbers: a ValueError is due, and ZeroDivisionError",
    ),
    "3.2 negative": (
        ch03.two_numbers,
        heads_if(lambda heads: heads > 2 or heads == 0, ValueError("too many")),
        "-1 heads cannot share 2 numbers: a ValueError is due, and Multi",
    ),
    "3.2 without a word": (
        ch03.two_numbers,
        heads_if(lambda heads: heads not in (1, 2), ValueError()),
        "the ValueError must say why",
    ),
    "3.2 assert": (ch03.two_numbers, asserted_heads, "AssertionError: only one or two heads was"),
    "3.3 counted": (ch03.predicted_parameters, counted_layer, "you build a"),
    "3.5 in place": (ch03.repaired_attention, divides_in_place, "changed what it was given, `quer"),
    "3.6 first text": (ch03.order_matters, compared(lambda y: y[0, -1]), "the last text alone"),
    "3.6 first number": (ch03.order_matters, compared(lambda y: y[:, -1, 0]), "two of its numbers"),
    "4.1 counted": (ch04.parameters_in_block, counted_block, "you build a TransformerBlock"),
    "4.1 popped": (ch04.parameters_in_block, pops_the_bias, "changed what it was given, `cfg`"),
    "4.1 dict": (
        ch04.parameters_in_block,
        lambda cfg: {"attention": 1, "ff": 2},
        "two numbers are",
    ),
    "4.2 text": (ch04.gpt2_config, text_for_a_number, "n_layers is '12', not 12"),
    "4.3 asleep": (ch04.with_dropout_rates, asleep, "came back in evaluation mode"),
    "4.5 heads": (ch04.repaired_logits, wrong_logits(heads=3), "has 3 heads, where 2 were given"),
    "4.5 norm1": (ch04.repaired_logits, wrong_logits("norm1 twice"), "norm1 in the place of norm2"),
    "4.5 shortcut": (
        ch04.repaired_logits,
        wrong_logits("normed shortcut"),
        "is normalized already",
    ),
    "4.5 frozen": (ch04.repaired_generator, freezes, "requires_grad (it was True)"),
    "4.6 zero": (ch04.looks_ahead, peeks(lambda idx, t, V: 0), "which is 0 of 41"),
    "4.6 one": (ch04.looks_ahead, peeks(lambda idx, t, V: 1), "which is 1 of 41"),
    "4.6 last": (ch04.looks_ahead, peeks(lambda idx, t, V: V - 1), "which is 40 of 41"),
    "4.6 beyond": (
        ch04.looks_ahead,
        peeks(lambda idx, t, V: idx[:, t] + 1),
        "raised ValueError: token IDs must be",
    ),
    "4.6 before": (ch04.looks_ahead, peeks(lambda idx, t, V: idx[:, t - 1]), "the one before it"),
    "4.6 first text": (
        ch04.looks_ahead,
        peeks(next_token, lambda y: y[:1]),
        "in text 2 of 3 alone",
    ),
    "4.6 tolerant": (ch04.looks_ahead, peeks(next_token, tolerance=0.01), "only a little"),
    "4.6 mean": (ch04.looks_ahead, peeks(next_token, lambda y: y.mean(-1)), "did not notice"),
    "A.1 built": (appendix_a.parameters_of, built, "you build a Linear"),
    "A.1 list": (appendix_a.parameters_of, lambda sizes: [752], "a number is asked for, not [752]"),
    "A.2 torch": (appendix_a.broadcast_shape, torch_asked, "you ask torch"),
    "A.2 tensors": (appendix_a.broadcast_shape, tensors_added, "you ask torch"),
    "A.2 numpy": (appendix_a.broadcast_shape, numpy_asked, "you ask numpy"),
    "A.3 mode": (appendix_a.repaired_training, training(lambda model: None), "call model.train()"),
    "A.3 tensors": (
        appendix_a.repaired_training,
        training(loss_as=lambda loss: loss.detach()),
        "yours are tensors",
    ),
    "A.3 a number": (appendix_a.repaired_training, training(returns=sum), "a list of losses is"),
    "A.4 square": (
        appendix_a.gradient_is_right,
        lambda f, x: appendix_a_right(f, x, lambda y, w: (y**2).sum()),
        "forgets where it is 0",
    ),
    "A.4 grad": (
        appendix_a.gradient_is_right,
        wants_a_gradient,
        "`x`.requires_grad (it was False)",
    ),
    "A.5 list": (
        appendix_a.combined_gradients,
        lambda gradients, counts: [torch.ones(30)],
        "a dictionary, {name: gradient}, is asked for",
    ),
    "A.5 numpy": (
        appendix_a.combined_gradients,
        lambda gradients, counts: {name: one.numpy() for name, one in gradients[0].items()},
        "a tensor is asked for, not ndarray",
    ),
    "A.6 milliseconds": (appendix_a.seconds_taken, timed(lambda s: 1000 * s), "milliseconds"),
}
RIGHT = {
    "1.1 four digits": (ch01.four_probabilities, lambda: [0.375, 0.4286, 0.1667, 0.2]),
    "2.4": (
        ch02.repaired_encoder,
        lambda chunk, ranks: make_encoding("x", ranks).encode_ordinary(chunk.decode()),
    ),
    "2.5": (ch02.large_enough, enough(lambda a, b, c, n: 1 - b / a)),
    "2.6": (ch02.order_lost_and_found, gap_as(lambda d, T: d.norm())),
    "3.1": (ch03.same_attention, copied(lambda weight: nn.Parameter(weight.T.clone()))),
    "3.2": (ch03.two_numbers, heads_if(lambda heads: heads not in (1, 2), ValueError("no"))),
    "3.6": (ch03.order_matters, compared(lambda y: y[:, -1])),
    "4.6": (ch04.looks_ahead, peeks(next_token)),
    "4.6 shifted": (ch04.looks_ahead, peeks(lambda idx, t, V: (idx[:, t] + V // 2) % V)),
    "A.3": (appendix_a.repaired_training, training()),
    "A.4": (appendix_a.gradient_is_right, appendix_a_right),
    "A.6": (appendix_a.seconds_taken, timed(float)),
}


@pytest.mark.parametrize("name", WRONG)
def test_refused_with_its_reason(name):
    check, answer, says = WRONG[name]
    result = check(answer)
    assert not result.ok and says in result.text, result.text


@pytest.mark.parametrize("name", RIGHT)
def test_accepted(name):
    check, answer = RIGHT[name]
    assert check(answer).ok, check(answer).text


# --- what is to be predicted

GUESSED = {
    "2.3": (ch02.number_of_windows, lambda n, m, s: n, "46"),
    "3.3": (
        ch03.predicted_parameters,
        lambda d_in, d_out, heads, bias: 4 * d_in * d_out,
        "2,360,064",
    ),
    "4.1": (ch04.parameters_in_block, lambda cfg: (1, 2), "2.001"),
    "4.4": (ch04.forward_flops, lambda cfg, T: 1, "292"),
    "A.1": (appendix_a.parameters_of, lambda sizes: 700, "752"),
    "A.2": (appendix_a.broadcast_shape, lambda first, second: (1,), "(3, 4)"),
}


@pytest.mark.parametrize("name", GUESSED)
def test_a_wrong_try_does_not_give_the_result_away(name):
    check, answer, result = GUESSED[name]
    assert "wrong: " in check(answer, 1).text and result not in check(answer, 1).text
