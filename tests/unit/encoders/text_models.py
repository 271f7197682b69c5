"""Tiny text models with random weights, written the way real ones are."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "he", "##llo", "yes", "no", ".", "again"]
WIDTH = 16


def write_bert(folder: Path, *, positions: int = 64, layers: int = 5) -> Path:
    """A BERT whose words are the whole ones of PIECES and hello = he + ##llo."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(PIECES),
        hidden_size=WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=20,
        max_position_embeddings=positions,
        initializer_range=0.5,
    )
    BertModel(config).eval().save_pretrained(folder)
    BertTokenizerFast(vocab={piece: i for i, piece in enumerate(PIECES)}).save_pretrained(folder)
    return folder


def write_distilbert(folder: Path) -> Path:
    """A DistilBERT with the tokenizer of the BERT."""
    torch.manual_seed(0)
    config = DistilBertConfig(
        vocab_size=len(PIECES), dim=WIDTH, n_layers=4, n_heads=2, hidden_dim=20
    )
    DistilBertModel(config).eval().save_pretrained(folder)
    BertTokenizerFast(vocab={piece: i for i, piece in enumerate(PIECES)}).save_pretrained(folder)
    return folder


def write_roberta(folder: Path, *, positions: int = 18) -> Path:
    """A RoBERTa, one token per byte; two of its positions are the padding's."""
    torch.manual_seed(0)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {x: i for i, x in enumerate(["<s>", "<pad>", "</s>", "<unk>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    config = RobertaConfig(
        vocab_size=len(vocab),
        hidden_size=WIDTH,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=20,
        max_position_embeddings=positions,
        initializer_range=0.5,
    )
    RobertaForMaskedLM(config).eval().save_pretrained(folder)
    return folder
