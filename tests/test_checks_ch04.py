"""Every check of chapter 4's exercises: accepts right answers, refuses the usual wrong ones."""

import functools

import notebooks
import pytest
import torch

from shared.checks import ch04 as check
from shared.gpt_model import GPT_CONFIG_124M, GPTModel, generate_text_cached
from shared.guards import evaluation_mode

answers = functools.partial(notebooks.answers, "ch04_gpt_model")


# 4.1: parameters of one block


def without_biases(cfg):
    return 4 * cfg["emb_dim"] ** 2, 8 * cfg["emb_dim"] ** 2


def qkv_bias_ignored(cfg):
    C = cfg["emb_dim"]
    return 4 * C * C + C, 8 * C * C + 5 * C


def qkv_bias_always(cfg):
    C = cfg["emb_dim"]
    return 4 * C * C + 4 * C, 8 * C * C + 5 * C


def all_blocks(cfg):
    C, L = cfg["emb_dim"], cfg["n_layers"]
    return L * (4 * C * C + C + 3 * C * cfg["qkv_bias"]), L * (8 * C * C + 5 * C)


def out_proj_forgotten(cfg):
    C = cfg["emb_dim"]
    return 3 * C * C + 3 * C * cfg["qkv_bias"], 8 * C * C + 5 * C


def no_numbers(cfg):
    return ()


def one_number(cfg):
    return without_biases(cfg)[:1]


def three_numbers(cfg):
    C = cfg["emb_dim"]
    return 4 * C * C + C + 3 * C * cfg["qkv_bias"], 8 * C * C + 5 * C, 4 * C


def a_bare_number(cfg):
    return all_blocks(cfg)[0]


# 4.2: the family

FAMILY = {
    "small": (768, 12, 12),
    "medium": (1024, 24, 16),
    "large": (1280, 36, 20),
    "xl": (1600, 48, 25),
}


def family_member(size, **changes):
    width, depth, heads = FAMILY[size]
    cfg = GPT_CONFIG_124M | {"emb_dim": width, "n_layers": depth, "n_heads": heads}
    return cfg | changes


def same_heads(size):
    return family_member(size, n_heads=12)


def other_context(size):
    return family_member(size, context_length=256)


def only_the_changes(size):
    return {key: family_member(size)[key] for key in ("emb_dim", "n_layers", "n_heads")}


def misspelt(size):
    return family_member(size) | {"n_head": 12}


def tied(size):
    return family_member(size, tie_weights=True)


def changed_in_place(size):
    GPT_CONFIG_124M.update(family_member(size))
    return dict(GPT_CONFIG_124M)


KEPT = {size: family_member(size) for size in FAMILY}


def always_the_same_object(size):
    return KEPT[size]


# 4.3: dropout rates


def set_rates(model, embedding, attention, shortcut, blocks=slice(None)):
    model.drop_emb.p = embedding
    for block in model.trf_blocks[blocks]:
        block.att.dropout.p, block.drop_shortcut.p = attention, shortcut
    return model


def exchanged(cfg, embedding, attention, shortcut):
    return set_rates(GPTModel(cfg), embedding, shortcut, attention)


def first_block_only(cfg, embedding, attention, shortcut):
    return set_rates(GPTModel(cfg), embedding, attention, shortcut, slice(0, 1))


def one_rate_for_all(cfg, embedding, attention, shortcut):
    return GPTModel(cfg | {"drop_rate": embedding})


def configuration_changed(cfg, embedding, attention, shortcut):
    cfg["drop_rate"] = embedding
    return set_rates(GPTModel(cfg), embedding, attention, shortcut)


def embedding_wrapped(cfg, embedding, attention, shortcut):
    model = set_rates(GPTModel(cfg), embedding, attention, shortcut)
    model.tok_emb = torch.nn.Sequential(model.tok_emb)
    return model


# 4.4: operations


def flops(product=2, scores=4, head=1, layers=None):
    def answer(cfg, T):
        C, V = cfg["emb_dim"], cfg["vocab_size"]
        L = layers or cfg["n_layers"]
        return product * T * (12 * L * C * C + head * V * C) + scores * L * T * T * C

    return answer


def only_the_matrices_of_the_blocks(cfg, T):
    return flops(scores=0, head=0)(cfg, T)


def two_for_each_parameter(cfg, T):
    with torch.device("meta"):
        return 2 * T * sum(p.numel() for p in GPTModel(cfg).parameters())


# 4.5: the forward pass, and the generator


def logits_with(*mistakes):
    return lambda weights, idx, n_heads: check._logits(weights, idx, n_heads, mistakes)


def other_epsilon(weights, idx, n_heads):
    weights = {name: w * 1.001 if "norm" in name else w for name, w in weights.items()}
    return check._logits(weights, idx, n_heads)


