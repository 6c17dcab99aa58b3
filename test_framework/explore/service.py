"""What serves the users of a scenario and goes on by itself, such as an app."""

from abc import ABC, abstractmethod


class Service(ABC):
    """What serves users and goes on by itself, such as an app.

    Requests to it arrive one by one, so users whose state it is need no arrival of
    their own. One that is in ``services`` of the loop is settled before the check.
    """

    @abstractmethod
    async def settle(self) -> None:
        """Wait until nothing that users began is going on."""

    @abstractmethod
    def is_inner(self, number: int) -> bool:
        """Tell whether a task was started within a request or by the service itself.

        Nobody outside can cancel such a task: a server knows the request only.

        Args:
            number: Of the task.
        """

    @abstractmethod
    def is_spared(self, number: int) -> bool:
        """Tell whether a task is of the service itself, such as its startup.

        No fault strikes it: users come when it is up, and stay as long as it is.

        Args:
            number: Of the task.
        """
