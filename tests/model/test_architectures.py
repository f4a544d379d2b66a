"""Every architecture among the shipped models that transformers has, as a tiny random model: trained, saved, merged, asked.

ChatGLM, Baichuan, the first InternLM and MOSS bring code of their own out of their repositories; GLM-4, InternLM3 and CodeGen
(which MOSS is made after) stand here for their likes.
"""

import json
from dataclasses import replace

import pytest
import torch
from tests.training.jobs import column, run_here, write_job
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from errata.chat import conversation_ids
from errata.model.base import TOO_LONG
from errata.model.decoding import generate_plainly
from errata.model.hf import HF
from errata.records import Prompt
from errata.weights import Weights, apply_adapter, load_network, load_tokenizer, lora_targets

SIZE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 8, "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1,
    "tie_word_embeddings": False,
}  # fmt: skip
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "rotary_dim": 8, "bos_token_id": 1, "eos_token_id": 1}
BLOOM = {"hidden_size": 32, "n_layer": 2, "n_head": 4, "pad_token_id": 0, "eos_token_id": 1, "tie_word_embeddings": False}
WINDOWS = {"sliding_window": 12, "layer_types": ["sliding_attention", "full_attention"]}
QV, QKV = ["q_proj", "v_proj"], ["query_key_value"]
CASES = {  # type: settings, targets
    "llama": (SIZE, QV),  # LLaMA, Llama 2 and 3, Vicuna, SmolLM2, and Baichuan and InternLM by their likeness
    "mistral": (SIZE, QV),
    "bloom": (BLOOM, QKV),
    "gemma": (SIZE, QV),
    "gemma2": (SIZE | WINDOWS, QV),
    "gemma3_text": (SIZE | WINDOWS, QV),
    "qwen2": (SIZE, QV),
    "qwen3": (SIZE, QV),
    "glm": (SIZE, QV),
    "glm4": (SIZE, QV),
    "internlm3": (SIZE, QV),
    "codegen": (GPT, ["qkv_proj"]),
    "gptj": (GPT, QV),
    "gpt_neox": (SIZE, QKV),
}
QUESTIONS = ["How many are 3 and 4?", "What is left?", "Say it again, Sam."]


def few(*kinds):
    """All cases, of which only these are among the fast tests."""
    return [kind if kind in kinds else pytest.param(kind, marks=pytest.mark.slow) for kind in CASES]


def make(kind, tiny_model, folder):
    """A random model of a kind, with the tiny tokenizer, in a folder."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    torch.manual_seed(3)
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **CASES[kind][0])
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():  # far from ties
        parameter.data = parameter.data * 4 if parameter.dim() > 1 else parameter.data
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Weights(str(folder))


def trained(weights, config, folder):
    """Two steps by hand with a PEFT method (None: all weights), saved."""
    from peft import get_peft_model

    tokenizer, model = load_tokenizer(weights), load_network(weights, torch.float32)
    model = model if config is None else get_peft_model(model, config(model) if callable(config) else config)
    ids, spans = conversation_ids(
        tokenizer, [{"role": "user", "content": QUESTIONS[0]}, {"role": "assistant", "content": "They are 7."}]
    )
    labels = [token if any(a <= place < b for a, b in spans) else -100 for place, token in enumerate(ids)]
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=0.002 if config is None else 0.05)
    model.train()
    losses = []
    for _ in range(2):
        loss = model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[1] < losses[0]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return weights.after_training(folder)


def trained_for_real(weights, method, folder):
    """Some updates by the training process's own code, targets by architecture."""
    rows = [{"prompt": question, "response": "They are 7."} for question in QUESTIONS]
    settings = {
        "batch_size": 3,
        "epochs": 2,
        "learning_rate": 0.05 if method["kind"] == "Lora" else 0.002,
        "warmup_steps": 0,
        "warmup_share": None,
    }
    run_here(write_job(folder, weights.base, rows, method=method, **settings))
    first, last = column(folder, "loss")
    assert last < first
    return weights.after_training(folder / "model")


def answers(weights, count=12):
    """Tokens of each answer, as HF gives them."""
    student = HF(weights.base, device="cpu").with_weights(weights)
    assert student.problems() == []
    student.load()
    prompts = [Prompt(str(place), text) for place, text in enumerate(QUESTIONS)]
    found = dict(student.answers(prompts, count))
    return [found[place].text for place in range(len(prompts))], student


def lora(model):
    from peft import LoraConfig

    return LoraConfig(r=4, target_modules=lora_targets(model), task_type="CAUSAL_LM")


def greedy(model, ids, count, stops):
    """The most likely token, time and again, without any cache: what every generation must equal."""
    ids, found = torch.tensor([list(ids)]), []
    with torch.no_grad():
        for _ in range(count):
            token = int(model(input_ids=ids, use_cache=False).logits[0, -1].argmax())
            if token in stops:
                break
            found.append(token)
            ids = torch.cat([ids, torch.tensor([[token]])], 1)
    return found


@pytest.mark.parametrize("kind", few("llama", "mistral", "bloom", "gemma3_text", "qwen3"))
def test_lora_is_trained_saved_merged_and_asked(kind, tiny_model, tmp_path):
    weights = make(kind, tiny_model, tmp_path / "base")
    before = load_network(weights, torch.float32)
    assert lora_targets(before) == CASES[kind][1]
    after = trained_for_real(weights, {"kind": "Lora", "r": 4, "alpha": 8, "targets": ["auto"]}, tmp_path / "job")
    assert after == Weights(weights.base, str(tmp_path / "job" / "model"))
    texts, student = answers(after)

    from peft import PeftModel

    unmerged = PeftModel.from_pretrained(before, after.adapter).eval()
    for question, text in zip(QUESTIONS, texts, strict=True):
        ids = student._prompt_ids(Prompt("", question))
        tokens = greedy(unmerged, ids, 12, student._stops)
        assert text == student.tokenizer.decode(tokens, skip_special_tokens=True)
        (plain,) = generate_plainly(student.network, [ids], 12, student._stops, 0)
        assert plain.tokens == tokens
    assert texts != answers(weights)[0]


