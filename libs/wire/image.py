"""Pictures: `darkroom.v1.Image` ⇄ `ImageStored`. `url` stays empty: the gateway signs it."""

from __future__ import annotations

import dataclasses

from darkroom.v1 import job_pb2 as pb
from libs.generation.attempt import ImageStored

_FIELDS = tuple(field.name for field in dataclasses.fields(ImageStored))


def image_to_pb(image: ImageStored) -> pb.Image:
    """Return the message."""
    return pb.Image(**{name: getattr(image, name) for name in _FIELDS})


def image_from_pb(image: pb.Image) -> ImageStored:
    """Return the domain's form."""
    return ImageStored(**{name: getattr(image, name) for name in _FIELDS})
