"""Tiny random models of several makes, and rows for them."""

import random

import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma3TextConfig, LlamaConfig, MistralConfig, Qwen3Config

SIZES = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": None,
    "eos_token_id": 1,
}  # fmt: skip
CONFIGS = {
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=True, mlp_bias=True),
    "qwen3": Qwen3Config(**SIZES),
    "mistral": MistralConfig(**SIZES, sliding_window=4),
    "gemma2": Gemma2Config(**SIZES, sliding_window=4, attn_logit_softcapping=2.0, final_logit_softcapping=3.0),
    "gemma3": Gemma3TextConfig(**SIZES, sliding_window=4, layer_types=["sliding_attention", "full_attention"]),
}


def make(name: str, lora: bool = False):
    """A random model in training mode; its weights are large enough for attention to matter."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name], attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.2)
    if lora:
        model = get_peft_model(
            model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
        )
    return model.train()


def rows(lengths=(9, 5, 12), seed=0):
    """(ids, how many of the last bear loss)."""
    draw = random.Random(seed)
    return [([draw.randrange(2, 97) for _ in range(length)], length // 2) for length in lengths]


def packed(given):
    """Rows behind one another: inputs, positions, targets."""
    from errata.training.attention import boundaries

    positions, targets, begin = [], [], 0
    for ids, trained in given:
        positions += range(begin + len(ids) - trained - 1, begin + len(ids) - 1)
        targets += ids[len(ids) - trained :]
        begin += len(ids)
    inputs = {"input_ids": torch.tensor([[token for ids, _ in given for token in ids]])}
    return {**inputs, **boundaries([len(ids) for ids, _ in given])}, torch.tensor(positions), torch.tensor(targets)


def padded(given):
    """Rows below one another, padded on the right."""
    width = max(len(ids) for ids, _ in given)
    positions, targets = [], []
    for number, (ids, trained) in enumerate(given):
        positions += range(number * width + len(ids) - trained - 1, number * width + len(ids) - 1)
        targets += ids[len(ids) - trained :]
    inputs = {
        "input_ids": torch.tensor([[*ids, *[0] * (width - len(ids))] for ids, _ in given]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in given]),
    }
    return inputs, torch.tensor(positions), torch.tensor(targets)


def by_hand(model, given):
    """Each row's loss, one row at a time, by transformers' own code and full logits."""
    losses = []
    for ids, trained in given:
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, len(ids) - trained - 1 : -1]
        losses.append(F.cross_entropy(logits.float(), torch.tensor(ids[len(ids) - trained :]), reduction="sum"))
    return losses


def gradients(model):
    """The gradients, by name; they are cleared."""
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    return found


def assert_same_gradients(one, two):
    """To the precision of float32."""
    assert one.keys() == two.keys()
    for name in one:
        scale = max(float(one[name].abs().max()), 1e-3)
        torch.testing.assert_close(
            two[name] / scale, one[name] / scale, rtol=1e-4, atol=2e-5, msg=lambda text, n=name: f"{n}: {text}"
        )
