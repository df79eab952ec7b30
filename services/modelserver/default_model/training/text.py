"""The words of the model: a byte-level BPE of its own and a small CLIP text encoder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain

import tokenizers
import torch
from tokenizers import models, pre_tokenizers, trainers

from services.modelserver.default_model.training.untyped import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    TextModel,
    Tokenizer,
)

MAX_TOKENS = 32
TEXT_WIDTH = 192
VOCABULARY = 2_000
WORD_END = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"
NAME_REPEATS = 20  # so that the name of an emoji, seen rarely in captions, becomes few tokens
CAPTIONS_READ = 20_000


def train_tokenizer(captions: Sequence[str], names: Iterable[str] = ()) -> Tokenizer:
    """Learn merges from captions, and from names that are few and matter."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learner, clip = tokenizers.Tokenizer(models.BPE(end_of_word_suffix=WORD_END)), CLIPTokenizer()._tokenizer
    learner.normalizer, learner.pre_tokenizer = clip.normalizer, clip.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, end_of_word_suffix=WORD_END, initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator(chain(captions[:CAPTIONS_READ], list(names) * NAME_REPEATS), trainer)
    merges = [tuple(merge) for merge in json.loads(learner.to_str())["model"]["merges"]]
    # Every byte, inside a word and at its end: a word never seen must not turn into the end of the text.
    letters = sorted(alphabet)
    tokens = [*letters, *(letter + WORD_END for letter in letters), *(a + b for a, b in merges), START, END]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)


def token_ids(tokenizer: Tokenizer, captions: Sequence[str]) -> torch.Tensor:
    """Return int64 [captions, MAX_TOKENS], padded and cut."""
    rows = tokenizer(list(captions), padding="max_length", max_length=MAX_TOKENS, truncation=True)["input_ids"]
    return torch.tensor(rows)


def build_text_encoder(tokenizer: Tokenizer) -> TextModel:
    """Make the untrained encoder, 1.47 M parameters with 2,236 tokens."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=512,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            hidden_act="quick_gelu",
            projection_dim=TEXT_WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
