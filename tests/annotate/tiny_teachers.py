"""Teachers as the Hub keeps them, but tiny and with random weights: folders with config, weights and tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers


def bert_tokenizer(folder: Path) -> None:
    """BERT's ids for what Grounding DINO treats specially ([CLS] 101, [SEP] 102, "." 1012, "?" 1029), and letters."""
    words = [f"[w{i}]" for i in range(1100)]
    words[0] = "[PAD]"
    words[100], words[101], words[102], words[103] = "[UNK]", "[CLS]", "[SEP]", "[MASK]"
    words[1012], words[1029] = ".", "?"
    letters = "abcdefghijklmnopqrstuvwxyz"
    for number, letter in enumerate(letters):
        words[200 + number], words[300 + number] = letter, f"##{letter}"
    for number, word in enumerate(("dog", "cat", "window", "traffic", "light", "person")):
        words[400 + number] = word
    tokenizer = transformers.BertTokenizer(vocab={word: number for number, word in enumerate(words)})
    tokenizer.save_pretrained(folder)


def sam(folder: Path) -> Path:
    vision = {
        "hidden_size": 16,
        "output_channels": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 64,
    }
    vision |= {"patch_size": 8, "global_attn_indexes": [1], "window_size": 4, "mlp_dim": 32, "num_pos_feats": 8}
    prompt = {"hidden_size": 16, "image_size": 64, "patch_size": 8, "image_embedding_size": 8, "mask_input_channels": 4}
    decoder = {
        "hidden_size": 16,
        "mlp_dim": 32,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 16,
        "num_hidden_layers": 2,
    }
    config = transformers.SamConfig(
        vision_config=transformers.SamVisionConfig(**vision),
        prompt_encoder_config=transformers.SamPromptEncoderConfig(**prompt),
        mask_decoder_config=transformers.SamMaskDecoderConfig(**decoder),
    )
    return _save(transformers.SamModel, config, folder)


def grounding_dino(folder: Path) -> Path:
    swin = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4, "image_size": 64}
    config = transformers.GroundingDinoConfig(
        backbone_config=transformers.SwinConfig(**swin, out_indices=[2, 3, 4]),
        text_config=transformers.BertConfig(
            vocab_size=1100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        ),
        num_queries=12,
        d_model=32,
        encoder_layers=1,
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_layers=2,
        decoder_ffn_dim=16,
        decoder_attention_heads=2,
        max_text_len=24,
        disable_custom_kernels=True,
    )
    bert_tokenizer(folder)
    return _save(transformers.GroundingDinoForObjectDetection, config, folder)


def blip(folder: Path) -> Path:
    text = {
        "vocab_size": 1100,
        "hidden_size": 16,
        "encoder_hidden_size": 16,
        "intermediate_size": 16,
        "projection_dim": 8,
    }
    text |= {
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "bos_token_id": 103,
        "sep_token_id": 102,
        "eos_token_id": 102,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
    }
    config = transformers.BlipConfig(
        text_config=text | {"pad_token_id": 0}, vision_config=vision | {"patch_size": 8}, projection_dim=8
    )
    bert_tokenizer(folder)
    return _save(transformers.BlipForConditionalGeneration, config, folder)


def clip(folder: Path) -> Path:
    text = {
        "vocab_size": 520,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    text |= {"max_position_embeddings": 16, "bos_token_id": 518, "eos_token_id": 519, "pad_token_id": 519}
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
    }
    config = transformers.CLIPConfig(text_config=text, vision_config=vision | {"patch_size": 8}, projection_dim=8)
    _clip_tokenizer(folder)
    return _save(transformers.CLIPModel, config, folder)


def _clip_tokenizer(folder: Path) -> None:
    """Byte-level BPE without merges: one token a letter."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    vocabulary = [*letters, *[f"{letter}</w>" for letter in letters]]
    vocabulary += [f"[w{i}]" for i in range(518 - len(vocabulary))] + ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(vocab={word: n for n, word in enumerate(vocabulary)}, merges=[])
    tokenizer.save_pretrained(folder)


def ram(folder: Path) -> Path:
    from anygrain import hub
    from anygrain.models.ram import RAM, RAMConfig
    from anygrain.models.swin import SwinConfig
    from anygrain.models.tags import TagList

    torch.manual_seed(0)
    swin = SwinConfig(
        embed_dim=8,
        depths=(1, 1, 1, 1),
        num_heads=(1, 2, 2, 4),
        window_size=2,
        shift_single_window=False,
        out_levels=(4,),
    )
    config = RAMConfig(
        image_encoder=swin, input_size=64, num_tags=4, text_dim=16, hidden_dim=24, num_heads=3, ffn_dim=32
    )
    network = RAM(config).eval()
    torch.nn.init.normal_(network.label_embed)
    network.tags = TagList(names=("dog", "grass", "traffic light", "never"), thresholds=(0.0, 0.0, 0.0, 1.0))
    return hub.save(network, folder, card="# tiny\n")


def _save(cls, config, folder: Path) -> Path:
    torch.manual_seed(0)
    cls(config).eval().save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())
    return folder


TINY = {"sam": sam, "dino": grounding_dino, "blip": blip, "clip": clip, "ram": ram}
