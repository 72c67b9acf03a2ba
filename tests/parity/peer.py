"""What the parity scripts share: the model and the tokenizer as their publisher has them."""
import os

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig


def load_tokenizer(path):
    """transformers' conversion of a GGUF file leaves out SmolLM2's first step: digits one by one."""
    if os.path.isdir(path):
        return AutoTokenizer.from_pretrained(path)
    folder, file = os.path.split(os.path.abspath(path))
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return tokenizer


def load_model(path, dtype=torch.float32, **kwargs):
    """Of a GGUF file or a folder; dense, so that every product runs in `dtype`."""
    if os.path.isdir(path):
        return AutoModelForCausalLM.from_pretrained(path, dtype=dtype, **kwargs)
    folder, file = os.path.split(os.path.abspath(path))
    return AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file, dtype=dtype, quantization_config=GgufConfig(dequantize=True),
        **kwargs)
