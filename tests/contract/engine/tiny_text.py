"""Text encoders of a few thousand random weights with byte-wise tokenizers that need no file."""

from __future__ import annotations

import re
from typing import Any

from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

CLIP_TOKENS, T5_TOKENS = 16, 24
HIDDEN = 16
_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def clip(hidden: int = HIDDEN, projection: int = 0) -> tuple[Any, Any]:
    """Return a CLIP text encoder and its tokenizer; with a projection where the family pools."""
    symbols = list(bytes_to_unicode().values())
    words = [*symbols, *(symbol + "</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: number for number, word in enumerate(words)}, merges=[])
    tokenizer.model_max_length = CLIP_TOKENS
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=CLIP_TOKENS, projection_dim=projection or hidden,
        bos_token_id=len(words) - 2, eos_token_id=len(words) - 1, pad_token_id=len(words) - 1, hidden_act="gelu",
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config), tokenizer


def t5(d_model: int, *, multilingual: bool = False) -> tuple[Any, Any]:
    """Return a T5 encoder (UMT5, as video models have, when multilingual) and its tokenizer."""
    letters = [chr(code) for code in range(33, 127)]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in letters)]
    tokenizer = T5TokenizerFast(vocab=vocab, extra_ids=0)
    tokenizer.model_max_length = T5_TOKENS
    sizes: dict[str, Any] = {"vocab_size": len(vocab), "d_model": d_model, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2,
             "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}  # fmt: skip
    encoder = UMT5EncoderModel(UMT5Config(**sizes)) if multilingual else T5EncoderModel(T5Config(**sizes))
    return encoder, tokenizer


# Qwen-Image drops the 34 tokens that its own tokenizer makes of its template's beginning. Byte by byte that text would
# be longer, and what is left of it would drown the prompt.
_TEMPLATE = re.findall(
    r" ?(?:the color,|\S+)",
    "Describe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships of the"
    " objects and background:",
)


def _qwen_tokenizer() -> Any:
    words = [*bytes_to_unicode().values(), "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Qwen2Tokenizer(
        vocab={word: number for number, word in enumerate(words)}, merges=[],
        extra_special_tokens=["<|im_start|>", "<|im_end|>", *dict.fromkeys(_TEMPLATE)],
    )  # fmt: skip
    tokenizer.padding_side = "right"
    tokenizer.chat_template = _CHAT
    return tokenizer


def _decoder_sizes(tokenizer: Any) -> dict[str, Any]:
    return {"vocab_size": len(tokenizer), "hidden_size": HIDDEN, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 2048,
            "bos_token_id": 256, "eos_token_id": 256, "pad_token_id": 256}  # fmt: skip


def qwen_vl() -> tuple[Any, Any]:
    """Return the text and picture model that Qwen-Image reads prompts with, and its tokenizer."""
    tokenizer = _qwen_tokenizer()
    rope = {"rope_type": "default", "type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    config = Qwen2_5_VLConfig(
        text_config={**_decoder_sizes(tokenizer), "rope_parameters": rope},
        vision_config={"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16},
        vision_start_token_id=257, vision_end_token_id=258, image_token_id=257, video_token_id=258,
    )  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration(config), tokenizer


def qwen3() -> tuple[Any, Any]:
    """Return the language model that Z-Image reads prompts with, and its tokenizer."""
    tokenizer = _qwen_tokenizer()
    return Qwen3Model(Qwen3Config(**_decoder_sizes(tokenizer), head_dim=8)), tokenizer