@pytest.mark.parametrize("kind", few("bloom"))
def test_all_weights_are_trained_saved_and_asked(kind, tiny_model, tmp_path):
    weights = make(kind, tiny_model, tmp_path / "base")
    after = trained_for_real(weights, {"kind": "Full"}, tmp_path / "job")
    assert after == Weights(str(tmp_path / "job" / "model"))
    texts, student = answers(after)
    model = load_network(after, torch.float32).eval()
    for question, text in zip(QUESTIONS, texts, strict=True):
        tokens = greedy(model, student._prompt_ids(Prompt("", question)), 12, student._stops)
        assert text == student.tokenizer.decode(tokens, skip_special_tokens=True)


def peft_configs():
    import peft

    new = {"task_type": "CAUSAL_LM", "num_virtual_tokens": 5}
    low = {"task_type": "CAUSAL_LM", "target_modules": ["q_proj", "v_proj"]}
    return {
        "dora": peft.LoraConfig(r=4, use_dora=True, **low),
        "rslora": peft.LoraConfig(r=4, use_rslora=True, **low),
        "adalora": peft.AdaLoraConfig(init_r=6, total_step=10, tinit=0, tfinal=1, **low),
        "ia3": peft.IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
        "prompt": peft.PromptTuningConfig(**new),
        "p_tuning": peft.PromptEncoderConfig(encoder_hidden_size=16, **new),
        "prefix": peft.PrefixTuningConfig(**new),
        "prefix with a projection": peft.PrefixTuningConfig(prefix_projection=True, encoder_hidden_size=16, **new),
    }  # fmt: skip


@pytest.mark.parametrize("name", peft_configs())
def test_every_kind_of_adapter_is_asked_as_it_was_trained(name, tiny_model, tmp_path):
    weights = make("llama", tiny_model, tmp_path / "base")
    after = trained(weights, peft_configs()[name], tmp_path / "adapter")
    texts, student = answers(after)
    assert hasattr(student.network, "active_peft_config") == (name.split()[0] in ("prompt", "p_tuning", "prefix"))

    from peft import PeftModel

    model = PeftModel.from_pretrained(load_network(weights, torch.float32), after.adapter).eval()
    for question, text in zip(QUESTIONS, texts, strict=True):
        tokens = greedy(model, student._prompt_ids(Prompt("", question)), 12, student._stops)
        assert text == student.tokenizer.decode(tokens, skip_special_tokens=True)
    assert texts != answers(weights)[0]


def test_an_adapters_own_tokens_take_room_in_the_context(tiny_model, tmp_path):
    weights = make("llama", tiny_model, tmp_path / "base")
    after = trained(weights, peft_configs()["prompt"], tmp_path / "adapter")
    student = HF(after.base, after.adapter, device="cpu").load()
    (_, short), (_, long) = sorted(student.complete([[5] * 240, [5] * 251], 600))
    assert short.tokens <= 256 - 5 - 240
    assert long.failure == TOO_LONG


def test_an_adapter_for_another_model_is_one_clear_error(tiny_model, tmp_path):
    from errata.errors import ConfigError

    after = trained(make("llama", tiny_model, tmp_path / "base"), lora, tmp_path / "adapter")
    other = load_network(make("bloom", tiny_model, tmp_path / "other"), torch.float32)
    with pytest.raises(ConfigError, match="adapter cannot be loaded"):
        apply_adapter(other, after.adapter)


OWN_CODE = """
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        for block in self.model.layers:
            attention = block.self_attn
            attention.W_pack = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
            for place, name in enumerate(("q_proj", "k_proj", "v_proj")):
                setattr(attention, name, Place(attention, place))

class Place(nn.Module):
    def __init__(self, attention, place):
        super().__init__()
        self.owners, self.place = [attention], place

    def forward(self, x):
        return self.owners[0].W_pack(x).chunk(3, -1)[self.place]
"""


def test_a_model_with_code_of_its_own_is_trained_and_asked(tiny_model, tmp_path):
    """Made after Baichuan: one layer for queries, keys and values, in code that its folder brings."""
    weights = make("llama", tiny_model, tmp_path / "base")
    settings = json.loads((tmp_path / "base" / "config.json").read_text())
    settings |= {"model_type": "own", "architectures": ["OwnForCausalLM"], "num_key_value_heads": 4}
    settings["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    (tmp_path / "base" / "config.json").write_text(json.dumps(settings))
    (tmp_path / "base" / "own.py").write_text(OWN_CODE)
    weights = replace(weights, remote_code=True)
    network = load_network(weights, torch.float32)  # the fused layers are random still
    network.save_pretrained(tmp_path / "own")
    load_tokenizer(weights).save_pretrained(tmp_path / "own")
    weights = replace(weights, base=str(tmp_path / "own"))
    assert lora_targets(network) == ["W_pack"]
    for name, config in (("adapter", lora), ("whole", None)):
        after = trained(weights, config, tmp_path / name)
        texts, student = answers(after)
        model = load_network(after, torch.float32)
        model = apply_adapter(model, after.adapter) if after.adapter else model
        for question, text in zip(QUESTIONS, texts, strict=True):
            tokens = greedy(model.eval(), student._prompt_ids(Prompt("", question)), 12, student._stops)
            assert text == student.tokenizer.decode(tokens, skip_special_tokens=True)
    shut = HF(after.base, device="cpu")
    assert "needs its own code" in shut.problems()[0]
