"""An event loop whose every choice belongs to a scheduler; no selector, no threads.

Tasks and futures are those of CPython, so ``timeout``, ``TaskGroup``, ``shield``,
locks, queues and async generators run unchanged. What differs is who goes next:

* ``await``: every ready task step may be delayed, so the scheduler picks among them.
  Callbacks without a task (of ``gather``, of timers) run first and in order: shuffling
  them produces states that no program of asyncio can reach.
* ``fifo``: the ready queue is run in turns exactly as ``BaseEventLoop._run_once``
  does; the scheduler only decides when events from outside arrive (:func:`external`
  answers between turns, executor jobs in the middle of one as well) and when a sleep
  elapses a little early because the loop lagged. What this fidelity finds, stock asyncio
  can do.
* ``any``: as ``await``, and timers and callbacks are choices too.

Time is virtual, see :mod:`~test_framework.explore.loop.clock`. What is in the queues is
in :mod:`~test_framework.explore.loop.queues`, the two ways of driving them in
:mod:`~test_framework.explore.loop.steps` and :mod:`~test_framework.explore.loop.turns`.

A loop is reused from run to run; nothing of one run is seen by the next.
"""

from test_framework.explore.loop.exploration import ExplorationLoop

__all__ = ["ExplorationLoop"]
