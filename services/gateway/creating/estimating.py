"""What a request would cost, how long it would take and what would stop it; changes nothing."""

from __future__ import annotations

from darkroom.v1 import generation_service_pb2 as pb
from libs.clients.limiter import Decision
from libs.rpc import headers
from libs.wire.spec import spec_to_pb
from services.gateway.callers.identity import Caller
from services.gateway.catalog import CatalogView
from services.gateway.creating.cheaper import Option, cheaper
from services.gateway.creating.drafts import Draft, Priced, price
from services.gateway.creating.reserving import reservation, room
from services.gateway.peers import Limiter, Scheduler
from services.gateway.uploads.uploads import Uploads
from services.gateway.webhooks.destinations import PUBLIC_ONLY, Destinations, check_caller

_UNITS_A_SECOND = 1000.0  # a unit is a millisecond of the reference device


class Estimator:
    """Answers estimates."""

    def __init__(
        self,
        scheduler: Scheduler,
        limiter: Limiter,
        catalog: CatalogView,
        uploads: Uploads,
        destinations: Destinations = PUBLIC_ONLY,
    ) -> None:
        self._scheduler = scheduler
        self._limiter = limiter
        self._catalog = catalog
        self._uploads = uploads
        self._destinations = destinations

    async def estimate(self, caller: Caller, draft: Draft) -> pb.Estimate:
        """Return the estimate; raises InvalidRequest and PermissionDenied as a creation would."""
        check_caller(caller, draft.spec)
        caller = await self._uploads.bringer(caller, (draft.spec.input_image, draft.spec.mask_image))
        priced = price(draft, self._catalog, self._destinations)
        await self._uploads.check(caller.tenant_id, priced.spec)
        decision = await self._limiter.peek(reservation(caller, priced))
        headers.add(decision.headers)
        queue = await self._scheduler.estimate_wait(caller.tier, priced.model.pinned, priced.units)
        denial = decision.denial
        return pb.Estimate(
            spec=spec_to_pb(priced.spec),
            model_version=priced.model.pinned,
            units=priced.units,
            run_p50_s=priced.typical_units / _UNITS_A_SECOND,
            run_p90_s=priced.units / _UNITS_A_SECOND,
            queue=queue,
            would_admit=denial is None,
            binding_limit=denial.dimension if denial else "",
            retry_after_s=denial.retry_after_s if denial else 0.0,
            cheaper=[_option(option) for option in self._fitting(priced, decision)],
            prices_version=priced.prices_version,
        )

    def _fitting(self, priced: Priced, decision: Decision) -> list[Option]:
        fitting = room(decision)
        if fitting is None:
            return []
        never = decision.denial is not None and decision.denial.dimension == "tier"
        return cheaper(priced.spec, priced.model, self._catalog.costs, fitting, far=never)


def _option(option: Option) -> pb.CheaperOption:
    spec = option.spec
    return pb.CheaperOption(
        width=spec.width,
        height=spec.height,
        steps=spec.steps,
        images=spec.images,
        units=option.units,
        frames=spec.frames or 0,
    )
