"""Generation of many prompts at once gives what each prompt gives alone with plain `generate`."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3nTextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen3Config,
)

from errata.model import decoding
from errata.model.decoding import decode, generate_plainly, supported
from errata.packed import PackedLinear, pack

SMALL = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "pad_token_id": 0}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
CONFIGS = {
    "llama": LlamaConfig(**SMALL, **HEADS),
    "gpt2": GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=256),
    "qwen3": Qwen3Config(**SMALL, **HEADS, head_dim=8),
    "mistral with a window of 12": MistralConfig(**SMALL, **HEADS, sliding_window=12),
    "gemma2 with windows in every other layer": Gemma2Config(**SMALL, **HEADS, head_dim=8, sliding_window=12),
}


@pytest.fixture(scope="module", params=CONFIGS.values(), ids=CONFIGS.keys())
def model(request):
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(request.param).eval()
    for parameter in made.parameters():  # far from ties
        parameter.data = parameter.data * 8 if parameter.dim() > 1 else parameter.data
    return made


def prompts(count, shared=0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    head = torch.randint(1, 97, (shared,), generator=generator).tolist()
    lengths = torch.randint(1, 40, (count,), generator=generator).tolist()
    return [head + torch.randint(1, 97, (length,), generator=generator).tolist() for length in lengths]


def rows(generated):
    found = {row.place: (row.tokens, row.stopped) for row in generated}
    return [found[place] for place in range(len(found))]


def alone(model, asked, max_new_tokens, stops):
    return rows(generate_plainly(model, asked, max_new_tokens, stops, 0))


@pytest.mark.parametrize("budget", [60, 300, 100_000])
@pytest.mark.parametrize("packed", [False, True])
def test_every_row_is_what_generate_gives_alone(model, budget, packed):
    assert supported(model)
    asked, stops = prompts(17), set(range(1, 97, 12))  # rows end at different times
    expected = alone(model, asked, 21, stops)
    assert len({len(tokens) for tokens, _ in expected}) >= 3
    if packed:
        pack(model)
    assert rows(decode(model, asked, 21, stops, budget)) == expected


def test_a_shared_beginning_changes_nothing(model):
    asked = prompts(6, shared=70) + prompts(5, seed=1) + prompts(7, shared=90, seed=2)
    assert rows(decode(model, asked, 15, {5}, 800)) == alone(model, asked, 15, {5})


def test_one_prompt_one_token(model):
    assert rows(decode(model, [[3]], 1, set(), 1)) == alone(model, [[3]], 1, set())
    assert list(decode(model, [], 5, set(), 10)) == []


def test_the_order_of_the_prompts_and_an_abandoned_run_change_nothing(model):
    asked = prompts(9)
    whole = rows(decode(model, asked, 9, {5}, 200))
    assert rows(decode(model, asked[::-1], 9, {5}, 200))[::-1] == whole
    half = decode(model, asked, 9, {5}, 200)
    next(half)
    half.close()
    assert rows(decode(model, asked[4:], 9, {5}, 200)) == whole[4:]


def test_a_near_tie_is_settled_by_the_row_alone(monkeypatch):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS["llama"]).eval()
    asked = prompts(11)
    expected = alone(model, asked, 12, {5})
    monkeypatch.setattr(decoding, "_TIE", 1e9)
    run = decoding._run

    def noisy(model, ids, mask, positions, cache):
        logits = run(model, ids, mask, positions, cache)
        return logits if cache is None else logits + torch.randn(logits.shape)

    monkeypatch.setattr(decoding, "_run", noisy)
    assert rows(decode(model, asked, 12, {5}, 200)) == expected


@pytest.mark.parametrize("budget", [1, 90, 300, 2000])
def test_the_cache_holds_no_more_than_its_budget(budget):
    model = AutoModelForCausalLM.from_config(CONFIGS["llama"]).eval()
    asked = prompts(17)
    window = decoding._Decoding(model, asked, 21, budget).window
    assert window.rows_in_all == 1 or window.rows_in_all * window.columns <= budget


def test_layers_that_read_other_layers_keys_work_behind_a_shared_beginning():
    config = Gemma3nTextConfig(
        **SMALL | {"num_hidden_layers": 4, "intermediate_size": [48] * 4}, **HEADS, head_dim=8, sliding_window=12,
        vocab_size_per_layer_input=97, hidden_size_per_layer_input=8, num_kv_shared_layers=2, laurel_rank=4,
        activation_sparsity_pattern=None, layer_types=["sliding_attention", "full_attention"] * 2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    asked = prompts(5, shared=70)
    assert rows(decode(model, asked, 9, {5}, 400)) == alone(model, asked, 9, {5})


def test_ends_stops_a_row_by_its_tokens(model):
    asked = prompts(8)
    for tokens, stopped in rows(decode(model, asked, 12, set(), 150, lambda tokens: len(tokens) == 1 + tokens[0] % 7)):
        assert (len(tokens), stopped) == (1 + tokens[0] % 7, True)


def test_packed_layers_give_the_same_products():
    linear = torch.nn.Linear(48, 31)
    model = torch.nn.Sequential(linear, torch.nn.ReLU())
    x = torch.randn(5, 7, 48)
    expected = model(x)
    with torch.inference_mode():
        pack(model)
        assert isinstance(model[0], PackedLinear)
        torch.testing.assert_close(model(x), expected)


def test_models_with_other_memories_are_told_apart():
    config = LlamaConfig(**SMALL, **HEADS)
    made = AutoModelForCausalLM.from_config(config)
    made.config.layer_types = ["full_attention", "linear_attention"]
    assert not supported(made)
