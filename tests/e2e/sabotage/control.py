"""Twins of what controllers work on: numbers and leases that are read before written."""

from datetime import timedelta

from fastapi import APIRouter, FastAPI
from sqlalchemy import func, update

from app.api.dependencies import Work
from app.api.node_sets import Name
from app.api.problems import Problem
from app.api.schemas import NewLease, Scaling
from app.main import create_app
from app.storage import NodeSet, find_node_set, scale_node_set
from app.storage.tables import node_sets
from tests.e2e.sabotage.overriding import override


def create_scaling_by_reading() -> FastAPI:
    """Scales by reading the number, adding to it and writing it back.

    Catalogue D05: two who read the same number are told the same answer, and one of
    them is forgotten.
    """
    router = APIRouter()

    @router.post("/node-sets/{name}/scale")
    async def post_scale(name: Name, scaling: Scaling, context: Work) -> NodeSet:
        seen = await find_node_set(context, name)
        if seen is None:
            seen = await scale_node_set(context, name, by=scaling.by)
        else:
            await context.database.execute(
                update(node_sets)
                .where(node_sets.c.user_id == context.user_id, node_sets.c.name == name)
                .values(replicas=seen.replicas + scaling.by)
            )
            seen = await find_node_set(context, name)
        if seen is None:
            raise Problem(409, "There can be 0 to 100 nodes.")
        return seen

    return override(create_app(), router)


def create_lease_for_everybody() -> FastAPI:
    """Leases a node set to whoever asks: the last one to ask is the holder.

    Catalogue R06: a lock whose taking does not ask whether it is taken. Each gets a
    token of its own, so each release works.
    """
    router = APIRouter()
    columns = node_sets.c

    @router.post("/node-sets/{name}/lease", status_code=201)
    async def post_lease(name: Name, new: NewLease, context: Work) -> dict[str, object]:
        token = await context.database.scalar(
            update(node_sets)
            .where(columns.user_id == context.user_id, columns.name == name)
            .values(
                lease_holder=new.holder,
                lease_token=columns.lease_token + 1,
                lease_expires_at=func.clock_timestamp() + timedelta(seconds=new.ttl_s),
            )
            .returning(columns.lease_token)
        )
        return {"lease_token": token}

    @router.delete("/node-sets/{name}/lease", status_code=204)
    async def remove_lease(name: Name, context: Work) -> None:
        await context.database.execute(
            update(node_sets)
            .where(columns.user_id == context.user_id, columns.name == name)
            .values(lease_holder=None)
        )

    return override(create_app(), router)
