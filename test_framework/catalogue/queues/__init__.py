"""Queues and their workers: jobs that hang, are dropped, or are done for somebody else."""

import asyncio

Job = asyncio.Future[str]
