"""How much may be sent at once: of one address before anything else is asked, of one key once it is known.

| where | class | what | tokens |
|---|---|---|---|
| in front | strangers | creations without Authorization, of an address | 2 a second, 5 at once |
| in front | reads | everything else under the API without Authorization, of an address | 600 a minute |
| in front | flood | everything, of an address | 500 a second, 2000 at once |
| behind | keyed | creations, of a key or the subject of a token | 50 a second, 200 at once |
| behind | keyed-reads | everything else under the API, of the same | 600 a minute |

Polling never takes from what creations have; an estimate costs a tenth of one. Of IPv6 the /64 counts. In front, what a
request says of itself is never a name in the table: anybody could fill it, with their secrets or for their neighbours.
So many may share an address, and none of them can use up what a key has. These bounds keep a flood away from the rate
limiter, whose limits are the ones that are promised.
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
    RateLimitActionGenericKey,
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
# Short: Envoy takes no regex of more than 100 steps. The transcoder takes slashes at the end for nothing.
CREATING = r"(/v1/(jobs|uploads|accounts|keys)|/darkroom\.v1\.\w+/(Create\w+|UploadImage))/*(\?.*)?"
ESTIMATING = r"(/v1/jobs:estimate|/darkroom\.v1\.\w+/EstimateJob(Json)?)/*(\?.*)?"
API = r"/(v1/|darkroom\.v1\.).*"
TENANT, KEY_ID = "x-darkroom-tenant", "x-darkroom-key-id"  # the rate limiter's, stripped from what comes from outside
_CLASS, _ADDRESS, _TENANT, _KEY = "class", "masked_remote_address", "tenant", "key"
_STRANGERS, _READS, _FLOOD, _KEYED, _KEYED_READS = "strangers", "reads", "flood", "keyed", "keyed-reads"
_TENTHS = 10  # tokens of a creation; an estimate takes one
_BUCKETS = 20_000  # that are kept, the latest; Envoy's default would be twenty
_MINUTE = timedelta(minutes=1)
_NO_BOUND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Bursts:
    """The bounds of one address, and of one key; `_burst` is what it may send at once after a rest."""

    strangers_per_s: float = 2.0
    strangers_burst: float = 5.0
    keyed_per_s: float = 50.0
    keyed_burst: float = 200.0
    reads_per_min: float = 600.0
    flood_per_s: float = 500.0
    flood_burst: float = 2000.0


SHIPPED = Bursts()
NAMES = tuple(Bursts.__slots__)
FORM = f"`{OFF}` or NAME=NUMBER with commas, of {', '.join(NAMES)}"


def parse(text: str) -> Bursts | None:
    """Read the setting: empty is the default, `off` is None; raises ValueError with what is wrong."""
    if text.strip() == OFF:
        return None
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    return Bursts(**named_numbers(entries, FORM, names=NAMES))


def of_addresses(bounds: Bursts) -> LocalRateLimit:
    """Return the filter that stands in front of all that asks somebody else."""
    buckets = {
        _STRANGERS: _bucket(60 * bounds.strangers_per_s, bounds.strangers_burst, _TENTHS),
        _READS: _bucket(bounds.reads_per_min, bounds.reads_per_min),
        _FLOOD: _bucket(60 * bounds.flood_per_s, bounds.flood_burst),
    }
    descriptors = [_descriptor(name, bucket, _ADDRESS) for name, bucket in buckets.items()]
    without, address = (authorized(invert=True),), (_address(),)
    everything = RateLimitAction(
        generic_key=RateLimitActionGenericKey(descriptor_key=_CLASS, descriptor_value=_FLOOD),
    )
    rules = [
        *_rules(_STRANGERS, _READS, without, address),
        RateLimit(actions=[everything, *address], hits_addend=RateLimitHitsAddend(number=1)),
    ]
    return _filter("bursts", descriptors, rules)


def of_keys(bounds: Bursts) -> LocalRateLimit:
    """Return the filter that stands behind the rate limiter's answer: who has no key or token passes."""
    keyed = _bucket(60 * bounds.keyed_per_s, bounds.keyed_burst, _TENTHS)
    reads = _bucket(bounds.reads_per_min, bounds.reads_per_min)
    descriptors = [_descriptor(_KEYED, keyed, _TENANT, _KEY), _descriptor(_KEYED_READS, reads, _TENANT, _KEY)]
    key = (_header_value(TENANT, _TENANT), _header_value(KEY_ID, _KEY))
    return _filter("key_bursts", descriptors, _rules(_KEYED, _KEYED_READS, (), key))


