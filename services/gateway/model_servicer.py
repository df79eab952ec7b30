"""ModelService: the catalog as callers see it."""

from __future__ import annotations

from darkroom.v1 import model_pb2
from darkroom.v1 import model_service_pb2 as pb
from darkroom.v1.model_service_pb2_grpc import ModelServiceServicer
from libs.wire.model import model_to_pb
from services.gateway.callers.identity import Context
from services.gateway.catalog import CatalogView

_LONGEST_NAME = 200


class ModelServicer(ModelServiceServicer):
    """Says which models can be asked for."""

    def __init__(self, catalog: CatalogView) -> None:
        self._catalog = catalog

    async def ListModels(self, _request: pb.ListModelsRequest, _context: Context) -> pb.ListModelsResponse:
        """List every model by id, the unusable ones with their reason."""
        models = sorted(self._catalog.models, key=lambda model: model.id)
        return pb.ListModelsResponse(object="list", data=[model_to_pb(model) for model in models])

    async def GetModel(self, request: pb.GetModelRequest, _context: Context) -> model_pb2.Model:
        """Read one model by id, alias or `id@version`."""
        return model_to_pb(self._catalog.read(request.id[:_LONGEST_NAME]))
