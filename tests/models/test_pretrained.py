"""The public start weights: our encoders equal transformers' own on tiny random models of the same form."""

import pytest
import torch

from anygrain.models.clip_text import CLIPText, CLIPTextConfig
from anygrain.models.pretrained import clip_text_from_transformers, swin_from_transformers
from anygrain.models.swin import Swin, SwinConfig


def test_swin_equals_transformers():
    from transformers import SwinConfig as TheirConfig
    from transformers import SwinModel

    torch.manual_seed(0)
    # 128 px: the last map (4x4) is as large as a window, where transformers too keeps windows of 4.
    theirs = SwinModel(
        TheirConfig(
            image_size=256, embed_dim=16, depths=[2, 2, 2, 2], num_heads=[1, 2, 4, 8], window_size=4, drop_path_rate=0.0
        )
    ).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    ours = Swin(SwinConfig(embed_dim=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window_size=4)).eval()
    missing, unexpected = ours.load_state_dict(swin_from_transformers(theirs.state_dict()), strict=False)
    assert not unexpected
    assert sorted(missing) == [f"norms.{i}.{leaf}" for i in range(3) for leaf in ("bias", "weight")]
    pixels = torch.randn(2, 3, 256, 256)
    with torch.inference_mode():
        expected = theirs(pixels).last_hidden_state  # [B, 64, C] after the final norm
        torch.testing.assert_close(ours(pixels)[3].flatten(2).transpose(1, 2), expected, atol=2e-5, rtol=1e-4)


def test_clip_text_equals_transformers():
    from transformers import CLIPTextConfig as TheirConfig
    from transformers import CLIPTextModelWithProjection

    torch.manual_seed(0)
    theirs = CLIPTextModelWithProjection(
        TheirConfig(
            vocab_size=100,
            hidden_size=32,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            projection_dim=24,
            eos_token_id=99,
            bos_token_id=98,
        )
    ).eval()
    config = CLIPTextConfig(vocab_size=100, width=32, heads=4, layers=2, embed_dim=24)
    ours = CLIPText(config).eval()
    ours.load_state_dict(clip_text_from_transformers(theirs.state_dict()))
    ids = torch.tensor([[98, 5, 17, 99, 0], [98, 40, 41, 42, 99]])
    with torch.inference_mode():
        words, sentence = ours(ids)
        answer = theirs(ids)
    torch.testing.assert_close(words, answer.last_hidden_state, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(sentence, answer.text_embeds, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("key", "ours"),
    [
        ("swin.encoder.layers.0.blocks.1.attention.output.dense.bias", "stages.0.blocks.1.attn.proj.bias"),
        ("swin.encoder.layers.2.downsample.norm.weight", "stages.3.merge.norm.weight"),
        ("swin.encoder.layers.1.blocks.0.intermediate.dense.weight", "stages.1.blocks.0.fc1.weight"),
        (
            "swin.encoder.layers.1.blocks.0.attention.self.relative_position_bias_table",
            "stages.1.blocks.0.attn.bias_table",
        ),
    ],
)
def test_names_of_hub_files(key, ours):
    assert list(swin_from_transformers({key: torch.zeros(1)})) == [ours]
