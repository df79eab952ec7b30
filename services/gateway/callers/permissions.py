"""What each public RPC needs: the table, and the guard that stands in front of every servicer.

An RPC that the table does not name is not served: the gateway does not start with it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from libs.errors import PermissionDenied
from libs.scopes import Scope
from services.gateway.callers.identity import Caller, Context, caller_of
from services.gateway.wrapping import around

NEEDED: Mapping[str, Scope | None] = {
    "GenerationService.CreateJob": Scope.JOBS_WRITE,
    "GenerationService.CreateJobJson": Scope.JOBS_WRITE,
    "GenerationService.EstimateJob": Scope.JOBS_WRITE,
    "GenerationService.EstimateJobJson": Scope.JOBS_WRITE,
    "GenerationService.CancelJob": Scope.JOBS_WRITE,
    "GenerationService.DeleteJob": Scope.JOBS_WRITE,
    "GenerationService.GetJob": Scope.JOBS_READ,
    "GenerationService.ListJobs": Scope.JOBS_READ,
    "GenerationService.WatchJob": Scope.JOBS_READ,
    "GenerationService.StreamJobEvents": Scope.JOBS_READ,
    "GenerationService.DownloadImage": Scope.JOBS_READ,
    "GenerationService.DownloadBlob": None,  # the signature is the permission
    "UploadService.UploadImage": Scope.JOBS_WRITE,
    "ModelService.ListModels": Scope.MODELS_READ,
    "ModelService.GetModel": Scope.MODELS_READ,
    "AccountService.CreateAccount": None,  # whoever may sign up has no key yet
    "AccountService.CreateAccountJson": None,
    "AccountService.GetLimits": Scope.USAGE_READ,
    "AccountService.GetUsage": Scope.USAGE_READ,
    "AccountService.ListEvents": Scope.USAGE_READ,
    "KeyService.CreateKey": Scope.KEYS_WRITE,
    "KeyService.CreateKeyJson": Scope.KEYS_WRITE,
    "KeyService.ListKeys": Scope.KEYS_WRITE,
    "KeyService.RotateKey": Scope.KEYS_WRITE,
    "KeyService.RotateKeyJson": Scope.KEYS_WRITE,
    "KeyService.RevokeKey": Scope.KEYS_WRITE,
    "WebhookService.CreateWebhookEndpoint": Scope.WEBHOOKS_WRITE,
    "WebhookService.CreateWebhookEndpointJson": Scope.WEBHOOKS_WRITE,
    "WebhookService.ListWebhookEndpoints": Scope.WEBHOOKS_WRITE,
    "WebhookService.DeleteWebhookEndpoint": Scope.WEBHOOKS_WRITE,
    "WebhookService.TestWebhookEndpoint": Scope.WEBHOOKS_WRITE,
    "WebhookService.ListWebhookDeliveries": Scope.WEBHOOKS_WRITE,
    "SiteService.GetHealth": None,  # for load balancers
    "SiteService.GetPage": None,  # for browsers
}
"""By service and method; None needs no caller at all."""

_BY_TOKEN = frozenset({"GenerationService.StreamJobEvents"})  # a token in the request is a permission of its own


class Guarded:
    """Stands in front of a servicer and lets only those in who may call the RPC."""

    def __init__(self, servicer: object, service: str) -> None:
        self._servicer, self._service = servicer, service

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return the RPC `name` behind its check; KeyError for one that the table does not name."""
        inner, method = getattr(self._servicer, name), f"{self._service}.{name}"
        needed = NEEDED[method]
        if needed is None:
            return inner  # type: ignore[no-any-return]
        return around(inner, functools.partial(_allowed, needed=needed, by_token=method in _BY_TOKEN))


def check(caller: Caller, needed: Scope) -> None:
    """Raise PermissionDenied for a caller without the scope."""
    if needed not in caller.scopes:
        told = (
            f"This call needs the scope {needed.value}, which the key or token does not have. Nothing was charged. "
            "Use one that has it, or ask for one where this was made."
        )
        raise PermissionDenied(told, reason="SCOPE_MISSING", metadata={"scope": needed.value})


@contextmanager
def _allowed(request: Any, context: Context, *, needed: Scope, by_token: bool) -> Generator[None, None, None]:
    if not (by_token and request.token):
        check(caller_of(context), needed)
    yield
