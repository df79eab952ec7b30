"""`python -m services.ratelimiter.migrations REVISION`: bring DARKROOM_DATABASE_URL there, as restoring a backup does."""

from __future__ import annotations

import asyncio
import os
import sys

from services.ratelimiter.migrate import upgrade

if __name__ == "__main__":
    asyncio.run(upgrade(os.environ["DARKROOM_DATABASE_URL"], sys.argv[1]))
