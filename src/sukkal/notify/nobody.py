"""Who stands in for a deliverer that is not there: subscribers that it could reach are refused."""

from sukkal.errors import Invalid
from sukkal.model import Subscription
from sukkal.notify.deliverer import Outcome, Parcel, Result


class Nobody:
    """A Deliverer to nobody."""

    def __init__(self, why: str) -> None:
        """`why`: a sentence or two that say what is missing, and what to do about it."""
        self._why = why

    def check(self, subscriber: str) -> None:
        raise Invalid(self._why)

    def host(self, subscriber: str) -> str:
        return ""

    def size(self, subscription: Subscription, told: int) -> int:
        return told

    async def deliver(self, parcel: Parcel) -> Outcome:
        """Fail: it was subscribed when there was somebody."""
        return Outcome(Result.FAILED, self._why)

    async def close(self) -> None:
        pass
