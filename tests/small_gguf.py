"""A GGUF file of a random Llama, small enough to be loaded and asked within a second."""

from pathlib import Path

import numpy as np


END, USER, ASSISTANT = "<|end|>", "<|user|>", "<|assistant|>"
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
WINDOW = 256


def small_gguf(path: Path, seed: int = 0, architecture: str = "llama", template: str | None = TEMPLATE) -> Path:
    """A model of 70,000 parameters that knows every byte, with three special tokens and a chat template."""
    import gguf
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    tokens = [END, USER, ASSISTANT, *sorted(bytes_to_unicode().values()), "Ġt"]
    hidden, inner, layers, heads, kv_heads = 64, 128, 2, 2, 1
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(WINDOW)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 3 + [1] * (len(tokens) - 3))
    writer.add_token_merges(["Ġ t"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(0)
    if template is not None:
        writer.add_chat_template(template)
    random = np.random.default_rng(seed)
    shapes = {
        "attn_q": (hidden, hidden),
        "attn_k": (hidden // heads * kv_heads, hidden),
        "attn_v": (hidden // heads * kv_heads, hidden),
        "attn_output": (hidden, hidden),
        "ffn_gate": (inner, hidden),
        "ffn_up": (inner, hidden),
        "ffn_down": (hidden, inner),
    }
    matrices = {"token_embd": (len(tokens), hidden)}
    matrices |= {f"blk.{layer}.{name}": shape for layer in range(layers) for name, shape in shapes.items()}
    norms = ["output_norm", *(f"blk.{layer}.{name}" for layer in range(layers) for name in ("attn_norm", "ffn_norm"))]
    for name, shape in matrices.items():
        writer.add_tensor(f"{name}.weight", random.normal(0, 0.3, shape).astype(np.float16))
    for name in norms:
        writer.add_tensor(f"{name}.weight", np.ones(hidden, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
