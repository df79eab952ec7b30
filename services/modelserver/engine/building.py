"""Libraries that build modules exchange parts of torch meanwhile, for the whole process: two at once must not.

accelerate replaces `nn.Module.register_parameter` while diffusers lays out a model, PEFT does while it wraps layers.
Two that overlap put the wrong one back, and every module made from then on has no weights. So this lock is one of
the process, as what it guards is. It is held for the layout of a model, seldom longer than a second.
"""

from __future__ import annotations

import threading

BUILDING = threading.RLock()