def _filter(name: str, descriptors: list[LocalRateLimitDescriptor], rules: list[RateLimit]) -> LocalRateLimit:
    # It says nothing of its own in headers: those tell the limits of the tier.
    everything = FractionalPercent(numerator=100, denominator=FractionalPercentDenominatorType.HUNDRED)
    always = RuntimeFractionalPercent(default_value=everything, runtime_key="darkroom.bursts")
    return LocalRateLimit(
        stat_prefix=name,
        token_bucket=_bucket(_NO_BOUND, _NO_BOUND),  # of what matches no class
        filter_enabled=always,
        filter_enforced=always,
        descriptors=descriptors,
        rate_limits=rules,
        max_dynamic_descriptors=_BUCKETS,
        always_consume_default_token_bucket=False,
        rate_limited_as_resource_exhausted=True,
    )


def _rules(
    creations: str, reads: str, only: Sequence[HeaderMatcher], whose: Sequence[RateLimitAction]
) -> list[RateLimit]:
    reading = (path(API), path(CREATING, invert=True), path(ESTIMATING, invert=True))
    listing = (
        path(CREATING),
        HeaderMatcher(name=":method", string_match=StringMatcher(exact="POST"), invert_match=True),
    )
    return [
        _rule(creations, (posted(), path(CREATING), *only), whose, _TENTHS),
        _rule(creations, (posted(), path(ESTIMATING), *only), whose),
        *(_rule(reads, (*asked, *only), whose) for asked in (reading, listing)),
    ]


def path(regex: str, *, invert: bool = False) -> HeaderMatcher:
    """Return a match of the whole path with its query, as it was asked for."""
    matcher = StringMatcher(safe_regex=RegexMatcher(regex=regex))
    return HeaderMatcher(name=":path", string_match=matcher, invert_match=invert)


def authorized(*, invert: bool = False) -> HeaderMatcher:
    """Return a match of requests that bring an Authorization."""
    return HeaderMatcher(name="authorization", present_match=True, invert_match=invert)


def posted() -> HeaderMatcher:
    """Return a match of POST requests."""
    return HeaderMatcher(name=":method", string_match=StringMatcher(exact="POST"))


def _rule(name: str, headers: Sequence[HeaderMatcher], whose: Sequence[RateLimitAction], tokens: int = 1) -> RateLimit:
    matched = RateLimitActionHeaderValueMatch(descriptor_key=_CLASS, descriptor_value=name, headers=list(headers))
    actions = [RateLimitAction(header_value_match=matched), *whose]
    return RateLimit(actions=actions, hits_addend=RateLimitHitsAddend(number=tokens))


def _address() -> RateLimitAction:
    masked = RateLimitActionMaskedRemoteAddress(v4_prefix_mask_len=32, v6_prefix_mask_len=64)
    return RateLimitAction(masked_remote_address=masked)


def _header_value(header: str, key: str) -> RateLimitAction:
    """Return what a trusted header says; a request without it is not bounded."""
    return RateLimitAction(request_headers=RateLimitActionRequestHeaders(header_name=header, descriptor_key=key))


def _descriptor(name: str, bucket: TokenBucket, *whose: str) -> LocalRateLimitDescriptor:
    """Return the bucket of a class; an entry without a value stands for each value that comes."""
    each = [RateLimitDescriptorEntry(key=key) for key in whose]
    return LocalRateLimitDescriptor(
        entries=[RateLimitDescriptorEntry(key=_CLASS, value=name), *each], token_bucket=bucket
    )


def _bucket(per_minute: float, at_once: float, tokens: int = 1) -> TokenBucket:
    return TokenBucket(
        max_tokens=max(1, round(at_once * tokens)),
        tokens_per_fill=max(1, round(per_minute * tokens)),
        fill_interval=_MINUTE,
    )
