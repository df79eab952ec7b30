"""diffusers and transformers as `Any`: their classes promise types that they do not keep.

The names with `Model` are the instances, for annotations.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import diffusers
import transformers

AutoencoderTiny: Any = diffusers.AutoencoderTiny
CLIPTextConfig: Any = transformers.CLIPTextConfig
CLIPTextModel: Any = transformers.CLIPTextModel
CLIPTokenizer: Any = transformers.CLIPTokenizer
DiffusionPipeline: Any = diffusers.DiffusionPipeline
EulerDiscreteScheduler: Any = diffusers.EulerDiscreteScheduler
StableDiffusionPipeline: Any = diffusers.StableDiffusionPipeline
UNet2DConditionModel: Any = diffusers.UNet2DConditionModel

AutoencoderModel: TypeAlias = Any
NoiseSchedule: TypeAlias = Any
Pipeline: TypeAlias = Any
TextModel: TypeAlias = Any
Tokenizer: TypeAlias = Any
UnetModel: TypeAlias = Any