def probabilities(weights, idx, n_heads):
    return check._logits(weights, idx, n_heads).softmax(dim=-1)


def single_precision(weights, idx, n_heads):
    return check._logits({k: w.float() for k, w in weights.items()}, idx, n_heads)


def last_only(weights, idx, n_heads):
    return check._logits(weights, idx, n_heads)[:, -1]


def generator(evaluation=True, gradients=False, crop=slice(-9, None), at=-1, choose=torch.argmax):
    def loop(model, idx, max_new_tokens):
        for _ in range(max_new_tokens):
            logits = model(idx[:, crop])[:, at]
            idx = torch.cat((idx, choose(logits, dim=-1, keepdim=True)), dim=1)
        return idx

    def answer(model, idx, max_new_tokens, context_size):
        with torch.set_grad_enabled(gradients):
            if not evaluation:
                return loop(model, idx, max_new_tokens)
            with evaluation_mode(model):
                return loop(model, idx, max_new_tokens)

    return answer


def mode_not_restored(model, idx, max_new_tokens, context_size):
    return generator()(model.eval(), idx, max_new_tokens, context_size)


def new_tokens_only(model, idx, max_new_tokens, context_size):
    return generator()(model, idx, max_new_tokens, context_size)[:, idx.shape[1] :]


def fresh_texts(model, idx, max_new_tokens, context_size):
    short = generator()(model, idx[:, -9:], max_new_tokens, context_size)
    return torch.cat((idx[:, :-9].flip(0), short), dim=1)


# 4.6: peeking


def peek(replaced=None, compare=lambda j: slice(0, j), evaluation=True, restore=True):
    def answer(model, idx, vocab_size):
        def search():
            before = model(idx)
            T = idx.shape[1]
            for j in replaced(T) if replaced else range(1, T):
                changed = idx.clone()
                changed[:, j] = (changed[:, j] + 1) % vocab_size
                if not torch.allclose(model(changed)[:, compare(j)], before[:, compare(j)]):
                    return True
            return False

        with torch.no_grad():
            if not evaluation:
                return search()
            if not restore:
                model.eval()
                return search()
            with evaluation_mode(model):
                return search()

    return answer


def without_clone(model, idx, vocab_size):
    with evaluation_mode(model), torch.no_grad():
        before = model(idx)
        for j in range(1, idx.shape[1]):
            idx[:, j] = (idx[:, j] + 1) % vocab_size
            if not torch.allclose(model(idx)[:, :j], before[:, :j]):
                return True
    return False


