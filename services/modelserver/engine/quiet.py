"""The libraries' own talk. Diffusers warns about a long prompt by quoting it, and prompts are never logged."""

from __future__ import annotations

import diffusers.utils.logging as diffusers_logging
import transformers.utils.logging as transformers_logging


def quiet_libraries() -> None:
    """Let diffusers and transformers log errors only, and draw no progress bars."""
    for talk in (diffusers_logging, transformers_logging):
        talk.set_verbosity_error()
        talk.disable_progress_bar()
