"""What the parity scripts share: the model and the tokenizer as their publisher has them."""
import contextlib
import os
import types
from unittest import mock

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, modeling_rope_utils
from transformers.models.llama import modeling_llama


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


class _Wide(types.ModuleType):
    """torch with float64 where float32 is asked for by name."""

    float = float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


@contextlib.contextmanager
def all_float64():
    """Llama of transformers rounds to float32 in norms, rotary angles and the softmax, whatever the
    dtype. Models that are made and run within this do so in float64."""
    wide = _Wide("torch")
    with mock.patch.object(modeling_llama, "torch", wide), \
            mock.patch.object(modeling_rope_utils, "torch", wide):
        yield
