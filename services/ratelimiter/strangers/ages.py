"""How long a visitor has been coming: the day of the first time stands in the id. Pure."""

from __future__ import annotations

import re
import secrets

from libs.ids import TenantId
from services.ratelimiter.balances.days import number_of

PREFIX = "anon:"
_ID = re.compile(r"(\d{1,7})-[A-Za-z0-9_-]{22}", re.ASCII)


def new_id(now_s: float) -> str:
    """Return the id of somebody who was never here: the day, and 128 random bits."""
    return f"{number_of(now_s)}-{secrets.token_urlsafe(16)}"


def made_on(visitor_id: str) -> int:
    """Return the day of an id; raises ValueError for what is none."""
    matched = _ID.fullmatch(visitor_id)
    if matched is None:
        raise ValueError("a visitor's id is a day and 22 characters")
    return int(matched[1])


def came_today(tenant_id: TenantId, now_s: float) -> bool:
    """Whether an anonymous tenant has no cookie, or one of today."""
    try:
        return made_on(tenant_id.removeprefix(PREFIX)) >= number_of(now_s)
    except ValueError:
        return True
