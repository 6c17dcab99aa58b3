"""Node sets: what is wanted of them, what there is, and who maintains them."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from app.api.dependencies import Work
from app.api.openapi import answers
from app.api.problems import Problem, not_found
from app.api.schemas import MAX_SAFE_INTEGER, Limit, NewLease, Scaling
from app.control import NODE_SET_NAME
from app.storage import (
    MAX_REPLICAS,
    NodeSet,
    acquire_lease,
    find_node_set,
    list_node_sets,
    list_nodes,
    release_lease,
    scale_node_set,
)

router = APIRouter(prefix="/node-sets", tags=["node sets"])

Name = Annotated[str, Path(pattern=f"^{NODE_SET_NAME}$", max_length=63)]
Token = Annotated[int, Query(ge=1, le=MAX_SAFE_INTEGER)]


@router.get("")
async def get_node_sets(context: Work, limit: Limit = 100) -> list[NodeSet]:
    """List the node sets."""
    return await list_node_sets(context, limit=limit)


@router.get("/{name}")
async def get_node_set(name: Name, context: Work) -> NodeSet:
    """Show a node set."""
    node_set = await find_node_set(context, name)
    if node_set is None:
        raise not_found("node set")
    return node_set


@router.get("/{name}/nodes")
async def get_nodes(name: Name, context: Work) -> list[int]:
    """List the ordinals of the nodes that there are."""
    if await find_node_set(context, name) is None:
        raise not_found("node set")
    return await list_nodes(context, name)


@router.post("/{name}/scale", responses=answers(409))
async def post_scale(name: Name, scaling: Scaling, context: Work) -> NodeSet:
    """Want so many nodes more; the answer says how many are wanted now."""
    node_set = await scale_node_set(context, name, by=scaling.by, token=scaling.token)
    if node_set is None:
        raise Problem(
            409,
            f"There can be 0 to {MAX_REPLICAS} nodes, and a token counts only while its "
            "lease lasts. Look at the node set and ask again.",
        )
    return node_set


@router.post("/{name}/lease", status_code=201, responses=answers(409))
async def post_lease(name: Name, new: NewLease, context: Work) -> NodeSet:
    """Lease a node set for maintenance: its nodes stay as they are meanwhile.

    The answer holds the fencing token, larger than those of all leases before.
    """
    leased = await acquire_lease(context, name, holder=new.holder, ttl_s=new.ttl_s)
    if leased is not None:
        return leased
    if await find_node_set(context, name) is None:
        raise not_found("node set")
    raise Problem(409, "It is leased. Wait until the lease is released or has ended.")


@router.delete("/{name}/lease", status_code=204, responses=answers(409))
async def remove_lease(name: Name, token: Token, context: Work) -> None:
    """End a lease, by its token."""
    if await release_lease(context, name, token=token):
        return
    if await find_node_set(context, name) is None:
        raise not_found("node set")
    raise Problem(
        409, "This lease has ended already: its token is not the current one."
    )
