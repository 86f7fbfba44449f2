"""Start weights of PSALM's second stage: transformers' networks, renamed, fill ours and compute the same."""

import pytest
import torch

from anygrain.models.mask_decoder import MaskDecoderConfig
from anygrain.models.pixel_decoder import PixelDecoderConfig
from anygrain.models.psalm.config import LanguageConfig, PSALMConfig
from anygrain.models.psalm.network import PSALM
from anygrain.models.psalm.pretrained import mask2former_from_transformers, phi_from_transformers
from anygrain.models.swin import SwinConfig

LANGUAGE = LanguageConfig(vocab_size=42, width=32, layers=2, num_heads=2, ffn_dim=64)


def network() -> PSALM:
    swin = SwinConfig(embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4, drop_path=0.0)
    pixel = PixelDecoderConfig(
        hidden_dim=32, mask_dim=32, num_layers=1, num_heads=4, ffn_dim=48, extra_level=False, order="coarse_to_fine",
        top_down_bias=True, lateral_relu=True,
    )  # fmt: skip
    decoder = MaskDecoderConfig(hidden_dim=32, num_queries=5, num_heads=4, ffn_dim=40, layers=3, mask_dim=32)
    config = PSALMConfig(
        image_encoder=swin, language=LANGUAGE, pixel_decoder=pixel, mask_decoder=decoder, projector_planes=8
    )
    return PSALM(config).eval()


def test_a_phi_of_transformers_computes_the_same_but_for_the_new_tokens_and_the_bias():
    from transformers import PhiConfig, PhiForCausalLM

    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    theirs = PhiForCausalLM(
        PhiConfig(
            vocab_size=48,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            rope_parameters=rope,
        )
    ).eval()
    ours = network().language
    ours.load_state_dict(phi_from_transformers(theirs.state_dict(), 42, 40))
    ids = torch.tensor([[3, 1, 39, 7]])
    with torch.no_grad():
        expected = theirs(ids).logits - theirs.lm_head.bias
        found = ours.head(ours(ours.embedding(ids)))
    torch.testing.assert_close(found[..., :40], expected[..., :40], atol=1e-5, rtol=0)
    mean = theirs.get_input_embeddings().weight[:40].mean(0)
    torch.testing.assert_close(ours.embedding.weight[40:], mean.expand(2, -1))


def test_a_mask2former_of_transformers_gives_the_same_pixel_embeddings():
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation
    from transformers import SwinConfig as TheirSwin

    torch.manual_seed(0)
    swin = TheirSwin(
        embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, drop_path_rate=0.0, image_size=64,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=swin, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=48,
        encoder_layers=1, num_attention_heads=4, dim_feedforward=40, decoder_layers=4, num_queries=5,
    )  # fmt: skip
    theirs = Mask2FormerForUniversalSegmentation(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    state = mask2former_from_transformers(theirs.state_dict())
    model = network()
    missing, unexpected = model.load_state_dict(state, strict=False)
    own = ("image_encoder.", "pixel_decoder.", "mask_decoder.")
    assert unexpected == []
    assert sorted(name for name in missing if name.startswith(own)) == [
        "pixel_decoder.lateral.0.bias",
        "pixel_decoder.output.0.bias",
    ]
    for name in ("lateral", "output"):
        torch.nn.init.zeros_(getattr(model.pixel_decoder, name)[0].bias)
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = theirs.model.pixel_level_module(pixels)
        encoded = theirs.model.pixel_level_module.encoder(pixels).feature_maps
        pyramid = model.image_encoder(pixels)
        for ours, level in zip(pyramid, encoded, strict=True):
            torch.testing.assert_close(ours, level, atol=1e-4, rtol=0)
        features = model.pixel_decoder(pyramid)
    for ours, level in zip(features.levels, expected.decoder_hidden_states, strict=True):
        torch.testing.assert_close(ours, level, atol=1e-4, rtol=0)


@pytest.mark.parametrize("recipe", ["psalm_align", "psalm_joint"])
def test_without_the_hub_the_paper_s_recipes_say_what_is_missing(recipe, tmp_path, monkeypatch):
    from importlib import import_module

    import huggingface_hub

    def offline(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "000000.tar").touch()
    module = import_module(f"anygrain.recipes.{recipe}")
    config = module.config(tmp_path)
    assert config.model == PSALMConfig.released()
    with pytest.raises(ValueError, match="could not be fetched"):
        module.build(config)
