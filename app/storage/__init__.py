"""Postgres: a session per piece of work, row-level security, the tables and queries."""

from app.storage.accounts import (
    Account,
    Profile,
    UsernameTakenError,
    add_account,
    find_account,
    find_profile,
)
from app.storage.audit import UserAuditTrail
from app.storage.documents import (
    Document,
    DocumentSummary,
    create_document,
    delete_document,
    find_document,
    list_documents,
    search_documents,
    update_document,
)
from app.storage.engine import StorageError, check_role, open_engine
from app.storage.refresh import RefreshTokens, Rotation
from app.storage.runs import (
    FinalStatus,
    Run,
    RunStatus,
    create_run,
    find_run,
    finish_run,
    list_runs,
    request_cancel,
    sweep_abandoned,
)
from app.storage.sessions import SessionFactory
from app.storage.threads import (
    Message,
    Thread,
    add_message,
    create_thread,
    delete_thread,
    find_thread,
    list_messages,
    list_threads,
    rename_thread,
)

__all__ = [
    "Account",
    "Document",
    "DocumentSummary",
    "FinalStatus",
    "Message",
    "Profile",
    "RefreshTokens",
    "Rotation",
    "Run",
    "RunStatus",
    "SessionFactory",
    "StorageError",
    "Thread",
    "UserAuditTrail",
    "UsernameTakenError",
    "add_account",
    "add_message",
    "check_role",
    "create_document",
    "create_run",
    "create_thread",
    "delete_document",
    "delete_thread",
    "find_account",
    "find_document",
    "find_profile",
    "find_run",
    "find_thread",
    "finish_run",
    "list_documents",
    "list_messages",
    "list_runs",
    "list_threads",
    "open_engine",
    "rename_thread",
    "request_cancel",
    "search_documents",
    "sweep_abandoned",
    "update_document",
]