WRONG = [
    ("parameters_in_block", without_biases, "you say"),
    ("parameters_in_block", qkv_bias_ignored, "attention"),
    ("parameters_in_block", qkv_bias_always, "qkv_bias False"),
    ("parameters_in_block", all_blocks, "all the blocks together"),
    ("parameters_in_block", out_proj_forgotten, "attention"),
    ("parameters_in_block", no_numbers, "two numbers are asked for, (attention, feed-forward)"),
    ("parameters_in_block", one_number, "two numbers are asked for"),
    ("parameters_in_block", three_numbers, "you return 3"),
    ("parameters_in_block", a_bare_number, "two numbers are asked for"),
    ("gpt2_config", same_heads, "n_heads is 12"),
    ("gpt2_config", other_context, "context_length is 256"),
    ("gpt2_config", only_the_changes, "vocab_size is missing"),
    ("gpt2_config", misspelt, "the key 'n_head' does not belong here"),
    ("gpt2_config", tied, "the key 'tie_weights' does not belong here"),
    ("gpt2_config", changed_in_place, "changed GPT_CONFIG_124M itself"),
    ("gpt2_config", always_the_same_object, "changes the next one"),
    ("with_dropout_rates", exchanged, "attention in block 0"),
    ("with_dropout_rates", first_block_only, "block 1"),
    ("with_dropout_rates", one_rate_for_all, "it should be"),
    ("with_dropout_rates", configuration_changed, "changed what it was given"),
    ("with_dropout_rates", embedding_wrapped, "names have changed"),
    ("with_dropout_rates", lambda cfg, e, a, s: None, "returned None"),
    ("forward_flops", flops(product=1, scores=2), "a product and a sum"),
    ("forward_flops", flops(scores=0), "queries times keys"),
    ("forward_flops", flops(scores=2), "one of attention's two"),
    ("forward_flops", flops(head=0), "you left out the head"),
    ("forward_flops", only_the_matrices_of_the_blocks, "values cost and the head"),
    ("forward_flops", flops(layers=1), "you say"),
    ("forward_flops", two_for_each_parameter, "you say"),
    ("repaired_logits", logits_with("unbiased"), "divides the variance by C - 1"),
    ("repaired_logits", logits_with("exact"), "exact GELU"),
    ("repaired_logits", logits_with("post"), "normalizes after"),
    ("repaired_logits", logits_with("unplaced"), "forgets the positions"),
    ("repaired_logits", logits_with("unmasked"), "the future"),
    ("repaired_logits", logits_with("rough"), "final norm"),
    ("repaired_logits", logits_with("unscaled"), "does not divide the scores"),
    ("repaired_logits", logits_with("overscaled"), "square root of d_out"),
    ("repaired_logits", logits_with("no shortcut 1"), "no shortcut around attention"),
    ("repaired_logits", logits_with("no shortcut 2"), "no shortcut around the feed-forward"),
    ("repaired_logits", single_precision, "your logits are torch.float32"),
    ("repaired_logits", logits_with("unbiased", "exact"), "C - 1 instead of C and bends"),
    ("repaired_logits", other_epsilon, "no known mistake"),
    ("repaired_logits", probabilities, "no known mistake"),
    ("repaired_logits", last_only, "the shape is"),
    ("repaired_generator", generator(evaluation=False), "dropout is active"),
    ("repaired_generator", generator(gradients=True), "gradients are recorded"),
    ("repaired_generator", generator(crop=slice(0, 9)), "beyond the context"),
    ("repaired_generator", generator(crop=slice(-8, None)), "not the likeliest"),
    ("repaired_generator", generator(crop=slice(None)), "only 9 positions"),
    ("repaired_generator", generator(at=0), "within the context"),
    ("repaired_generator", generator(choose=lambda x, **k: x.min(**k)[1]), "within the context"),
    ("repaired_generator", mode_not_restored, "left in the other"),
    ("repaired_generator", new_tokens_only, "the shape is"),
    ("repaired_generator", fresh_texts, "prompt itself"),
    ("looks_ahead", peek(evaluation=False), "noise is no leak"),
    ("looks_ahead", peek(restore=False), "left in the other"),
    ("looks_ahead", peek(compare=lambda j: slice(None)), "was accused"),
    ("looks_ahead", peek(replaced=lambda T: [T - 1]), "did not notice"),
    ("looks_ahead", peek(replaced=lambda T: [1]), "did not notice"),
    ("looks_ahead", peek(compare=lambda j: slice(0, 1)), "did not notice"),
    ("looks_ahead", peek(compare=lambda j: slice(j - 1, j)), "did not notice"),
    ("looks_ahead", without_clone, "changed what it was given"),
    ("looks_ahead", lambda model, idx, vocab_size: True, "was accused"),
    ("looks_ahead", lambda model, idx, vocab_size: False, "did not notice"),
]


@pytest.mark.parametrize(("name", "answer", "says"), WRONG, ids=range(len(WRONG)))
def test_wrong_answers_are_refused(name, answer, says):
    torch.manual_seed(0)
    result = getattr(check, name)(answer)
    assert not result.ok and result.text.startswith("wrong: ")
    assert says in result.text


def test_the_broken_functions_of_the_exercise_are_refused_for_each_of_their_faults():
    found = answers("solutions.ipynb")
    text = check.repaired_logits(found["broken_logits"]).text
    for mistake in ("C - 1", "exact GELU", "normalizes after", "positions"):
        assert mistake in text
    assert "beyond the context" in check.repaired_generator(found["broken_generator"]).text


def test_other_right_answers_are_accepted():
    def by_formula(cfg, T):
        return two_for_each_weight(cfg, T) + 4 * cfg["n_layers"] * T * T * cfg["emb_dim"]

    def two_for_each_weight(cfg, T):
        with torch.device("meta"):
            parameters = dict(GPTModel(cfg).named_parameters())
        matrices = [p for name, p in parameters.items() if p.dim() == 2 and "emb" not in name]
        return 2 * T * sum(p.numel() for p in matrices)

    def untied(size):
        return family_member(size, tie_weights=False)

    def as_a_list(cfg):
        return list(three_numbers(cfg)[:2])

    def shortened(model, idx, vocab_size):
        with evaluation_mode(model), torch.no_grad():
            whole = model(idx)
            parts = [model(idx[:, : t + 1])[:, t] for t in range(idx.shape[1])]
        return not torch.allclose(torch.stack(parts, dim=1), whole)

    assert check.parameters_in_block(as_a_list).ok
    assert check.forward_flops(by_formula).ok
    assert check.gpt2_config(family_member).ok and check.gpt2_config(untied).ok
    assert check.repaired_logits(logits_with()).ok
    assert check.repaired_generator(generate_text_cached).ok
    assert check.looks_ahead(peek()).ok and check.looks_ahead(shortened).ok


def test_gpt2_config_restores_the_constant_that_an_answer_changed():
    before = dict(GPT_CONFIG_124M)
    check.gpt2_config(changed_in_place)
    assert GPT_CONFIG_124M == before and list(GPT_CONFIG_124M) == list(before)
