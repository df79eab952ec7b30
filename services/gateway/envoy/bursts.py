"""How much one address may send at once, refused before anything else is asked.

| class | who | tokens |
|---|---|---|
| strangers | creations without Authorization | 2 a second, 5 at once |
| keyed | creations with one | 50 a second, 200 at once |
| reads | everything else under the API, with Authorization for each value of it | 600 a minute |

Polling never takes from what creations have; an estimate costs a tenth of one. Of IPv6 the /64 counts. These bounds
keep a flood away from the rate limiter, whose limits are the ones that are promised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from envoy_data_plane.envoy.config.core.v3 import RuntimeFractionalPercent
from envoy_data_plane.envoy.config.route.v3 import (
    HeaderMatcher,
    RateLimit,
    RateLimitAction,
    RateLimitActionHeaderValueMatch,
    RateLimitActionMaskedRemoteAddress,
    RateLimitActionRequestHeaders,
    RateLimitHitsAddend,
)
from envoy_data_plane.envoy.extensions.common.ratelimit.v3 import LocalRateLimitDescriptor, RateLimitDescriptorEntry
from envoy_data_plane.envoy.extensions.filters.http.local_ratelimit.v3 import LocalRateLimit
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.envoy.type.v3 import FractionalPercent, FractionalPercentDenominatorType, TokenBucket

from libs.settings import named_numbers

OFF = "off"
# Short: Envoy takes no regex of more than 100 steps.
CREATING = r"(/v1/(jobs|uploads|accounts|keys)|/darkroom\.v1\.\w+/(Create\w+|UploadImage))(\?.*)?"
ESTIMATING = r"(/v1/jobs:estimate|/darkroom\.v1\.\w+/EstimateJob(Json)?)(\?.*)?"
API = r"/(v1/|darkroom\.v1\.).*"
_CLASS, _ADDRESS, _KEY = "class", "masked_remote_address", "key"
_STRANGERS, _KEYED, _READS, _KEYED_READS = "strangers", "keyed", "reads", "keyed-reads"
_TENTHS = 10  # tokens of a creation; an estimate takes one
_ADDRESSES = 20_000  # whose buckets are kept, the latest; Envoy's default would be twenty
_MINUTE = timedelta(minutes=1)
_NO_BOUND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Bursts:
    """The bounds of one address; `_burst` is what it may send at once after a rest."""

    strangers_per_s: float = 2.0
    strangers_burst: float = 5.0
    keyed_per_s: float = 50.0
    keyed_burst: float = 200.0
    reads_per_min: float = 600.0


SHIPPED = Bursts()
NAMES = tuple(Bursts.__slots__)
FORM = f"`{OFF}` or NAME=NUMBER with commas, of {', '.join(NAMES)}"


def parse(text: str) -> Bursts | None:
    """Read the setting: empty is the default, `off` is None; raises ValueError with what is wrong."""
    if text.strip() == OFF:
        return None
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    return Bursts(**named_numbers(entries, FORM, names=NAMES))


def limit(bounds: Bursts) -> LocalRateLimit:
    """Return the filter. It says nothing of its own in headers: those tell the limits of the tier."""
    strangers = _bucket(60 * bounds.strangers_per_s, bounds.strangers_burst, _TENTHS)
    keyed = _bucket(60 * bounds.keyed_per_s, bounds.keyed_burst, _TENTHS)
    reads = _bucket(bounds.reads_per_min, bounds.reads_per_min)
    everything = FractionalPercent(numerator=100, denominator=FractionalPercentDenominatorType.HUNDRED)
    always = RuntimeFractionalPercent(default_value=everything, runtime_key="darkroom.bursts")
    return LocalRateLimit(
        stat_prefix="bursts",
        token_bucket=_bucket(_NO_BOUND, _NO_BOUND),  # of what matches no class
        filter_enabled=always,
        filter_enforced=always,
        descriptors=[
            _descriptor(_STRANGERS, strangers),
            _descriptor(_KEYED, keyed),
            _descriptor(_READS, reads),
            _descriptor(_KEYED_READS, reads, _KEY),
        ],
        rate_limits=_rules(),
        max_dynamic_descriptors=_ADDRESSES,
        always_consume_default_token_bucket=False,
        rate_limited_as_resource_exhausted=True,
    )


def _rules() -> list[RateLimit]:
    creating, estimating, with_key = (_post(), path(CREATING)), (_post(), path(ESTIMATING)), authorized()
    without = authorized(invert=True)
    reading = (path(API), path(CREATING, invert=True), path(ESTIMATING, invert=True))
    listing = (
        path(CREATING),
        HeaderMatcher(name=":method", string_match=StringMatcher(exact="POST"), invert_match=True),
    )
    key = RateLimitAction(
        request_headers=RateLimitActionRequestHeaders(header_name="authorization", descriptor_key=_KEY)
    )
    return [
        _rule(_STRANGERS, (*creating, without), _TENTHS),
        _rule(_STRANGERS, (*estimating, without)),
        _rule(_KEYED, (*creating, with_key), _TENTHS),
        _rule(_KEYED, (*estimating, with_key)),
        *(_rule(_READS, (*asked, without)) for asked in (reading, listing)),
        *(_rule(_KEYED_READS, (*asked, with_key), more=(key,)) for asked in (reading, listing)),
    ]


def path(regex: str, *, invert: bool = False) -> HeaderMatcher:
    """Return a match of the whole path with its query, as it was asked for."""
    matcher = StringMatcher(safe_regex=RegexMatcher(regex=regex))
    return HeaderMatcher(name=":path", string_match=matcher, invert_match=invert)


def authorized(*, invert: bool = False) -> HeaderMatcher:
    """Return a match of requests that bring an Authorization."""
    return HeaderMatcher(name="authorization", present_match=True, invert_match=invert)


def _post() -> HeaderMatcher:
    return HeaderMatcher(name=":method", string_match=StringMatcher(exact="POST"))


def _rule(
    name: str, headers: Sequence[HeaderMatcher], tokens: int = 1, more: Sequence[RateLimitAction] = ()
) -> RateLimit:
    matched = RateLimitActionHeaderValueMatch(descriptor_key=_CLASS, descriptor_value=name, headers=list(headers))
    address = RateLimitActionMaskedRemoteAddress(v4_prefix_mask_len=32, v6_prefix_mask_len=64)
    actions = [
        RateLimitAction(header_value_match=matched),
        RateLimitAction(masked_remote_address=address),
        *more,
    ]
    return RateLimit(actions=actions, hits_addend=RateLimitHitsAddend(number=tokens))


def _descriptor(name: str, bucket: TokenBucket, *more: str) -> LocalRateLimitDescriptor:
    """Return the bucket of a class; an entry without a value stands for each value that comes."""
    each = [RateLimitDescriptorEntry(key=key) for key in (_ADDRESS, *more)]
    return LocalRateLimitDescriptor(
        entries=[RateLimitDescriptorEntry(key=_CLASS, value=name), *each], token_bucket=bucket
    )


def _bucket(per_minute: float, at_once: float, tokens: int = 1) -> TokenBucket:
    return TokenBucket(
        max_tokens=max(1, round(at_once * tokens)),
        tokens_per_fill=max(1, round(per_minute * tokens)),
        fill_interval=_MINUTE,
    )
