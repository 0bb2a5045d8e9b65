"""Which replica gets a request: of two, the one with fewer; never one that has said that it has no room for it."""

import random

from ray.serve.request_router import (
    FIFOMixin,
    LocalityMixin,
    MultiplexMixin,
    PendingRequest,
    RequestRouter,
    RunningReplica,
)

FULL = "full"
"""The argument of a replica's methods that names those which have refused this request."""


class RoomRouter(FIFOMixin, LocalityMixin, MultiplexMixin, RequestRouter):
    """Serve's own choice (the power of two), among replicas that may have room.

    Serve counts all requests of a replica alike. One may be full of drawings and still have the fewest requests.
    """

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """See Serve."""
        near = self.apply_locality_routing(pending_request)
        full = pending_request.kwargs.get(FULL, ()) if pending_request else ()
        there = [one for one in candidate_replicas if one.replica_id in near]
        free = [one for one in candidate_replicas if one.replica_id.unique_id not in full]
        fit = [one for one in free if one in there] or free or there
        return [random.sample(fit, min(2, len(fit)))]


__all__ = ["FULL", "RoomRouter"]
