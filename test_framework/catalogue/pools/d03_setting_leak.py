"""D03: session setting leaks through the pool.

alice                           bob
if user:
got = await pool.invoices(NAMES[user])
async with self.borrow() as connection:
async with self.lock:
connection.tenant = user
await external("SELECT invoices")
<- cancelled
                                if user:
                                assert await pool.is_anonymous(), "a visitor acts as ...
                                async with self.borrow() as connection:
                                async with self.lock:
                                await external("SELECT current_setting('tenant')")
                                return not connection.tenant
-> a visitor acts as a tenant
"""

from test_framework.catalogue.pattern import CANCELLED_USERS, Area, Hosted, Pattern
from test_framework.catalogue.pools.x01_unread_reply import Pool
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _TenantPool(Pool):
    """Row level security: SET names the tenant, RESET ends it."""

    async def invoices(self, user: str) -> str:
        async with self.borrow() as connection:
            connection.tenant = user
            await external("SELECT invoices")
            found = f"invoices of {connection.tenant}"
            await external("RESET tenant")
            connection.tenant = ""
            return found

    async def is_anonymous(self) -> bool:
        async with self.borrow() as connection:
            await external("SELECT current_setting('tenant')")
            return not connection.tenant


class _LocalTenantPool(_TenantPool):
    async def invoices(self, user: str) -> str:
        async with self.borrow() as connection:
            try:
                connection.tenant = user  # SET LOCAL: gone when the transaction ends
                await external("SELECT invoices")
                return f"invoices of {connection.tenant}"
            finally:
                connection.tenant = ""


def _tenant(pool: _TenantPool, user: int) -> str:  # noqa: ARG001  # of whoever asks
    return pool.connection.tenant


async def _read_invoices(pool: _TenantPool, user: int) -> None:
    if user:
        assert await pool.is_anonymous(), "a visitor acts as a tenant"
    else:
        got = await pool.invoices(NAMES[user])
        assert got == f"invoices of {NAMES[user]}", f"{NAMES[user]} got {got}"


PATTERN = Pattern(
    id="D03",
    title="session setting leaks through the pool",
    mechanism=(
        "A request that is cancelled before its RESET leaves its tenant on the "
        "connection, and the next one sees its rows."
    ),
    fix="Use SET LOCAL.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer", "swarm"),
    source="https://github.com/django-tenants/django-tenants/issues/545",
    vulnerable=visits(_TenantPool, _read_invoices),
    safe=visits(_LocalTenantPool, _read_invoices),
    needs=CANCELLED_USERS,
    module=__name__,
    hosted=Hosted(shown=_tenant),
)
