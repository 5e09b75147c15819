"""Small configurations of transformers' models, each with random weights of the package's own making."""

from __future__ import annotations

from typing import Any

__all__ = [
    "NAMES",
    "SIZE",
    "SQUARE",
    "conditional_detr",
    "d_fine",
    "deformable_detr",
    "detr",
    "detr_masks",
    "eomt",
    "mask2former",
    "maskformer",
    "rt_detr",
    "rt_detr_v2",
    "segformer",
    "yolos",
]

SIZE = (320, 256)
SQUARE = (384, 384)
"""At which transformers makes the masks of MaskFormer's successors, whatever the picture."""
NAMES = ("sky", "road", "grass", "car", "person", "dog")
LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {name: index for index, name in enumerate(NAMES)}}

WIDTHS = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"}
STAGES = ["stage1", "stage2", "stage3", "stage4"]
SMALL = {
    "d_model": 32,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_queries": 100,
    **LABELS,
}
PLAIN = {"use_timm_backbone": False, "backbone": None, "use_pretrained_backbone": False}
RT_DETR = {
    **{key: value for key, value in SMALL.items() if key != "encoder_layers"},
    "encoder_hidden_dim": 32,
    "encoder_in_channels": [16, 24, 32],
    "decoder_in_channels": [32, 32, 32],
    "decoder_n_points": 2,
}
HGNET = {
    "hidden_sizes": [8, 16, 24, 32],
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8, 8, 16, 24],
    "stage_mid_channels": [8, 8, 8, 8],
    "stage_out_channels": [8, 16, 24, 32],
    "stage_num_blocks": [1, 1, 1, 1],
    "stage_numb_of_layers": [1, 1, 1, 1],
    "out_features": STAGES[1:],
}
SWIN = {"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2], "window_size": 4, "image_size": 384}


def detr(package: Any) -> Any:
    """Build a small DETR."""
    backbone = package.ResNetConfig(**WIDTHS, out_features=["stage4"])
    return package.DetrForObjectDetection(package.DetrConfig(backbone_config=backbone, **SMALL, **PLAIN))


def conditional_detr(package: Any) -> Any:
    """Build a small Conditional DETR."""
    backbone = package.ResNetConfig(**WIDTHS, out_features=["stage4"])
    config = package.ConditionalDetrConfig(backbone_config=backbone, **SMALL, **PLAIN)
    return package.ConditionalDetrForObjectDetection(config)


def deformable_detr(package: Any) -> Any:
    """Build a small Deformable DETR."""
    backbone = package.ResNetConfig(**WIDTHS, out_features=STAGES[1:])
    points = {"encoder_n_points": 2, "decoder_n_points": 2, "num_feature_levels": 3}
    config = package.DeformableDetrConfig(backbone_config=backbone, **SMALL, **PLAIN, **points)
    return package.DeformableDetrForObjectDetection(config)


def rt_detr(package: Any) -> Any:
    """Build a small RT-DETR."""
    backbone = package.RTDetrResNetConfig(**WIDTHS, out_features=STAGES[1:])
    return package.RTDetrForObjectDetection(package.RTDetrConfig(backbone_config=backbone, **RT_DETR))


def rt_detr_v2(package: Any) -> Any:
    """Build a small RT-DETRv2."""
    backbone = package.RTDetrResNetConfig(**WIDTHS, out_features=STAGES[1:])
    return package.RTDetrV2ForObjectDetection(package.RTDetrV2Config(backbone_config=backbone, **RT_DETR))


def d_fine(package: Any) -> Any:
    """Build a small D-FINE."""
    settings = {**RT_DETR, "decoder_n_points": [2, 2, 2]}
    config = package.DFineConfig(backbone_config=package.HGNetV2Config(**HGNET), **settings)
    return package.DFineForObjectDetection(config)


def yolos(package: Any) -> Any:
    """Build a small YOLOS."""
    config = package.YolosConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=[SIZE[1], SIZE[0]],
        num_detection_tokens=100,
        **LABELS,
    )
    return package.YolosForObjectDetection(config)


def segformer(package: Any) -> Any:
    """Build a small SegFormer."""
    config = package.SegformerConfig(depths=[1] * 4, hidden_sizes=[8, 16, 24, 32], decoder_hidden_size=16, **LABELS)
    return package.SegformerForSemanticSegmentation(config)


def detr_masks(package: Any) -> Any:
    """Build a small DETR with its mask head."""
    backbone = package.ResNetConfig(**WIDTHS, out_features=STAGES)
    heads = {"encoder_attention_heads": 8, "decoder_attention_heads": 8, "d_model": 64, "num_queries": 20}
    config = package.DetrConfig(backbone_config=backbone, **{**SMALL, **heads}, **PLAIN)
    return package.DetrForSegmentation(config)


def maskformer(package: Any) -> Any:
    """Build a small MaskFormer."""
    config = package.MaskFormerConfig(
        backbone_config=package.SwinConfig(**SWIN, out_features=STAGES),
        decoder_config={"model_type": "detr", **SMALL, "num_queries": 20},
        fpn_feature_size=32,
        mask_feature_size=32,
        **LABELS,
    )
    return package.MaskFormerForInstanceSegmentation(config)


def mask2former(package: Any) -> Any:
    """Build a small Mask2Former."""
    config = package.Mask2FormerConfig(
        backbone_config=package.SwinConfig(**SWIN, out_features=STAGES),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=32,
        num_queries=20,
        **LABELS,
    )
    return package.Mask2FormerForUniversalSegmentation(config)


def eomt(package: Any) -> Any:
    """Build a small EoMT."""
    config = package.EomtConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=SQUARE[0],
        num_blocks=1,
        num_queries=20,
        mlp_ratio=1,
        **LABELS,
    )
    model = package.EomtForUniversalSegmentation(config)
    model.attn_mask_probs.fill_(0)
    return model
