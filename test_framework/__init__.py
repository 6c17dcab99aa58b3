"""Prove that no user of an asyncio service sees, changes or receives another's data."""
